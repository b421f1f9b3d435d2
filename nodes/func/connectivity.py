"""Functional connectivity of seeds and regions: correlations of their mean series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alsflow.nodes.func.regions import LEAST_VOXELS

R_MOST = 1 - 1e-7  # |r| beyond this is brought to it before Fisher's transform, z = 8.4
R_THRESHOLD = 0.25  # strongly correlated in the CALSNIC study, doi:10.1136/jnnp-2022-329993
CONSTANT = 1e-6  # of the median SD of the voxels; below it a series does not vary
MOTOR = "precentral"  # region whose connections are measured
VOXEL = "mrs_voxel"  # what the MRS voxel is called among the connections, whatever its seed's name
SIDES = ("left", "right", "both")
SEED_COLUMNS = [
    "seed", "label", "name", "side", "n_voxels", "n_shared", "r", "z", "reason",
]  # fmt: skip
CONNECTION_COLUMNS = [
    "seed", "seed_side", "region", "side", "n_seed", "n_voxels", "n_shared", "r", "z", "reason",
]  # fmt: skip
FLAT = "its mean series does not vary"


@dataclass(frozen=True)
class Area:
    """A seed, a label or a region with its voxels.

    Attributes
    ----------
    name, side : str
        ``side`` is ``left``, ``right``, ``both`` or empty.
    members : (v,) bool array
        Which voxels of the mask belong to it.
    label : int
        Of the atlas; 0 for what is none.
    reason : str
        Why it is not used; empty if it is.
    """

    name: str
    side: str
    members: NDArray
    label: int = 0
    reason: str = ""


def standardised(series: NDArray) -> NDArray:
    """Series (k, t) without their mean, of length 1; NaN where they do not vary."""
    centred = np.asarray(series, float)
    centred = centred - centred.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("kt,kt->k", centred, centred))
    length[length == 0] = np.nan
    return np.asarray(centred / length[:, None])


def varying(signal: NDArray) -> NDArray:
    """Which series (v, t) vary in time, judged by the median of all, (v,) bool."""
    spread = signal.std(axis=1, dtype=float)
    typical = np.median(spread) if len(spread) else 0.0
    return np.asarray(spread > CONSTANT * typical)


def mean_series(signal: NDArray, areas: Sequence[Area]) -> NDArray:
    """Mean series of each area, (k, t); NaN where it is not used, empty, or does not vary.

    Parameters
    ----------
    signal : (v, t) array
        Series of the voxels of the mask.
    areas : sequence of Area
        Their voxels.
    """
    moves = varying(signal)
    found = np.full((len(areas), signal.shape[1]), np.nan)
    for row, area in enumerate(areas):
        if not area.reason and (area.members & moves).any():
            found[row] = signal[area.members].mean(axis=0, dtype=float)
    return found


def correlations(seeds: NDArray, signal: NDArray) -> NDArray:
    """Pearson's correlation of every seed's series (k, t) with every voxel's (v, t), (k, v)."""
    # not a BLAS product: the same bits whatever the number of threads
    found = np.einsum("kt,vt->kv", standardised(seeds), standardised(signal))
    return np.clip(found, -1.0, 1.0)


def fisher_z(r: NDArray) -> NDArray:
    """Fisher's z of correlations, which are first brought within `R_MOST` of 0."""
    return np.arctanh(np.clip(r, -R_MOST, R_MOST))


def seed_maps(seeds: NDArray, signal: NDArray, covered: NDArray) -> tuple[NDArray, NDArray]:
    """Correlation of each seed with every voxel, and where the maps have values.

    Parameters
    ----------
    seeds : (k, t) array
        Mean series; NaN for seeds that are not used.
    signal : (v, t) array
        Series of the voxels of the mask.
    covered : (v,) bool array
        Voxels of the map: grey enough. Those that do not vary have no value. Voxels of the seed
        itself have one.

    Returns
    -------
    r : (k, v) array
        0 outside the map; NaN everywhere for seeds that are not used.
    valued : (v,) bool array
        Voxels with a value.
    """
    valued = covered & varying(signal)
    r = np.zeros((len(seeds), len(signal)))
    r[:, valued] = correlations(seeds, signal[valued])
    r[~np.isfinite(seeds).all(axis=1)] = np.nan
    return r, valued


def thresholded(r: NDArray, least: float = R_THRESHOLD) -> tuple[NDArray, NDArray]:
    """Where r is at least `least`: as 1 and 0, and as the value itself and 0; NaN stays."""
    unknown = np.isnan(r)
    high = np.where(unknown, np.nan, np.nan_to_num(r) >= least)
    return high, np.where(high == 1, r, np.where(unknown, np.nan, 0.0))


def seed_table(
    seeds: Sequence[Area], seed_series: NDArray, labels: Sequence[Area], label_series: NDArray
) -> pd.DataFrame:
    """Connection of every seed with every label, columns `SEED_COLUMNS`.

    ``n_shared`` counts voxels that are in both: such a connection is partly one with itself.
    """
    r = correlations(seed_series, label_series)
    rows = [
        (seed.name, label.label, label.name, label.side, int(label.members.sum()),
         int((label.members & seed.members).sum()), *_value(seed, label, r[i, j]))
        for i, seed in enumerate(seeds)
        for j, label in enumerate(labels)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=SEED_COLUMNS)


def _value(one: Area, other: Area, r: float) -> tuple[float, float, str]:
    """Correlation, Fisher's z and, where there is none, why."""
    if np.isfinite(r):
        return r, float(fisher_z(np.array(r))), ""
    reason = one.reason or other.reason
    if not reason:
        flat = other if other.members.any() else one
        reason = f"{flat.side} {flat.name}: {FLAT}".strip()
    return np.nan, np.nan, reason


def connection_table(
    groups: Sequence[Area], series: NDArray, motor: str = MOTOR, reason: str = ""
) -> pd.DataFrame:
    """Connections of the motor region that are measured, columns `CONNECTION_COLUMNS`.

    Parameters
    ----------
    groups : sequence of Area
        Every region on the left, the right and both sides.
    series : (k, t) array
        Their mean series.
    motor : str
        The region whose connections these are: left with right, and both sides together with
        every other region.
    reason : str
        Why there are none at all; empty if there are.
    """
    at = {(group.name, group.side): row for row, group in enumerate(groups)}
    regions = list(dict.fromkeys(group.name for group in groups if group.name != motor))
    pairs = [((motor, "left"), (motor, "right"))]
    pairs += [((motor, "both"), (region, side)) for region in regions for side in SIDES]
    rows: list[tuple[object, ...]] = []
    for seed, region in pairs:
        if seed not in at or region not in at:
            missing = seed if seed not in at else region
            why = reason or f"the atlas has no {missing[0].replace('_', ' ')}"
            rows.append((*seed, *region, 0, 0, 0, np.nan, np.nan, why))
            continue
        one, other = groups[at[seed]], groups[at[region]]
        r = correlations(series[[at[seed]]], series[[at[region]]])[0, 0] if not reason else np.nan
        counts = [int(m.sum()) for m in (one.members, other.members, one.members & other.members)]
        found = (np.nan, np.nan, reason) if reason else _value(one, other, r)
        rows.append((*seed, *region, *counts, *found))
    return pd.DataFrame(rows, columns=CONNECTION_COLUMNS)


def voxel_connections(
    voxel: Area,
    groups: Sequence[Area],
    signal: NDArray | None,
    reason: str = "",
    least: int = LEAST_VOXELS,
) -> pd.DataFrame:
    """Connections of the MRS voxel with both sides of every region, columns `CONNECTION_COLUMNS`.

    The voxel lies in grey matter of some region, mostly of the motor cortex. What it shares with a
    region is left out of the region: its signal would be on either side of the correlation.

    Parameters
    ----------
    voxel : Area
        The seed.
    groups : sequence of Area
        Regions; those of both sides are taken.
    signal : (v, t) array, optional
        Series of the voxels of the mask.
    reason : str
        Why there are no connections at all; empty if there are.
    least : int
        Voxels that a region must keep.

    Returns
    -------
    DataFrame
        ``n_voxels`` counts what is left of a region, ``n_shared`` what was left out.
    """
    regions = [group for group in groups if group.side == "both"]
    rests = [_outside(region, voxel, least) for region in regions]
    r = np.full(len(rests), np.nan)
    if signal is not None:
        series = mean_series(signal, [voxel, *rests])
        r = correlations(series[:1], series[1:])[0]
    rows = []
    for region, rest, value in zip(regions, rests, r, strict=True):
        shared = int((region.members & voxel.members).sum())
        counts = (int(voxel.members.sum()), int(rest.members.sum()), shared)
        found = (np.nan, np.nan, reason) if reason else _value(voxel, rest, value)
        rows.append((VOXEL, "", region.name, region.side, *counts, *found))
    return pd.DataFrame(rows, columns=CONNECTION_COLUMNS)


def _outside(group: Area, voxel: Area, least: int) -> Area:
    """The part of a region outside the voxel; it says so if that is too little."""
    members = group.members & ~voxel.members
    reason = group.reason
    if not reason and members.sum() < least:
        reason = (
            f"only {int(members.sum())} voxels of the {group.name.replace('_', ' ')} lie outside "
            f"the MRS voxel (at least {least} are asked)"
        )
    return Area(group.name, group.side, members, group.label, reason)


def relation_matrix(labels: Sequence[Area], series: NDArray) -> pd.DataFrame:
    """Correlations (r) of all labels with each other; NaN for those without series."""
    names = [label.name for label in labels]
    r = correlations(series, series)
    r = (r + r.T) / 2
    known = np.isfinite(np.diag(r))
    r[known, known] = 1.0
    return pd.DataFrame(r, index=names, columns=names)
