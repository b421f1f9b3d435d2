"""Power by the formula beside the share of simulated cohorts that find the difference.

    python benchmarks/power_curve.py --cohorts 2000 --seed 1

Two groups alone (Student's t), the default model with site as a factor in an uneven cohort, and a
correlation. The last column is the difference in Monte-Carlo standard errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from alsflow.nodes.stats.design import Design, build_design
from alsflow.nodes.stats.power import ALPHA, correlation_power, t_power, two_group_power

EFFECTS = (0.2, 0.4, 0.6, 0.8, 1.0)  # standard deviations
CORRELATIONS = (0.1, 0.2, 0.3, 0.4, 0.5)
GROUPS = (39, 32)  # people of the Taiwan cohort
PATIENTS = 52  # of the CALSNIC cohort
CELLS = ((14, 2), (2, 16), (10, 3), (3, 12), (9, 2))  # patients and controls of each site


def site_design(cells: tuple[tuple[int, int], ...]) -> Design:
    """Design ``group + site`` of a cohort with these cells."""
    rows = [
        (group, f"site{number}")
        for number, sizes in enumerate(cells)
        for group, n in zip(("ALS", "HC"), sizes, strict=True)
        for _ in range(n)
    ]
    people = pd.DataFrame(rows, columns=["group", "site"])
    return build_design(people, group="group", case="ALS", reference="HC", site="site")


def share_found(
    design: Design, d: float, n_cohorts: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Power by formula and share of simulated cohorts with p < .05, both of one design."""
    x, contrast = design.matrix, design.difference
    df = x.shape[0] - x.shape[1]
    inverse = np.linalg.inv(x.T @ x)
    scale = float(np.sqrt(contrast @ inverse @ contrast))
    values = rng.normal(size=(n_cohorts, len(x))) + d / 2 * x[:, 1]  # ALS is 1, HC -1
    coefficients = values @ x @ inverse
    residuals = values - coefficients @ x.T
    sd = np.sqrt((residuals**2).sum(axis=1) / df)
    t = coefficients @ contrast / (sd * scale)
    found = float((2 * stats.t.sf(np.abs(t), df) < ALPHA).mean())
    return t_power(d / scale, df), found


def two_groups_found(d: float, n_cohorts: int, rng: np.random.Generator) -> tuple[float, float]:
    """The same for Student's t of two groups."""
    case = rng.normal(d, 1, (n_cohorts, GROUPS[0]))
    reference = rng.normal(0, 1, (n_cohorts, GROUPS[1]))
    p = stats.ttest_ind(case, reference, axis=1).pvalue
    return two_group_power(d, *GROUPS), float((p < ALPHA).mean())


def correlation_found(r: float, n_cohorts: int, rng: np.random.Generator) -> tuple[float, float]:
    """The same for Pearson's correlation."""
    x, noise = rng.normal(size=(2, n_cohorts, PATIENTS))
    p = stats.pearsonr(x, r * x + np.sqrt(1 - r**2) * noise, axis=1).pvalue
    return correlation_power(r, PATIENTS), float((p < ALPHA).mean())


def curve(n_cohorts: int, rng: np.random.Generator) -> Iterator[tuple[str, float, float, float]]:
    """Name, effect, power by formula and by simulation."""
    design = site_design(CELLS)
    for d in EFFECTS:
        yield (f"two groups {GROUPS[0]}/{GROUPS[1]}", d, *two_groups_found(d, n_cohorts, rng))
    for d in EFFECTS:
        yield ("group + site, uneven", d, *share_found(design, d, n_cohorts, rng))
    for r in CORRELATIONS:
        yield (f"correlation, n = {PATIENTS}", r, *correlation_found(r, n_cohorts, rng))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohorts", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    print(f"{'test':24s} effect formula simulated  errors")
    for name, effect, formula, found in curve(arguments.cohorts, rng):
        apart = (found - formula) / np.sqrt(formula * (1 - formula) / arguments.cohorts)
        print(f"{name:24s} {effect:6.2f} {formula:7.4f} {found:9.4f} {apart:7.2f}")


if __name__ == "__main__":
    main()
