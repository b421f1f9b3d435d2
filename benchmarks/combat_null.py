"""False positives and power with a site factor and with ComBat, in cohorts without an effect.

python benchmarks/combat_null.py [COHORTS]

Five sites that differ in level and scale, eight measures a cohort, age preserved and in every
model. The p of several tests on the same 1000 cohorts are counted at .05; the Monte-Carlo error is
that of cohorts, since measures of one cohort share its groups.
"""

import sys

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats

from alsflow.nodes.stats.combat import fit_combat
from alsflow.nodes.stats.design import sum_code

SEED, COHORTS, MEASURES, LEVEL = 20, 1000, 8, 0.05
LAYOUTS = {  # site -> patients, controls
    "CALSNIC": {"Calgary": (6, 9), "Edmonton": (15, 20), "Montreal": (10, 7),
                "Toronto": (15, 10), "Vancouver": (6, 6)},
    "unbalanced": {"A": (14, 2), "B": (2, 16), "C": (10, 3), "D": (3, 12), "E": (9, 2)},
}  # fmt: skip
ANALYSES = ("site factor", "ComBat, t", "ComBat, site factor", "ComBat blind to group, t",
            "no site, no ComBat")  # fmt: skip


def cohort(rng, cells, effect):
    """Measures (n, 8) in SD of the average site, and who is who."""
    site = np.repeat(list(cells), [sum(sizes) for sizes in cells.values()])
    case = np.concatenate([np.arange(a + b) < a for a, b in cells.values()])
    codes = np.unique(site, return_inverse=True)[1]
    level = rng.normal(0, 0.5, (len(cells), MEASURES))
    scale = np.exp(rng.normal(0, 0.2, (len(cells), MEASURES)))
    age = rng.normal(60, 10, len(site))
    noise = scale[codes] * rng.normal(size=(len(site), MEASURES))
    values = level[codes] + noise + 0.02 * age[:, None] + effect * case[:, None]
    table = pd.DataFrame(values, columns=[f"m{k}" for k in range(MEASURES)])
    about = pd.DataFrame({"group": np.where(case, "ALS", "HC"), "age": age})
    return table, pd.Series(site), about, case


def group_p(values, case, age, site=None):
    """p and estimate of the group in ``values ~ group + age (+ site)``."""
    blocks = [np.ones(len(case)), case, age]
    if site is not None:
        blocks.append(sum_code(list(site), sorted(set(site))))
    X = np.column_stack(blocks).astype(float)
    inverse = np.linalg.inv(X.T @ X)
    beta = inverse @ X.T @ values
    df = len(X) - X.shape[1]
    se = np.sqrt(((values - X @ beta) ** 2).sum(axis=0) / df * inverse[1, 1])
    return 2 * stats.t.sf(np.abs(beta[1] / se), df), beta[1]


def once(rng, cells, effect):
    table, site, about, case = cohort(rng, cells, effect)
    age = about["age"].to_numpy()
    aware = fit_combat(table, site, about).transform(table, site, about).to_numpy()
    kept = about[["age"]]
    blind = fit_combat(table, site, kept).transform(table, site, kept).to_numpy()
    raw = table.to_numpy()
    runs = ((raw, site), (aware, None), (aware, site), (blind, None), (raw, None))
    return [group_p(values, case, age, by) for values, by in runs]


def report(rng, name, effect, cohorts):
    found = np.array([once(rng, LAYOUTS[name], effect) for _ in range(cohorts)])
    hits, estimates = found[:, :, 0] < LEVEL, found[:, :, 1]
    print(f"{name}, effect {effect:g} SD, {cohorts} cohorts of {MEASURES} measures")
    for k, analysis in enumerate(ANALYSES):
        share = hits[:, k].mean(axis=1)
        print(f"  {analysis:26s} p < .05: {share.mean():.3f} +- "
              f"{1.96 * share.std() / np.sqrt(cohorts):.3f}   mean estimate "
              f"{estimates[:, k].mean():.3f}")  # fmt: skip


def check():
    """The group test above is that of statsmodels."""
    table, site, about, case = cohort(np.random.default_rng(1), LAYOUTS["CALSNIC"], 0.5)
    X = np.column_stack([np.ones(len(case)), case, about["age"]])
    p, _ = group_p(table.to_numpy(), case, about["age"].to_numpy())
    np.testing.assert_allclose(p[0], sm.OLS(table["m0"].to_numpy(), X).fit().pvalues[1])


if __name__ == "__main__":
    check()
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else COHORTS
    generator = np.random.default_rng(SEED)
    for layout in LAYOUTS:
        for size in (0.0, 0.5):
            report(generator, layout, size, runs)
