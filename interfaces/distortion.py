"""Files of the distortion correction: from pairs and field maps to displacements in mm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits
from numpy.typing import NDArray

from alsflow.interfaces.anat import read_volume, write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.images import save
from alsflow.nodes.distortion.gre import (
    field_from_map,
    field_from_phase,
    phase_to_radians,
    shift_from_hz,
    wrapped_difference,
)
from alsflow.nodes.distortion.pair import (
    PairSettings,
    describe,
    field_from_pair,
    readout_ratio,
)
from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.distortion.unwarp import describe_shift, on_parallel_grid, unwarp
from alsflow.nodes.errors import BadInputError

SEED = 0  # of the ties in unwrapping


def read_first(path: str | Path) -> tuple[NDArray, NDArray]:
    """First volume of an image in nearest RAS+ order, float32, and its affine."""
    data, affine = read_volume(path)
    first = data if data.ndim == 3 else data[..., 0]
    image = nib.as_closest_canonical(nib.Nifti1Image(np.float32(first), affine))
    return np.asarray(image.dataobj), np.asarray(image.affine)


class _FieldFromPairInputSpec(CodedInputSpec):
    plus_file = File(
        exists=True, mandatory=True, desc="b=0 image; the field is that of its polarity"
    )
    minus_file = File(exists=True, mandatory=True, desc="b=0 image of opposite phase encoding")
    axis = traits.Range(
        low=0, high=2, mandatory=True, desc="voxel axis of the phase encoding in RAS+ order"
    )
    plus_readout = traits.Float(desc="total readout time of plus_file, s")
    minus_readout = traits.Float(desc="total readout time of minus_file, s")
    movement = traits.Bool(True, usedefault=True, desc="fit the movement between the images")


class _FieldFromPairOutputSpec(TraitedSpec):
    shift_file = File(exists=True, desc="displacement along the axis, mm, grid of plus_file")
    plus_file = File(exists=True, desc="first image undistorted")
    minus_file = File(exists=True, desc="second image undistorted and moved onto the first")
    rigid_file = File(exists=True, desc="text, 4 x 4: second image mm to first image mm")
    info_file = File(exists=True, desc="JSON: agreement, displacement and movement")


class FieldFromPair(CodedInterface):
    """Find the field between two images of opposite encoding; see `nodes.distortion.pair`."""

    input_spec = _FieldFromPairInputSpec
    output_spec = _FieldFromPairOutputSpec
    _code = (field_from_pair, on_parallel_grid)

    def _run_interface(self, runtime):
        inputs = self.inputs
        plus, affine = read_first(inputs.plus_file)
        minus, minus_affine = read_first(inputs.minus_file)
        readouts = [
            value if isdefined(value) else None
            for value in (inputs.plus_readout, inputs.minus_readout)
        ]
        ratio = readout_ratio(*readouts)
        minus = on_parallel_grid(minus, minus_affine, plus.shape, affine)
        settings = PairSettings(movement=inputs.movement)
        found = field_from_pair(plus, minus, affine, inputs.axis, ratio=ratio, settings=settings)
        folder = Path(runtime.cwd)
        for name, data in (
            ("shift", found.shift),
            ("plus", found.corrected_plus),
            ("minus", found.corrected_minus),
        ):
            self._results[f"{name}_file"] = save(data, affine, folder / f"{name}.nii.gz")
        np.savetxt(folder / "rigid.txt", found.rigid_minus_to_plus, fmt="%.10g")
        self._results["rigid_file"] = str(folder / "rigid.txt")
        info = {"kind": "pair", "readout_ratio": ratio, **describe(found, affine)}
        self._results["info_file"] = write_json(info, folder / "field.json")
        return runtime


class _FieldFromGreInputSpec(CodedInputSpec):
    phase_files = traits.List(
        File(exists=True), minlen=1, maxlen=2, mandatory=True,
        desc="phase difference; or phase of both echoes; or a ready map",
    )  # fmt: skip
    ready = traits.Bool(False, usedefault=True, desc="phase_files holds a ready map")
    units = traits.Str(desc="Units of the phase or of the ready map, as the sidecar says")
    magnitude_file = File(exists=True, mandatory=True, desc="magnitude, grid of phase_files")
    echo_times = traits.Tuple(
        traits.Float, traits.Float, desc="earlier and later echo time, s; not for a ready map"
    )
    epi_file = File(exists=True, mandatory=True, desc="echo-planar image that is undistorted")
    axis = traits.Range(
        low=0, high=2, mandatory=True, desc="voxel axis of its phase encoding in RAS+ order"
    )
    sign = traits.Enum(1, -1, mandatory=True, desc="1 where encoding grows along the axis")
    readout = traits.Float(desc="its total readout time, s")
    placement_file = File(exists=True, desc="text, 4 x 4: mm of epi_file to mm of the map")


class _FieldFromGreOutputSpec(TraitedSpec):
    shift_file = File(exists=True, desc="displacement along the axis, mm, grid of epi_file")
    field_file = File(exists=True, desc="field, Hz, grid of the map")
    corrected_file = File(exists=True, desc="first volume of epi_file undistorted")
    info_file = File(exists=True, desc="JSON: displacement")


class FieldFromGre(CodedInterface):
    """Turn a gradient-echo field map into displacements; see `nodes.distortion.gre`."""

    input_spec = _FieldFromGreInputSpec
    output_spec = _FieldFromGreOutputSpec
    _code = (field_from_phase, unwarp)

    def _run_interface(self, runtime):
        inputs, folder = self.inputs, Path(runtime.cwd)
        field, field_affine = self._field()
        epi, affine = read_first(inputs.epi_file)
        readout = inputs.readout if isdefined(inputs.readout) else None
        encoding = PhaseEncoding(inputs.axis, inputs.sign, readout)
        known = isdefined(inputs.placement_file)
        placement = np.loadtxt(inputs.placement_file) if known else None
        try:
            shift = shift_from_hz(field, field_affine, encoding, epi.shape, affine, placement)
        except BadInputError as error:
            raise BadInputError(f"{Path(inputs.epi_file).name} {error}") from error
        corrected = unwarp(epi, shift, affine, inputs.axis)
        info = {"kind": "gre", **describe_shift(shift, corrected)}
        self._results["shift_file"] = save(shift, affine, folder / "shift.nii.gz")
        self._results["field_file"] = save(field, field_affine, folder / "field.nii.gz")
        self._results["corrected_file"] = save(corrected, affine, folder / "corrected.nii.gz")
        self._results["info_file"] = write_json(info, folder / "field.json")
        return runtime

    def _field(self) -> tuple[NDArray, NDArray]:
        """Field in Hz and its affine."""
        inputs = self.inputs
        field, _, affine = field_of_map(
            inputs.phase_files,
            inputs.magnitude_file,
            ready=inputs.ready,
            units=inputs.units if isdefined(inputs.units) else None,
            echo_times=inputs.echo_times if isdefined(inputs.echo_times) else None,
        )
        return field, affine


def field_of_map(
    phase_files: Sequence[str],
    magnitude_file: str,
    *,
    ready: bool,
    units: str | None,
    echo_times: tuple[float, float] | None,
) -> tuple[NDArray, NDArray, NDArray]:
    """Field in Hz, magnitude and affine of a gradient-echo map, in nearest RAS+ order."""
    magnitude, affine = read_first(magnitude_file)
    images = [read_first(path)[0] for path in phase_files]
    if any(image.shape != magnitude.shape for image in images):
        names = ", ".join(Path(path).name for path in phase_files)
        raise BadInputError(
            f"{names} and {Path(magnitude_file).name} differ in size; "
            "they must come from one acquisition"
        )
    if ready:
        return field_from_map(images[0], magnitude, affine, units or "Hz"), magnitude, affine
    if echo_times is None:
        raise BadInputError(
            f"{Path(phase_files[0]).name} has no echo times in its metadata; "
            "write EchoTime1 and EchoTime2 in seconds"
        )
    phases = [phase_to_radians(image, units) for image in images]
    difference = phases[0] if len(phases) == 1 else wrapped_difference(*phases)
    rng = np.random.default_rng(SEED)
    field = field_from_phase(difference, magnitude, affine, echo_times, rng)
    return field, magnitude, affine
