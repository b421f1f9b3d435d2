"""Measures of one person from connections and local activity, and what may not be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alsflow.nodes.func.connectivity import MOTOR, VOXEL

LOCAL = ("alff", "falff", "reho")
SIDES = ("left", "right", "both")
UNIT = "1"  # Fisher's z, standardised amplitudes and Kendall's W have none
MEASURE_COLUMNS = ["measure", "value", "unit", "qc", "reason"]
INTERHEMISPHERIC = "fc_motor_interhemispheric"


@dataclass(frozen=True)
class Limits:
    """Beyond these the measures of a person are not believed, or a note says so.

    The limits of head motion are those that Parkes et al. call lenient and stringent, in
    Jenkinson's measure, as theirs are [1]_; Power's is larger for the same motion.

    References
    ----------
    .. [1] Parkes et al. (2018). NeuroImage 171:415-436. doi:10.1016/j.neuroimage.2017.12.073
    """

    motion: float = 0.55  # mm, mean root-mean-square displacement between volumes; flagged
    motion_note: float = 0.25  # mm, the same; noted
    least_tsnr: float = 20.0  # median over grey matter; below, noted
    least_motor: float = 0.7  # share of the motor region's grey matter in view; below, noted


def func_measures_table(
    connections: pd.DataFrame | None,
    local: pd.DataFrame | None,
    regions: Sequence[str],
    flags: Sequence[str],
    note: str,
    missing: str = "it was not measured",
    voxel: bool = False,
) -> pd.DataFrame:
    """Measures of one person, one row each.

    Parameters
    ----------
    connections : DataFrame, optional
        As `connectivity.connection_table` and `connectivity.voxel_connections` give it.
    local : DataFrame, optional
        Columns metric (one of `LOCAL`), region, side, value, reason.
    regions : sequence of str
        Regions that are measured.
    flags : sequence of str
        Why the series cannot be used; any of them makes every value ``n/a``.
    note : str
        What a reader of every value must know, such as that distortion was not corrected.
    missing : str
        What is said where a table is not there.
    voxel : bool
        Whether the MRS voxel is one of the seeds: else there are no measures of it.

    Returns
    -------
    DataFrame
        Columns `MEASURE_COLUMNS`; unknown values are NaN and say why.
    """
    pairs = [(INTERHEMISPHERIC, (MOTOR, "left", MOTOR, "right"))]
    pairs += [
        (f"fc_{MOTOR}_{region}_{side}", (MOTOR, "both", region, side))
        for region in regions if region != MOTOR
        for side in SIDES
    ]  # fmt: skip
    if voxel:
        pairs += [(f"fc_{VOXEL}_{region}_both", (VOXEL, "", region, "both")) for region in regions]
    keys = ("seed", "seed_side", "region", "side")
    rows = [(name, *_value(connections, keys, wanted, "z", missing)) for name, wanted in pairs]
    rows += [
        (f"{metric}_{region}_{side}",
         *_value(local, ("metric", "region", "side"), (metric, region, side), "value", missing))
        for metric in LOCAL
        for region in regions
        for side in SIDES
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["measure", "value", "reason"])
    known = table["value"].notna()
    table["reason"] = table["reason"].where(~known, note)
    if flags:
        table["value"] = np.nan
        table["reason"] = "; ".join(flags)
    table["unit"] = UNIT
    table["qc"] = "flagged" if flags else "ok"
    return table[MEASURE_COLUMNS]


def _value(
    table: pd.DataFrame | None,
    keys: Sequence[str],
    wanted: Sequence[str],
    column: str,
    missing: str,
) -> tuple[float, str]:
    """Value of the row whose keys are the wanted ones, or NaN with the reason."""
    if table is None:
        return np.nan, missing
    chosen = np.logical_and.reduce([table[k] == w for k, w in zip(keys, wanted, strict=True)])
    if not chosen.any():  # the tables have every region of the atlas
        return np.nan, f"the atlas has no {wanted[-2].replace('_', ' ')}"
    row = table[chosen].iloc[0]
    value = float(row[column])
    return value, "" if np.isfinite(value) else str(row["reason"])


def judge_func(
    metrics: Mapping[str, Any], undone: str = "", limits: Limits | None = None
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Flags (the measures are not to be used) and notes (to be known) from numbers of quality.

    Parameters
    ----------
    metrics : mapping
        Numbers by name: ``rmsd_mean`` (mm), ``tsnr_gm``, ``motor_coverage``; those that a step
        did not give are absent or None.
    undone : str
        Why the series could not be denoised; empty if it was.
    limits : Limits, optional
        What is still believed.

    Returns
    -------
    flags, notes : lists of dict
        Each with ``name`` and ``reason``.
    """
    limits = limits or Limits()
    flags: list[dict[str, str]] = []
    notes: list[dict[str, str]] = []
    if undone:
        flags.append({"name": "too_few_degrees_of_freedom", "reason": undone})
    moved = metrics.get("rmsd_mean")
    if moved is not None and moved > limits.motion_note:
        large = moved > limits.motion
        reason = f"the head moved {moved:.2f} mm from volume to volume on average (Jenkinson)"
        found = {"name": "motion_too_large" if large else "head_motion", "reason": reason}
        (flags if large else notes).append(found)
    tsnr = metrics.get("tsnr_gm")
    if tsnr is not None and tsnr < limits.least_tsnr:
        reason = f"the temporal signal-to-noise ratio of grey matter is low (median {tsnr:.0f})"
        notes.append({"name": "low_tsnr", "reason": reason})
    seen = metrics.get("motor_coverage")
    if seen is not None and seen < limits.least_motor:
        reason = f"only {seen:.0%} of the {MOTOR} gyrus is in the field of view"
        notes.append({"name": "motor_strip_cut", "reason": reason})
    return flags, notes
