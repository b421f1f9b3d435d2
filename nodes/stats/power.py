"""Power and sample size of two groups and of a correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, stats

from alsflow.nodes.errors import BadInputError

NAN = float("nan")
ALPHA = 0.05  # two-sided
POWER = 0.8  # wanted
FAR = 30.0  # noncentrality beyond which the power of any test worth planning is 1
N_MAX = 1e7  # people per group beyond which no sample size is given
EFFECT_MAX = 50.0  # standard deviations


@dataclass(frozen=True)
class Planned:
    """What the data at hand could find, and what a next study would need, for one measure."""

    n_case: int
    n_reference: int
    df: float
    residual_sd: float  # unit of the measure
    alpha: float
    power: float  # wanted
    inflation: float  # of the variance of the difference by site and covariates; 1 without
    detectable: float  # difference found with `power`, unit of the measure
    detectable_d: float  # the same in residual standard deviations
    observed: float  # difference found, unit of the measure
    observed_d: float
    n_for_observed: tuple[int, int]  # case, reference; 0 where no number will do
    declared: float  # difference that matters, unit of the measure; NaN if none was declared
    n_for_declared: tuple[int, int]
    power_for_declared: float  # with the people at hand


def t_power(noncentrality: float, df: float, alpha: float = ALPHA) -> float:
    """Power of a two-sided t test; both tails count.

    Parameters
    ----------
    noncentrality : float
        True difference over its standard error.
    df : float
        Degrees of freedom.
    """
    ncp, edge = abs(noncentrality), float(stats.t.isf(alpha / 2, df))
    if not np.isfinite(ncp):
        return NAN
    if ncp > FAR + edge:
        return 1.0
    above, below = stats.nct.sf(edge, df, ncp), stats.nct.cdf(-edge, df, ncp)
    # The lower tail underflows to NaN in scipy where it is nothing.
    return float(np.clip(above + (below if np.isfinite(below) else 0.0), 0, 1))


def two_group_power(d: float, n_case: float, n_reference: float, alpha: float = ALPHA) -> float:
    """Power for a difference of `d` standard deviations; numbers need not be equal."""
    df = n_case + n_reference - 2
    return t_power(d / np.sqrt(1 / n_case + 1 / n_reference), df, alpha)


def sample_size(
    d: float, *, power: float = POWER, ratio: float = 1.0, alpha: float = ALPHA,
    inflation: float = 1.0, lost_df: float = 0,
) -> float:  # fmt: skip
    """People in the case group that find `d` with `power`; not rounded, NaN beyond 10 million.

    Parameters
    ----------
    d : float
        Difference in standard deviations.
    ratio : float
        People of reference per case.
    inflation : float
        Factor of the variance of the difference, for groups spread unevenly over sites.
    lost_df : float
        Degrees of freedom taken by site and covariates.
    """
    _require(power, alpha)

    def lacking(n: float) -> float:
        scale = np.sqrt(inflation * (1 / n + 1 / (ratio * n)))
        return t_power(d / scale, n * (1 + ratio) - 2 - lost_df, alpha) - power

    fewest = (2.0 + lost_df) / (1 + ratio) + 0.5
    if not d or not np.isfinite(d) or lacking(N_MAX) < 0:
        return NAN
    if lacking(fewest) >= 0:
        return fewest
    return float(optimize.brentq(lacking, fewest, N_MAX, xtol=1e-10, rtol=1e-14))


def detectable_difference(
    scale: float, df: float, *, power: float = POWER, alpha: float = ALPHA
) -> float:
    """Smallest difference in standard deviations found with `power`.

    Parameters
    ----------
    scale : float
        Standard error of the difference over the standard deviation; sqrt(1/n1 + 1/n2) without
        covariates.
    df : float
        Degrees of freedom.
    """
    _require(power, alpha)
    found = optimize.brentq(
        lambda ncp: t_power(ncp, df, alpha) - power, 0, FAR + stats.t.isf(alpha / 2, df)
    )
    return float(found * scale)


def correlation_power(r: float, n: float, *, k: int = 0, alpha: float = ALPHA) -> float:
    """Power for a correlation of `r` in `n` people with `k` columns held, by Fisher's z [1]_.

    References
    ----------
    .. [1] Cohen (1988). Statistical power analysis for the behavioral sciences, 2nd ed.,
       section 12.7. Erlbaum.
    """
    m = n - k
    edge = stats.t.isf(alpha / 2, m - 2)
    critical = np.arctanh(np.sqrt(edge**2 / (edge**2 + m - 2)))
    z = np.arctanh(abs(r)) + abs(r) / (2 * (m - 1))
    return float(stats.norm.cdf(np.array([z, -z]) - critical, scale=1 / np.sqrt(m - 3)).sum())


def correlation_sample_size(
    r: float, *, power: float = POWER, k: int = 0, alpha: float = ALPHA
) -> float:
    """People who find a correlation of `r` with `power`; not rounded."""
    _require(power, alpha)
    if not 0 < abs(r) < 1 or correlation_power(r, N_MAX, k=k, alpha=alpha) < power:
        return NAN
    fewest = k + 4.0
    if correlation_power(r, fewest, k=k, alpha=alpha) >= power:
        return fewest
    return float(
        optimize.brentq(
            lambda n: correlation_power(r, n, k=k, alpha=alpha) - power, fewest, N_MAX, xtol=1e-9
        )
    )


def detectable_correlation(
    n: int, *, power: float = POWER, k: int = 0, alpha: float = ALPHA
) -> float:
    """Smallest correlation that `n` people find with `power`."""
    _require(power, alpha)
    if n - k < 5:
        return NAN
    return float(
        optimize.brentq(
            lambda r: correlation_power(r, n, k=k, alpha=alpha) - power, 0.0, 1 - 1e-12
        )
    )


def plan_from_data(
    *, residual_sd: float, n_case: int, n_reference: int, estimate: float, df: float | None = None,
    se: float | None = None, declared: float = NAN, power: float = POWER, alpha: float = ALPHA,
) -> Planned:  # fmt: skip
    """Power of the design at hand and size of the next one, from a fitted model.

    Parameters
    ----------
    residual_sd : float
        Residual standard deviation of the model, unit of the measure.
    n_case, n_reference : int
        People in the model.
    estimate : float
        Difference found, unit of the measure.
    df : float
        Residual degrees of freedom; without, those of two groups alone.
    se : float
        Standard error of the difference; without, that of two groups alone. With it, the price
        of an uneven spread over sites goes into every number, as if the next study had it too.
    declared : float
        Difference that would matter, unit of the measure.

    Notes
    -----
    The power for the difference that was found is not given: it is the p value over again [1]_.

    References
    ----------
    .. [1] Hoenig and Heisey (2001). Am Stat 55:19-24. doi:10.1198/000313001300339897
    """
    if min(n_case, n_reference) < 2 or not residual_sd > 0:
        raise BadInputError("power needs two people in each group and a residual spread above 0")
    plain = float(np.sqrt(1 / n_case + 1 / n_reference))
    scale = plain if se is None or not np.isfinite(se) else se / residual_sd
    free = n_case + n_reference - 2
    df = float(free if df is None else df)
    ratio = n_reference / n_case
    settings = {"power": power, "alpha": alpha, "inflation": (scale / plain) ** 2,
                "lost_df": max(0.0, free - df), "ratio": ratio}  # fmt: skip
    smallest = detectable_difference(scale, df, power=power, alpha=alpha)
    return Planned(
        n_case=n_case,
        n_reference=n_reference,
        df=df,
        residual_sd=residual_sd,
        alpha=alpha,
        power=power,
        inflation=(scale / plain) ** 2,
        detectable=smallest * residual_sd,
        detectable_d=smallest,
        observed=estimate,
        observed_d=estimate / residual_sd,
        n_for_observed=_people(sample_size(estimate / residual_sd, **settings), ratio),
        declared=declared,
        n_for_declared=_people(sample_size(declared / residual_sd, **settings), ratio),
        power_for_declared=t_power(declared / residual_sd / scale, df, alpha),
    )


def power_table(
    tests: pd.DataFrame, declared: dict[str, float] | None = None, *, power: float = POWER,
    alpha: float = ALPHA,
) -> pd.DataFrame:  # fmt: skip
    """`plan_from_data` of every tested row of a registry of group differences.

    Parameters
    ----------
    tests : DataFrame
        Columns ``outcome`` (or ``measure``), ``n_case``, ``n_control``, ``df``, ``estimate``,
        ``se``, ``residual_sd``. Left out are rows without an estimate, of another kind than
        ``groups``, and those that took two sides of a person for two people.
    declared : mapping
        Difference that would matter, by measure, in its unit.

    Returns
    -------
    plans : DataFrame
        Name of the analysis where `tests` has it, of the measure, and the fields of `Planned`.
    """
    name = "outcome" if "outcome" in tests else "measure"
    rows = []
    for row in tests.to_dict("records"):
        groups = row.get("kind", "groups") == "groups" and not row.get("pseudoreplicated", False)
        if not (groups and np.isfinite(row["estimate"]) and row["residual_sd"] > 0):
            continue
        found = plan_from_data(
            residual_sd=row["residual_sd"], n_case=int(row["n_case"]),
            n_reference=int(row["n_control"]), estimate=row["estimate"], df=float(row["df"]),
            se=row["se"], declared=(declared or {}).get(row[name], NAN), power=power, alpha=alpha,
        )  # fmt: skip
        names = {key: row[key] for key in ("analysis", name) if key in row}
        rows.append(names | vars(found))
    return pd.DataFrame(rows)


def _people(n_case: float, ratio: float) -> tuple[int, int]:
    if not np.isfinite(n_case):
        return 0, 0
    return int(np.ceil(n_case - 1e-9)), int(np.ceil(n_case * ratio - 1e-9))


def _require(power: float, alpha: float) -> None:
    if not 0 < alpha < power < 1:
        raise BadInputError(
            f"power {power:g} and alpha {alpha:g}: alpha must be above 0, power above alpha and "
            "below 1"
        )
