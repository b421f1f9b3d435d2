"""Files of the susceptibility field of a functional series: any kind of map to mm on its grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alsflow.interfaces.anat import write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface, naming
from alsflow.interfaces.distortion import field_of_map, read_first
from alsflow.interfaces.images import load, save
from alsflow.nodes.distortion.gre import field_from_phase, hz_from_shift
from alsflow.nodes.distortion.pair import PairField, describe, field_from_pair, readout_ratio
from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.distortion.unwarp import describe_shift, on_parallel_grid
from alsflow.nodes.func.field import Known, bring_field
from alsflow.nodes.geometry import apply_affine


class _FieldForBoldInputSpec(CodedInputSpec):
    reference_file = File(exists=True, mandatory=True, desc="mean volume as acquired, RAS+")
    mask_file = File(exists=True, mandatory=True, desc="brain, roughly, grid of reference_file")
    kind = traits.Enum(
        "pair", "own pair", "gre", mandatory=True,
        desc="two images of opposite encoding; the series and one; or a gradient-echo map",
    )  # fmt: skip
    axis = traits.Range(
        low=0, high=2, mandatory=True, desc="voxel axis of the phase encoding in RAS+ order"
    )
    sign = traits.Enum(1, -1, mandatory=True, desc="1 where encoding grows along the axis")
    readout = traits.Float(desc="total readout time of the series, s")
    plus_file = File(exists=True, desc="image of a pair")
    minus_file = File(exists=True, desc="image of opposite phase encoding")
    pair_axis = traits.Range(low=0, high=2, desc="axis of plus_file's phase encoding")
    pair_sign = traits.Enum(1, -1, desc="sense of plus_file's phase encoding")
    plus_readout = traits.Float(desc="total readout time of plus_file, s")
    minus_readout = traits.Float(desc="total readout time of minus_file, s")
    phase_files = traits.List(File(exists=True), maxlen=2, desc="phase, or a ready map")
    ready = traits.Bool(False, usedefault=True, desc="phase_files holds a ready map")
    units = traits.Str(desc="Units of the phase or of the ready map, as the sidecar says")
    magnitude_file = File(exists=True, desc="magnitude, grid of phase_files")
    echo_times = traits.Tuple(traits.Float, traits.Float, desc="echo times of the map, s")


class _FieldForBoldOutputSpec(TraitedSpec):
    shift_file = File(exists=True, desc="displacement along the axis, mm, grid of reference_file")
    corrected_file = File(exists=True, desc="reference_file undistorted")
    info_file = File(exists=True, desc="JSON: kind, agreement, displacement, movement")


class FieldForBold(CodedInterface):
    """Bring the susceptibility field to a functional series; see `nodes.func.field`."""

    input_spec = _FieldForBoldInputSpec
    output_spec = _FieldForBoldOutputSpec
    _code = (bring_field, field_from_pair, field_from_phase, on_parallel_grid)

    def _run_interface(self, runtime):
        reference, image = load(self.inputs.reference_file)
        affine = np.asarray(image.affine)
        if self.inputs.kind == "own pair":
            shift, corrected, info = self._own(reference, affine)
        else:
            shift, corrected, info = self._brought(reference, affine)
        folder = Path(runtime.cwd)
        info = {"kind": self.inputs.kind} | info | describe_shift(shift, corrected)
        self._results["shift_file"] = save(shift, affine, folder / "shift.nii.gz")
        self._results["corrected_file"] = save(corrected, affine, folder / "corrected.nii.gz")
        self._results["info_file"] = write_json(info, folder / "field.json")
        return runtime

    def _own(self, reference: NDArray, affine: NDArray) -> tuple[NDArray, NDArray, dict[str, Any]]:
        """Field between the series and an image of its contrast."""
        found, ratio = self._paired(reference, affine, self.inputs.axis)
        info = {"readout_ratio": ratio, **describe(found, affine)}
        return found.shift, found.corrected_plus, info

    def _brought(
        self, reference: NDArray, affine: NDArray
    ) -> tuple[NDArray, NDArray, dict[str, Any]]:
        """Field of other images, by way of Hz."""
        mask = load(self.inputs.mask_file)[0] > 0
        readout = self.inputs.readout if isdefined(self.inputs.readout) else None
        encoding = PhaseEncoding(self.inputs.axis, self.inputs.sign, readout)
        known, info = self._from_pair() if self.inputs.kind == "pair" else self._from_map()
        with naming("the functional series"):
            brought = bring_field(known, reference, affine, mask, encoding)
        moved = describe_placement(brought.placement, affine, mask)
        return brought.shift, brought.corrected, info | moved

    def _paired(self, plus: NDArray, affine: NDArray, axis: int) -> tuple[PairField, float]:
        inputs = self.inputs
        minus, minus_affine = read_first(inputs.minus_file)
        readouts = [
            value if isdefined(value) else None
            for value in (inputs.plus_readout, inputs.minus_readout)
        ]
        ratio = readout_ratio(*readouts)
        minus = on_parallel_grid(minus, minus_affine, plus.shape, affine)
        return field_from_pair(plus, minus, affine, axis, ratio=ratio), ratio

    def _from_pair(self) -> tuple[Known, dict[str, Any]]:
        inputs = self.inputs
        plus, affine = read_first(inputs.plus_file)
        found, ratio = self._paired(plus, affine, inputs.pair_axis)
        encoding = PhaseEncoding(inputs.pair_axis, inputs.pair_sign, inputs.plus_readout)
        field = hz_from_shift(found.shift, encoding, affine)
        info = {
            name if name.startswith("r_") else f"pair_{name}": value
            for name, value in describe(found, affine).items()
        }
        return Known(field, found.corrected_plus, affine), {"readout_ratio": ratio} | info

    def _from_map(self) -> tuple[Known, dict[str, Any]]:
        inputs = self.inputs
        field, _, affine = field_of_map(
            inputs.phase_files,
            inputs.magnitude_file,
            ready=inputs.ready,
            units=inputs.units if isdefined(inputs.units) else None,
            echo_times=inputs.echo_times if isdefined(inputs.echo_times) else None,
        )
        # a gradient-echo image is placed worse on an echo-planar one than the headers do it
        return Known(field, None, affine), {}


def describe_placement(placement: NDArray, affine: NDArray, mask: NDArray) -> dict[str, float]:
    """Turn (degrees) and translation at the brain's centre (mm) between series and map."""
    centre = apply_affine(affine, np.argwhere(mask).mean(axis=0))
    moved = apply_affine(placement, centre) - centre
    turn = Rotation.from_matrix(placement[:3, :3]).magnitude()
    return {
        "rotation_degrees": float(np.degrees(turn)),
        "translation_mm": float(np.sqrt((moved**2).sum())),
    }
