"""Files of a diffusion series: from one or several runs to maps of the tensor."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
import pandas as pd
from nipype.interfaces.base import File, InputMultiObject, TraitedSpec, isdefined, traits
from numpy.typing import NDArray

from alsflow.interfaces.anat import read_volume, write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface, naming
from alsflow.interfaces.images import load, save
from alsflow.interfaces.volumes import write_table
from alsflow.nodes.dwi import denoise, drift
from alsflow.nodes.dwi.brain_mask import find_brain
from alsflow.nodes.dwi.bvec_check import check_bvecs
from alsflow.nodes.dwi.denoise import denoise_series
from alsflow.nodes.dwi.drift import correct_drift
from alsflow.nodes.dwi.gibbs import partial_fourier_note, unring
from alsflow.nodes.dwi.gradients import (
    Gradients,
    Table,
    check_gradients,
    protocols_agree,
    shells,
    world_directions,
)
from alsflow.nodes.dwi.tensor import fit_tensor
from alsflow.nodes.epi.series import conform_series
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import same_grid, voxel_sizes, voxel_volume

SERIES = "the diffusion series"  # subject of sentences on what came of several runs
MAPS = {
    "fa": "fa",
    "md": "md",
    "ad": "ad",
    "rd": "rd",
    "s0": "s0",
    "direction": "direction",
    "tensor": "tensor",
    "residual": "residual",
    "negative_eigenvalues": "negative",
}


def read_numbers(path: str | Path) -> NDArray:
    """Numbers of a text file in rows and columns; what is no table of numbers is refused."""
    try:
        return np.loadtxt(path, ndmin=2)
    except (ValueError, UnicodeDecodeError) as error:
        raise BadInputError(
            f"{Path(path).name} is not a table of numbers ({error}); export it again"
        ) from error


def write_gradients(gradients: Gradients, path: Path, runs: NDArray | None = None) -> str:
    """Write b (s/mm²), x, y, z (unit vector, RAS+ world) and run of each volume as a table."""
    table = pd.DataFrame(gradients.directions, columns=["x", "y", "z"])
    table.insert(0, "b", gradients.bvals)
    table["run"] = 0 if runs is None else runs
    # full precision: write_table rounds to six digits
    for column in ("b", "x", "y", "z"):
        table[column] = [repr(float(value)) for value in table[column]]
    return write_table(table, path)


def read_gradients(path: str | Path) -> Gradients:
    """Weighting of a series from the table of `write_gradients`."""
    table = pd.read_csv(path, sep="\t")
    return Gradients(table["b"].to_numpy(float), table[["x", "y", "z"]].to_numpy(float))


def read_runs(path: str | Path) -> NDArray:
    """Run (n,) each volume was acquired in, from the table of `write_gradients`, from 0."""
    return pd.read_csv(path, sep="\t")["run"].to_numpy(int)


class _LoadDwiInputSpec(CodedInputSpec):
    in_files = InputMultiObject(File(exists=True), mandatory=True, desc="runs, any orientation")
    bval_files = InputMultiObject(File(exists=True), mandatory=True, desc="b-values of each run")
    bvec_files = InputMultiObject(File(exists=True), mandatory=True, desc="b-vectors of each run")


class _LoadDwiOutputSpec(TraitedSpec):
    dwi_file = File(exists=True, desc="all volumes in RAS+ order, one run after the other")
    gradients_file = File(exists=True, desc="b, unit vector in the world and run of each volume")
    info_file = File(exists=True, desc="JSON: runs, shells and what was mended")


class LoadDwi(CodedInterface):
    """Check the runs of one diffusion series and join them; see `nodes.epi.series`."""

    input_spec = _LoadDwiInputSpec
    output_spec = _LoadDwiOutputSpec
    _code = (conform_series, check_gradients, protocols_agree)

    def _run_interface(self, runtime):
        series, affines, weightings, notes = [], [], [], []
        paths = zip(
            self.inputs.in_files, self.inputs.bval_files, self.inputs.bvec_files, strict=True
        )
        several = len(self.inputs.in_files) > 1
        for in_file, bval_file, bvec_file in paths:
            signal, affine, table, world = load_run(in_file, bval_file, bvec_file, not several)
            series.append(signal)
            affines.append(affine)
            weightings.append(world)
            notes += [f"{Path(in_file).name} {note}" for note in table.notes]
        names = [Path(path).name for path in self.inputs.in_files]
        check_join(names, [s.shape for s in series], affines, weightings)
        joined = Gradients(
            np.concatenate([w.bvals for w in weightings]),
            np.concatenate([w.directions for w in weightings]),
        )
        runs = np.repeat(np.arange(len(series)), [len(w) for w in weightings])
        check_joined(names, joined)
        folder = Path(runtime.cwd)
        signal = series[0] if not several else np.concatenate(series, axis=3)
        self._results["dwi_file"] = save(signal, affines[0], folder / "dwi.nii")
        path = write_gradients(joined, folder / "gradients.tsv", runs)
        self._results["gradients_file"] = path
        info = {
            "runs": names,
            "volumes": [len(w) for w in weightings],
            "shells": [{"b": s.b, "volumes": len(s.volumes)} for s in shells(joined.bvals)],
            "notes": notes,
        }
        self._results["info_file"] = write_json(info, folder / "load.json")
        return runtime


def load_run(
    in_file: str, bval_file: str, bvec_file: str, weighted: bool
) -> tuple[NDArray, NDArray, Table, Gradients]:
    """Series in RAS+, its affine, its table as stored and its weighting in the world."""
    name = Path(in_file).name
    data, stored = read_volume(in_file)
    bvals, bvecs = read_numbers(bval_file), read_numbers(bvec_file)
    with naming(name):
        signal, affine = conform_series(data, stored)
        table = check_gradients(bvals, bvecs, signal.shape[3], weighted=weighted)
    world = Gradients(table.bvals, world_directions(table.bvecs, stored))
    return signal, affine, table, world


def check_join(
    names: list[str],
    shapes: list[tuple[int, ...]],
    affines: list[NDArray],
    weightings: list[Gradients],
) -> None:
    """Refuse runs that do not belong into one series."""
    for k in range(1, len(names)):
        if not same_grid(shapes[0], affines[0], shapes[k], affines[k]):
            raise BadInputError(
                f"{names[0]} and {names[k]} do not lie on the same voxel grid and cannot be "
                "joined; give runs of one protocol, or leave one of them out"
            )
        agree, why = protocols_agree(weightings[0], weightings[k])
        if not agree:
            raise BadInputError(
                f"{names[0]} and {names[k]} cannot be joined: {why}; leave one of them out"
            )


def check_joined(names: list[str], joined: Gradients) -> None:
    """Refuse a series that no tensor can be fitted to although each run is in order."""
    with naming(" with ".join(names)):
        check_gradients(joined.bvals, joined.directions.T, len(joined))


class _MaskDwiInputSpec(CodedInputSpec):
    dwi_file = File(exists=True, mandatory=True, desc="diffusion series, RAS+")
    gradients_file = File(exists=True, mandatory=True, desc="its weighting")


class _MaskDwiOutputSpec(TraitedSpec):
    mask_file = File(exists=True, desc="brain, grid of dwi_file")
    b0_file = File(exists=True, desc="mean b=0 volume without slow non-uniformity")
    field_file = File(exists=True, desc="field that was divided out of it, median 1 in the brain")
    info_file = File(exists=True, desc="JSON: volume of the mask")


class MaskDwi(CodedInterface):
    """Find the brain in a diffusion series; see `nodes.dwi.brain_mask`."""

    input_spec = _MaskDwiInputSpec
    output_spec = _MaskDwiOutputSpec
    _code = (find_brain,)

    def _run_interface(self, runtime):
        signal, image = load(self.inputs.dwi_file)
        gradients = read_gradients(self.inputs.gradients_file)
        with naming(SERIES):
            brain = find_brain(signal, gradients, voxel_sizes(image.affine))
        folder = Path(runtime.cwd)
        for name in ("mask", "b0", "field"):
            path = folder / f"{name}.nii.gz"
            self._results[f"{name}_file"] = save(getattr(brain, name), image.affine, path)
        volume = float(brain.mask.sum()) * voxel_volume(image.affine)
        info = {"method": "b=0 and weighted volumes, N4", "volume_ml": volume}
        self._results["info_file"] = write_json(info, folder / "mask.json")
        return runtime


class _CheckGradientsInputSpec(CodedInputSpec):
    dwi_file = File(exists=True, mandatory=True, desc="diffusion series, RAS+")
    gradients_file = File(exists=True, mandatory=True, desc="its weighting, world coordinates")
    mask_file = File(exists=True, mandatory=True, desc="brain mask, grid of dwi_file")
    in_file = File(exists=True, desc="series as stored, whose bvec file the mend is for")
    force = traits.Bool(False, usedefault=True, desc="go on with a table that seems wrong")


class _CheckGradientsOutputSpec(TraitedSpec):
    gradients_file = File(exists=True, desc="the same weighting, once it has passed")
    info_file = File(exists=True, desc="JSON: verdict, coherence of fibres, mend")


class CheckGradients(CodedInterface):
    """Check signs and axes of the b-vectors against the fibres; see `nodes.dwi.bvec_check`."""

    input_spec = _CheckGradientsInputSpec
    output_spec = _CheckGradientsOutputSpec
    _code = (check_bvecs,)

    def _run_interface(self, runtime):
        signal, image = load(self.inputs.dwi_file)
        mask = load(self.inputs.mask_file)[0] > 0
        gradients = read_gradients(self.inputs.gradients_file)
        path = self.inputs.in_file if isdefined(self.inputs.in_file) else self.inputs.dwi_file
        stored = np.asarray(cast(nib.Nifti1Image, nib.load(path)).affine)
        with naming(Path(path).name):
            check = check_bvecs(signal, image.affine, gradients, mask, stored)
        if check.verdict == "wrong" and not self.inputs.force:
            raise BadInputError(
                f"{Path(path).name}: {check.sentence}; or go on as it is with --force bvecs"
            )
        info = asdict(check) | {"matrix": check.matrix.tolist(), "forced": self.inputs.force}
        if check.verdict == "wrong":
            info["note"] = f"the gradient directions seem wrong (--force bvecs): {check.sentence}"
        self._results["gradients_file"] = self.inputs.gradients_file
        self._results["info_file"] = write_json(info, Path(runtime.cwd) / "bvec_check.json")
        return runtime


class _DenoiseDwiInputSpec(CodedInputSpec):
    dwi_file = File(exists=True, mandatory=True, desc="diffusion series as measured, RAS+")
    mask_file = File(exists=True, desc="brain mask; all of the image is denoised without it")
    impossible = traits.Enum(
        "refuse", "skip", usedefault=True, desc="what to do where it cannot be done"
    )


class _DenoiseDwiOutputSpec(TraitedSpec):
    dwi_file = File(exists=True, desc="denoised series")
    noise_file = File(exists=True, desc="standard deviation of the noise, NaN where unknown")
    info_file = File(exists=True, desc="JSON: whether it was done, or why not; patch; noise")


class DenoiseDwi(CodedInterface):
    """Remove noise by its spectrum in small patches; see `nodes.dwi.denoise`."""

    input_spec = _DenoiseDwiInputSpec
    output_spec = _DenoiseDwiOutputSpec
    _code = (denoise_series,)

    def _run_interface(self, runtime):
        signal, image = load(self.inputs.dwi_file)
        masked = isdefined(self.inputs.mask_file)
        mask = load(self.inputs.mask_file)[0] > 0 if masked else None
        folder = Path(runtime.cwd)
        reason = denoise.why_not(signal.shape)
        if reason and self.inputs.impossible == "skip":
            noise = np.full(signal.shape[:3], np.nan, np.float32)
            self._results["dwi_file"] = self.inputs.dwi_file
            info = {"done": False, "reason": reason}
        else:
            with naming(SERIES):
                clean = denoise_series(signal, mask)
            noise = clean.noise
            path = folder / "dwi_denoised.nii"
            self._results["dwi_file"] = save(clean.signal, image.affine, path)
            info = {
                "done": True,
                "method": "Marchenko-Pastur PCA",
                "patch": list(clean.patch),
                "median_noise": float(np.nanmedian(noise)),
                "median_components_kept": float(np.nanmedian(clean.rank)),
            }
        self._results["noise_file"] = save(noise, image.affine, folder / "noise.nii.gz")
        self._results["info_file"] = write_json(info, folder / "denoise.json")
        return runtime


class _UnringDwiInputSpec(CodedInputSpec):
    dwi_file = File(exists=True, mandatory=True, desc="diffusion series on its acquired grid")
    mask_file = File(exists=True, desc="brain mask; lines that miss it are left as they are")
    slice_axis = traits.Range(low=0, high=2, value=2, usedefault=True, desc="across the slices")
    partial_fourier = traits.Float(desc="share of k-space that was acquired")


class _UnringDwiOutputSpec(TraitedSpec):
    dwi_file = File(exists=True, desc="series without ringing in its slices")
    info_file = File(exists=True, desc="JSON: method and warning")


class UnringDwi(CodedInterface):
    """Remove Gibbs ringing in the slices; see `nodes.dwi.gibbs`."""

    input_spec = _UnringDwiInputSpec
    output_spec = _UnringDwiOutputSpec
    _code = (unring, partial_fourier_note)

    def _run_interface(self, runtime):
        signal, image = load(self.inputs.dwi_file)
        masked = isdefined(self.inputs.mask_file)
        mask = load(self.inputs.mask_file)[0] > 0 if masked else None
        with naming(SERIES):
            clean = unring(signal, self.inputs.slice_axis, mask)
        known = isdefined(self.inputs.partial_fourier)
        folder = Path(runtime.cwd)
        info = {
            "done": True,
            "method": "local sub-voxel shifts",
            "slice_axis": self.inputs.slice_axis,
            "note": partial_fourier_note(self.inputs.partial_fourier if known else None),
        }
        self._results["dwi_file"] = save(clean, image.affine, folder / "dwi_unrung.nii")
        self._results["info_file"] = write_json(info, folder / "unring.json")
        return runtime


class _CorrectDriftInputSpec(CodedInputSpec):
    dwi_file = File(exists=True, mandatory=True, desc="diffusion series, RAS+")
    gradients_file = File(exists=True, mandatory=True, desc="its weighting and runs")
    mask_file = File(exists=True, mandatory=True, desc="brain mask, grid of dwi_file")
    degree = traits.Range(low=1, high=2, value=2, usedefault=True, desc="of the polynomial")
    impossible = traits.Enum(
        "refuse", "skip", usedefault=True, desc="what to do where it cannot be done"
    )


class _CorrectDriftOutputSpec(TraitedSpec):
    dwi_file = File(exists=True, desc="series without drift")
    info_file = File(exists=True, desc="JSON: signal of each volume relative to the first")


class CorrectDrift(CodedInterface):
    """Divide out the drift seen in the b=0 volumes; see `nodes.dwi.drift`."""

    input_spec = _CorrectDriftInputSpec
    output_spec = _CorrectDriftOutputSpec
    _code = (correct_drift,)

    def _run_interface(self, runtime):
        gradients = read_gradients(self.inputs.gradients_file)
        runs = read_runs(self.inputs.gradients_file)
        degree, folder = self.inputs.degree, Path(runtime.cwd)
        reason = drift.why_not(gradients.bvals, degree, runs)
        if reason and self.inputs.impossible == "skip":
            self._results["dwi_file"] = self.inputs.dwi_file
            info = {"done": False, "reason": f"{SERIES} {reason}"}
        else:
            signal, image = load(self.inputs.dwi_file)
            mask = load(self.inputs.mask_file)[0] > 0
            with naming(SERIES):
                even, found = correct_drift(signal, gradients.bvals, mask, degree, runs)
            path = folder / "dwi_even.nii"
            self._results["dwi_file"] = save(even, image.affine, path)
            info = {"done": True, "degree": degree, "drift": found.tolist()}
        self._results["info_file"] = write_json(info, folder / "drift.json")
        return runtime


class _FitTensorInputSpec(CodedInputSpec):
    dwi_file = File(exists=True, mandatory=True, desc="diffusion series, RAS+")
    gradients_file = File(exists=True, mandatory=True, desc="its weighting, world coordinates")
    mask_file = File(exists=True, mandatory=True, desc="brain mask, grid of dwi_file")
    noise_file = File(exists=True, desc="standard deviation of the noise, used by RESTORE")
    method = traits.Enum("WLS", "OLS", "RESTORE", usedefault=True, desc="of fitting")
    b_max = traits.Float(1500.0, usedefault=True, desc="highest b-value used, s/mm²")


class _FitTensorOutputSpec(TraitedSpec):
    fa_file = File(exists=True, desc="fractional anisotropy")
    md_file = File(exists=True, desc="mean diffusivity, mm²/s")
    ad_file = File(exists=True, desc="axial diffusivity, mm²/s")
    rd_file = File(exists=True, desc="radial diffusivity, mm²/s")
    s0_file = File(exists=True, desc="signal without weighting as fitted")
    direction_file = File(exists=True, desc="unit vector of fastest diffusion, world, 3 volumes")
    tensor_file = File(exists=True, desc="D11 D12 D13 D22 D23 D33, world, mm²/s, 6 volumes")
    residual_file = File(exists=True, desc="root mean square of the misfit, share of S0")
    negative_file = File(exists=True, desc="negative eigenvalues as fitted, 0 to 3")
    info_file = File(exists=True, desc="JSON: method, shells, voxels without a fit")


class FitTensor(CodedInterface):
    """Fit a tensor in each voxel of the brain; see `nodes.dwi.tensor`."""

    input_spec = _FitTensorInputSpec
    output_spec = _FitTensorOutputSpec
    _code = (fit_tensor,)

    def _run_interface(self, runtime):
        signal, image = load(self.inputs.dwi_file)
        mask = load(self.inputs.mask_file)[0] > 0
        gradients = read_gradients(self.inputs.gradients_file)
        noise = self.inputs.noise_file
        sigma = load(noise)[0] if isdefined(noise) else None
        method = self.inputs.method
        with naming(SERIES):
            maps = fit_tensor(signal, gradients, mask, method, sigma, self.inputs.b_max)
        folder = Path(runtime.cwd)
        for field, name in MAPS.items():
            path = folder / f"{name}.nii.gz"
            self._results[f"{name}_file"] = save(getattr(maps, field), image.affine, path)
        info = {
            "method": method,
            "volumes": maps.n_volumes,
            "b_used": list(maps.b_used),
            "voxels": int(mask.sum()),
            "voxels_without_fit": maps.n_missing,
            "voxels_with_negative_eigenvalues": int((maps.negative_eigenvalues > 0).sum()),
            "noise_map": bool(method == "RESTORE" and sigma is not None),
            "note": maps.note,
        }
        self._results["info_file"] = write_json(info, folder / "tensor.json")
        return runtime
