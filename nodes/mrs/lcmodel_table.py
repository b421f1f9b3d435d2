"""Reader of LCModel's ``.table``, by the columns in which LCModel writes it.

A row is ``blank + conc[8] + %SD[4] + '%' + ratio[8] + flag[1] + name``: the flag touches the
name (``1.588+Asp``) and names may begin with a sign (``-CrCH2``), so blanks do not separate.
Layout after the source of LCModel 6.3-1N (https://github.com/schorschinho/LCModel).
"""

from __future__ import annotations

import re
from dataclasses import replace
from math import isclose, nan

from alsflow.nodes.mrs.metabolites import members_of, standard_name
from alsflow.nodes.mrs.result import (
    SD_CAP,
    Diagnostic,
    LCModelError,
    LCModelResult,
    Misc,
    Row,
    Status,
    known,
    missing_result,
)
from alsflow.nodes.mrs.sections import Section, Sections, split_sections

NAME_WIDTH = 27  # characters; NCHLIN(2) - 22 of LCModel's default
NAME_WIDTH_NARROW = 8  # characters; where the head says "Metab."
CUT_REFERENCE = 6  # characters of the reference that fit over the ratio column
KEPT_INPUTS = frozenset(
    {"atth2o", "attmet", "chcomb", "chomit", "conc3f", "conrel", "deltat", "doecc", "dows"}
    | {"echot", "hzpppm", "namrel", "nobase", "nomit", "nratio", "nsimul", "nunfil", "onlyco"}
    | {"ppmend", "ppmst", "sptype", "wconc"}
)
WATER_FAULTS = {
    "MYDATA": {5},
    "WSCALE": {1, 2},
    "AREAWA": {1, 2, 3, 4},
    "AREABA": {1, 2, 3},
}
LEVELS = {
    "info": "info",
    "info's": "info",
    "warning": "warning",
    "warnings": "warning",
    "ERROR": "ERROR",
    "ERRORS": "ERROR",
    "FATAL": "FATAL",
    "ILLOGICAL": "ILLOGICAL",
}

HEADER = re.compile(r"\s*Conc\.\s*%SD\s*/(\S.*?)\s+(Metabolite|Metab\.)\s*$")
FIXED_ROW = re.compile(
    r" (?P<conc>.{8})(?P<sd>.{4})%(?P<ratio>.{8})(?P<flag>[ +-])(?P<name>\S.*?)\s*$"
)
LOOSE_ROW = re.compile(
    r"\s*(?P<conc>\S+)\s+(?P<sd>\d+|\*+)%\s*"
    r"(?P<ratio>\d*\.\d*(?:[Ee][+-]\d\d)?|NaN|\*+)(?:\s+|(?P<flag>[+-])(?=\S))(?P<name>\S+)\s*$"
)
NUMBER = re.compile(r"(\d*)\.(\d*)(?:[Ee]([+-]\d{2,3}))?")
NO_NUMBER = re.compile(r"\*+|[+-]?(?:nan|inf(?:inity)?)", re.IGNORECASE)
DIAGNOSTIC = re.compile(r"\s*(\d+|\*+)\s+([A-Za-z']+)\s+([A-Z][A-Z0-9]{0,5}?)\s*(\d{1,3})\s*$")
INPUT = re.compile(r" ?([A-Za-z]\w*(?:\([\d, ]+\))?)\s*=\s*(.*?)\s*$")
VALUE = r"\s*([-+\d.Ee]+|\*+|[+-]?NaN|[+-]?Inf\w*)\s*"
MISC_LINES = {
    ("fwhm_ppm", "snr"): re.compile(rf"\s*FWHM\s*={VALUE}ppm\s+S/N\s*={VALUE}$"),
    ("data_shift_ppm",): re.compile(rf"\s*Data shift\s*={VALUE}ppm\s*$"),
    ("ph0_deg", "ph1_deg_per_ppm"): re.compile(rf"\s*Ph:{VALUE}deg\s{VALUE}deg/ppm\s*$"),
    ("alpha_b", "alpha_s"): re.compile(rf"\s*alphaB,S\s*={VALUE},{VALUE}$"),
    ("n_knots", "n_side"): re.compile(r"\s*(\d+) spline knots\.\s+Ns\s*=\s*(\d+)\(\d+\)\s*$"),
}
MISC_ALWAYS = 3  # lines every version writes: width and S/N, shift, phase


def read_table(text: str, name: str, *, personal: bool = False) -> LCModelResult:
    """Read one ``.table``.

    Parameters
    ----------
    text : str
        The whole file.
    name : str
        Name of the file, for messages and as `source`.
    personal : bool
        Also keep title, owner, date and the input lines with paths.

    Raises
    ------
    LCModelError
        Where the text is no result of LCModel or contradicts itself.
    """
    if not text.strip("\ufeff\x00 \t\r\n"):
        return missing_result(name, "the file is empty")
    return read_sections(split_sections(text, name), personal=personal)


def read_sections(sections: Sections, *, personal: bool = False) -> LCModelResult:
    """Result from the sections that ``.table`` and ``.coord`` share."""
    name = sections.name
    diagnostics = _diagnostics(sections)
    inputs, inputs_whole = _inputs(sections)
    status, reason = _status(sections, diagnostics, inputs_whole)
    cut = status == "truncated"
    result = LCModelResult(
        source=name,
        status=status,
        status_reason=reason,
        version=sections.version,
        misc=_misc(sections, cut),
        diagnostics=diagnostics,
        inputs=inputs,
        water_scaled=_water_scaled(sections, inputs, inputs_whole, diagnostics),
        personal=sections.personal() if personal else (),
    )
    conc = sections.get("conc")
    return result if conc is None else _with_rows(result, conc, cut)


def number(text: str) -> tuple[float, float]:
    """Value of a Fortran field and half a unit of its last digit; NaN for stars and NaN.

    >>> number(" 5.2E-02")
    (0.052, 0.0005)
    """
    text = text.strip()
    found = NUMBER.fullmatch(text)
    if found and (found[1] or found[2]):
        exponent = int(found[3] or 0) - len(found[2])
        return float(text), float(f"5e{exponent - 1}")
    if NO_NUMBER.fullmatch(text):
        return nan, nan
    raise ValueError(f"'{text}' is no number as LCModel writes it")


def _status(
    sections: Sections, diagnostics: tuple[Diagnostic, ...], inputs_whole: bool
) -> tuple[Status, str]:
    diag = sections.get("diag")
    if diag is None:
        return "truncated", "the file ends before its diagnostics"
    if diag.declared is not None and len(diagnostics) < diag.declared:
        return "truncated", "the file ends within its diagnostics"
    if not inputs_whole:
        return "truncated", "the file ends within its input changes"
    fatal = [d for d in diagnostics if d.level in ("FATAL", "ILLOGICAL")]
    if fatal:
        return "fatal", f"LCModel stopped: {fatal[0].level} {fatal[0].routine} {fatal[0].number}"
    if sections.get("conc") is None:
        raise LCModelError(
            sections.name, diag.line, "no concentrations and no FATAL message; run LCModel again"
        )
    return "ok", ""


def _with_rows(result: LCModelResult, conc: Section, cut: bool) -> LCModelResult:
    """The result with its concentration table."""
    head = HEADER.match(conc.lines[0]) if conc.lines else None
    if head is None:
        if cut:
            return result
        raise LCModelError(result.source, conc.line + 1, "no head 'Conc. %SD /...' of the table")
    narrow = head[2] == "Metab."
    lines = conc.content(start=1, drop_unfinished=cut and conc.last)
    loose = bool(lines) and FIXED_ROW.match(lines[0][1]) is None
    width = 0 if loose else NAME_WIDTH_NARROW if narrow else NAME_WIDTH
    pattern = LOOSE_ROW if loose else FIXED_ROW
    rows = tuple(_row(text, at, pattern, width, result.source) for at, text in lines)
    declared = None if conc.declared is None else conc.declared - 1
    _check_rows(rows, declared, conc, result)
    reference = _reference(rows, head[1].strip(), result.inputs)
    if reference is not None:
        rows = tuple(replace(row, ratio_valid=_ratio_known(row)) for row in rows)
    return replace(
        result,
        header=conc.lines[0].strip(),
        rows=rows,
        ratio_reference=reference or head[1].strip(),
        n_rows_declared=declared,
        tolerant=loose,
    )


def _row(text: str, at: int, pattern: re.Pattern[str], width: int, file: str) -> Row:
    found = pattern.match(text)
    if found is None:
        raise LCModelError(file, at, "this is no row of a concentration table; run LCModel again")
    name = found["name"]
    try:
        conc, conc_rounding = number(found["conc"])
        ratio, ratio_rounding = number(found["ratio"])
        sd = _integer(found["sd"])
    except ValueError as problem:
        raise LCModelError(file, at, f"{problem}; run LCModel again") from problem
    members = members_of(name)
    return Row(
        metabolite=name,
        metabolite_std=standard_name(name),
        is_sum=len(members) > 1,
        members=members,
        conc=conc,
        sd_percent=sd,
        ratio=ratio,
        ratio_valid=False,
        prior_outlier=(found["flag"] or "").strip(),
        name_truncated=bool(width) and len(name) >= width,
        conc_rounding=conc_rounding,
        ratio_rounding=ratio_rounding,
    )


def _integer(text: str) -> int | None:
    text = text.strip()
    if text and not text.strip("*"):
        return None
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"'{text}' is no %SD")
    return int(text)


def _check_rows(
    rows: tuple[Row, ...], declared: int | None, conc: Section, result: LCModelResult
) -> None:
    """Refuse a table that is empty, of another length than announced, or names one twice.

    Fewer rows than announced are right only where sums alone are listed (ONLYCO, some SPTYPEs).
    """
    if not rows and result.status == "ok":
        raise LCModelError(result.source, conc.line, "the concentration table has no rows")
    if declared is not None and len(rows) > declared:
        reason = f"{len(rows)} rows where {declared} were announced; the file was changed"
        raise LCModelError(result.source, conc.line, reason)
    may_be_short = result.water_scaled is None or {"onlyco", "sptype"} & set(result.inputs)
    if declared is not None and len(rows) < declared and not may_be_short:
        reason = f"{len(rows)} rows where {declared} were announced; the file was changed"
        raise LCModelError(result.source, conc.line, reason)
    names = [row.metabolite for row in rows if not row.name_truncated]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise LCModelError(result.source, conc.line, f"two rows are named {twice}")


def _reference(rows: tuple[Row, ...], shown: str, inputs: dict[str, str]) -> str | None:
    """Full name of the reference; None unless a row bears it and its ratio is CONREL."""
    try:
        conrel = float(inputs.get("conrel", "1").lower().replace("d", "e"))
    except ValueError:
        return None
    for row in rows:
        fits = row.metabolite == shown or (
            len(shown) == CUT_REFERENCE and row.metabolite.startswith(shown)
        )
        if fits and _ratio_known(row) and (row.sd_percent or 0) < SD_CAP:
            tolerance = 1.01 * row.ratio_rounding
            if isclose(row.ratio, conrel, rel_tol=1e-6, abs_tol=tolerance):
                return row.metabolite
    return None


def _ratio_known(row: Row) -> bool:
    return known(row.conc) and known(row.ratio)


def _misc(sections: Sections, cut: bool) -> Misc:
    """Line shape and phase; the first three lines must be readable in a whole file."""
    section = sections.get("misc")
    if section is None:
        return Misc()
    values: dict[str, float] = {}
    for _, line in section.content(drop_unfinished=cut and section.last):
        for names, pattern in MISC_LINES.items():
            if found := pattern.match(line):
                values |= {n: _real(v) for n, v in zip(names, found.groups(), strict=True)}
                overflow = "snr" in names and "*" in found[2]
                values |= {"snr_overflow": True} if overflow else {}
    if not cut and not all(names[0] in values for names in list(MISC_LINES)[:MISC_ALWAYS]):
        reason = "line width, shift or phase cannot be read; run LCModel again"
        raise LCModelError(sections.name, section.line, reason)
    counts = {key: int(values.pop(key)) for key in ("n_knots", "n_side") if key in values}
    if values.get("snr", 0) < 0:
        values["snr"] = nan
    return Misc(**values, **counts)  # type: ignore[arg-type]


def _real(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return nan
    return value if abs(value) != float("inf") else nan


def _diagnostics(sections: Sections) -> tuple[Diagnostic, ...]:
    section = sections.get("diag")
    if section is None:
        return ()
    found = []
    for at, line in section.content(drop_unfinished=section.last):
        match = DIAGNOSTIC.match(line)
        if match is None or match[2] not in LEVELS:
            raise LCModelError(sections.name, at, "this is no diagnostic message of LCModel")
        count = int(match[1]) if match[1].isdigit() else None
        found.append(Diagnostic(LEVELS[match[2]], match[3], int(match[4]), count))
    if section.declared is not None and not section.last and len(found) != section.declared:
        reason = f"{len(found)} diagnostics where {section.declared} were announced"
        raise LCModelError(sections.name, section.line, reason)
    return tuple(found)


def _inputs(sections: Sections) -> tuple[dict[str, str], bool]:
    """Settings on one line each, and whether all lines announced are there.

    A value broken over several lines cannot be put together reliably and is left out.
    """
    section = sections.get("inpu")
    if section is None:
        return {}, True
    lines = [line for _, line in section.content()]
    whole = section.declared is None or len(lines) >= section.declared
    inputs: dict[str, str] = {}
    last = ""
    for line in lines:
        found = INPUT.match(line)
        if found and not line.startswith("   "):
            last = found[1].lower()
            if last.partition("(")[0] in KEPT_INPUTS:
                inputs[last] = found[2]
        else:
            inputs.pop(last, None)
    return inputs, whole


def _water_scaled(
    sections: Sections,
    inputs: dict[str, str],
    inputs_whole: bool,
    diagnostics: tuple[Diagnostic, ...],
) -> bool | None:
    """Scaling was asked for and nothing says that it failed; None where the file cannot tell."""
    if not (sections.get("inpu") and sections.get("diag") and inputs_whole):
        return None
    asked = inputs.get("dows", "F").strip(".").upper().startswith("T")
    failed = any(
        d.level != "info" and d.number in WATER_FAULTS.get(d.routine, ()) for d in diagnostics
    )
    return asked and not failed
