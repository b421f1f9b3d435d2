"""Measures of one person from the table of tracts, and what may not be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

METRICS = {"fa": "1", "md": "mm2/s", "ad": "mm2/s", "rd": "mm2/s"}
TRACTS = ("corticospinal_tract", "corticostriatal_tract", "corticothalamic_tract")
SIDES = ("left", "right", "both")
MEASURE_COLUMNS = ["measure", "value", "unit", "qc", "reason"]


@dataclass(frozen=True)
class Limits:
    """Beyond these the maps of a person are not believed."""

    last_update: float = 0.5  # mm, of the motion correction that did not come to rest
    outlier_slices: float = 0.2  # share of all slices
    framewise: float = 1.0  # mm, mean; noted, not flagged
    negative: float = 0.05  # share of voxels with negative eigenvalues; noted


def temporal_snr(volumes: NDArray, brain: NDArray) -> float:
    """Signal of the b=0 volumes over their variation in time; NaN with fewer than two.

    Parameters
    ----------
    volumes : (x, y, z, n) array
        Volumes without diffusion weighting.
    brain : (x, y, z) bool array
        Where the median is taken.
    """
    if volumes.shape[3] < 2:
        return float("nan")
    inside = volumes[brain].astype(float)
    spread = inside.std(axis=1, ddof=1)
    # the square of a spread over few volumes is scattered but unbiased
    return float(np.median(inside.mean(axis=1)) / np.sqrt(np.mean(spread**2)))


def colour_coded(fa: NDArray, direction: NDArray) -> NDArray:
    """Colour-coded anisotropy (x, y, z, 3), 0 to 255.

    Parameters
    ----------
    fa : (x, y, z) array
        Fractional anisotropy.
    direction : (x, y, z, 3) array
        Principal direction in RAS+ world: red left-right, green anterior-posterior, blue
        inferior-superior.
    """
    colour = np.abs(direction) * np.clip(fa, 0, 1)[..., None]
    return np.rint(255 * np.nan_to_num(colour)).astype(np.uint8)


def tract_measures_table(
    tracts: pd.DataFrame, flags: Sequence[str], note: str, voxel: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Measures of one person, one row each.

    Parameters
    ----------
    tracts : DataFrame
        Columns tract, side, metric, mean, status, reason; one row per tract, side and metric.
    flags : sequence of str
        Why the maps cannot be used; any of them makes every value ``n/a``.
    note : str
        What a reader of every value must know, such as that distortion was not corrected.
    voxel : DataFrame, optional
        Means in the MRS voxel: columns metric, weighted_mean, reason. Without it there are no
        such measures.

    Returns
    -------
    DataFrame
        Columns `MEASURE_COLUMNS`; unknown values are NaN and say why.
    """
    rows = [
        (f"{metric}_{tract}_{side}", *_value(tracts, tract, side, metric), unit)
        for metric, unit in METRICS.items()
        for tract in TRACTS
        for side in SIDES
    ]
    rows += [(f"fa_{tract}_asymmetry", *_asymmetry(tracts, tract), "1") for tract in TRACTS]
    if voxel is not None:
        rows += [
            (
                f"{row['metric']}_mrs_voxel",
                float(row["weighted_mean"]),
                str(row["reason"]),
                METRICS[str(row["metric"])],
            )
            for row in voxel.to_dict("records")
        ]
    table = pd.DataFrame(rows, columns=["measure", "value", "reason", "unit"])
    known = table["value"].notna()
    table["reason"] = table["reason"].where(~known, note)
    if flags:
        table["value"] = np.nan
        table["reason"] = "; ".join(flags)
    table["qc"] = "flagged" if flags else "ok"
    return table[MEASURE_COLUMNS]


def _value(tracts: pd.DataFrame, tract: str, side: str, metric: str) -> tuple[float, str]:
    """Mean of one metric, or NaN with the reason."""
    chosen = (tracts["tract"] == tract) & (tracts["side"] == side) & (tracts["metric"] == metric)
    if not chosen.any():
        where = "" if side == "both" else f"{side} "
        return np.nan, f"the atlas has no {where}{tract.replace('_', ' ')}"
    row = tracts[chosen].iloc[0]
    value = float(row["mean"])
    return value, "" if np.isfinite(value) else str(row["reason"])


def _asymmetry(tracts: pd.DataFrame, tract: str) -> tuple[float, str]:
    left, why_left = _value(tracts, tract, "left", "fa")
    right, why_right = _value(tracts, tract, "right", "fa")
    if np.isfinite(left + right) and left + right > 0:
        return (left - right) / ((left + right) / 2), ""
    return np.nan, why_left or why_right


def judge_series(metrics: Mapping[str, Any], limits: Limits | None = None) -> tuple[list, list]:
    """Flags (the maps are not to be used) and notes (to be known) from numbers of quality.

    Parameters
    ----------
    metrics : mapping
        Numbers by name; those that a step did not give are absent or None.
    limits : Limits, optional
        What is still believed.

    Returns
    -------
    flags, notes : lists of dict
        Each with ``name`` and ``reason``.
    """
    limits = limits or Limits()

    def above(name: str, limit: float) -> bool:
        value = metrics.get(name)
        return value is not None and value > limit

    flags, notes = [], []
    if above("motion_last_update", limits.last_update):
        flags.append({
            "name": "motion_not_settled",
            "reason": "the correction of motion and eddy currents did not come to rest (last "
            f"update {metrics['motion_last_update']:.2f} mm)",
        })  # fmt: skip
    if above("outlier_share", limits.outlier_slices):
        flags.append({
            "name": "outlier_slices",
            "reason": f"{100 * metrics['outlier_share']:.0f} % of the slices lost signal",
        })  # fmt: skip
    if above("fd_mean", limits.framewise):
        notes.append({
            "name": "head_motion",
            "reason": f"mean framewise displacement {metrics['fd_mean']:.2f} mm",
        })  # fmt: skip
    if above("negative_share", limits.negative):
        notes.append({
            "name": "negative_eigenvalues",
            "reason": f"{100 * metrics['negative_share']:.1f} % of the brain has a tensor with a "
            "negative eigenvalue",
        })  # fmt: skip
    return flags, notes
