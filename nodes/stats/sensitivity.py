"""What stands beside the tests of a study: the power of its own data, and harmonised values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.harmonised import combat_sensitivity
from alsflow.nodes.stats.participants import Columns
from alsflow.nodes.stats.tables import MISSING

LEAST = 0.5  # share of the people who must have a measure for it to be harmonised with others
ALONE = "one site: there is nothing to harmonise"
COLUMNS = (
    "family", "measure", "model", "n", "n_excluded", "estimate", "se", "p", "combat_estimate",
    "combat_se", "combat_p", "status", "reason", "notes",
)  # fmt: skip


def harmonised_table(
    rows: pd.DataFrame,
    families: Mapping[str, Sequence[str]],
    columns: Columns,
    case: str,
    factors: Sequence[str] = (),
) -> pd.DataFrame:
    """Group difference of every measure with a site factor, before and after ComBat.

    Parameters
    ----------
    rows : DataFrame
        One row per person, indexed by person.
    families : mapping
        Measures that are harmonised together.
    columns : Columns
        Group, reference, site and covariates.
    case : str
        Group compared with the reference.
    factors : sequence of str
        Covariates that are categories.

    Returns
    -------
    table : DataFrame
        Columns `COLUMNS`; a family that cannot be harmonised is one row per measure that says why.
    """
    found: list[dict[str, Any]] = []
    for family, names in families.items():
        known = [name for name in names if name in rows and rows[name].notna().mean() >= LEAST]
        try:
            if not columns.site or rows[columns.site].nunique() < 2:
                raise BadInputError(ALONE)
            if known:
                found += _harmonised(rows, family, known, columns, case, factors)
        except BadInputError as problem:
            found += [_row(family, name, status="n/a", reason=str(problem)) for name in known]
    return pd.DataFrame(found, columns=list(COLUMNS))


def _harmonised(
    rows: pd.DataFrame,
    family: str,
    names: Sequence[str],
    columns: Columns,
    case: str,
    factors: Sequence[str],
) -> list[dict[str, Any]]:
    results = combat_sensitivity(
        rows, names, group=columns.group, case=case, reference=columns.reference,
        site=columns.site, covariates=columns.covariates, factors=factors,
    )  # fmt: skip
    return [
        _row(
            family,
            one.measure,
            model=one.model,
            n=one.site_factor.n,
            n_excluded=one.n_excluded,
            estimate=one.site_factor.estimate,
            se=one.site_factor.se,
            p=one.site_factor.p,
            combat_estimate=one.combat.estimate,
            combat_se=one.combat.se,
            combat_p=one.combat.p,
            status="tested",
            notes="; ".join(one.notes) or MISSING,
        )
        for one in results
    ]


def _row(family: str, measure: str, **known: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS, float("nan"))
    row |= {"model": MISSING, "reason": MISSING, "notes": MISSING}
    return row | {"family": family, "measure": measure} | known
