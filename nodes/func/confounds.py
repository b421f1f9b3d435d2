"""What disturbs a BOLD series, volume by volume: motion, jumps, and signals of no interest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from alsflow.nodes.epi.motion_metrics import framewise_displacement, rms_displacement
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.compcor import (
    MIN_VOXELS,
    Components,
    NoiseMask,
    components,
    noise_masks,
)
from alsflow.nodes.func.dvars import dvars, temporal_snr
from alsflow.nodes.func.presets import MAX_COMPONENTS, Preset
from alsflow.nodes.geometry import apply_affine

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
SIGNALS = ("global_signal", "csf", "white_matter")
SET_NAMES = {"csf": "c_comp_cor", "wm": "w_comp_cor"}
MEAN_NAMES = {"csf": "csf", "wm": "white_matter"}
TISSUE_WORDS = {"csf": "cerebrospinal fluid", "wm": "white matter"}
FD_LIMIT = 0.5  # mm, Power's for rest
DVARS_LIMIT = 1.5  # times what is expected
DECIMALS = 9  # of mm and radians; beyond, rounding errors would look like motion
GREY = 0.5  # fraction from which on a voxel counts as grey matter in the median of tSNR


@dataclass(frozen=True)
class Confounds:
    """Everything known about the volumes of a series.

    Attributes
    ----------
    table : DataFrame
        One row per volume, columns named as fMRIPrep names them; NaN where unknown.
    tsnr : (x, y, z) float32 array
        Temporal signal-to-noise ratio; 0 outside the brain.
    masks : dict of str to NoiseMask
        Voxels of ``wm`` and ``csf``.
    explained : dict of str to (runs, k) array
        Share of the variance of each tissue in its components, by run.
    numbers : dict of str to float
        Summary for quality control.
    """

    table: pd.DataFrame
    tsnr: NDArray
    masks: dict[str, NoiseMask]
    explained: dict[str, NDArray]
    numbers: dict[str, float]


def find_confounds(
    series: NDArray,
    affine: NDArray,
    mask: NDArray,
    tissue: NDArray,
    head_to_volume: NDArray,
    runs: NDArray,
    tr: float,
    *,
    fd_limit: float = FD_LIMIT,
    dvars_limit: float = DVARS_LIMIT,
) -> Confounds:
    """Table of confounds of a corrected series.

    Parameters
    ----------
    series : (x, y, z, n) array
        Series corrected for motion, arbitrary units.
    affine : (4, 4) array
        Voxel to mm.
    mask : (x, y, z) bool array
        Brain that every volume shows.
    tissue : (x, y, z, 3) array
        Fractions of grey matter, white matter and fluid.
    head_to_volume : (n, 4, 4) array
        Rigid motion, world mm: where a point of the reference head lies in each volume.
    runs : (n,) int array
        Number of the run of each volume.
    tr : float
        Time between volumes, s.
    fd_limit, dvars_limit : float
        A volume with more framewise displacement (mm) or standardised DVARS is an outlier.
    """
    _check_sizes(series, mask, tissue, head_to_volume, runs)
    signal = np.ascontiguousarray(series[mask], np.float32)
    centre = apply_affine(affine, np.array(ndimage.center_of_mass(mask)))
    columns = motion_columns(head_to_volume, centre, runs)
    columns["framewise_displacement"] = framewise_displacement(head_to_volume, centre, runs)
    columns["rmsd"] = rms_displacement(head_to_volume, centre, runs)
    columns["dvars"], columns["std_dvars"] = dvars(signal, runs)
    masks = noise_masks(tissue, mask, affine)
    tissue_columns, explained = _tissue_confounds(signal, masks, mask, runs, tr)
    columns |= tissue_columns
    fd, jump = columns["framewise_displacement"], columns["std_dvars"]
    columns["motion_outlier"] = ((fd > fd_limit) | (jump > dvars_limit)).astype(int)
    columns["run"] = np.asarray(runs, int)
    ratio = temporal_snr(signal, runs)
    tsnr = np.zeros(mask.shape, np.float32)
    tsnr[mask] = np.nan_to_num(ratio)
    numbers = _summary(columns, ratio[tissue[..., 0][mask] >= GREY])
    return Confounds(pd.DataFrame(columns), tsnr, masks, explained, numbers)


def _check_sizes(
    series: NDArray, mask: NDArray, tissue: NDArray, head_to_volume: NDArray, runs: NDArray
) -> None:
    """Refuse parts that do not belong together, and an empty brain."""
    volumes = series.shape[3]
    if mask.shape != series.shape[:3] or tissue.shape != (*series.shape[:3], 3):
        raise BadInputError(
            f"has {series.shape[:3]} voxels, its mask {mask.shape} and its tissue maps "
            f"{tissue.shape}; bring all onto one grid"
        )
    if len(head_to_volume) != volumes or len(runs) != volumes:
        raise BadInputError(
            f"has {volumes} volumes, but motion is known of {len(head_to_volume)} and the run "
            f"of {len(runs)}; estimate the motion of this series"
        )
    if not mask.any():
        raise BadInputError("shows no brain in all volumes; check the mask and the motion")


def motion_columns(head_to_volume: NDArray, centre: NDArray, runs: NDArray) -> dict[str, NDArray]:
    """Columns of the 24 motion terms; the derivative of a run's first volume is NaN.

    Translations (mm) of `centre` (3,) along, and rotations (rotation vector, radians) about the
    world's axes, from the reference.
    """
    turns = head_to_volume[:, :3, :3]
    shifts = turns @ centre + head_to_volume[:, :3, 3] - centre
    six = np.column_stack([shifts, Rotation.from_matrix(turns).as_rotvec()])
    six = np.round(six, DECIMALS) + 0.0  # no minus zero
    columns: dict[str, NDArray] = {}
    for name, course in zip(MOTION, six.T, strict=True):
        columns |= expansions(name, course, runs)
    return columns


def expansions(name: str, course: NDArray, runs: NDArray) -> dict[str, NDArray]:
    """A course (n,), its backward differences within runs, and the squares of both."""
    change = np.full(len(course), np.nan)
    change[1:] = np.diff(course)
    change[1:][np.diff(runs) != 0] = np.nan
    return {
        name: course,
        f"{name}_derivative1": change,
        f"{name}_power2": course**2,
        f"{name}_derivative1_power2": change**2,
    }


def signal_columns(
    signal: NDArray, inside: Mapping[str, NDArray], masks: Mapping[str, NoiseMask], runs: NDArray
) -> dict[str, NDArray]:
    """Mean of the brain and of each tissue with enough voxels, and their expansions."""
    means = {"global_signal": signal.mean(axis=0, dtype=float)}
    for name, voxels in inside.items():
        known = masks[name].enough
        blank = np.full(signal.shape[1], np.nan)
        means[MEAN_NAMES[name]] = signal[voxels].mean(axis=0, dtype=float) if known else blank
    columns: dict[str, NDArray] = {}
    for name in SIGNALS:
        columns |= expansions(name, means[name], runs)
    return columns


def _tissue_confounds(
    signal: NDArray, masks: Mapping[str, NoiseMask], brain: NDArray, runs: NDArray, tr: float
) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    """Columns of means and components, and the variance that the components explain."""
    inside = {name: found.voxels[brain] for name, found in masks.items()}
    columns = signal_columns(signal, inside, masks, runs)
    explained = {}
    for name, mask in masks.items():
        parts = _components(signal[inside[name]], mask, runs, tr)
        numbered = enumerate(parts.series.T)
        columns |= {f"{SET_NAMES[name]}_{k:02d}": course for k, course in numbered}
        explained[name] = parts.explained
    return columns, explained


def _components(signal: NDArray, mask: NoiseMask, runs: NDArray, tr: float) -> Components:
    """Components of one tissue; NaN where its mask is too small."""
    if mask.enough:
        return components(signal, runs, tr, MAX_COMPONENTS)
    blank = np.full((signal.shape[1], MAX_COMPONENTS), np.nan)
    return Components(blank, blank[: len(np.unique(runs))])


def _summary(columns: Mapping[str, NDArray], ratio: NDArray) -> dict[str, float]:
    """Numbers of the whole series."""
    fd = columns["framewise_displacement"]
    return {
        "fd_mean": _known(np.mean, fd),
        "fd_max": _known(np.max, fd),
        "rmsd_mean": _known(np.mean, columns["rmsd"]),
        "std_dvars_mean": _known(np.mean, columns["std_dvars"]),
        "tsnr_gm": _known(np.median, ratio),
        "outliers": float(columns["motion_outlier"].sum()),
    }


def _known(summary, values: NDArray) -> float:  # type: ignore[no-untyped-def]
    """A summary of the values that are known; NaN if none is."""
    known = values[np.isfinite(values)]
    return float(summary(known)) if len(known) else float("nan")


def regressors(table: pd.DataFrame, preset: Preset) -> dict[str, NDArray]:
    """Columns that a preset removes, by part, (n, k) each; unknown changes count as none.

    Parameters
    ----------
    table : DataFrame
        Of `find_confounds`.
    preset : Preset
        What to remove; its trend and band are made by `denoise`.
    """
    parts = {
        "motion": _expanded(MOTION, preset.motion // 6),
        "compcor": [
            f"{SET_NAMES[tissue]}_{k:02d}"
            for tissue, count in (("wm", preset.wm), ("csf", preset.csf))
            for k in range(count)
        ],
        "signals": [
            *_expanded(("global_signal",), preset.global_signal),
            *_expanded(("csf", "white_matter"), preset.wm_csf),
        ],
    }
    found = {}
    for part, names in parts.items():
        values = table[names].to_numpy(float)
        change = np.array(["_derivative1" in name for name in names], bool)
        found[part] = np.where(np.isnan(values) & change, 0.0, values)
    return found


def _expanded(names: tuple[str, ...], terms: int) -> list[str]:
    """Names of the columns of 0, 1, 2 or 4 terms per name."""
    ends = ("", "_derivative1", "_power2", "_derivative1_power2")[:terms]
    return [name + end for end in ends for name in names]


def unavailable(
    preset: Preset, parts: Mapping[str, NDArray], voxels: Mapping[str, int | None]
) -> str | None:
    """Why the confounds that a preset needs do not exist; None if they do.

    Parameters
    ----------
    preset : Preset
        What to remove.
    parts : mapping of str to (n, k) array
        Of `regressors`.
    voxels : mapping of str to int or None
        Size of the masks ``wm`` and ``csf``.
    """
    for tissue, words in TISSUE_WORDS.items():
        size = voxels.get(tissue)
        needed = getattr(preset, tissue) or preset.wm_csf
        if needed and size is not None and size < MIN_VOXELS:
            return (
                f"preset {preset.name} needs the signal of {words}, but only {size} voxels hold "
                f"nothing else, fewer than {MIN_VOXELS}"
            )
    if gaps := [name for name, values in parts.items() if np.isnan(values).any()]:
        return (
            f"preset {preset.name} needs confounds of {' and '.join(gaps)} that are unknown: "
            "the series is too short for so many, or too few voxels hold one tissue alone"
        )
    return None


def describe_columns(
    table: pd.DataFrame, fd_limit: float, dvars_limit: float
) -> dict[str, dict[str, str]]:
    """Meaning and unit of each column, for the JSON beside the table."""
    meanings = {
        "framewise_displacement": ("Power's framewise displacement, rotations on 50 mm", "mm"),
        "rmsd": ("Jenkinson's root-mean-square displacement of a sphere of 80 mm", "mm"),
        "dvars": ("Root mean square change since the volume before; brain median 1000", "1"),
        "std_dvars": ("DVARS relative to what its voxels' noise would give", "1"),
        "motion_outlier": (
            f"1 above {fd_limit:g} mm framewise displacement or {dvars_limit:g} std_dvars",
            "1",
        ),
        "run": ("Number of the run, from 0", "1"),
        "global_signal": ("Mean of the brain", "arbitrary"),
        "csf": ("Mean of voxels of ventricles alone", "arbitrary"),
        "white_matter": ("Mean of voxels of white matter alone", "arbitrary"),
    }
    for axis in "xyz":
        place = f"world axis {axis} (RAS+), from the reference volume"
        meanings[f"trans_{axis}"] = (f"Translation of the brain's centre along {place}", "mm")
        meanings[f"rot_{axis}"] = (f"Rotation vector about {place}", "rad")
    return {name: _described(str(name), meanings) for name in table.columns}


def _described(name: str, meanings: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    for tissue, start in SET_NAMES.items():
        if name.startswith(start):
            words = TISSUE_WORDS[tissue]
            return {"Description": f"aCompCor, component of {words}", "Units": "1"}
    stem, _, ending = name.partition("_derivative1")
    squared = name.endswith("_power2")
    words, unit = meanings[stem.removesuffix("_power2")]
    change = "; change since the volume before" if ending or name.endswith("1") else ""
    return {
        "Description": words + change + ("; squared" if squared else ""),
        "Units": f"{unit}2" if squared and unit != "1" else unit,
    }
