"""Accuracy, classification and ComBat beside their values from R 4.2.2 (pROC, glm, MASS, sva).

`compare` returns one row per analysis; `found` the numbers themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from alsflow.nodes.stats.classify import Recipe, classify
from alsflow.nodes.stats.combat import fit_combat
from alsflow.nodes.stats.logistic import fit_logistic
from alsflow.nodes.stats.proportions import proportion
from alsflow.nodes.stats.roc import compare_rocs, roc, youden

FLOOR = 1e-9  # values below are compared absolutely
RTOL = 1e-6
ANALYSES = ("B8_roc", "B8_roc_test", "B9_logit", "B9_leave_site_out", "B10_binom")
HIGH_IN_ALS = ("md", "rd", "ad")  # as README of the reference data
# Groups that a marker separates have no finite odds ratio; what R prints is where it gave up.
NOT_TO_BE_REPRODUCED = (
    ("D_perfect_separation", "als", "marker_sep", "estimate"),
    ("D_perfect_separation", "als", "marker_sep", "se"),
)
COMBAT = {"par": "parametric", "nonpar": "nonparametric", "meanonly": "mean"}
HARMONISED = ["fa", "md", "rd", "ad", "fc_roi"]

Key = tuple[str, str, str, str]  # analysis, outcome, term, stat
Values = Iterator[tuple[Key, float]]


class Row(NamedTuple):
    """Agreement of one analysis."""

    analysis: str
    n: int  # values compared
    skipped: int  # reference values that are not to be reproduced
    worst: float  # relative error, absolute below FLOOR
    tolerance: float
    failed: tuple[str, ...]  # values outside their tolerance, or not found


def reference_values(folder: Path) -> dict[Key, float]:
    """Every number of R that this part answers for."""
    return {key: value for part in (_long(folder), _predicted(folder), _combat(folder))
            for key, value in part}  # fmt: skip


def found(folder: Path) -> dict[Key, float]:
    """Our value for every key of `reference_values`."""
    table = pd.read_csv(folder / "calsnic_subjects.csv").set_index("participant_id")
    parts = (_areas(table), _separation(folder), _logit(table), _left_out(table),
             _binomial(), _harmonised(table))  # fmt: skip
    return {key: value for part in parts for key, value in part}


def compare(folder: Path) -> list[Row]:
    """One row per analysis of `folder`, the directory of the reference tables."""
    theirs, ours = reference_values(folder), found(folder)
    rows: dict[str, list[Key]] = {}
    for key in theirs:
        rows.setdefault(key[0], []).append(key)
    return [_row(analysis, keys, theirs, ours) for analysis, keys in rows.items()]


def error(ours: float, theirs: float) -> float:
    """Relative error; absolute where theirs is below the floor."""
    wrong = abs(ours - theirs) / max(abs(theirs), FLOOR)
    return wrong if np.isfinite(wrong) else np.inf


def _row(analysis: str, keys: list[Key], theirs: dict[Key, float], ours: dict[Key, float]) -> Row:
    keys = [key for key in keys if key not in NOT_TO_BE_REPRODUCED]
    errors = {key: error(ours.get(key, np.nan), theirs[key]) for key in keys}
    failed = tuple(
        f"{' '.join(key)}: {ours.get(key)} for {theirs[key]} in R"
        for key, wrong in errors.items()
        if wrong > RTOL
    )
    skipped = sum(key[0] == analysis for key in NOT_TO_BE_REPRODUCED)
    return Row(analysis, len(keys), skipped, max(errors.values()), RTOL, failed)


def _long(folder: Path) -> Values:
    table = pd.read_csv(folder / "r_reference_long.csv")
    wanted = table["analysis"].isin([*ANALYSES, "D_perfect_separation"])
    for row in table[wanted].itertuples():
        yield (row.analysis, row.outcome, row.term, row.stat), float(row.value)


def _predicted(folder: Path) -> Values:
    table = pd.read_csv(folder / "r_leave_site_out_predictions.csv")
    for row in table.itertuples():
        for name in ("p_logit", "p_lda"):
            yield ("leave_site_out_predictions", name, row.participant_id, "p"), getattr(row, name)


def _combat(folder: Path) -> Values:
    for name in COMBAT:
        table = pd.read_csv(folder / f"r_sva_combat_{name}.csv").set_index("participant_id")
        for (person, measure), value in table.stack().items():
            yield (f"sva_combat_{name}", measure, person, "value"), float(value)


def _areas(table: pd.DataFrame) -> Values:
    ill = table["group"] == "ALS"
    for marker in ("fa", "md", "rd", "ad", "tnaa_cr", "tnaa_cho", "fc_roi"):
        curve = roc(table[marker], ill, direction="high" if marker in HIGH_IN_ALS else "low")
        best = youden(curve)
        for stat, value in (
            ("auc", curve.auc), ("ci_low", curve.ci_low), ("ci_high", curve.ci_high),
            ("var", curve.variance), ("n_best", best.n_best), ("threshold", best.value),
            ("sensitivity", best.sensitivity), ("specificity", best.specificity),
        ):  # fmt: skip
            yield ("B8_roc", marker, "ALS", stat), value
    test = compare_rocs(table["fa"], table["tnaa_cr"], ill, directions=("low", "low"))
    for stat, value in (("z", test.z), ("p", test.p), ("auc1", test.auc_first),
                        ("auc2", test.auc_second)):  # fmt: skip
        yield ("B8_roc_test", "fa_vs_tnaa_cr", "paired", stat), value


def _separation(folder: Path) -> Values:
    table = pd.read_csv(folder / "nasty" / "perfect_separation.csv")
    curve = roc(table["marker_sep"], table["group"] == "ALS", direction="high")
    yield ("D_perfect_separation", "als", "roc", "auc"), curve.auc
    yield ("D_perfect_separation", "als", "roc", "var"), curve.variance


def _logit(table: pd.DataFrame) -> Values:
    fit = fit_logistic(table[["fa", "md", "age"]], table["group"] == "ALS")
    for coefficient in fit.coefficients:
        name = coefficient.name.replace("intercept", "(Intercept)")
        for stat in ("estimate", "se", "z", "p"):
            yield ("B9_logit", "als", name, stat), getattr(coefficient, stat)
    for stat in ("deviance", "null_deviance", "aic", "n"):
        yield ("B9_logit", "als", "model", stat), getattr(fit, stat)


def _left_out(table: pd.DataFrame) -> Values:
    for classifier in ("logit", "lda"):
        name = f"p_{classifier}"
        result = classify(
            table, ["fa", "md", "age"], group="group", case="ALS", reference="HC",
            recipe=Recipe(classifier=classifier),
        )  # fmt: skip
        for person, score in result.predictions["score"].items():
            yield ("leave_site_out_predictions", name, str(person), "p"), score
        for stat, value in (
            ("auc", result.roc.auc),
            ("sens_at_.5", result.accuracy.sensitivity.estimate),
            ("spec_at_.5", result.accuracy.specificity.estimate),
        ):
            yield ("B9_leave_site_out", name, "pooled", stat), value


def _binomial() -> Values:
    for method in ("clopper", "wilson"):
        share = proportion(37, 39, method=method)
        for stat, value in (("est", share.estimate), ("ci_low", share.ci_low),
                            ("ci_high", share.ci_high)):  # fmt: skip
            yield ("B10_binom", "37/39", method, stat), value


def _harmonised(table: pd.DataFrame) -> Values:
    preserve = table[["group", "age"]]
    for name, method in COMBAT.items():
        fit = fit_combat(table[HARMONISED], table["site"], preserve, method=method)
        clean = fit.transform(table, table["site"], preserve)
        for (person, measure), value in clean.stack().items():
            yield (f"sva_combat_{name}", measure, person, "value"), float(value)
