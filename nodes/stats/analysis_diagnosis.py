"""Analyses of the kinds roc and classify: how well measures tell the groups apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from alsflow.nodes.stats.analysis_rows import (
    Answer,
    Question,
    answered,
    first_row,
    group_counts,
    measure_of,
    refused,
)
from alsflow.nodes.stats.classify import Classification, Recipe, classify
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.roc import Roc, roc, youden
from alsflow.nodes.stats.sample import complete, two_levels
from alsflow.nodes.stats.tables import MISSING

Direction = Literal["high", "low", "auto"]
DIRECTIONS: dict[str, Direction] = {"lower": "low", "higher": "high"}
OPTIMISTIC = "cut-off by Youden's index, chosen on the same people: its accuracy is optimistic"
PERMUTATIONS = 999  # of the groups within sites
CLASSIFIERS = {"logistic": "logit", "lda": "lda"}


def ask_roc(question: Question) -> Answer:
    """Area under the ROC curve of one measure."""
    group, case, reference = two_levels(question.sample, question.analysis)
    rows = complete(question.table, [question.outcome, group], [question.outcome],
                    question.sample.site)  # fmt: skip
    row = first_row(question, rows)
    row |= group_counts(question, rows, (group, case, reference))
    measure = measure_of(question.catalogue, question.outcome)
    direction = DIRECTIONS.get(measure.expected if measure else "", "auto")
    try:
        found = roc(
            rows.table[question.outcome].to_numpy(dtype=float),
            (rows.table[group] == case).to_numpy(),
            direction=direction,
        )
    except NotEstimableError as problem:
        return refused(row, problem)
    best = youden(found)
    row |= _area(found)
    row |= {
        "model": f"{question.outcome}, {found.direction} in {case}",
        "threshold": best.value,
        "sensitivity": best.sensitivity,
        "specificity": best.specificity,
    }
    return Answer(answered(row, (found.ci_method, *found.notes, OPTIMISTIC)), fit=found)


def _area(found: Roc) -> dict[str, object]:
    return {
        "test": "roc",
        "estimate": found.auc,
        "se": found.se,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "statistic": "AUC",
        "value": found.auc,
        "p": found.p,
        "effect": "AUC",
        "effect_size": found.auc,
        "effect_low": found.ci_low,
        "effect_high": found.ci_high,
    }


def ask_classify(
    question: Question, features: Sequence[str], rng: np.random.Generator | None
) -> Answer:
    """Classify people out of sample from all features together."""
    group, case, reference = two_levels(question.sample, question.analysis)
    needed = [*features, group, *question.covariates]
    rows = complete(question.table, [*needed, *([question.site] if question.site else [])])
    row = first_row(question, rows, predictor=", ".join(features))
    row |= group_counts(question, rows, (group, case, reference))
    row["model"] = f"{group} ~ {' + '.join(features)}"
    by_site = bool(question.site)
    try:
        found = classify(
            question.table,
            list(features),
            group=group,
            case=case,
            reference=reference,
            site=question.site,
            scheme="leave_site_out" if by_site else "kfold",
            recipe=Recipe(
                classifier=CLASSIFIERS[question.analysis.test],  # type: ignore[arg-type]
                remove=question.covariates,
            ),
            rng=rng,
            permutations=PERMUTATIONS if rng is not None else 0,
        )
    except NotEstimableError as problem:
        return refused(row, problem)
    row |= _area(found.roc) | {
        "test": question.analysis.test,
        "sensitivity": found.accuracy.sensitivity.estimate,
        "specificity": found.accuracy.specificity.estimate,
        "model": found.model,
    }
    return Answer(
        answered(row, (found.recipe.sentence(), *_beside(found), *found.notes)),
        fit=found,
        tables={"predictions": found.predictions, "sites": _site_table(found)},
    )


def _beside(found: Classification) -> list[str]:
    """What noise cannot raise: the area of pairs of one site, and p by permutation."""
    words = []
    if (own := found.within_site) is not None:
        words.append(
            f"within sites: area {own.auc:.2f} ({own.ci_low:.2f} to {own.ci_high:.2f}); scores of "
            "different sites are not compared in it"
        )
    if np.isfinite(found.p_permutation):
        words.append(f"p by {found.permutations} permutations: {found.p_permutation:.3f}")
    return words


def _site_table(found: Classification) -> pd.DataFrame:
    """Area and accuracy per site that was left out."""
    rows = []
    for site in found.sites:
        area = site.roc
        rows.append(
            {
                "site": site.site,
                "n_positive": site.n_positive,
                "n_negative": site.n_negative,
                "auc": area.auc if area else float("nan"),
                "ci_low": area.ci_low if area else float("nan"),
                "ci_high": area.ci_high if area else float("nan"),
                "sensitivity": site.accuracy.sensitivity.estimate,
                "specificity": site.accuracy.specificity.estimate,
                "reason": site.reason or MISSING,
            }
        )
    return pd.DataFrame(rows)
