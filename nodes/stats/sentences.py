"""Sentences of a results paragraph, made from the rows that the tables print.

Numbers come from `printed.cell_text`, the direction from the sign of the estimate. A test that did
not find anything is said not to have reached its limit, never to have shown likeness.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from alsflow.nodes.stats.plan import Analysis
from alsflow.nodes.stats.printed import (
    AREA,
    BETA,
    CASE,
    CONTROL,
    CORRELATION,
    DF,
    DIFFERENCE,
    EFFECT,
    LIMITS,
    NA,
    PSEUDO,
    R_NAMES,
    STATISTIC,
    Column,
    P,
    Q,
    cell_text,
    equals,
    is_found,
    is_known,
    levels_of,
    models_of,
    remark_of,
)
from alsflow.nodes.stats.registry import TESTED

MOST = 12  # results of one analysis that get a sentence of their own
SHOWN = 6  # names in one list
UNTRUE = (
    "it takes rows of one person as independent, so its standard errors, limits and p values are "
    "too small"
)
Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Sentence:
    """One sentence, and the row of the registry that its numbers are from."""

    text: str
    outcome: str = ""
    predictor: str = ""


@dataclass(frozen=True)
class Paragraph:
    """Results of one analysis in words."""

    analysis: str
    title: str
    sentences: tuple[Sentence, ...]

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join(sentence.text for sentence in self.sentences)


def paragraph(
    tests: pd.DataFrame, analysis: Analysis, groups: tuple[str, str], family: str = ""
) -> Paragraph:
    """Sentences on one analysis.

    Parameters
    ----------
    tests : DataFrame
        The registry.
    analysis : Analysis
        Whose rows to tell.
    groups : pair of str
        Labels of case and reference.
    family : str
        Only its rows; all where empty.

    Returns
    -------
    paragraph : Paragraph
        How it was tested, each result below the limit (the first `MOST` by p), how many others
        were tested, what could not be tested and why, who is missing and why.
    """
    own = tests[tests["analysis"] == analysis.name]
    rows = (own[own["family"] == family] if family else own).to_dict("records")
    tested = [row for row in rows if row["status"] == TESTED]
    found = sorted((row for row in tested if is_found(row)), key=lambda row: float(row["p"]))
    levels = levels_of(analysis, groups)
    sentences = [Sentence(_opening(tested, analysis, levels))] if tested else []
    sentences += [
        Sentence(result_sentence(row, analysis, levels), row["outcome"], str(row["predictor"]))
        for row in found[:MOST]
    ]
    texts = [
        _others(tested, found, analysis),
        _sound_warning(tested, analysis),
        *_refusals(rows),
        *_missing(tested),
    ]
    sentences += [Sentence(text) for text in texts if text]
    return Paragraph(analysis.name, analysis.title, tuple(sentences))


def result_sentence(row: Row, analysis: Analysis, levels: tuple[str, str]) -> str:
    """One tested row in words: direction, estimate, effect with limits, test, df, p and q.

    Raises
    ------
    ValueError
        For a row that was not tested: there is nothing to say.
    """
    if row["status"] != TESTED:
        raise ValueError(f"{row['analysis']}, {row['outcome']} was not tested")
    text = TELL[analysis.kind](row, analysis, levels)
    remark = remark_of(row)
    return f"{_capital(text)}{f' ({remark})' if remark == PSEUDO else ''}."


def _capital(text: str) -> str:
    """Text with a capital, unless it begins with a name such as tNAA or fa_mrs_voxel."""
    first = text.split(" ")[0].rstrip(",")
    return text[:1].upper() + text[1:] if first.isalpha() and first.islower() else text


def _name(row: Row) -> str:
    """Measure in words, without its unit."""
    return str(row["label"]) if is_known(row["label"]) else str(row["outcome"])


def _predictor(row: Row) -> str:
    words = row["predictor_label"]
    return str(words) if is_known(words) else str(row["predictor"])


def _unit(row: Row) -> str:
    unit = row["unit"]
    return f" {unit}" if is_known(unit) and unit != "1" else ""


def _test(row: Row) -> str:
    """Statistic, df, p and q as they stand in the table."""
    parts = []
    statistic, df = cell_text(row, STATISTIC), cell_text(row, DF)
    if statistic != NA and row.get("statistic") != "AUC":
        name, _, value = statistic.partition(" = ")
        parts.append(f"{name} ({df}) = {value}" if df != NA else statistic)
    parts += [
        f"{column.label} {equals(text)}"
        for column in (P, Q)
        if (text := cell_text(row, column)) != NA
    ]
    return ", ".join(parts)


def _direction(value: float, words: tuple[str, str, str]) -> str:
    """Word for a negative, zero or positive value."""
    return words[int(value > 0) - int(value < 0) + 1]


def _tell_groups(row: Row, analysis: Analysis, levels: tuple[str, str]) -> str:
    by_ranks = not is_known(row["estimate"])
    value = float(row["effect_size"] if by_ranks else row["estimate"])
    case, reference = levels
    way = _direction(value, ("lower", "the same", "higher"))
    than = "as" if value == 0 else "than"
    text = f"{_name(row)} was {way} in {case} {than} in {reference}"
    inside = []
    if is_known(row["case_mean"]):
        means = f"{cell_text(row, CASE)} against {cell_text(row, CONTROL)}"
        inside.append(f"{means}{_unit(row)}")
    if not by_ranks:
        limits = cell_text(row, LIMITS)
        inside.append(f"difference {cell_text(row, DIFFERENCE)}{_unit(row)}, 95 % limits {limits}")
    inside += [cell_text(row, EFFECT), _test(row)]
    return f"{text} ({'; '.join(part for part in inside if part != NA)})"


def _tell_slope(row: Row, analysis: Analysis, levels: tuple[str, str]) -> str:
    way = _direction(float(row["estimate"]), ("lower", "the same", "higher"))
    slope = f"slope {cell_text(row, SLOPE)}, 95 % limits {cell_text(row, LIMITS)}"
    inside = [slope, f"standardised {cell_text(row, BETA)}", _test(row)]
    return f"{_name(row)} was {way} with higher {_predictor(row)} ({'; '.join(inside)})"


def _tell_correlation(row: Row, analysis: Analysis, levels: tuple[str, str]) -> str:
    way = _direction(float(row["estimate"]), ("negatively", "not", "positively"))
    kind = R_NAMES[analysis.test]
    given = f" given {row['partial_given']}" if analysis.test == "partial" else ""
    inside = [f"{kind} {cell_text(row, CORRELATION)}", f"n = {int(row['n'])}", _test(row)]
    return f"{_name(row)} and {_predictor(row)} were {way} correlated{given} ({'; '.join(inside)})"


def _tell_area(row: Row, analysis: Analysis, levels: tuple[str, str]) -> str:
    what = str(row["predictor"]) if analysis.kind == "classify" else _name(row)
    verb = "together classified" if analysis.kind == "classify" else "told"
    inside = [f"AUC {cell_text(row, AREA)}", _test(row)]
    joint = "and" if analysis.kind == "classify" else "from"
    return f"{what} {verb} {levels[0]} {joint} {levels[1]} ({'; '.join(inside)})"


def _tell_time(row: Row, analysis: Analysis, levels: tuple[str, str]) -> str:
    value = float(row["estimate"])
    unit = f"{_unit(row)} per {str(row['predictor']).removesuffix('s')}"
    numbers = f"{cell_text(row, SLOPE)}{unit}, 95 % limits {cell_text(row, LIMITS)}; {_test(row)}"
    if analysis.people == "all":
        way = _direction(value, ("lower", "the same", "higher"))
        return (
            f"the slope of {_name(row)} over {row['predictor']} was {way} in {levels[0]} than in "
            f"{levels[1]} (difference {numbers})"
        )
    way = _direction(value, ("fell", "did not change", "rose"))
    return f"{_name(row)} {way} over {row['predictor']} (slope {numbers})"


def _tell_people(row: Row, analysis: Analysis, levels: tuple[str, str]) -> str:
    if not is_known(row["case_mean"]):
        return f"{levels[0]} and {levels[1]} differed in {_name(row)} ({_test(row)})"
    way = _direction(float(row["estimate"]), ("lower", "the same", "higher"))
    means = f"{cell_text(row, CASE)} against {cell_text(row, CONTROL)}"
    return f"{_name(row)} was {way} in {levels[0]} than in {levels[1]} ({means}; {_test(row)})"


SLOPE = Column("estimate", "slope", "number")
TELL: Mapping[str, Callable[[Row, Analysis, tuple[str, str]], str]] = {
    "groups": _tell_groups,
    "regression": _tell_slope,
    "correlation": _tell_correlation,
    "roc": _tell_area,
    "classify": _tell_area,
    "longitudinal": _tell_time,
    "demographics": _tell_people,
}


# --------------------------------------------------------------------------- around the results

WHAT = {
    "groups": "The difference between {case} and {reference} was tested for {k}",
    "regression": "The slope on a predictor was tested for {k}",
    "correlation": "Correlations were tested for {k}",
    "roc": "The area under the ROC curve of {case} against {reference} was tested for {k}",
    "classify": "{case} and {reference} were classified out of sample",
    "longitudinal": "Change over time was tested for {k}",
    "demographics": "{case} and {reference} were compared in {k}",
}
PAIRS = ("regression", "correlation")
LIMIT = {
    "fdr": "q < 0.05 (false discovery rate)",
    "holm": "q < 0.05 (Holm)",
    "none": "p < 0.05, not corrected for the number of tests",
}


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _opening(tested: Sequence[Row], analysis: Analysis, levels: tuple[str, str]) -> str:
    word = "pair" if analysis.kind in PAIRS else "variable"
    what = WHAT[analysis.kind].format(
        case=levels[0], reference=levels[1], k=_count(len(tested), word)
    )
    models = models_of(tested)
    how = f" ({'; '.join(models)})" if 0 < len(models) <= 2 else ""
    return f"{what}{how}."


def _others(tested: Sequence[Row], found: Sequence[Row], analysis: Analysis) -> str:
    """How many results have no sentence of their own."""
    if not tested:
        return ""
    limit = LIMIT[analysis.correction]
    left = len(tested) - len(found)
    parts = []
    if len(found) > MOST:
        parts.append(f"{len(found) - MOST} more reached {limit}; the table has them.")
    if left == len(tested):
        parts.append(f"None of {_count(left, 'test')} reached {limit}.")
    elif left:
        parts.append(f"{left} of {_count(len(tested), 'test')} did not reach {limit}.")
    return " ".join(parts)


def _sound_warning(tested: Sequence[Row], analysis: Analysis) -> str:
    double = [row for row in tested if remark_of(row) == PSEUDO]
    if not double:
        return ""
    n, people = int(double[0]["n"]), int(double[0]["n_people"])
    beside = f" The sound model stands under {analysis.sound}." if analysis.sound else ""
    return f"This {PSEUDO} ({n} rows of {people} people): {UNTRUE}.{beside}"


def _refusals(rows: Sequence[Row]) -> list[str]:
    """What was not tested and why, those with the same reason together."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["status"] != TESTED:
            name = _name(row)
            if is_known(row["predictor"]) and row["kind"] in PAIRS:
                name += f" on {_predictor(row)}"
            why = str(row["reason"]).removesuffix(": not compared")
            found.setdefault(why, []).append(name)
    return [f"Not tested: {_few(names)}, as {why}." for why, names in found.items()]


def _few(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    if len(unique) > SHOWN:
        return f"{', '.join(unique[:SHOWN])} and {len(unique) - SHOWN} more"
    return ", ".join(unique)


def _missing(tested: Sequence[Row]) -> list[str]:
    """How many rows are in no model of a measure, and why; like measures together."""
    found: dict[tuple[str, int], list[str]] = {}
    whys: dict[str, set[str]] = {}
    for row in tested:
        whys.setdefault(row["outcome"], set()).add(str(row["missing"]))
    for row in tested:
        if is_known(row["n_missing"]) and int(row["n_missing"]) > 0:
            why = _reasons(_worded(row)) if is_known(row["missing"]) else "no value"
            pair = row["kind"] in PAIRS and len(whys[row["outcome"]]) > 1
            name = f"{_name(row)} with {_predictor(row)}" if pair else _name(row)
            name = "the classification" if row["kind"] == "classify" else name
            found.setdefault((why, int(row["n_missing"])), []).append(name)
    kinds = {str(row["rows"]) for row in tested}
    word = kinds.pop() if len(kinds) == 1 else "row"
    word = {"person": "person", "side": "side", "visit": "visit"}.get(word, "row")
    plural = {"person": "people"}.get(word, f"{word}s")
    return [
        f"{n} {word if n == 1 else plural} could not be used for {_few(names)} ({why})."
        for (why, n), names in found.items()
    ]


def _worded(row: Row) -> str:
    """Who is missing and why, with words for the names of the two columns."""
    text = str(row["missing"]).replace(str(row["outcome"]), _name(row))
    predictor = str(row["predictor"])
    return text.replace(predictor, _predictor(row)) if is_known(predictor) else text


def _reasons(missing: str) -> str:
    """``sub-1, sub-2: no age; sub-3: ...`` as ``2: no age; 1: ...``."""
    parts = []
    for part in re.split(r"; (?=[^;]*?: )", missing):
        who, colon, why = part.partition(": ")
        parts.append(f"{len(who.split(', '))}: {why}" if colon else part)
    return "; ".join(parts)


def paragraphs(
    tests: pd.DataFrame, analyses: Sequence[Analysis], groups: tuple[str, str]
) -> list[Paragraph]:
    """Paragraphs of all analyses that have rows."""
    known = set(tests["analysis"])
    return [paragraph(tests, one, groups) for one in analyses if one.name in known]
