"""A small study with every kind of analysis, for tests of what people read."""

from functools import cache

import numpy as np
import pandas as pd

from alsflow.nodes.stats.analyses import run_analyses
from alsflow.nodes.stats.plan import parse_analyses
from alsflow.nodes.stats.sample import Sample
from alsflow.workflows.measures import catalogue

PRE, THAL, STR = (f"gmv_{name}_both_tiv" for name in ("precentral", "thalamus", "striatum"))
GROUPS = ("ALS", "control")
ANALYSES = [
    {"name": "people", "kind": "demographics", "title": "The people", "correction": "none"},
    {"name": "groups", "kind": "groups", "title": "Groups & <sites>",
     "outcomes": [PRE, THAL, STR, "tiv"], "covariates": ["age", "sex"]},
    {"name": "ranks", "kind": "groups", "title": "By ranks", "outcomes": [PRE], "site": "none",
     "test": "mannwhitney", "correction": "none"},
    {"name": "sides", "kind": "regression", "title": "Sides as people", "unit": "side",
     "outcomes": ["family:tract_side_fa"], "predictors": ["gmv_precentral_{side}_tiv"],
     "covariates": [], "site": "none", "mode": "paper", "correction": "none", "sound": "slopes"},
    {"name": "slopes", "kind": "regression", "title": "Slopes", "people": "patients",
     "outcomes": ["alsfrs_r"], "predictors": [PRE, THAL], "covariates": ["age"]},
    {"name": "together", "kind": "correlation", "title": "Correlations", "people": "patients",
     "outcomes": ["alsfrs_r"], "predictors": [PRE, THAL], "covariates": ["age"],
     "test": "partial"},
    {"name": "area", "kind": "roc", "title": "Areas", "outcomes": [PRE, THAL]},
    {"name": "course", "kind": "longitudinal", "title": "Course", "outcomes": [PRE],
     "covariates": ["age"], "test": "slope"},
]  # fmt: skip


def people(n=48, seed=5):
    """One row per visit: lower precentral volume in ALS, falling score with it; some gaps."""
    rng = np.random.default_rng(seed)
    case = np.arange(n) % 2 == 0
    site = np.array(["A", "B", "C"])[np.arange(n) // 2 % 3]
    precentral = 1.6 + 0.1 * rng.standard_normal(n) - 0.15 * case
    table = pd.DataFrame({
        "participant_id": [f"sub-{k:02d}" for k in range(n)],
        "group": np.where(case, *GROUPS),
        "site": site,
        "age": rng.normal(60, 8, n),
        "sex": np.array(["male", "female"])[rng.integers(0, 2, n)],
        PRE: precentral,
        THAL: 1.0 + 0.1 * rng.standard_normal(n),
        STR: np.where(case, 0.9 + 0.1 * rng.standard_normal(n), np.nan),
        "tiv": rng.normal(1500, 100, n),
        "alsfrs_r": np.where(case, 36 + 60 * (precentral - 1.45) + rng.normal(0, 2, n), np.nan),
    })  # fmt: skip
    for side in ("left", "right"):
        table[f"gmv_precentral_{side}_tiv"] = precentral / 2 + 0.02 * rng.standard_normal(n)
        table[f"fa_corticospinal_tract_{side}"] = 0.2 * precentral + 0.02 * rng.standard_normal(n)
    table.loc[[3, 8], THAL] = np.nan
    visits = []
    for k in range(3):
        fall = np.where(case, 0.02, 0.0) + 0.004 * rng.standard_normal(n)
        late = table.assign(session_id=f"ses-{k}", months=6.0 * k)
        late[PRE] = precentral - k * fall + 0.01 * rng.standard_normal(n)
        visits.append(late)
    return pd.concat(visits, ignore_index=True).sort_values(
        ["participant_id", "session_id"], ignore_index=True
    )


def sample():
    return Sample(people(), site="site", factors=("sex", "site"), scores=("alsfrs_r",))


@cache
def study():
    """Declared analyses, and what they found."""
    analyses = parse_analyses(ANALYSES, "small study")
    why = {("sub-03", THAL): "no T1w image", ("sub-08", THAL): "no T1w image"}
    return analyses, run_analyses(sample(), analyses, catalogue(), why_missing=why)
