"""How far accuracies are off that are measured where they were chosen, and what limits hold.

python benchmarks/accuracy.py
"""

import numpy as np
import pandas as pd
from scipy import stats

from alsflow.nodes.stats.classify import Recipe, classify
from alsflow.nodes.stats.combat import fit_combat
from alsflow.nodes.stats.roc import roc, youden

SEED, RUNS = 20, 1000
CALSNIC = {"Calgary": (6, 9), "Edmonton": (15, 20), "Montreal": (10, 7), "Toronto": (15, 10),
           "Vancouver": (6, 6)}  # fmt: skip
UNBALANCED = {"A": (14, 2), "B": (2, 16), "C": (10, 3), "D": (3, 12), "E": (9, 2)}


def optimism(rng):
    print("noise: what the same people show after the direction or the cut-off was chosen in them")
    for m, n in ((20, 20), (52, 52), (200, 200)):
        found = np.zeros((RUNS, 2))
        for row in found:
            values, positive = rng.normal(size=m + n), np.arange(m + n) < m
            row[0] = roc(values, positive, direction="auto").auc
            best = youden(roc(values, positive, direction="high"))
            row[1] = (best.sensitivity + best.specificity) / 2
        area, balanced = found.mean(axis=0)
        print(f"  {m:3d} + {n:3d}: area {area:.3f}, balanced accuracy {balanced:.3f}")


def coverage(rng):
    print("95 % limits of the area that hold the true one")
    for m, n in ((10, 10), (20, 20), (52, 52), (15, 80)):
        for area in (0.6, 0.75, 0.9, 0.97):
            distance, held = np.sqrt(2) * stats.norm.ppf(area), np.zeros(2)
            for _ in range(2 * RUNS):
                positive = np.arange(m + n) < m
                found = roc(rng.normal(size=m + n) + distance * positive, positive,
                            direction="high")  # fmt: skip
                held += [found.ci_low <= area <= found.ci_high,
                         found.logit_low <= area <= found.logit_high]  # fmt: skip
            plain, logit = held / (2 * RUNS)
            print(f"  {m:3d} + {n:3d}, area {area:.2f}: DeLong {plain:.3f}, its logit {logit:.3f}")


def cohort(rng, cells, features, effect=0.0):
    site = np.repeat(list(cells), [sum(sizes) for sizes in cells.values()])
    case = np.concatenate([np.arange(a + b) < a for a, b in cells.values()])
    codes = np.unique(site, return_inverse=True)[1]
    level = rng.normal(0, 0.5, (len(cells), features))
    values = level[codes] + rng.normal(size=(len(site), features)) + effect * case[:, None]
    table = pd.DataFrame(values, columns=[f"m{k}" for k in range(features)])
    return table.assign(site=site, group=np.where(case, "ALS", "HC"))


def classification(rng, effect, runs=500, features=10):
    print(f"area of ten features {effect} SD apart, by how they were classified ({runs} cohorts)")
    kind = {"group": "group", "case": "ALS", "reference": "HC", "rng": rng}
    lda, harmonised = Recipe(classifier="lda"), Recipe(classifier="lda", combat="parametric")
    names = [f"m{k}" for k in range(features)]
    for label, cells in (("CALSNIC", CALSNIC), ("unbalanced", UNBALANCED)):
        found = []
        for _ in range(runs):
            table = cohort(rng, cells, features, effect)
            told = table.copy()
            kept = (table["site"], table[["group"]])
            told[names] = fit_combat(table[names], *kept).transform(table[names], *kept)
            results = [
                classify(table, names, **kind, recipe=lda),
                classify(table, names, **kind, scheme="kfold", recipe=lda),
                classify(table, names, **kind, scheme="kfold", recipe=harmonised),
                classify(told, names, **kind, scheme="kfold", recipe=lda),
            ]
            found.append([(r.roc.auc, r.within_site.auc) for r in results])
        mean, error = np.mean(found, axis=0), 1.96 * np.std(found, axis=0) / np.sqrt(runs)
        for k, name in enumerate(
            ("leave-site-out", "folds", "folds, ComBat inside", "folds, ComBat told the groups")
        ):
            pooled, within = (
                f"{m:.3f} +- {e:.3f}" for m, e in zip(mean[k], error[k], strict=True)
            )
            print(f"  {label:10s} {name:30s} pooled {pooled}   within sites {within}")


if __name__ == "__main__":
    generator = np.random.default_rng(SEED)
    optimism(generator)
    coverage(generator)
    for size in (0.0, 0.3):
        classification(np.random.default_rng(SEED), size)
