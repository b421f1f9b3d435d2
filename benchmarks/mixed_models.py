"""False positives of the models for sides and visits, and what a fit costs.

    python benchmarks/mixed_models.py [COHORTS]

Cohorts are drawn without any effect, so a test at .05 should find one in twenty. Prints the share
that each model finds; its Monte-Carlo error is 1.96 * sqrt(.05 * .95 / cohorts). Random numbers
start from fixed seeds.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from alsflow.nodes.stats.longitudinal import LongitudinalModel, analyse_slopes
from alsflow.nodes.stats.side_level import analyse_sides

PEOPLE = 39  # as in the published analysis of sides
ALPHA = 0.05


def sides(shared: float, rng: np.random.Generator) -> pd.DataFrame:
    """Score and measure by side, unrelated; `shared` of the variance of each is the person's."""

    def both() -> np.ndarray:
        own, single = rng.standard_normal((PEOPLE, 1)), rng.standard_normal((PEOPLE, 2))
        return (np.sqrt(shared) * own + np.sqrt(1 - shared) * single).ravel()

    people = np.repeat([f"sub-{k:02d}" for k in range(PEOPLE)], 2)
    return pd.DataFrame({"participant_id": people, "fa": both(), "score": both()})


def side_rates(shared: float, cohorts: int) -> dict[str, float]:
    hits: dict[str, int] = {}
    for seed in range(cohorts):
        found = analyse_sides(sides(shared, np.random.default_rng(seed)), "score", "fa")
        for answer in found.answers:
            hits[answer.kind] = hits.get(answer.kind, 0) + (answer.slope.p < ALPHA)
    return {kind: n / cohorts for kind, n in hits.items()}


def visits(people: int, spread: float, rng: np.random.Generator) -> pd.DataFrame:
    """Two groups with the same mean slope; `spread` is the SD of slopes, drop-out a fifth."""
    months = np.tile([0.0, 4.0, 8.0], (people, 1)) + [0, 1, 1] * rng.uniform(
        -0.5, 0.5, (people, 3)
    )
    level = 40 + 3 * rng.standard_normal((people, 1))
    slope = -0.1 + spread * rng.standard_normal((people, 1))
    values = level + slope * months + 0.65 * rng.standard_normal((people, 3))
    values[rng.random(people) < 0.2, 2] = np.nan
    return pd.DataFrame(
        {
            "participant_id": np.repeat([f"sub-{k:03d}" for k in range(people)], 3),
            "group": np.repeat(np.where(np.arange(people) % 2, "HC", "ALS"), 3),
            "months": months.ravel(),
            "fa": values.ravel(),
        }
    )


def visit_rates(people: int, spread: float, cohorts: int) -> dict[str, float]:
    hits = dict.fromkeys(("slopes", "two-stage", "two-stage HC3", "intercepts", "singular"), 0)
    for seed in range(cohorts):
        table = visits(people, spread, np.random.default_rng(seed))
        full = analyse_slopes(table, LongitudinalModel("fa", group="group", reference="HC"))
        flat = analyse_slopes(
            table,
            LongitudinalModel("fa", group="group", reference="HC", random="intercept"),
        )
        hits["slopes"] += full.interactions[0].p < ALPHA
        hits["two-stage"] += full.two_stage.differences[0].p < ALPHA
        hits["two-stage HC3"] += full.two_stage.hc3[0].p < ALPHA
        hits["intercepts"] += flat.interactions[0].p < ALPHA
        hits["singular"] += full.mixed.singular
    return {kind: n / cohorts for kind, n in hits.items()}


def seconds(people: int) -> tuple[float, float]:
    """Processor time of the mixed model of `people` with three visits: mean and longest."""
    spent = []
    for seed in range(10):
        table = visits(people, 0.1, np.random.default_rng(seed))
        start = time.process_time()
        analyse_slopes(table, LongitudinalModel("fa", group="group", reference="HC"))
        spent.append(time.process_time() - start)
    return float(np.mean(spent)), max(spent)


def main(cohorts: int) -> None:
    print(f"{cohorts} cohorts each, error +-{1.96 * np.sqrt(0.05 * 0.95 / cohorts):.3f}")
    for shared in (0.0, 0.5, 0.8):
        print(f"sides of {PEOPLE} people, shared {shared}:", side_rates(shared, cohorts))
    for people, spread in ((24, 0.0), (24, 0.15), (100, 0.15)):
        rates = visit_rates(people, spread, cohorts)
        print(f"visits of {people} people, SD of slopes {spread}:", rates)
    for people in (30, 100, 400):
        print(f"{people} people x 3 visits: %.2f s, longest %.2f s" % seconds(people))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
