"""Files of the placement of an echo-planar image on the T1-weighted head."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import SimpleITK
from nipype.interfaces.base import File, TraitedSpec, traits

from alsflow.interfaces.anat import write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.images import load
from alsflow.nodes.epi.coregister import coregister


class _CoregisterInputSpec(CodedInputSpec):
    reference_file = File(exists=True, mandatory=True, desc="mean b=0 or mean BOLD image")
    mask_file = File(exists=True, mandatory=True, desc="brain mask, grid of reference_file")
    brain_file = File(exists=True, mandatory=True, desc="brain mask of the T1-weighted head")
    gm_file = File(exists=True, mandatory=True, desc="fraction of grey matter, T1-weighted head")
    wm_file = File(exists=True, mandatory=True, desc="fraction of white matter")
    start = traits.Enum(
        "auto", "header", "centres", usedefault=True, desc="where the alignment begins"
    )
    contrast = traits.Enum(
        "auto", "grey_bright", "white_bright", usedefault=True, desc="brighter side of the border"
    )


class _CoregisterOutputSpec(TraitedSpec):
    matrix_file = File(exists=True, desc="text, 4 x 4: mm of reference_file to T1w mm")
    qc_file = File(exists=True, desc="JSON: flags and metrics of the alignment")


class Coregister(CodedInterface):
    """Place an echo-planar image on the T1-weighted head; see `nodes.epi.coregister`."""

    input_spec = _CoregisterInputSpec
    output_spec = _CoregisterOutputSpec
    _code = (coregister,)

    def _run_interface(self, runtime):
        reference, image = load(self.inputs.reference_file)
        mask, _ = load(self.inputs.mask_file)
        brain, head = load(self.inputs.brain_file)
        gm, _ = load(self.inputs.gm_file)
        wm, _ = load(self.inputs.wm_file)
        found = coregister(
            reference, image.affine, mask > 0, brain > 0, gm, wm, head.affine,
            start=self.inputs.start, contrast=self.inputs.contrast,
        )  # fmt: skip
        folder = Path(runtime.cwd)
        np.savetxt(folder / "to_t1w.txt", found.matrix, fmt="%.10g")
        flags = [asdict(flag) for flag in found.flags]
        known = {key: value if np.isfinite(value) else None
                 for key, value in found.metrics.items()}  # fmt: skip
        content = {"flags": flags, "metrics": known, "start": found.start}
        self._results["matrix_file"] = str(folder / "to_t1w.txt")
        self._results["qc_file"] = write_json(content, folder / "coregistration.json")
        return runtime


class _WriteRigidInputSpec(CodedInputSpec):
    matrix_file = File(exists=True, mandatory=True, desc="text, 4 x 4: image mm to target mm")


class _WriteRigidOutputSpec(TraitedSpec):
    transform_file = File(exists=True, desc="ITK transform that brings the image onto the target")


class WriteRigid(CodedInterface):
    """Write a rigid placement as ITK, ANTs and nitransforms read it.

    ITK's transforms pull: they map points of the target, LPS+ mm, to points of the image.
    """

    input_spec = _WriteRigidInputSpec
    output_spec = _WriteRigidOutputSpec
    _code = (load,)

    def _run_interface(self, runtime):
        lps = np.diag([-1.0, -1.0, 1.0, 1.0])
        pull = lps @ np.linalg.inv(np.loadtxt(self.inputs.matrix_file)) @ lps
        transform = SimpleITK.AffineTransform(3)
        transform.SetMatrix(pull[:3, :3].ravel().tolist())
        transform.SetTranslation(pull[:3, 3].tolist())
        path = Path(runtime.cwd) / "to_t1w.txt"
        SimpleITK.WriteTransform(transform, str(path))
        self._results["transform_file"] = str(path)
        return runtime
