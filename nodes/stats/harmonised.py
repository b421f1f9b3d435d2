"""The group difference with and without ComBat, side by side; the site factor is in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from alsflow.nodes.stats.combat import Method, fit_combat
from alsflow.nodes.stats.design import build_design
from alsflow.nodes.stats.linear import GroupDifference, group_difference


@dataclass(frozen=True)
class Harmonised:
    """One measure tested as it is and after ComBat, in the same people with the same model."""

    measure: str
    model: str
    n_excluded: int  # people who lack any of the measures, the site or a covariate
    site_factor: GroupDifference  # the result
    combat: GroupDifference  # the sensitivity run
    notes: tuple[str, ...]


def combat_sensitivity(
    table: pd.DataFrame,
    measures: Sequence[str],
    *,
    group: str,
    case: str,
    reference: str,
    site: str = "site",
    covariates: Sequence[str] = (),
    factors: Sequence[str] = (),
    method: Method = "parametric",
) -> tuple[Harmonised, ...]:
    """Test every measure for a difference of the groups, before and after ComBat.

    Parameters
    ----------
    table : (n, ...) DataFrame
        One row per person.
    measures : sequence of str
        Columns harmonised together: those of one modality, as a rule.
    group, case, reference, site, covariates, factors
        As for `build_design`. Group and covariates are what ComBat preserves.

    Notes
    -----
    ComBat charges no degrees of freedom for what it takes out, so the site stays in the model.
    """
    rows = table[table[group].isin([case, reference])]
    complete = rows[[*measures, group, site, *covariates]].dropna()
    design = build_design(
        complete,
        group=group,
        case=case,
        reference=reference,
        site=site,
        covariates=covariates,
        factors=factors,
    )
    preserve = complete[[group, *covariates]]
    combat = fit_combat(complete[list(measures)], complete[site], preserve, method=method)
    harmonised = combat.transform(complete, complete[site], preserve)
    return tuple(
        Harmonised(
            measure=measure,
            model=f"{measure} ~ {design.formula}",
            n_excluded=len(rows) - len(complete),
            site_factor=group_difference(complete[measure].to_numpy(dtype=float), design),
            combat=group_difference(harmonised[measure].to_numpy(dtype=float), design),
            notes=(*design.notes, *combat.notes),
        )
        for measure in measures
    )
