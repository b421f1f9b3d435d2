"""Files of slice timing, head motion and distortion correction of a BOLD series."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alsflow.interfaces.anat import write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface, naming
from alsflow.interfaces.func_prep import read_load_info
from alsflow.interfaces.images import load, save, write_image
from alsflow.nodes.epi.motion_metrics import framewise_displacement, rms_displacement
from alsflow.nodes.func.realign import Realignment, realign
from alsflow.nodes.func.resample import correct_bold
from alsflow.nodes.func.slice_timing import correct_slice_timing

SERIES = "the functional series"  # subject of sentences on what came of several runs
METHOD = "rigid; Gauss-Newton on one volume, then twice on the weighted mean of all; Tukey weights"


def read_poses(path: str | Path) -> NDArray:
    """Where the head lies in each volume, (n, 4, 4) world mm, as `RealignBold` wrote it."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    return np.array(content["head_to_volume"], float)


def _save_series(signal: NDArray, image: nib.Nifti1Image, path: Path) -> str:
    """Write a series with the header, and so the repetition time, of the one it was made from."""
    header = image.header.copy()
    header.set_data_dtype(np.float32)
    header.set_slope_inter(1, 0)
    return write_image(nib.Nifti1Image(signal, image.affine, header), path)


class _RealignBoldInputSpec(CodedInputSpec):
    bold_file = File(exists=True, mandatory=True, desc="series as loaded, RAS+")
    mask_file = File(exists=True, mandatory=True, desc="brain, roughly, grid of bold_file")
    load_info_file = File(exists=True, mandatory=True, desc="JSON: volumes of each run, TR")


class _RealignBoldOutputSpec(TraitedSpec):
    motion_file = File(exists=True, desc="JSON: pose of every volume, reference")
    info_file = File(exists=True, desc="JSON: how far the head moved, method, notes")


class RealignBold(CodedInterface):
    """Find the motion of the head; see `nodes.func.realign`."""

    input_spec = _RealignBoldInputSpec
    output_spec = _RealignBoldOutputSpec
    _code = (realign, framewise_displacement)

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        signal, image = load(self.inputs.bold_file)
        mask = load(self.inputs.mask_file)[0] > 0
        runs, _ = read_load_info(self.inputs.load_info_file)
        with naming(SERIES):
            found = realign(signal, image.affine, mask, runs)
        self._results["motion_file"] = _write_motion(found, folder / "motion.json")
        centre = image.affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + image.affine[:3, 3]
        info = _moved(found, centre, runs)
        self._results["info_file"] = write_json(info, folder / "realign.json")
        return runtime


def _write_motion(found: Realignment, path: Path) -> str:
    content = {
        "head_to_volume": found.head_to_volume.tolist(),
        "reference": found.reference,
        "misfit": [None if np.isnan(x) else float(x) for x in found.misfit],
        "gain": found.gain.tolist(),
        "lost": np.flatnonzero(found.lost).tolist(),
        "notes": found.notes,
    }
    return write_json(content, path)


def _moved(found: Realignment, centre: NDArray, runs: NDArray) -> dict:
    """How far the head moved: mm, degrees; from volume to volume and from the reference."""
    poses = found.head_to_volume
    fd = framewise_displacement(poses, centre, runs)
    rmsd = rms_displacement(poses, centre, runs)
    shifts = poses[:, :3, :3] @ centre + poses[:, :3, 3] - centre
    turns = Rotation.from_matrix(poses[:, :3, :3]).magnitude()
    known = bool(np.isfinite(fd).any())
    return {
        "done": True,
        "method": METHOD,
        "reference": found.reference,
        "reference_run": int(runs[found.reference]),
        "fd_mean": float(np.nanmean(fd)) if known else None,
        "fd_max": float(np.nanmax(fd)) if known else None,
        "rmsd_mean": float(np.nanmean(rmsd)) if known else None,
        "translation_largest": float(np.linalg.norm(shifts, axis=1).max()),
        "rotation_largest": float(np.degrees(turns.max())),
        "lost": int(found.lost.sum()),
        "notes": found.notes,
    }


class _CorrectSliceTimingInputSpec(CodedInputSpec):
    bold_file = File(exists=True, mandatory=True, desc="series as loaded, RAS+")
    load_info_file = File(exists=True, mandatory=True, desc="JSON: volumes of each run, TR")
    slice_times = traits.List(
        traits.Float, mandatory=True, desc="s after the start of a volume, order of bold_file"
    )
    slice_axis = traits.Range(0, 2, value=2, usedefault=True, desc="voxel axis across the slices")
    reference_time = traits.Float(desc="s after the start of a volume; by default half the TR")


class _CorrectSliceTimingOutputSpec(TraitedSpec):
    bold_file = File(exists=True, desc="series whose slices show one moment")
    info_file = File(exists=True, desc="JSON: that moment, largest shift")


class CorrectSliceTiming(CodedInterface):
    """Bring all slices to one moment; see `nodes.func.slice_timing`."""

    input_spec = _CorrectSliceTimingInputSpec
    output_spec = _CorrectSliceTimingOutputSpec
    _code = (correct_slice_timing,)

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        signal, image = load(self.inputs.bold_file)
        runs, tr = read_load_info(self.inputs.load_info_file)
        times = np.array(self.inputs.slice_times, float)
        given = self.inputs.reference_time
        moment = float(given) if isdefined(given) else tr / 2
        with naming(SERIES):
            corrected = correct_slice_timing(
                signal, times, tr, self.inputs.slice_axis, runs, moment
            )
        self._results["bold_file"] = _save_series(corrected, image, folder / "bold.nii")
        info = {
            "done": True,
            "method": "Fourier phase shift, runs continued by reflection in their end points",
            "reference_time": moment,
            "largest_shift": float(np.abs(moment - times).max()),
        }
        self._results["info_file"] = write_json(info, folder / "slice_timing.json")
        return runtime


class _CorrectBoldInputSpec(CodedInputSpec):
    bold_file = File(exists=True, mandatory=True, desc="series, RAS+, as loaded or timed")
    motion_file = File(exists=True, mandatory=True, desc="JSON: pose of every volume")
    shift_file = File(exists=True, desc="susceptibility shift, mm, grid of bold_file")
    axis = traits.Range(-1, 2, value=-1, usedefault=True,
                        desc="voxel axis of the phase encoding; -1 unknown")  # fmt: skip


class _CorrectBoldOutputSpec(TraitedSpec):
    bold_file = File(exists=True, desc="corrected series on the grid of the reference volume")
    mean_file = File(exists=True, desc="its mean over time")
    seen_file = File(exists=True, desc="voxels inside the field of view of every volume")
    info_file = File(exists=True, desc="JSON: what was undone, share of voxels seen")


class CorrectBold(CodedInterface):
    """Undo motion and distortion in one interpolation; see `nodes.func.resample`."""

    input_spec = _CorrectBoldInputSpec
    output_spec = _CorrectBoldOutputSpec
    _code = (correct_bold,)

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        signal, image = load(self.inputs.bold_file)
        shift = self.inputs.shift_file
        field = load(shift)[0] if isdefined(shift) else None
        axis = None if self.inputs.axis < 0 else self.inputs.axis
        poses = read_poses(self.inputs.motion_file)
        with naming(SERIES):
            moved = correct_bold(signal, image.affine, poses, field, axis)
        mean = moved.signal.mean(axis=3, dtype=float)
        self._results["bold_file"] = _save_series(moved.signal, image, folder / "bold.nii")
        self._results["mean_file"] = save(mean, image.affine, folder / "mean.nii.gz")
        self._results["seen_file"] = save(moved.seen, image.affine, folder / "seen.nii.gz")
        info = {
            "done": True,
            "method": "one cubic B-spline interpolation",
            "susceptibility": field is not None,
            "seen_share": float(moved.seen.mean()),
        }
        self._results["info_file"] = write_json(info, folder / "correct.json")
        return runtime
