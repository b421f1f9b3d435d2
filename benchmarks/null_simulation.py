"""How often the test of the groups errs where the groups do not differ.

    python benchmarks/null_simulation.py --cohorts 2000 --seed 1

Makes cohorts whose sites differ, in level, and whose groups do not; tests the difference of the
groups with site as a factor, as `alsflow ... group` does by default, and prints the share of
cohorts with p below .05, its Monte-Carlo error, and the same for a Welch test that does not know
of sites and for a model with age and sex as well. The spread of people over sites is that
published for the CALSNIC cohort of 52 and 52, and one where sites scanned mostly one group.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import pandas as pd

from alsflow.nodes.stats.design import build_design
from alsflow.nodes.stats.linear import group_difference
from alsflow.nodes.stats.two_groups import t_test

ALPHA = 0.05
# Patients and controls of each site.
LAYOUTS = {
    "CALSNIC": ((6, 9), (15, 20), (10, 7), (15, 10), (6, 6)),
    "uneven": ((14, 2), (2, 16), (10, 3), (3, 12), (9, 2)),
}
SITE_SD = 1.0  # spread of the levels of sites, in standard deviations of a person
AGE_SLOPE = 0.03  # standard deviations per year
AGE = (60.0, 10.0)  # years: mean and standard deviation
Cells = tuple[tuple[int, int], ...]


def cohort(cells: Cells, rng: np.random.Generator) -> pd.DataFrame:
    """People of one cohort, without a measure."""
    rows = [
        (f"site{number}", group)
        for number, sizes in enumerate(cells, start=1)
        for group, n in zip(("ALS", "HC"), sizes, strict=True)
        for _ in range(n)
    ]
    people = pd.DataFrame(rows, columns=["site", "group"])
    people["age"] = rng.normal(*AGE, len(people))
    people["sex"] = rng.choice(["F", "M"], len(people))
    return people.set_axis([f"sub-{i:03d}" for i in range(len(people))])


def values_of(people: pd.DataFrame, d: float, rng: np.random.Generator) -> np.ndarray:
    """A measure with a level per site, a slope on age, and a difference of `d` between groups."""
    levels = dict(zip(people["site"].unique(), rng.normal(0, SITE_SD, 99), strict=False))
    noise = rng.normal(size=len(people))
    age = AGE_SLOPE * (people["age"].to_numpy() - AGE[0])
    return people["site"].map(levels).to_numpy() + age + noise + d * (people["group"] == "ALS")


def _with_site(people: pd.DataFrame, values: np.ndarray, covariates: tuple[str, ...]) -> float:
    design = build_design(
        people, group="group", case="ALS", reference="HC", site="site", covariates=covariates,
        factors=("sex",),
    )  # fmt: skip
    return group_difference(values, design, relative=False).p


def _without_site(people: pd.DataFrame, values: np.ndarray) -> float:
    case = (people["group"] == "ALS").to_numpy()
    return t_test(values[case], values[~case]).p


TESTS: dict[str, Callable[[pd.DataFrame, np.ndarray], float]] = {
    "group + site (default)": lambda people, values: _with_site(people, values, ()),
    "group + site + age + sex": lambda people, values: _with_site(people, values, ("age", "sex")),
    "Welch, sites ignored": _without_site,
}


def false_positive_rates(
    cells: Cells, n_cohorts: int, rng: np.random.Generator, tests: tuple[str, ...] = tuple(TESTS)
) -> dict[str, tuple[float, float]]:
    """Share of null cohorts with p < .05 and its standard error, by test."""
    hits = dict.fromkeys(tests, 0)
    for _ in range(n_cohorts):
        people = cohort(cells, rng)
        values = np.asarray(values_of(people, 0.0, rng), dtype=float)
        for name in tests:
            hits[name] += TESTS[name](people, values) < ALPHA
    shares = {name: count / n_cohorts for name, count in hits.items()}
    return {name: (p, float(np.sqrt(p * (1 - p) / n_cohorts))) for name, p in shares.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohorts", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    error = np.sqrt(ALPHA * (1 - ALPHA) / arguments.cohorts)
    print(f"{arguments.cohorts} cohorts, seed {arguments.seed}; a sound test has "
          f"{ALPHA:.3f} ± {1.96 * error:.3f}")  # fmt: skip
    for layout, cells in LAYOUTS.items():
        rng = np.random.default_rng(arguments.seed)
        print(f"{layout}: " + " ".join(f"{a}/{b}" for a, b in cells))
        for name, (share, se) in false_positive_rates(cells, arguments.cohorts, rng).items():
            print(f"  {name:26s} {share:.4f} (Monte-Carlo standard error {se:.4f})")


if __name__ == "__main__":
    main()
