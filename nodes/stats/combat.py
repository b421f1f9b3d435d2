"""ComBat: the location and scale of each site taken out of many measures, without leaks.

A sensitivity run. It never stands in for the site factor: see ``docs/harmonisation.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.coding import Coding, aligned, learn_coding
from alsflow.nodes.stats.design import MIN_DF, NotEstimableError

MIN_PER_SITE = 3  # people; fewer leave no variance to speak of
FEW_PER_SITE = 10  # people; fewer is noted
MIN_MEASURES = 2  # the prior is made from the measures
FEW_MEASURES = 10  # fewer is noted
RANK_MIN = 1e-8  # smallest singular value, unit-length columns, that counts
VARIES = 1e-10  # spread, relative to the largest value, below which a measure is constant
NO_SPREAD = 1e-12  # variance of variances, relative, taken for none
CONVERGED = 1e-4  # relative change, the value of sva: another stops elsewhere
MAX_STEPS = 10_000

Method = Literal["parametric", "nonparametric", "mean"]
METHODS = ("parametric", "nonparametric", "mean")


@dataclass(frozen=True, eq=False)
class Combat:
    """What ComBat learnt from the people it was fitted to: f measures, s sites, k covariates."""

    method: Method
    measures: tuple[str, ...]
    sites: tuple[str, ...]
    counts: tuple[int, ...]  # people per site
    preserved: Coding
    mean: NDArray[np.float64]  # (f,) over sites, weighted by their people
    slopes: NDArray[np.float64]  # (k, f) of the preserved covariates
    sd: NDArray[np.float64]  # (f,) residual, over all sites
    shift: NDArray[np.float64]  # (s, f) of each site, in sd
    variance: NDArray[np.float64]  # (s, f) of each site, relative to sd squared
    notes: tuple[str, ...]

    def transform(
        self, table: pd.DataFrame, site: pd.Series, preserve: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Take the sites out of other people, or of the same.

        Parameters
        ----------
        table : (n, f) DataFrame
            The measures of the fit; an unknown value stays unknown.
        site : (n,) Series
            Site of each person, one of those of the fit; the index is that of `table`.
        preserve : (n, k) DataFrame, optional
            The covariates of the fit.
        """
        absent = [name for name in self.measures if name not in table]
        if absent:
            raise BadInputError(f"the table lacks {', '.join(absent)}, which ComBat was fitted to")
        codes = self._codes(aligned(site, table))
        values = table[list(self.measures)].to_numpy(dtype=float)
        expected = self.mean + self._covariates(preserve, table.index) @ self.slopes
        standard = (values - expected) / self.sd
        adjusted = (standard - self.shift[codes]) / np.sqrt(self.variance[codes])
        return pd.DataFrame(adjusted * self.sd + expected, table.index, list(self.measures))

    def _codes(self, site: pd.Series) -> NDArray[np.intp]:
        labels = _labels(site)
        unknown = labels[~labels.isin(self.sites)]
        if len(unknown):
            raise NotEstimableError(
                f"{unknown.index[0]} is of site {unknown.iloc[0]}, which ComBat has not learnt "
                f"({', '.join(self.sites)}); a new site cannot be harmonised, so leave-site-out "
                "goes without ComBat"
            )
        return np.searchsorted(np.array(self.sites), labels.to_numpy(dtype=str))

    def _covariates(self, preserve: pd.DataFrame | None, index: pd.Index) -> NDArray[np.float64]:
        table = pd.DataFrame(index=index) if preserve is None else preserve.reindex(index)
        return self.preserved.matrix(table)


def fit_combat(
    table: pd.DataFrame,
    site: pd.Series,
    preserve: pd.DataFrame | None = None,
    *,
    method: Method = "parametric",
) -> Combat:
    """Learn the shift and the scale of each site by empirical Bayes [1]_.

    Parameters
    ----------
    table : (n, f) DataFrame
        Measures, one row per person, no missing value. Units may differ: each measure is
        standardised.
    site : (n,) Series
        Site of each person, with the index of `table`.
    preserve : (n, k) DataFrame, optional
        Covariates whose effects are kept: numbers, or text for factors. Never the label that a
        classifier is to find: transforming a new person would need it.
    method : "parametric", "nonparametric" or "mean"
        Normal and inverse gamma priors; priors from the measures themselves; shift only.

    Notes
    -----
    Equal to ``sva::ComBat`` 3.46, its rule of convergence included.

    References
    ----------
    .. [1] Johnson et al. (2007). Biostatistics 8:118-127. doi:10.1093/biostatistics/kxj037
    """
    if method not in METHODS:
        raise BadInputError(f"method of ComBat is {method!r}; choose from {', '.join(METHODS)}")
    kept = pd.DataFrame(index=table.index) if preserve is None else preserve.reindex(table.index)
    coding = learn_coding(kept)
    covariates = coding.matrix(kept)
    labels = _labels(aligned(site, table))
    sites, codes, counts = np.unique(
        labels.to_numpy(dtype=str), return_inverse=True, return_counts=True
    )
    _require_sites(sites, counts)
    values = _require_values(table, labels)
    design = np.hstack([np.eye(len(sites))[codes], covariates])
    _require_rank(design, len(sites), coding, kept, labels)
    beta = np.asarray(np.linalg.lstsq(design, values, rcond=None)[0], dtype=float)
    sd = np.sqrt(np.mean((values - design @ beta) ** 2, axis=0))
    _require_varying(table, values, sd)
    mean, slopes = counts / len(values) @ beta[: len(sites)], beta[len(sites) :]
    standard = (values - mean - covariates @ slopes) / sd
    shift, variance = _site_effects(standard, codes, method)
    return Combat(
        method=method,
        measures=tuple(map(str, table.columns)),
        sites=tuple(sites.tolist()),
        counts=tuple(counts.tolist()),
        preserved=coding,
        mean=mean,
        slopes=slopes,
        sd=sd,
        shift=shift,
        variance=variance,
        notes=tuple(_notes(sites, counts, table.shape[1])),
    )


def _labels(site: pd.Series) -> pd.Series:
    unknown = site.index[site.isna()]
    if len(unknown):
        raise BadInputError(
            f"the site of {unknown[0]} is not known ({len(unknown)} such people); leave them out"
        )
    return site.astype(str)


def _site_effects(
    standard: NDArray[np.float64], codes: NDArray[np.intp], method: Method
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(s, f) shifts and variances, each drawn towards those of the site's other measures."""
    rows = [standard[codes == code] for code in range(codes.max() + 1)]
    shrink = {"parametric": _parametric, "nonparametric": _nonparametric, "mean": _shift_only}
    found = [shrink[method](values) for values in rows]
    return np.stack([shift for shift, _ in found]), np.stack([scale for _, scale in found])


Effects = tuple[NDArray[np.float64], NDArray[np.float64]]


def _shift_only(values: NDArray[np.float64]) -> Effects:
    raw = values.mean(axis=0)
    prior = raw.var(ddof=1)
    return (prior * raw + raw.mean()) / (prior + 1), np.ones_like(raw)


def _parametric(values: NDArray[np.float64]) -> Effects:
    """Posterior means with normal and inverse gamma priors fitted by moments."""
    n, raw, scale = len(values), values.mean(axis=0), values.var(axis=0, ddof=1)
    centre, spread = raw.mean(), raw.var(ddof=1)
    m = scale.mean()
    s2 = max(scale.var(ddof=1), NO_SPREAD * m**2)  # measures may be copies of each other
    shape, rate = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    shift, variance = raw, scale
    for _ in range(MAX_STEPS):
        new_shift = (n * spread * raw + variance * centre) / (n * spread + variance)
        squares = ((values - new_shift) ** 2).sum(axis=0)
        new_variance = (0.5 * squares + rate) / (n / 2 + shape - 1)
        # As in sva the change of a negative shift has a negative sign, and so does not count.
        change = max(
            (np.abs(new_shift - shift) / shift).max(),
            (np.abs(new_variance - variance) / variance).max(),
        )
        shift, variance = new_shift, new_variance
        if change <= CONVERGED:
            return shift, variance
    raise NotEstimableError("ComBat did not converge; use method nonparametric")


def _nonparametric(values: NDArray[np.float64]) -> Effects:
    """Mean over the effects of the other measures, weighted by how well they fit this one."""
    n, raw, scale = len(values), values.mean(axis=0), values.var(axis=0, ddof=1)
    shift, variance = np.empty_like(raw), np.empty_like(raw)
    for index in range(len(raw)):
        other = np.arange(len(raw)) != index
        g, d = raw[other], scale[other]
        squares = ((values[:, index, None] - g) ** 2).sum(axis=0)
        log_weight = -0.5 * n * np.log(2 * np.pi * d) - squares / (2 * d)
        weight = np.exp(log_weight - log_weight.max())
        shift[index], variance[index] = weight @ g / weight.sum(), weight @ d / weight.sum()
    return shift, variance


def _notes(sites: NDArray[np.str_], counts: NDArray[np.intp], measures: int) -> list[str]:
    notes = [
        f"site {name} has {count} people; ComBat wants {FEW_PER_SITE}"
        for name, count in zip(sites, counts, strict=True)
        if count < FEW_PER_SITE
    ]
    if measures < FEW_MEASURES:
        notes.append(f"the prior of ComBat rests on {measures} measures")
    return notes


def _require_sites(sites: NDArray[np.str_], counts: NDArray[np.intp]) -> None:
    if len(sites) < 2:
        raise NotEstimableError(f"all people are of site {', '.join(sites)}: nothing to harmonise")
    small = [f"{name} ({count})" for name, count in zip(sites, counts, strict=True)
             if count < MIN_PER_SITE]  # fmt: skip
    if small:
        raise NotEstimableError(
            f"ComBat needs {MIN_PER_SITE} people of each site; fewer at {', '.join(small)}: leave "
            "these sites out of the harmonised run, or keep to the site factor"
        )


def _require_values(table: pd.DataFrame, site: pd.Series) -> NDArray[np.float64]:
    """Values of `table`, all finite and varying within every site."""
    if table.shape[1] < MIN_MEASURES:
        raise NotEstimableError(
            f"ComBat borrows strength between measures and was given {table.shape[1]}; it needs "
            f"{MIN_MEASURES}"
        )
    values = table.to_numpy(dtype=float)
    rows, columns = np.nonzero(~np.isfinite(values))
    if len(rows):
        people = len(set(rows.tolist()))
        raise NotEstimableError(
            f"{table.columns[columns[0]]} of {table.index[rows[0]]} is not known ({people} such "
            "people); ComBat needs complete rows: leave these people out, or the measure"
        )
    for name, inside in table.groupby(site):
        flat = np.ptp(inside.to_numpy(dtype=float), axis=0) <= VARIES * np.abs(values).max(axis=0)
        if flat.any():
            raise NotEstimableError(
                f"{table.columns[np.flatnonzero(flat)[0]]} is the same for all {len(inside)} "
                f"people of site {name}: its scale there is unknown; leave the measure out"
            )
    return values


def _require_varying(
    table: pd.DataFrame, values: NDArray[np.float64], sd: NDArray[np.float64]
) -> None:
    for name, scale, largest in zip(table, sd, np.abs(values).max(axis=0), strict=True):
        if scale <= VARIES * largest:
            raise NotEstimableError(
                f"{name} is told by site and preserved covariates alone; leave it out of ComBat"
            )


def _require_rank(
    design: NDArray[np.float64],
    n_sites: int,
    coding: Coding,
    preserve: pd.DataFrame,
    site: pd.Series,
) -> None:
    n, p = design.shape
    if n - p < MIN_DF:
        raise NotEstimableError(
            f"{n} people for {n_sites} sites and {p - n_sites} covariates leave {n - p} degrees "
            f"of freedom to ComBat; it needs {MIN_DF}"
        )
    length = np.linalg.norm(design, axis=0)
    _, sizes, rows = np.linalg.svd(design / np.where(length > 0, length, 1), full_matrices=False)
    loads = np.abs(rows[sizes < RANK_MIN]).max(axis=0, initial=0.0) > 1e-6
    names = [name for name, hit in zip(coding.names, loads[n_sites:], strict=True) if hit]
    columns = list(dict.fromkeys(name.partition("[")[0] for name in names))
    if len(columns) > 1:
        raise NotEstimableError(
            f"{' and '.join(columns)} carry the same information; preserve one of them"
        )
    if columns:
        raise NotEstimableError(
            f"{columns[0]} cannot be told from site{_where(columns[0], coding, preserve, site)}: "
            "taking the sites out would take out, or invent, the very effect"
        )


def _where(column: str, coding: Coding, preserve: pd.DataFrame, site: pd.Series) -> str:
    if column not in coding.levels:
        return ""
    parts = [
        f"{label} only at {', '.join(sorted(site[rows.index].unique()))}"
        for label, rows in preserve.groupby(column)
    ]
    return f" ({'; '.join(parts)})"
