"""Which metabolite a printed name means; sums in any order and under any vendor's spelling."""

from __future__ import annotations

from functools import cache

SPELLINGS = {
    "PCho": "PCh",
    "sIns": "Scyllo",
    "Glth": "GSH",
    "Cre": "Cr",
    "mI": "Ins",
    "Gly": "Glyc",
}
SUMS = {
    frozenset({"NAA", "NAAG"}): "tNAA",
    frozenset({"Cr", "PCr"}): "tCr",
    frozenset({"GPC", "PCh"}): "tCho",
    frozenset({"GPC", "Cho"}): "tCho",
    frozenset({"PCh", "Cho"}): "tCho",
    frozenset({"Cho", "GPC", "PCh"}): "tCho",
    frozenset({"Glu", "Gln"}): "Glx",
    frozenset({"Ins"}): "mIns",
    frozenset({"Ins", "Glyc"}): "mIns+Gly",
}


@cache
def members_of(name: str) -> tuple[str, ...]:
    """Parts of a sum as LCModel prints it; a name that begins with a sign is one part.

    >>> members_of("GPC+PCho")
    ('GPC', 'PCh')
    >>> members_of("-CrCH2")
    ('-CrCH2',)
    """
    parts = [part for part in name.split("+") if part]
    return tuple(SPELLINGS.get(part, part) for part in parts) or (name,)


@cache
def standard_name(name: str) -> str:
    """Name by which rows of different basis sets are compared.

    A sole ``Cr`` or ``GPC`` stays what it is: it is another quantity than ``tCr`` or ``tCho``.

    >>> standard_name("PCr+Cre"), standard_name("mI"), standard_name("Cr")
    ('tCr', 'mIns', 'Cr')
    """
    members = members_of(name)
    return SUMS.get(frozenset(members), members[0] if len(members) == 1 else name)
