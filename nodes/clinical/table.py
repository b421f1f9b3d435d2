"""All clinical scores of a cohort from its tables, tidy or one row per person and session."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace

import pandas as pd

from alsflow.nodes.clinical.alsfrs import (
    alsfrs_scores,
    decline_rate,
    kings_stage,
    mitos_stage,
    read_alsfrs,
)
from alsflow.nodes.clinical.cognition import diagnosis, ecas_scores, handedness
from alsflow.nodes.clinical.columns import (
    ColumnMap,
    SourceTable,
    parse_columns,
    require_named,
)
from alsflow.nodes.clinical.gather import (
    DAYS_PER_MONTH,
    Cell,
    Place,
    gather_cells,
    refuse_all,
    spoken,
)
from alsflow.nodes.clinical.motor import (
    cmap_scores,
    fvc_percent,
    mrc_scores,
    penn_scores,
    tapping_scores,
)
from alsflow.nodes.clinical.options import ClinicalOptions
from alsflow.nodes.clinical.score import Given, Score
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.participants import SEX_WORDS
from alsflow.nodes.stats.tables import MISSING, is_missing, natural_key

TIDY = (
    "participant_id", "session_id", "score", "value", "label", "unit", "n_items_valid", "n_items",
    "status", "reason", "source",
)  # fmt: skip
NOT_MEASURES = ("mrc_max",)  # says what a scale can reach, not how somebody is


def clinical_table(
    tables: Iterable[SourceTable],
    mapping: ColumnMap | None = None,
    options: ClinicalOptions | None = None,
) -> pd.DataFrame:
    """Every score that the tables allow, one row per person, session and score.

    Parameters
    ----------
    tables : iterable of SourceTable
        Clinical tables, ``participants.tsv`` and the ``sessions.tsv`` of all people.
    mapping : ColumnMap, optional
        Which column holds which item, see `parse_columns`; from `options` by default.
    options : ClinicalOptions, optional
        How scores are made.

    Returns
    -------
    DataFrame
        Columns `TIDY`. A person without a row in any table of a tool has no rows here.

    Raises
    ------
    BadInputError
        Everything that is off its scale or contradicts itself, in one message.
    """
    options = options or ClinicalOptions()
    mapping = mapping or parse_columns(options)
    sources = list(tables)
    require_named(sources, mapping)
    cells = gather_cells(sources, mapping)
    firsts = _first_visits(cells, mapping)
    rows: list[dict[str, object]] = []
    problems: list[str] = []
    for place in sorted(cells, key=lambda p: (natural_key(p[0]), natural_key(p[1]))):
        visit = _Visit(place, cells, mapping, options, firsts.get(place[0], place))
        for make in SCORERS:
            try:
                found = list(make(visit))
            except BadInputError as problem:
                problems.append(str(problem))
                continue
            rows += [_row(place, score) for score in found]
    refuse_all(problems)
    return pd.DataFrame(rows, columns=list(TIDY)).astype({"value": float})


def _row(place: Place, score: Score) -> dict[str, object]:
    row = asdict(score)
    who = {"participant_id": place[0], "session_id": place[1], "score": row.pop("name")}
    return who | row


def _first_visits(cells: dict[Place, dict[str, Cell]], mapping: ColumnMap) -> dict[str, Place]:
    """First session of each person that has items of the ALSFRS-R."""
    firsts: dict[str, Place] = {}
    for place in sorted(cells, key=lambda p: natural_key(p[1])):
        tools = {mapping.fields[name].tool for name in cells[place]}
        if "alsfrs" in tools and place[1] != MISSING:
            firsts.setdefault(place[0], place)
    return firsts


class _Visit:
    """Items of one person and session, with what participants.tsv says of the person."""

    def __init__(
        self, place: Place, cells: dict[Place, dict[str, Cell]], mapping: ColumnMap,
        options: ClinicalOptions, first: Place,
    ) -> None:  # fmt: skip
        self.place, self.options, self._first = place, options, first
        self.who = spoken(place)
        self._here = cells[place]
        self._person = cells.get((place[0], MISSING), {})
        self._fields = mapping.fields

    def items(self, tool: str) -> Given:
        """Items of a tool by the name that the calculator knows; empty if no table has any."""
        return {self._fields[name].item: cell.text for name, cell in self._here.items()
                if self._fields[name].tool == tool}  # fmt: skip

    def about(self, name: str) -> str:
        """Read age, sex or height: of this session, else of the person."""
        for cells in (self._here, self._person):
            if name in cells and not is_missing(cells[name].text):
                return cells[name].text
        return MISSING

    def months(self) -> tuple[str | float, str]:
        """Return months since the first symptom at this session, and what to know of them."""
        here = self._here.get("symptom_duration")
        if here is not None and not is_missing(here.text):
            return here.text, ""
        onset, visit = self.about("onset_date"), self._here.get("visit_date")
        if not is_missing(onset) and visit is not None and not is_missing(visit.text):
            days = (_date(visit.text, "visit_date", self.who) -
                    _date(onset, "onset_date", self.who)).days  # fmt: skip
            return days / DAYS_PER_MONTH, ""
        person = self._person.get("symptom_duration")
        if person is None or is_missing(person.text):
            return math.nan, ""
        if self.place != self._first:
            return math.nan, f"{person.where} tells the duration at the first session only"
        note = f"duration of {person.where}, taken to be of the first session"
        return person.text, "" if self.place[1] == MISSING else note


def _date(text: str, what: str, who: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text.strip()[:10])
    except ValueError:
        raise BadInputError(
            f"{who}: {what} is '{text}'; write a date as year-month-day, such as 2021-04-30"
        ) from None


def _alsfrs(visit: _Visit) -> Iterator[Score]:
    given = visit.items("alsfrs")
    if not given:
        return
    options = visit.options
    items = read_alsfrs(given, visit.who)
    scores = alsfrs_scores(items, options.prorate)
    yield from scores
    months, note = visit.months()
    rate = decline_rate(scores[0], months, options.decline_bands, visit.who)
    reason = "; ".join(part for part in (rate.reason, note) if part)
    yield replace(rate, reason=reason)
    yield kings_stage(items, options.kings_at_least_1)
    yield mitos_stage(items)


def _mrc(visit: _Visit) -> Iterator[Score]:
    given, options = visit.items("mrc"), visit.options
    if given:
        yield from mrc_scores(given, options.mrc_movements, options.mrc_midline,
                              options.mrc_grades, options.prorate, visit.who)  # fmt: skip


def _penn(visit: _Visit) -> Iterator[Score]:
    given = visit.items("penn")
    if given:
        yield from penn_scores(given, visit.options.penn_items or None, visit.who)


def _cmap(visit: _Visit) -> Iterator[Score]:
    given, options = visit.items("cmap"), visit.options
    if given:
        yield from cmap_scores(given, options.cmap_norms, options.prorate, visit.who)


def _fvc(visit: _Visit) -> Iterator[Score]:
    given = dict(visit.items("fvc"))
    if not given:
        return
    given |= {name: visit.about(name) for name in ("age", "height")}
    given["sex"] = SEX_WORDS.get(visit.about("sex").strip().casefold())
    yield fvc_percent(given, visit.options.fvc_equation, visit.who)


def _tapping(visit: _Visit) -> Iterator[Score]:
    given = visit.items("tapping")
    if given:
        yield from tapping_scores(given, visit.options.one_side, visit.who)


def _ecas(visit: _Visit) -> Iterator[Score]:
    given, options = visit.items("ecas"), visit.options
    if given:
        yield from ecas_scores(given, options.ecas_cutoffs, options.ecas_borderline, visit.who)


def _hand(visit: _Visit) -> Iterator[Score]:
    given = visit.items("handedness")
    if given:
        yield handedness(given, visit.options.handedness_limit, visit.who)


def _diagnosis(visit: _Visit) -> Iterator[Score]:
    for criteria, value in visit.items("diagnosis").items():
        yield diagnosis(value, criteria, visit.who)


SCORERS: tuple[Callable[[_Visit], Iterable[Score]], ...] = (
    _alsfrs, _mrc, _penn, _cmap, _fvc, _tapping, _ecas, _hand, _diagnosis,
)  # fmt: skip


def widen_scores(scores: pd.DataFrame, cells: str = "value") -> pd.DataFrame:
    """One row per person and session, one column per score.

    Parameters
    ----------
    scores : DataFrame
        As `clinical_table` returns it.
    cells : str
        What stands in the cells: ``value``, or ``label`` for the values in words.

    Returns
    -------
    DataFrame
        ``participant_id``, ``session_id`` and the scores; NaN where missing. Flagged values stay.
    """
    names = [name for name in dict.fromkeys(scores["score"]) if name not in NOT_MEASURES]
    wide = scores.pivot(index=["participant_id", "session_id"], columns="score", values=cells)
    order = list(dict.fromkeys(zip(scores["participant_id"], scores["session_id"], strict=True)))
    wide = wide.reindex(index=pd.MultiIndex.from_tuples(order, names=wide.index.names),
                        columns=names)  # fmt: skip
    return wide.rename_axis(columns=None).reset_index()


def score_features(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores in the shape of ``features.tsv``, for models that take scores and measures alike.

    A flagged score was asked for and stays usable, with its reason.
    """
    kept = scores[~scores["score"].isin(NOT_MEASURES)]
    return pd.DataFrame(
        {
            "participant_id": kept["participant_id"],
            "session_id": kept["session_id"],
            "measure": kept["score"],
            "value": kept["value"],
            "unit": kept["unit"],
            "qc": "ok",
            "reason": kept["reason"].where(kept["reason"] != "", MISSING),
        }
    ).reset_index(drop=True)


def why_no_score(scores: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Reason for each person and score without a value."""
    absent = scores[scores["status"] == "missing"]
    return dict(zip(zip(absent["participant_id"], absent["score"], strict=True),
                    absent["reason"], strict=True))  # fmt: skip


def score_notes(scores: pd.DataFrame) -> list[str]:
    """What a reader has to know of flagged scores, one sentence each."""
    flagged = scores[scores["status"] == "flagged"]
    return [f"{row['participant_id']} {row['score']}: {row['reason']}"
            for _, row in flagged.iterrows()]  # fmt: skip
