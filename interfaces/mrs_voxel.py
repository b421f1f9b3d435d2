"""Files of the spectroscopy voxel: headers of spectra, and the voxel on the T1-weighted image."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import File, InputMultiPath, TraitedSpec, isdefined, traits

from alsflow.interfaces.anat import write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface, naming
from alsflow.interfaces.images import load, open_image, save
from alsflow.interfaces.programs import NOTHING, call, find_program, last_line
from alsflow.interfaces.sidecars import read_json, read_sidecar
from alsflow.interfaces.warps import load_warp
from alsflow.nodes.errors import BadInputError, MissingProgramError
from alsflow.nodes.geometry import same_grid
from alsflow.nodes.mrs.fractions import (
    TISSUES,
    Fractions,
    overlap_map,
    tissue_fractions,
    voxel_in_template,
    voxel_mask,
)
from alsflow.nodes.mrs.nifti_header import known_metadata, read_nifti_header
from alsflow.nodes.mrs.vendor_text import read_rda, read_spar
from alsflow.nodes.mrs.voxel import Scan

NIFTI_ENDS = (".nii", ".nii.gz")
EXTENSION_CODE = 44  # NIfTI-MRS
TEXT_MOST = 1_000_000  # bytes; headers of RDA and SPAR have some thousands
DICOM_MARK = (128, b"DICM")  # where every DICOM file says that it is one
PHILIPS = b"Philips"
CONVERTER_PROGRAM = "spec2nii"
CONVERTER_ADVICE = (
    "Siemens TWIX, GE P-files and DICOM are read through spec2nii, which is not installed: "
    "install it (pip install spec2nii), or convert {name} elsewhere and give the NIfTI-MRS file."
)
DIGITS = 6  # of a share
OUTPUT_NAMES = {
    "mask": "space-T1w_desc-voxel_mask.nii.gz",
    "gm_part": "space-T1w_label-GM_desc-voxel_probseg.nii.gz",
    "wm_part": "space-T1w_label-WM_desc-voxel_probseg.nii.gz",
    "template": "space-template_desc-voxel_probseg.nii.gz",
}
TIME_LIMIT = 600  # s; TWIX files of several GB take about a minute


def voxel_inputs(path: Path, bids_dir: Path | None = None) -> dict[str, Any]:
    """Inputs of `PlaceVoxel` for a spectrum: the file that has its place, and what BIDS says.

    Parameters
    ----------
    path : path
        Any file that `read_scan` reads; of SDAT and SPAR, either.
    bids_dir : path, optional
        Root of the dataset, where inheritance begins; of a file outside it, as of one in a
        folder of results, the JSON beside it is read.
    """
    if path.suffix.lower() == ".sdat":
        with naming(path.name):
            path = _spar_beside(path)
    metadata: dict[str, Any] = {}
    if path.name.lower().endswith(NIFTI_ENDS):
        metadata = sidecar_metadata(path, bids_dir)
    return {"voxel_file": str(path), "metadata": known_metadata(metadata)}


def read_scan(path: str | Path, metadata: Mapping[str, Any] | None = None) -> Scan:
    """Place and timing of a spectrum from a file of any known format.

    NIfTI-MRS (``.nii``, ``.nii.gz``), Siemens RDA and Philips SPAR (or the SDAT beside it) are
    read here; TWIX (``.dat``), GE P-files (``.7``) and DICOM by spec2nii.

    Parameters
    ----------
    path : path
        The file.
    metadata : mapping, optional
        Of NIfTI-MRS; stands above its header extension. By default the JSON beside the file.
    """
    path = Path(path)
    end = path.suffix.lower()
    with naming(path.name):
        if path.name.lower().endswith(NIFTI_ENDS):
            return _read_nifti(path, sidecar_beside(path) if metadata is None else metadata)
        if end == ".rda":
            return read_rda(_text(path))
        if end in (".spar", ".sdat"):
            return read_spar(_text(_spar_beside(path)))
    return read_with_spec2nii(path)


def sidecar_metadata(path: Path, bids_dir: Path | None) -> dict[str, Any]:
    """Sidecars of an image by inheritance if it is inside the dataset, else the JSON beside it."""
    if bids_dir is not None and bids_dir in path.parents:
        return read_sidecar(path, bids_dir)
    return sidecar_beside(path)


def sidecar_beside(path: Path) -> dict[str, Any]:
    """Content of the JSON beside an image, empty without one."""
    sidecar = path.with_name(path.name.partition(".")[0] + ".json")
    return read_json(sidecar) if sidecar.is_file() else {}


def _read_nifti(path: Path, metadata: Mapping[str, Any]) -> Scan:
    """Scan of a NIfTI-MRS file; its data stay unread."""
    image = open_image(path)
    qform, sform = image.get_qform(coded=True)[0], image.get_sform(coded=True)[0]
    return read_nifti_header(image.shape, qform, sform, {**header_extension(image), **metadata})


def header_extension(image: Any) -> dict[str, Any]:
    """JSON of the header extension of NIfTI-MRS, empty without one."""
    for extension in image.header.extensions:
        if extension.get_code() == EXTENSION_CODE:
            try:
                found = json.loads(bytes(extension.get_content()).rstrip(b"\0"))
            except ValueError as error:
                raise BadInputError(
                    f"has a damaged header extension ({error}); convert it again"
                ) from error
            return found if isinstance(found, dict) else {}
    return {}


def _text(path: Path) -> str:
    """First megabyte as text; names of places may be in Latin-1, numbers never are."""
    try:
        with path.open("rb") as file:
            return file.read(TEXT_MOST).decode("latin-1")
    except OSError as error:
        raise BadInputError(f"cannot be read ({error.strerror}); copy it again") from error


def _spar_beside(path: Path) -> Path:
    """The SPAR of an SDAT, in either case of letters."""
    if path.suffix.lower() == ".spar":
        return path
    for end in (".SPAR", ".spar"):
        if (other := path.with_suffix(end)).is_file():
            return other
    raise BadInputError("has no SPAR file beside it, which holds the place of the voxel; add it")


# ---------------------------------------------------------------------------- spec2nii


def spec2nii_version(program: str) -> str:
    """Version that a spec2nii says it has."""
    done = call([program, "--version"], TIME_LIMIT)
    return last_line(done.out) if done.code == 0 and done.out else "of unknown version"


def spec2nii_arguments(path: Path) -> list[str]:
    """Subcommand and options of spec2nii for a file, without program and output.

    Raises
    ------
    BadInputError
        The file is of no format that is known.
    """
    end = path.suffix.lower()
    if end == ".dat":
        return ["twix", "-e", "image"]
    if end == ".7":
        return ["ge"]
    with path.open("rb") as file:
        head = file.read(4096)
    start, mark = DICOM_MARK
    if end in (".dcm", ".ima") or head[start : start + len(mark)] == mark:
        return ["philips_dcm" if PHILIPS in head else "dicom"]
    raise BadInputError(
        f"{path.name} is of no known format of spectroscopy; give NIfTI-MRS (.nii.gz), RDA, SPAR, "
        "TWIX (.dat), a GE P-file (.7) or DICOM"
    )


def read_with_spec2nii(path: Path) -> Scan:
    """Scan of a file that spec2nii converts; what it writes holds names and is not kept."""
    arguments = spec2nii_arguments(path)
    program = find_program(CONVERTER_PROGRAM, CONVERTER_ADVICE.format(name=path.name))
    version = spec2nii_version(program)
    with tempfile.TemporaryDirectory() as folder:
        command = [program, *arguments, "-f", "voxel", "-o", folder, str(path.resolve())]
        done = call(command, TIME_LIMIT)
        written = sorted(Path(folder).glob("voxel*.nii.gz"), key=lambda file: len(file.name))
        if done.code != 0 or not written:
            said = last_line(done.err) or last_line(done.out) or NOTHING
            raise BadInputError(
                f"{path.name} was not converted by spec2nii {version} "
                f"({said}); convert it by hand and give the NIfTI-MRS file"
            )
        with naming(path.name):
            scan = _read_nifti(written[0], {})
    return Scan(scan.voxel, scan.te, scan.tr, scan.tm, scan.sequence,
                f"{arguments[0]} by spec2nii {version}")  # fmt: skip


# ---------------------------------------------------------------------------- interfaces


class _PlaceVoxelInputSpec(CodedInputSpec):
    voxel_file = File(exists=True, mandatory=True, desc="spectrum, with its place in the header")
    metadata = traits.Dict(
        traits.Str, traits.Any, usedefault=True,
        desc="of the sidecars of a NIfTI-MRS file; see `voxel_inputs`",
    )  # fmt: skip
    gm_file = File(exists=True, mandatory=True, desc="fraction of grey matter, T1w space")
    wm_file = File(exists=True, mandatory=True, desc="fraction of white matter, T1w space")
    csf_file = File(exists=True, mandatory=True, desc="fraction of CSF, T1w space")
    brain_file = File(exists=True, desc="brain mask on the same grid")
    to_native_file = File(exists=True, desc="field on the grid of the template")
    impossible = traits.Enum(
        "raise", "skip", usedefault=True,
        desc="skip: where the voxel has no place in this head, fractions_file says why, alone",
    )  # fmt: skip


class _PlaceVoxelOutputSpec(TraitedSpec):
    mask_file = File(exists=True, desc="voxels of the T1w grid with their centre inside")
    gm_part_file = File(exists=True, desc="fraction of grey matter inside, 0 outside")
    wm_part_file = File(exists=True, desc="fraction of white matter inside, 0 outside")
    fractions_file = File(exists=True, desc="JSON: fractions, coverage, place, timing, warnings")
    template_file = File(desc="share of each voxel of the template that is inside")


class PlaceVoxel(CodedInterface):
    """The voxel of a spectrum on the T1-weighted image; see `nodes.mrs.fractions`."""

    input_spec = _PlaceVoxelInputSpec
    output_spec = _PlaceVoxelOutputSpec
    _code = (read_nifti_header, read_rda, tissue_fractions, voxel_in_template, voxel_mask)

    def _run_interface(self, runtime):
        tissues, affine = self._tissues()
        try:
            scan, found = self._place(tissues, affine)
        except (BadInputError, MissingProgramError) as refusal:
            if self.inputs.impossible == "raise":
                raise
            self._say(runtime.cwd, _refused(refusal))
            return runtime
        mask = voxel_mask(scan.voxel, tissues["gm"].shape, affine)
        outputs = {
            "mask": (mask, affine),
            "gm_part": (tissues["gm"] * mask, affine),
            "wm_part": (tissues["wm"] * mask, affine),
        }
        if isdefined(self.inputs.to_native_file):
            points, template = load_warp(self.inputs.to_native_file)
            outputs["template"] = (voxel_in_template(scan.voxel, points, template), template)
        folder = Path(runtime.cwd)
        for key, (data, grid) in outputs.items():
            path = folder / OUTPUT_NAMES[key]
            self._results[f"{key}_file"] = save(data, grid, path)
        self._say(runtime.cwd, _report(scan, found))
        return runtime

    def _place(self, tissues, affine):
        """Header of the spectrum, and what its voxel holds."""
        scan = read_scan(self.inputs.voxel_file, self.inputs.metadata)
        brain = None
        if isdefined(self.inputs.brain_file):
            brain = load(self.inputs.brain_file)[0] > 0
        with naming(Path(self.inputs.voxel_file).name):
            return scan, tissue_fractions(scan.voxel, tissues, affine, brain)

    def _say(self, folder, content):
        path = Path(folder) / "desc-tissue_mrs.json"
        self._results["fractions_file"] = write_json(content, path)

    def _tissues(self):
        """Maps by name, which must be on one grid, and its affine."""
        maps, (first, *others) = {}, [getattr(self.inputs, f"{name}_file") for name in TISSUES]
        maps[TISSUES[0]], image = load(first)
        for name, path in zip(TISSUES[1:], others, strict=True):
            maps[name], other = load(path)
            if not same_grid(image.shape, image.affine, other.shape, other.affine):
                raise BadInputError(
                    f"{Path(path).name} and {Path(first).name} are on different grids; give "
                    "tissue maps of one segmentation"
                )
        return maps, np.asarray(image.affine)


def _report(scan: Scan, found: Fractions) -> dict[str, Any]:
    """Everything that is known of the voxel, None where nothing is."""
    times = {"te": scan.te, "tr": scan.tr, "tm": scan.tm}
    return {
        "done": True,
        "fractions": {
            name: None if value is None else round(value, DIGITS)
            for name, value in found.as_dict().items()
        },
        "warnings": found.warnings(),
        "centre": scan.voxel.centre.round(3).tolist(),
        "sizes": scan.voxel.sizes.round(3).tolist(),
        "affine": scan.voxel.affine.round(4).tolist(),
        **{name: None if np.isnan(value) else round(value, 6) for name, value in times.items()},
        "sequence": scan.sequence or None,
        "source": scan.source,
    }


def _refused(refusal: Exception) -> dict[str, Any]:
    """Why a voxel has no place here; that a program is missing says nothing against the scan."""
    return {
        "done": False,
        "reason": str(refusal),
        "program_missing": isinstance(refusal, MissingProgramError),
    }


class _OverlapVoxelsInputSpec(CodedInputSpec):
    template_files = InputMultiPath(
        File(exists=True), mandatory=True, desc="voxel of each person on one grid of the template"
    )


class _OverlapVoxelsOutputSpec(TraitedSpec):
    overlap_file = File(exists=True, desc="share of the people whose voxel covers each place")
    count = traits.Int(desc="number of people")


class OverlapVoxels(CodedInterface):
    """Mean of the voxels of many people; see `nodes.mrs.fractions.overlap_map`."""

    input_spec = _OverlapVoxelsInputSpec
    output_spec = _OverlapVoxelsOutputSpec
    _code = (overlap_map,)

    def _run_interface(self, runtime):
        files = self.inputs.template_files
        overlap, count = overlap_map(load(path)[0] for path in files)
        grid = open_image(files[0])
        for path in files[1:]:
            other = open_image(path)
            if not same_grid(grid.shape, grid.affine, other.shape, other.affine):
                raise BadInputError(
                    f"{Path(path).name} and {Path(files[0]).name} are on different grids; "
                    "an overlap needs one template"
                )
        self._results["count"] = count
        self._results["overlap_file"] = save(
            overlap, np.asarray(grid.affine), Path(runtime.cwd) / "desc-voxel_overlap.nii.gz"
        )
        return runtime
