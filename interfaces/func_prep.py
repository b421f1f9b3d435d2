"""Files of a functional series: from one or several runs to one series and its brain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, InputMultiObject, TraitedSpec, traits
from numpy.typing import NDArray

from alsflow.interfaces.anat import read_volume, write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface, naming
from alsflow.interfaces.images import load, save
from alsflow.nodes.epi.series import check_series_grid
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.brain_mask import find_brain, mean_volume
from alsflow.nodes.func.series import check_length, conform_bold
from alsflow.nodes.func.steady_state import count_initial
from alsflow.nodes.geometry import same_grid, voxel_sizes, voxel_volume


def read_load_info(path: str | Path) -> tuple[NDArray, float]:
    """Run of each volume, (n,) from 0, and the repetition time, s, of a joined series."""
    info = json.loads(Path(path).read_text(encoding="utf-8"))
    return np.repeat(np.arange(len(info["volumes"])), info["volumes"]), float(info["tr"])


class _LoadBoldInputSpec(CodedInputSpec):
    in_files = InputMultiObject(File(exists=True), mandatory=True, desc="runs, any orientation")
    tr = traits.Float(mandatory=True, desc="time between volumes, s")
    dummy_scans = traits.Either(
        traits.Enum("auto"), traits.Range(low=0), default="auto", usedefault=True,
        desc="initial volumes of each run to leave out; auto finds those before the steady state",
    )  # fmt: skip


class _LoadBoldOutputSpec(TraitedSpec):
    bold_file = File(exists=True, desc="all volumes in RAS+ order, one run after the other")
    info_file = File(exists=True, desc="JSON: runs, volumes kept and dropped of each, TR, notes")


class LoadBold(CodedInterface):
    """Check the runs of one functional series and join them; see `nodes.func.series`."""

    input_spec = _LoadBoldInputSpec
    output_spec = _LoadBoldOutputSpec
    _code = (conform_bold, check_series_grid, count_initial)

    def _run_interface(self, runtime):
        paths = [Path(path) for path in self.inputs.in_files]
        series: list[NDArray] = []
        affines: list[NDArray] = []
        dropped: list[int] = []
        for path in paths:
            run, affine, drop = load_run(path, self.inputs.dummy_scans)
            if series and not same_grid(series[0].shape, affines[0], run.shape, affine):
                raise BadInputError(
                    f"{paths[0].name} and {path.name} do not lie on the same voxel grid and "
                    "cannot be joined; choose one with --bids-filter-file"
                )
            series.append(run)
            affines.append(affine)
            dropped.append(drop)
        volumes = [run.shape[3] for run in series]
        joined = series[0] if len(series) == 1 else np.concatenate(series, axis=3)
        del series
        folder, tr = Path(runtime.cwd), float(self.inputs.tr)
        self._results["bold_file"] = save(joined, affines[0], folder / "bold.nii", tr=tr)
        info = {
            "runs": [path.name for path in paths],
            "volumes": volumes,
            "dropped": dropped,
            "tr": tr,
            "notes": [],
        }
        self._results["info_file"] = write_json(info, folder / "load.json")
        return runtime


def load_run(path: Path, dummy_scans: int | str) -> tuple[NDArray, NDArray, int]:
    """Series in RAS+ without its initial volumes, its affine, and how many were left out."""
    data, stored = read_volume(path, narrow=True)
    with naming(path.name):
        check_series_grid(data.shape, stored)
        check_length(data.shape[3], 0)
        drop = count_initial(data) if dummy_scans == "auto" else int(dummy_scans)
        series, affine = conform_bold(data, stored, drop)
    return series, affine, drop


class _MaskBoldInputSpec(CodedInputSpec):
    bold_file = File(exists=True, mandatory=True, desc="functional series, RAS+")


class _MaskBoldOutputSpec(TraitedSpec):
    mask_file = File(exists=True, desc="brain, roughly, grid of bold_file")
    mean_file = File(exists=True, desc="mean volume")
    even_file = File(exists=True, desc="mean volume without coil shading")
    info_file = File(exists=True, desc="JSON: volume of the mask")


class MaskBold(CodedInterface):
    """Find the brain in a functional series; see `nodes.func.brain_mask`."""

    input_spec = _MaskBoldInputSpec
    output_spec = _MaskBoldOutputSpec
    _code = (find_brain,)

    def _run_interface(self, runtime):
        signal, image = load(self.inputs.bold_file)
        mean = mean_volume(signal)
        with naming("the functional series"):
            brain = find_brain(mean, voxel_sizes(image.affine))
        folder = Path(runtime.cwd)
        for name, data in (("mask", brain.mask), ("mean", mean), ("even", brain.even)):
            path = folder / f"{name}.nii.gz"
            self._results[f"{name}_file"] = save(data, image.affine, path)
        volume = float(brain.mask.sum()) * voxel_volume(image.affine)
        info = {"method": "mean volume, N4", "volume_ml": volume}
        self._results["info_file"] = write_json(info, folder / "mask.json")
        return runtime
