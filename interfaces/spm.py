"""SPM12's unified segmentation: run it through Nipype's interface, and read what it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import File, TraitedSpec, traits
from nipype.interfaces.spm import NewSegment, SPMCommand
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.external import SpmProgram, SpmRelease, spm_release
from alsflow.nodes.errors import BadInputError, MissingProgramError

GAUSSIANS = (1, 1, 2, 3, 4, 2)  # per class, SPM12's own choice
NATIVE = 3  # first classes written in native space: GM, WM, CSF
BIAS = (0.001, 60.0)  # regularisation; full width at half maximum, mm
WARPING = [0.0, 0.001, 0.5, 0.05, 0.2]
SAMPLING = 3.0  # mm
LOG_LINES = 5


class ImageForSpm:
    """SPM wants one uncompressed 3-D file in a folder that it may write to."""

    @staticmethod
    def write(source: str | Path, target: Path) -> Path:
        """Copy an image as uncompressed NIfTI, its voxels and header as they are."""
        target.parent.mkdir(parents=True, exist_ok=True)
        image = nib.load(source)
        nib.save(nib.Nifti1Image.from_image(image), target)
        return target


def find_one(folder: Path, name: str, log: str) -> Path:
    """File of a name that the program should have written below a folder."""
    found = sorted(folder.rglob(name))
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} files {name} after the run, 1 expected. It said: {log}")
    return found[0]


def tail(runtime: Any) -> str:
    """Last lines that a program wrote, for the message of an error."""
    text = f"{getattr(runtime, 'stdout', '') or ''}\n{getattr(runtime, 'stderr', '') or ''}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-LOG_LINES:]) or "nothing"


class _NothingCollected(TraitedSpec):
    """SPM's outputs are found by their names, not by Nipype."""


class SpmJob(NewSegment):
    """Nipype's call of SPM12's segmentation, that does not start MATLAB to be made."""

    output_spec = _NothingCollected

    def __init__(self, program: SpmProgram, tpm: str | Path, **inputs):
        # what Nipype would ask MATLAB for: SPM12 has been seen already
        self._jobtype, self._jobname = "spatial", "preproc"
        none, native = (False, False), (True, False)
        given = {
            "channel_info": (*BIAS, (False, True)),
            "tissues": [
                ((str(tpm), number), count, native if number <= NATIVE else none, none)
                for number, count in enumerate(GAUSSIANS, start=1)
            ],
            "affine_regularization": "mni",
            "warping_regularization": WARPING,
            "sampling_distance": SAMPLING,
            "write_deformation_fields": [True, True],
            "matlab_cmd": program.command,
        }
        if program.standalone:
            given["use_mcr"] = True
        if program.folders:
            given["paths"] = list(program.folders)
        SPMCommand.__init__(self, **given, **inputs)

    @property
    def version(self):
        """Release for Nipype's checks, which would start MATLAB; `spm_release` has seen it."""
        return "12"

    def _list_outputs(self):
        return {}


# ---------------------------------------------------------------------------- reading


def read_parameters(path: str | Path) -> dict[str, Any]:
    """Affine to the template and log-likelihood from ``*_seg8.mat``."""
    try:
        content = loadmat(path)
    except (ValueError, OSError, NotImplementedError, IndexError, MatReadError) as error:
        raise BadInputError(f"{path} is not a parameter file of SPM12: {error}.") from error
    if "Affine" not in content or content["Affine"].shape != (4, 4):
        raise BadInputError(f"{path} holds no affine transform: SPM12 did not come to its end.")
    affine = np.asarray(content["Affine"], dtype=float)
    likelihood = content.get("ll")
    return {
        "affine": affine.tolist(),
        "log_likelihood": None if likelihood is None else float(np.ravel(likelihood)[-1]),
    }


def read_deformation(path: str | Path) -> tuple[NDArray, NDArray]:
    """Where every voxel of a deformation of SPM or CAT12 (y_, iy_) points to.

    Returns
    -------
    coordinates : (x, y, z, 3) array
        RAS+ mm in the other space; NaN outside its field of view.
    affine : (4, 4) array
        Voxel to RAS+ mm of the grid.
    """
    image: Any = nib.load(path)
    if image.ndim != 5 or image.shape[3:] != (1, 3):
        raise BadInputError(
            f"{path} has the shape {image.shape}; a deformation of SPM has (x, y, z, 1, 3)."
        )
    return np.asarray(image.dataobj, dtype=np.float32)[:, :, :, 0], image.affine


# ---------------------------------------------------------------------------- running


class _RunSpm12InputSpec(CodedInputSpec):
    t1w_file = File(exists=True, mandatory=True, desc="head, native space")
    command = traits.Str(mandatory=True, desc="command of MATLAB or of stand-alone SPM12")
    standalone = traits.Bool(False, usedefault=True, desc="command is that of stand-alone SPM12")
    folders = traits.List(traits.Str(), desc="folders to add to the path of MATLAB")


class _RunSpm12OutputSpec(TraitedSpec):
    t1w_file = File(exists=True, desc="head without intensity non-uniformity")
    gm_file = File(exists=True, desc="grey matter, native space")
    wm_file = File(exists=True, desc="white matter, native space")
    csf_file = File(exists=True, desc="CSF, native space")
    forward_file = File(exists=True, desc="deformation y_, as SPM stores it")
    inverse_file = File(exists=True, desc="deformation iy_, as SPM stores it")
    details = traits.Dict(desc="release and parameters as SPM12 states them")


class RunSpm12(CodedInterface):
    """Segment one head with SPM12."""

    input_spec = _RunSpm12InputSpec
    output_spec = _RunSpm12OutputSpec
    _code = (spm_release, read_parameters)

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        folders = tuple(self.inputs.folders or ())
        program = SpmProgram(self.inputs.command, self.inputs.standalone, folders)
        release = spm_release(program)
        head = ImageForSpm.write(self.inputs.t1w_file, folder / "head" / "t1w.nii")
        job = SpmJob(program, _tissue_priors(release), channel_files=[str(head)])
        log = tail(job.run(cwd=str(folder)).runtime)
        names = {
            "t1w_file": "mt1w.nii",
            "gm_file": "c1t1w.nii",
            "wm_file": "c2t1w.nii",
            "csf_file": "c3t1w.nii",
            "forward_file": "y_t1w.nii",
            "inverse_file": "iy_t1w.nii",
        }
        for key, name in names.items():
            self._results[key] = str(find_one(head.parent, name, log))
        parameters = read_parameters(find_one(head.parent, "t1w_seg8.mat", log))
        self._results["details"] = {"engine": "spm12", "version": release.spm, **parameters}
        return runtime


def _tissue_priors(release: SpmRelease) -> Path:
    path = Path(release.folder) / "tpm" / "TPM.nii"
    if not path.is_file():
        raise MissingProgramError(f"{release.spm} has no tissue priors: {path} is not there.")
    return path
