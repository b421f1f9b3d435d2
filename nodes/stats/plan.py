"""Analyses as ``[[analysis]]`` tables declare them: parsed, checked, expanded to columns."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.catalogue import Catalogue

KINDS = (
    "groups", "regression", "correlation", "longitudinal", "roc", "classify", "demographics",
)  # fmt: skip
SITE = ("additive", "interaction", "none")
PEOPLE = ("all", "patients", "controls")
UNITS = ("person", "side")
CORRECTIONS = ("fdr", "holm", "none")
MODES = ("sound", "paper")
TESTS = {
    "groups": ("glm", "welch", "student", "mannwhitney", "auto"),
    "correlation": ("pearson", "spearman", "partial"),
    "classify": ("logistic", "lda"),
    "demographics": ("welch", "student", "mannwhitney", "auto"),
    "longitudinal": ("auto", "slope", "intercept"),
}
SIMPLE = ("welch", "student", "mannwhitney", "auto")  # know neither site nor covariates
SQUARES = (1, 2, 3)
CATALOGUE = "catalogue"  # family: every measure's own, as measures.toml declares it
GROUP = "group"  # this word stands for the column of the groups, whatever its name
SCORES = "clinical"  # stream of the catalogue that holds clinical scores
PREFIXES = ("family", "stream", "score")
SIDES = ("left", "right")
SIDE = "{side}"
OTHER_SIDE = {"left": "right", "right": "left"}

# What a kind cannot do without, and what has no meaning for it.
NEEDS_PREDICTORS = ("regression", "correlation")
NEEDS_OUTCOMES = tuple(kind for kind in KINDS if kind != "demographics")
SIDE_KINDS = ("groups", "regression")


@dataclass(frozen=True)
class Analysis:
    """One ``[[analysis]]`` table."""

    name: str
    kind: str
    title: str = ""
    outcomes: tuple[str, ...] = ()  # measures, scores, columns, family:, stream:, score:
    predictors: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()  # columns of the cohort table; "group" is that of the groups
    site: str = "additive"
    test: str = ""  # of TESTS of the kind, whose first is the default
    sums_of_squares: int = 3
    people: str = "all"
    unit: str = "person"
    by: str = GROUP  # column whose two levels are compared
    levels: tuple[str, ...] = ()  # of `by`: first minus second; default case and reference
    time: str = "months"  # longitudinal: column of the time since the first visit
    family: str = ""  # of the correction; default the name; "catalogue": each measure's own
    correction: str = "fdr"
    mode: str = "sound"
    sound: str = ""  # of an analysis in paper mode: name of the sound one to print beside
    published: str = ""  # file.table of published values to print beside


@dataclass(frozen=True)
class Expansion:
    """The columns that an entry of `outcomes` or `predictors` stands for."""

    names: tuple[str, ...]  # there, in order; with {side} where rows are sides
    absent: tuple[str, ...]  # named one by one and known, but nobody has them
    empty: tuple[str, ...]  # families and streams of which nobody has a member


def parse_analyses(
    tables: Sequence[Mapping[str, Any]],
    source: str = "the configuration file",
    covariates: Sequence[str] = (),
) -> tuple[Analysis, ...]:
    """Analyses of `tables`; every key and value is checked.

    Parameters
    ----------
    tables : sequence of mapping
        ``[[analysis]]`` as TOML gives it.
    source : str
        How messages name the file.
    covariates : sequence of str
        Of models that name none: those under ``[group]``. An empty list in the table is none.

    Raises
    ------
    BadInputError
        With the file, the analysis, the key and what to write instead.
    """
    analyses = tuple(
        _analysis(_with_covariates(table, covariates), _Where(source, _title(table, at)))
        for at, table in enumerate(tables, 1)
    )
    names = [analysis.name for analysis in analyses]
    for analysis in analyses:
        where = _Where(source, analysis.name)
        if names.count(analysis.name) > 1:
            raise where.error("name", "is used twice; every analysis needs a name of its own")
        if analysis.sound and analysis.sound not in names:
            raise where.error(
                "sound", f"names no analysis: '{analysis.sound}'{nearest(analysis.sound, names)}"
            )
    _require_one_correction(analyses, source)
    return analyses


@dataclass(frozen=True)
class _Where:
    """Where a fault lies, for messages."""

    source: str
    analysis: str

    def error(self, key: str, fault: str) -> BadInputError:
        return BadInputError(f"{self.source}, analysis {self.analysis}: {key} {fault}")


def nearest(word: str, known: Iterable[str]) -> str:
    """Make a hint to add to a message about an unknown word, or nothing."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""


def _with_covariates(table: Mapping[str, Any], usual: Sequence[str]) -> Mapping[str, Any]:
    """`table` with the usual covariates, where its kind has models and it names none."""
    kind, test = table.get("kind"), table.get("test", "")
    adjusts = kind in ("groups", "regression", "correlation", "longitudinal")
    if "covariates" in table or not adjusts or test in SIMPLE:
        return table
    return {**table, "covariates": list(usual)}


def _title(table: Mapping[str, Any], at: int) -> str:
    return str(table.get("name") or f"number {at}")


def _analysis(table: Mapping[str, Any], where: _Where) -> Analysis:
    known = [entry.name for entry in fields(Analysis)]
    for key in table:
        if key not in known:
            raise where.error(
                f"'{key}'", f"is no key{nearest(key, known)}; keys are {', '.join(known)}"
            )
    for key in ("name", "kind"):
        if not table.get(key):
            raise where.error(key, f"is missing; write {key} = ...")
    values = {key: _value(key, value, where) for key, value in table.items()}
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", values["name"]):
        raise where.error("name", "may hold letters, digits and _ only, a letter first")
    _choose(values["kind"], KINDS, "kind", where)
    values["test"] = values.get("test") or TESTS.get(values["kind"], ("",))[0]
    values["family"] = values.get("family") or values["name"]
    values["title"] = values.get("title") or values["name"]
    analysis = Analysis(**values)
    _check_choices(analysis, where)
    _check_kind(analysis, where)
    return analysis


def _value(key: str, value: Any, where: _Where) -> Any:
    """`value` in the type of the field `key`."""
    kind = next(entry.type for entry in fields(Analysis) if entry.name == key)
    if str(kind).startswith("tuple"):
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            raise where.error(key, f'is a list of names: write {key} = ["...", "..."]')
        repeated = [one for one in value if value.count(one) > 1]
        if repeated:
            raise where.error(key, f"names '{repeated[0]}' twice")
        return tuple(value)
    wanted = int if kind == "int" else str
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise where.error(key, "is a whole number" if wanted is int else 'is text: write "..."')
    return value


def _choose(value: Any, choices: Collection[Any], key: str, where: _Where) -> None:
    if value not in choices:
        words = ", ".join(map(str, choices))
        hint = nearest(str(value), map(str, choices))
        raise where.error(key, f"is '{value}'{hint}; it is one of {words}")


def _check_choices(analysis: Analysis, where: _Where) -> None:
    if analysis.kind in TESTS:
        _choose(analysis.test, TESTS[analysis.kind], "test", where)
    elif analysis.test:
        raise where.error("test", f"has no meaning for the kind {analysis.kind}; leave it out")
    _choose(analysis.site, SITE, "site", where)
    _choose(analysis.sums_of_squares, SQUARES, "sums_of_squares", where)
    _choose(analysis.people, PEOPLE, "people", where)
    _choose(analysis.unit, UNITS, "unit", where)
    _choose(analysis.correction, CORRECTIONS, "correction", where)
    _choose(analysis.mode, MODES, "mode", where)


def _check_kind(analysis: Analysis, where: _Where) -> None:
    kind = analysis.kind
    if kind in NEEDS_OUTCOMES and not analysis.outcomes:
        raise where.error("outcomes", f"is empty; the kind {kind} needs at least one")
    if kind in NEEDS_PREDICTORS and not analysis.predictors:
        raise where.error("predictors", f"is empty; the kind {kind} needs at least one")
    if kind not in NEEDS_PREDICTORS and analysis.predictors:
        raise where.error("predictors", f"has no meaning for the kind {kind}; leave it out")
    if analysis.unit == "side" and kind not in SIDE_KINDS:
        raise where.error("unit", f"is 'side', which only {' and '.join(SIDE_KINDS)} know")
    if analysis.levels and len(analysis.levels) != 2:
        raise where.error("levels", "names two labels: the first minus the second is estimated")
    if analysis.by != GROUP and not analysis.levels:
        raise where.error("levels", f"is missing: name the two labels of {analysis.by}")
    simple = kind == "groups" and analysis.test in SIMPLE
    if simple and (analysis.covariates or analysis.site != "none"):
        raise where.error(
            "test",
            f"is '{analysis.test}', which knows neither site nor covariates: write "
            'site = "none" and no covariates, or test = "glm"',
        )
    if simple and analysis.unit == "side" and analysis.mode != "paper":
        raise where.error(
            "unit", "is 'side', where a simple test takes two sides for two people; use test = "
            '"glm", or mode = "paper" to reproduce a published test',
        )  # fmt: skip
    if analysis.sound and analysis.mode != "paper":
        raise where.error("sound", 'has a meaning beside mode = "paper" only')
    needs_both = kind in ("groups", "roc", "classify", "longitudinal")
    if needs_both and analysis.people != "all" and analysis.by == GROUP and kind != "longitudinal":
        raise where.error("people", f"is '{analysis.people}', but the kind {kind} compares groups")


def _require_one_correction(analyses: Sequence[Analysis], source: str) -> None:
    """Analyses that share a family are corrected together, so they must agree how."""
    seen: dict[str, Analysis] = {}
    for analysis in analyses:
        first = seen.setdefault(analysis.family, analysis)
        if first.correction != analysis.correction:
            raise _Where(source, analysis.name).error(
                "correction",
                f"is '{analysis.correction}', but {first.name} of the same family "
                f"{analysis.family} says '{first.correction}'",
            )


def expand(
    entries: Sequence[str],
    catalogue: Catalogue,
    columns: Collection[str],
    *,
    sides: bool = False,
    strict: bool = True,
    where: str = "the configuration file",
) -> Expansion:
    """Columns that `entries` of outcomes or predictors stand for.

    Parameters
    ----------
    entries : sequence of str
        Names; ``family:NAME`` and ``stream:NAME`` stand for all their measures, ``score:NAME``
        for a clinical score, ``{side}`` in a name for left and right.
    catalogue : Catalogue
        Families and measures, clinical scores among them.
    columns : collection of str
        Columns of the cohort table.
    sides : bool
        Whether a row is a side: left and right of a measure are then one name with ``{side}``.
    strict : bool
        Whether a name that neither the catalogue nor the table knows is refused; else it is one
        that nobody has.
    where : str
        File, analysis and key, for messages.

    Raises
    ------
    BadInputError
        For a prefix, family or stream that does not exist, and for names as `strict` says.
    """
    names: list[str] = []
    absent: list[str] = []
    empty: list[str] = []
    for entry in entries:
        members, single = _members(entry, catalogue, columns if strict else None, where)
        found = [name for name in members if all(one in columns for one in both_sides(name))]
        names += found
        if single:
            absent += [name for name in members if name not in found]
        elif not found:
            empty.append(entry)
    joined = [_with_side(name, columns) if sides else name for name in names]
    if not sides:
        joined = [one for name in names for one in both_sides(name)]
    return Expansion(tuple(dict.fromkeys(joined)), tuple(dict.fromkeys(absent)), tuple(empty))


def both_sides(name: str) -> tuple[str, ...]:
    """`name` itself, or its two columns where it holds ``{side}``."""
    if SIDE not in name:
        return (name,)
    return tuple(name.replace(SIDE, side) for side in SIDES)


def _with_side(name: str, columns: Collection[str]) -> str:
    """`name` with ``{side}`` for its side, where the other side is there too."""
    for side in SIDES:
        pattern = re.sub(rf"_{side}(?=_|$)", f"_{SIDE}", name)
        if pattern != name and all(one in columns for one in both_sides(pattern)):
            return pattern
    return name


def _members(
    entry: str, catalogue: Catalogue, columns: Collection[str] | None, where: str
) -> tuple[list[str], bool]:
    """Names that one entry stands for, and whether it names one; `columns` None: any will do."""
    prefix, _, name = entry.partition(":")
    if not name:
        if columns is not None:
            _require_known(entry, catalogue, columns, where)
        return [entry], True
    if prefix not in PREFIXES:
        known = [f"{one}:" for one in PREFIXES]
        raise BadInputError(
            f"{where}: '{prefix}:' is no prefix{nearest(f'{prefix}:', known)}; prefixes are "
            + ", ".join(known)
        )
    if prefix == "score":
        if columns is not None:
            _require_score(name, catalogue, columns, where)
        return [name], True
    declared = catalogue.families if prefix == "family" else _streams(catalogue)
    if name not in declared:
        raise BadInputError(f"{where}: there is no {prefix} '{name}'{nearest(name, declared)}")
    return [m.name for m in catalogue.measures.values() if getattr(m, prefix) == name], False


def _streams(catalogue: Catalogue) -> list[str]:
    return list(dict.fromkeys(measure.stream for measure in catalogue.measures.values()))


def scores(catalogue: Catalogue) -> tuple[str, ...]:
    """Names of the clinical scores that the catalogue declares."""
    return tuple(m.name for m in catalogue.measures.values() if m.stream == SCORES)


def _require_score(name: str, catalogue: Catalogue, columns: Collection[str], where: str) -> None:
    known = [*scores(catalogue), *(c for c in columns if c not in catalogue.measures)]
    for one in both_sides(name):
        if one not in known:
            raise BadInputError(f"{where}: there is no score '{one}'{nearest(one, known)}")


def _require_known(entry: str, catalogue: Catalogue, columns: Collection[str], where: str) -> None:
    known = [*catalogue.measures, *columns]
    for name in both_sides(entry):
        if name not in known:
            family = (
                f"; for the family write 'family:{name}'" if name in catalogue.families else ""
            )
            raise BadInputError(
                f"{where}: '{name}' is neither a measure nor a column of the cohort table"
                f"{nearest(name, known)}{family}"
            )


def require_columns(names: Sequence[str], columns: Collection[str], where: str) -> None:
    """Refuse covariates and other columns that the cohort table does not have."""
    for name in names:
        if name not in columns:
            raise BadInputError(
                f"{where}: the cohort table has no column '{name}'{nearest(name, columns)}"
            )
