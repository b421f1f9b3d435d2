"""Files of motion and distortion correction: from the raw series to the corrected one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alsflow.interfaces.anat import write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.dwi_prep import read_gradients, read_runs, write_gradients
from alsflow.interfaces.images import load, save
from alsflow.interfaces.volumes import write_table
from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.dwi.estimate import MotionEstimate, no_motion
from alsflow.nodes.dwi.gradients import B0_MAX, fsl_bvecs
from alsflow.nodes.dwi.measures import temporal_snr
from alsflow.nodes.dwi.motion import estimate_motion
from alsflow.nodes.dwi.outliers import replace_outliers
from alsflow.nodes.dwi.resample import resample_series, rotated_gradients
from alsflow.nodes.epi.motion_metrics import framewise_displacement, rms_displacement


def write_motion(estimate: MotionEstimate, path: Path) -> str:
    """Write what the estimation found, every number in full."""
    content = {
        "head_to_volume": estimate.head_to_volume.tolist(),
        "eddy": estimate.eddy.tolist(),
        "outliers": estimate.outliers.astype(int).tolist(),
        "loss": [[None if np.isnan(x) else float(x) for x in row] for row in estimate.loss],
        "gain": estimate.gain.tolist(),
        "converged": estimate.converged,
        "steps": len(estimate.steps),
        "last_update": estimate.last_update,
        "warnings": list(estimate.warnings),
    }
    return write_json(content, path)


def read_motion(path: str | Path) -> MotionEstimate:
    """Read what `write_motion` wrote, without the record of the steps."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    loss = [[np.nan if x is None else x for x in row] for row in content["loss"]]
    eddy = np.array(content["eddy"], float).reshape(len(content["eddy"]), -1)
    return MotionEstimate(
        np.array(content["head_to_volume"], float),
        eddy,
        (),
        bool(content["converged"]),
        np.array(content["outliers"], bool),
        np.array(loss, float),
        np.array(content["gain"], float),
        tuple(content["warnings"]),
    )


class _SeriesInputSpec(CodedInputSpec):
    dwi_file = File(exists=True, mandatory=True, desc="diffusion series, RAS+")
    gradients_file = File(exists=True, mandatory=True, desc="its weighting, world coordinates")
    mask_file = File(exists=True, mandatory=True, desc="brain, grid of dwi_file")
    shift_file = File(exists=True, desc="susceptibility shift, mm, grid of dwi_file")
    axis = traits.Range(-1, 2, value=-1, usedefault=True,
                        desc="voxel axis of the phase encoding; -1 unknown")  # fmt: skip
    polarities = traits.List(traits.Enum(1, -1), desc="of each run, relative to the first")


def _encoding(inputs) -> PhaseEncoding | None:
    """Phase encoding of the first run; its sign lies in the polarities."""
    return None if inputs.axis < 0 else PhaseEncoding(inputs.axis, 1)


def _polarity(inputs, runs: NDArray) -> NDArray:
    given = inputs.polarities if isdefined(inputs.polarities) else []
    return np.array(given or [1] * (int(runs.max()) + 1), float)[runs]


class _EstimateMotionInputSpec(_SeriesInputSpec):
    eddy = traits.Enum("linear", "quadratic", "none", usedefault=True, desc="displacement")


class _EstimateMotionOutputSpec(TraitedSpec):
    motion_file = File(exists=True, desc="JSON: pose of every volume, outlier slices, steps")


class EstimateMotion(CodedInterface):
    """Find motion and eddy currents of a diffusion series; see `nodes.dwi.motion`."""

    input_spec = _EstimateMotionInputSpec
    output_spec = _EstimateMotionOutputSpec
    _code = (estimate_motion,)

    def _run_interface(self, runtime):
        signal, image = load(self.inputs.dwi_file)
        runs = read_runs(self.inputs.gradients_file)
        shift = self.inputs.shift_file
        estimate = estimate_motion(
            signal,
            image.affine,
            read_gradients(self.inputs.gradients_file),
            _encoding(self.inputs),
            load(self.inputs.mask_file)[0] > 0,
            eddy=self.inputs.eddy,
            series=runs,
            polarity=_polarity(self.inputs, runs),
            shift=load(shift)[0] if isdefined(shift) else None,
        )
        path = Path(runtime.cwd) / "motion.json"
        self._results["motion_file"] = write_motion(estimate, path)
        return runtime


class _CorrectSeriesInputSpec(_SeriesInputSpec):
    motion_file = File(exists=True, desc="as EstimateMotion wrote it; none: no motion is undone")
    drift_file = File(exists=True, desc="JSON: drift of each volume, where it was corrected")
    replace = traits.Bool(True, usedefault=True, desc="replace slices that lost signal")


class _CorrectSeriesOutputSpec(TraitedSpec):
    dwi_file = File(exists=True, desc="corrected series")
    gradients_file = File(exists=True, desc="its weighting as the head saw it")
    bval_file = File(exists=True, desc="b-values, FSL")
    bvec_file = File(exists=True, desc="b-vectors, FSL")
    seen_file = File(exists=True, desc="voxels inside the field of view of every volume")
    confounds_file = File(exists=True, desc="table: motion, displacement, outliers, drift")
    info_file = File(exists=True, desc="JSON: numbers of quality, warnings")


class CorrectSeries(CodedInterface):
    """Undo motion, eddy currents and distortion in one interpolation."""

    input_spec = _CorrectSeriesInputSpec
    output_spec = _CorrectSeriesOutputSpec
    _code = (resample_series, rotated_gradients, replace_outliers, framewise_displacement,
             temporal_snr)  # fmt: skip

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        signal, image = load(self.inputs.dwi_file)
        gradients = read_gradients(self.inputs.gradients_file)
        runs = read_runs(self.inputs.gradients_file)
        motion, shift = self.inputs.motion_file, self.inputs.shift_file
        estimate = read_motion(motion) if isdefined(motion) else no_motion(signal.shape)
        encoding, polarity = _encoding(self.inputs), _polarity(self.inputs, runs)
        field = load(shift)[0] if isdefined(shift) else None
        brain = load(self.inputs.mask_file)[0] > 0
        if self.inputs.replace:
            signal = replace_outliers(
                signal, image.affine, gradients, encoding, brain, estimate, polarity
            )
        moved = resample_series(signal, image.affine, estimate, encoding, field, polarity)
        turned = rotated_gradients(gradients, estimate)
        confounds = confounds_table(estimate, turned.bvals, runs, brain, image.affine)
        if isdefined(self.inputs.drift_file):
            told = json.loads(Path(self.inputs.drift_file).read_text(encoding="utf-8"))
            confounds["drift"] = told.get("drift", np.nan)
        self._results["dwi_file"] = save(moved.signal, image.affine, folder / "dwi.nii.gz")
        self._results["seen_file"] = save(moved.seen, image.affine, folder / "seen.nii.gz")
        self._results["gradients_file"] = write_gradients(turned, folder / "gradients.tsv", runs)
        self._results["bval_file"] = _write_rows([turned.bvals], folder / "dwi.bval", "%g")
        bvecs = fsl_bvecs(turned.directions, image.affine)
        self._results["bvec_file"] = _write_rows(bvecs, folder / "dwi.bvec", "%.8f")
        self._results["confounds_file"] = write_table(confounds, folder / "confounds.tsv")
        info = _summary(estimate, confounds, isdefined(motion), self.inputs.replace)
        info |= _done(estimate, isdefined(motion), self.inputs)
        snr = temporal_snr(moved.signal[..., turned.b0], brain & moved.seen)
        info["b0_snr"] = snr if np.isfinite(snr) else None
        self._results["info_file"] = write_json(info, folder / "correct.json")
        return runtime


def _write_rows(rows, path: Path, style: str) -> str:
    text = "\n".join(" ".join(style % value for value in row) for row in rows)
    path.write_text(text + "\n", encoding="ascii")
    return str(path)


def confounds_table(
    estimate: MotionEstimate, bvals: NDArray, runs: NDArray, brain: NDArray, affine: NDArray
) -> pd.DataFrame:
    """Motion of every volume: translations mm, rotations degrees, displacements mm."""
    centre = affine[:3, :3] @ np.argwhere(brain).mean(axis=0) + affine[:3, 3]
    matrices = estimate.head_to_volume
    shifts = matrices[:, :3, :3] @ centre + matrices[:, :3, 3] - centre
    turns = Rotation.from_matrix(matrices[:, :3, :3]).as_rotvec(degrees=True)
    table = pd.DataFrame({"volume": np.arange(len(bvals)), "b": bvals, "run": runs})
    table["b0"] = (bvals <= B0_MAX).astype(int)
    for name, motion in (("trans", shifts), ("rot", turns)):
        for k, axis in enumerate("xyz"):
            table[f"{name}_{axis}"] = np.round(motion[:, k], 6) + 0.0  # no minus zeros
    table["framewise_displacement"] = framewise_displacement(matrices, centre, runs)
    table["rmsd"] = rms_displacement(matrices, centre, runs)
    table["outlier_slices"] = estimate.outliers.sum(axis=1)
    return table


def _done(estimate: MotionEstimate, moved: bool, inputs) -> dict[str, dict]:
    """Whether eddy currents were corrected and slices looked at, and if not, why."""
    off = "" if moved else "the correction of head motion, which finds them, is switched off"
    eddy = bool(estimate.eddy.size and np.any(estimate.eddy))
    unknown = "the phase-encoding direction is unknown" if inputs.axis < 0 else ""
    slices = bool(moved and inputs.replace)
    return {
        "eddy": {"done": eddy} | ({} if eddy else {"reason": off or unknown}),
        "replace_outliers": {"done": slices} | ({} if slices else {"reason": off}),
    }


def _summary(
    estimate: MotionEstimate, confounds: pd.DataFrame, moved: bool, replaced: bool
) -> dict:
    """Numbers of quality of the correction."""
    fd = confounds["framewise_displacement"]
    share = estimate.outlier_share
    drift = confounds["drift"].dropna() if "drift" in confounds else pd.Series(dtype=float)
    return {
        "motion_corrected": moved,
        "outliers_replaced": bool(replaced and estimate.outliers.any()),
        "fd_mean": float(fd.mean()) if fd.notna().any() and moved else None,
        "fd_max": float(fd.max()) if fd.notna().any() and moved else None,
        "outlier_slices": int(estimate.outliers.sum()) if moved else None,
        "outlier_share": share if np.isfinite(share) else None,
        "drift_largest": float((drift - 1).abs().max()) if len(drift) else None,
        "motion_converged": estimate.converged if moved else None,
        "warnings": list(estimate.warnings),
    }
