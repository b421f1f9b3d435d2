"""Classification of people that the model has not seen: other sites, or other folds.

Whatever is learnt from data is learnt in the training rows of a fold. What prepares the features
(`prepare`) is not given the groups at all, so it cannot leak them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.coding import learn_coding
from alsflow.nodes.stats.combat import METHODS, fit_combat
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.lda import fit_lda
from alsflow.nodes.stats.logistic import estimate, require_fittable, with_intercept
from alsflow.nodes.stats.roc import (
    MIN_PER_CLASS,
    Accuracy,
    Roc,
    SiteAuc,
    accuracy,
    area,
    roc,
    within_site_auc,
    youden,
)

Classifier = Literal["logit", "firth", "lda"]
Scheme = Literal["leave_site_out", "kfold"]
CHOICES = {
    "impute": ("none", "median"),
    "combat": ("none", *METHODS),
    "classifier": ("logit", "firth", "lda"),
    "cutoff": ("half", "youden"),
}
SCHEMES = ("leave_site_out", "kfold")
VARIES = 1e-12  # spread, relative to the largest value, below which a feature is constant


@dataclass(frozen=True)
class Recipe:
    """What is done inside every fold, in this order."""

    impute: Literal["none", "median"] = "none"  # "none": people with a gap are left out, counted
    combat: Literal["none", "parametric", "nonparametric", "mean"] = "none"
    remove: tuple[str, ...] = ()  # covariates regressed out of every feature; ComBat keeps them
    standardise: bool = True
    classifier: Classifier = "logit"
    cutoff: Literal["half", "youden"] = "half"  # of the probability; Youden's of the training rows

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise BadInputError(
                    f"{name} is {getattr(self, name)!r}; choose from {', '.join(choices)}"
                )

    def sentence(self) -> str:
        """Say what is fitted in the training rows."""
        steps = [
            "gaps filled with the median" if self.impute == "median" else "",
            f"ComBat ({self.combat})" if self.combat != "none" else "",
            f"{', '.join(self.remove)} regressed out" if self.remove else "",
            "standardised" if self.standardise else "",
            {"logit": "logistic regression", "firth": "Firth's logistic regression",
             "lda": "linear discriminant"}[self.classifier],
            "cut-off .5" if self.cutoff == "half" else "Youden's cut-off of the training rows",
        ]  # fmt: skip
        return ", ".join(step for step in steps if step)


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows to learn from and rows to judge, with features prepared by the former alone."""

    name: str
    features: tuple[str, ...]
    train: NDArray[np.intp]
    test: NDArray[np.intp]
    train_features: NDArray[np.float64]
    test_features: NDArray[np.float64]


@dataclass(frozen=True)
class SiteScore:
    """How the people of one site were classified; no area where they are of one group."""

    site: str
    n_positive: int
    n_negative: int
    roc: Roc | None
    accuracy: Accuracy
    reason: str  # why there is no area


@dataclass(frozen=True, eq=False)
class Classification:
    """Every person classified by a model that was fitted without that person."""

    model: str
    scheme: Scheme
    recipe: Recipe
    features: tuple[str, ...]
    case: str
    reference: str
    n: int
    n_positive: int
    n_negative: int
    excluded: Mapping[str, str]  # person -> what is not known
    n_imputed: int  # cells
    predictions: pd.DataFrame  # per person: site, fold, positive, score, cutoff, called
    roc: Roc  # all people; scores of different folds are compared
    within_site: SiteAuc | None  # only pairs of the same site
    accuracy: Accuracy  # all people, at the cut-off of each fold
    sites: tuple[SiteScore, ...]
    p_permutation: float  # of the area within sites, or pooled if there is none; NaN: not asked
    permutations: int
    permutations_failed: int
    notes: tuple[str, ...] = field(default=())


def classify(
    table: pd.DataFrame,
    features: Sequence[str],
    *,
    group: str,
    case: str,
    reference: str,
    site: str = "site",
    scheme: Scheme = "leave_site_out",
    folds: int = 5,
    recipe: Recipe | None = None,
    rng: np.random.Generator | None = None,
    permutations: int = 0,
) -> Classification:
    """Classify people out of sample, by leaving out sites or stratified folds.

    Parameters
    ----------
    table : (n, ...) DataFrame
        One row per person, indexed by person; people of other groups are left out.
    features : sequence of str
        Columns of numbers.
    group, case, reference : str
        Column of the groups, and its labels of the ill and the others.
    site : str
        Column of the centres; "" for one centre, which goes with "kfold" alone.
    folds : int
        Number of folds of "kfold", each with its share of every group at every site.
    recipe : Recipe, optional
        By default standardised features, logistic regression, cut-off .5.
    rng : Generator, optional
        Deals people to folds and permutes; needed for "kfold" and for permutations.
    permutations : int
        Labels permuted within site and fold, and everything fitted again, this often.

    Notes
    -----
    Limits of the areas are those of `roc` for the scores as they are; they know nothing of the
    spread between training sets. Where the share of cases differs between sites, the pooled area
    of noise lies below .5 under leave-site-out and above it under folds: the area within sites is
    the one to read (``benchmarks/accuracy.py``). Sites whose people are all of one group have no
    area of their own and count in the pooled figures.
    """
    recipe = recipe or Recipe()
    rows, excluded, n_imputed = _complete_rows(
        table, features, group, case, reference, site, recipe
    )
    truth = (rows[group] == case).to_numpy()
    sites = rows[site].astype(str) if site else pd.Series("all", rows.index)
    parts = _parts(scheme, truth, sites, folds, recipe, rng)
    prepared = [
        prepare(
            rows[list(features)], sites, rows[list(recipe.remove)], parts == part, part, recipe
        )
        for part in sorted(set(parts.tolist()))
    ]
    predictions = _predict(prepared, truth, sites, parts, recipe)
    p, failed = float("nan"), 0
    if permutations:
        p, failed = _permutation_p(prepared, predictions, recipe, _needed(rng), permutations)
    return Classification(
        model=f"{case} ~ {' + '.join(features)}; {recipe.sentence()}",
        scheme=scheme,
        recipe=recipe,
        features=tuple(features),
        case=case,
        reference=reference,
        n=len(rows),
        n_positive=int(truth.sum()),
        n_negative=int((~truth).sum()),
        excluded=excluded,
        n_imputed=n_imputed,
        predictions=predictions,
        roc=roc(predictions["score"], truth, direction="high"),
        within_site=_within(predictions) if site else None,
        accuracy=accuracy(predictions["called"], truth),
        sites=tuple(_site_score(str(name), of) for name, of in predictions.groupby("site")),
        p_permutation=p,
        permutations=permutations,
        permutations_failed=failed,
        notes=tuple(_notes(scheme, recipe)),
    )


def _predict(
    prepared: list[Fold],
    truth: NDArray[np.bool_],
    sites: pd.Series,
    parts: NDArray[np.str_],
    recipe: Recipe,
) -> pd.DataFrame:
    score, cutoff = _out_of_fold(prepared, truth, recipe)
    return pd.DataFrame(
        {
            "site": sites,
            "fold": parts,
            "positive": truth,
            "score": score,
            "cutoff": cutoff,
            "called": score >= cutoff,
        },
        index=sites.index,
    )


def prepare(
    features: pd.DataFrame,
    sites: pd.Series,
    covariates: pd.DataFrame,
    test: NDArray[np.bool_],
    name: str,
    recipe: Recipe,
) -> Fold:
    """Prepare the features of one fold; all that is learnt is learnt outside `test`."""
    train_rows, test_rows = np.flatnonzero(~test), np.flatnonzero(test)
    if recipe.impute == "median":
        features = features.fillna(features.iloc[train_rows].median())
    if recipe.combat != "none":
        kept = covariates if len(covariates.columns) else None
        seen = features.iloc[train_rows]
        combat = fit_combat(seen, sites, kept, method=recipe.combat)
        features = combat.transform(features, sites, kept)
    values = features.to_numpy(dtype=float)
    if recipe.remove:
        coding = learn_coding(covariates.iloc[train_rows])
        design = with_intercept(coding.matrix(covariates))
        slopes = np.linalg.lstsq(design[train_rows], values[train_rows], rcond=None)[0]
        values = values - design @ slopes
    seen_values = values[train_rows]
    centre, spread = seen_values.mean(axis=0), seen_values.std(axis=0, ddof=1)
    flat = spread <= VARIES * np.abs(seen_values).max(axis=0)
    if flat.any():
        which = features.columns[np.flatnonzero(flat)[0]]
        raise NotEstimableError(f"fold {name}: {which} does not vary in the training rows")
    if recipe.standardise:
        values = (values - centre) / spread
    return Fold(
        name=name,
        features=tuple(map(str, features.columns)),
        train=train_rows,
        test=test_rows,
        train_features=values[train_rows],
        test_features=values[test_rows],
    )


def _complete_rows(
    table: pd.DataFrame,
    features: Sequence[str],
    group: str,
    case: str,
    reference: str,
    site: str,
    recipe: Recipe,
) -> tuple[pd.DataFrame, dict[str, str], int]:
    """Rows of the two groups without a gap, why the others fell out, and cells to be filled."""
    needed = [*([site] if site else []), *recipe.remove, *features]
    _require_columns(table, [group, *needed], features)
    if group in needed:
        raise BadInputError(f"{group} is what is to be found and cannot be a feature")
    rows = table[table[group].isin([case, reference])]
    if rows.index.has_duplicates:
        person = rows.index[rows.index.duplicated()][0]
        raise BadInputError(f"{person} stands in the table more than once: one row per person")
    fillable = set(features) if recipe.impute == "median" else set()
    gaps = rows[[name for name in needed if name not in fillable]].isna()
    excluded = {
        str(person): f"{', '.join(gaps.columns[missing])} not known"
        for person, missing in zip(rows.index, gaps.to_numpy(), strict=True)
        if missing.any()
    }
    kept = rows[~gaps.any(axis=1)]
    for label in (case, reference):
        if not (kept[group] == label).any():
            raise NotEstimableError(f"nobody of the group {label} has all of {', '.join(needed)}")
    if site:
        _require_unconfounded(kept, group, site)
    return kept, excluded, int(kept[list(features)].isna().to_numpy().sum())


def _require_unconfounded(rows: pd.DataFrame, group: str, site: str) -> None:
    if rows[site].nunique() > 1 and (rows.groupby(site)[group].nunique() == 1).all():
        parts = [
            f"{label} only at {', '.join(sorted(of[site].astype(str).unique()))}"
            for label, of in rows.groupby(group)
        ]
        raise NotEstimableError(
            f"no site scanned both groups ({'; '.join(parts)}): what is told apart could be the "
            "scanners; classify within sites that have both"
        )


def _require_columns(table: pd.DataFrame, names: list[str], features: Sequence[str]) -> None:
    absent = [name for name in names if name not in table]
    if absent:
        raise BadInputError(f"the table has no column {', '.join(absent)}")
    for name in features:
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise BadInputError(f"{name} is not a column of numbers and cannot be a feature")
        infinite = table.index[np.isinf(table[name].to_numpy(dtype=float))]
        if len(infinite):
            raise BadInputError(f"{name} of {infinite[0]} is infinite; write n/a where unknown")


def _parts(
    scheme: str,
    truth: NDArray[np.bool_],
    sites: pd.Series,
    folds: int,
    recipe: Recipe,
    rng: np.random.Generator | None,
) -> NDArray[np.str_]:
    """(n,) name of the fold that each person is judged in."""
    if scheme == "leave_site_out":
        if recipe.combat != "none":
            raise BadInputError(
                "ComBat cannot harmonise a site that it has not seen: use the scheme kfold, or "
                "leave-site-out without ComBat"
            )
        if sites.nunique() < 2:
            raise NotEstimableError(
                f"leave-site-out needs two sites and there is {sites.nunique()}; use kfold"
            )
        return sites.to_numpy(dtype=str)
    if scheme != "kfold":
        raise BadInputError(f"scheme is {scheme!r}; choose from {', '.join(SCHEMES)}")
    smallest = int(min(truth.sum(), (~truth).sum()))
    if not 2 <= folds <= smallest:
        raise NotEstimableError(
            f"{folds} folds cannot each hold somebody of both groups, the smaller of which has "
            f"{smallest} people with all features"
        )
    return stratified_parts(truth, sites.to_numpy(dtype=str), folds, _needed(rng))


def stratified_parts(
    truth: NDArray[np.bool_], sites: NDArray[np.str_], folds: int, rng: np.random.Generator
) -> NDArray[np.str_]:
    """Deal people to folds like cards: shuffled within group and site, group after group."""
    order = np.concatenate([
        rng.permutation(np.flatnonzero((truth == label) & (sites == name)))
        for label in (True, False)
        for name in np.unique(sites)
    ])  # fmt: skip
    part = np.empty(len(truth), dtype=int)
    part[order] = np.arange(len(truth)) % folds
    width = len(str(folds))
    return np.array([f"fold {number + 1:0{width}d}" for number in part])


def _out_of_fold(
    prepared: list[Fold], truth: NDArray[np.bool_], recipe: Recipe
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) probability of being a case, and the cut-off of the fold."""
    score, cutoff = np.empty(len(truth)), np.empty(len(truth))
    for fold in prepared:
        known = truth[fold.train]
        if known.all() or not known.any():
            raise NotEstimableError(
                f"without {fold.name} only one group is left to learn from; both are needed"
            )
        try:
            inside, score[fold.test] = _fit_and_score(fold, known, recipe.classifier)
        except NotEstimableError as error:
            raise NotEstimableError(f"training without {fold.name}: {error}") from None
        best = 0.5
        if recipe.cutoff == "youden":
            best = youden(roc(inside, known, direction="high")).value
        cutoff[fold.test] = best
    return score, cutoff


def _fit_and_score(
    fold: Fold, known: NDArray[np.bool_], classifier: Classifier
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities of the training and of the test rows."""
    if classifier == "lda":
        model = fit_lda(fold.train_features, np.where(known, "b", "a").tolist())
        return model.posterior(fold.train_features)[:, 1], model.posterior(fold.test_features)[
            :, 1
        ]
    X, y = with_intercept(fold.train_features), known.astype(float)
    names = ("intercept", *fold.features)
    require_fittable(X, y, names)
    beta = estimate(X, y, "firth" if classifier == "firth" else "ml", names=names)
    unseen = with_intercept(fold.test_features)
    return expit(X @ beta), expit(unseen @ beta)


def _permutation_p(
    prepared: list[Fold],
    predictions: pd.DataFrame,
    recipe: Recipe,
    rng: np.random.Generator,
    permutations: int,
) -> tuple[float, int]:
    """Share of permutations, the identity among them, whose area is at least that found."""
    truth = predictions["positive"].to_numpy(dtype=bool)
    pools = _pools(predictions)
    found = _area_of_pools(predictions["score"].to_numpy(), truth, pools)
    cells = predictions.groupby(["fold", "site"]).ngroup().to_numpy()
    rows = [np.flatnonzero(cells == cell) for cell in np.unique(cells)]
    reached = failed = 0
    for _ in range(permutations):
        shuffled = truth.copy()
        for inside in rows:
            shuffled[inside] = truth[rng.permutation(inside)]
        try:
            score, _ = _out_of_fold(prepared, shuffled, recipe)
        except NotEstimableError:
            failed += 1
            continue
        reached += _area_of_pools(score, shuffled, pools) >= found - 1e-12
    return (1 + reached) / (1 + permutations - failed), failed


def _pools(predictions: pd.DataFrame) -> list[NDArray[np.intp]]:
    """Rows compared with each other: those of a site, or all if no site has both groups."""
    sites = predictions.groupby("site")["positive"]
    both = np.minimum(sites.transform("sum"), sites.transform("size") - sites.transform("sum"))
    codes = sites.ngroup().to_numpy()[(both >= MIN_PER_CLASS).to_numpy()]
    if len(codes) == 0:
        return [np.arange(len(predictions))]
    return [np.flatnonzero(sites.ngroup().to_numpy() == code) for code in np.unique(codes)]


def _area_of_pools(
    score: NDArray[np.float64], truth: NDArray[np.bool_], pools: list[NDArray[np.intp]]
) -> float:
    """Area from the pairs within each pool, as `within_site_auc`."""
    pairs = [int(truth[rows].sum()) * int((~truth[rows]).sum()) for rows in pools]
    areas = [area(score[rows], truth[rows]) for rows in pools]
    return float(np.average(areas, weights=pairs))


def _site_score(name: str, rows: pd.DataFrame) -> SiteScore:
    truth = rows["positive"].to_numpy(dtype=bool)
    found, reason = None, ""
    try:
        found = roc(rows["score"], truth, direction="high")
    except NotEstimableError as error:
        reason = str(error)
    return SiteScore(
        site=name,
        n_positive=int(truth.sum()),
        n_negative=int((~truth).sum()),
        roc=found,
        accuracy=accuracy(rows["called"], truth),
        reason=reason,
    )


def _within(predictions: pd.DataFrame) -> SiteAuc | None:
    try:
        return within_site_auc(
            predictions["score"],
            predictions["positive"],
            predictions["site"].tolist(),
            direction="high",
        )
    except NotEstimableError:
        return None


def _needed(rng: np.random.Generator | None) -> np.random.Generator:
    if rng is None:
        raise BadInputError("folds and permutations are random: a seeded generator is needed")
    return rng


def _notes(scheme: Scheme, recipe: Recipe) -> list[str]:
    notes = [
        "the pooled area compares scores of different models and people of different sites; where "
        "groups are uneven over sites it is off .5 by itself: read the area within sites"
    ]
    if scheme == "kfold":
        notes.append(
            "people of the same sites are in training and test: a new site may do worse; "
            "leave-site-out tells"
        )
    if recipe.combat != "none":
        notes.append(
            "ComBat did not know the groups, so where they are unevenly spread over sites it took "
            "part of their difference out"
        )
    if recipe.remove:
        notes.append(
            f"{', '.join(recipe.remove)}: what of the group goes with it was regressed out too"
        )
    return notes
