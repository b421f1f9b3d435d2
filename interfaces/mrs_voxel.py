"""Files of the spectroscopy voxel: headers of spectra, and the voxel on the T1-weighted image."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from alsflow.interfaces.base import naming
from alsflow.interfaces.images import open_image
from alsflow.interfaces.sidecars import read_json
from alsflow.nodes.errors import BadInputError, MissingProgramError
from alsflow.nodes.mrs.nifti_header import read_nifti_header
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
TIME_LIMIT = 600  # s; TWIX files of several GB take about a minute


def read_scan(path: str | Path) -> Scan:
    """Place and timing of a spectrum from a file of any known format.

    NIfTI-MRS (``.nii``, ``.nii.gz``; the JSON beside it counts), Siemens RDA and Philips SPAR (or
    the SDAT beside it) are read here; TWIX (``.dat``), GE P-files (``.7``) and DICOM by spec2nii.
    """
    path = Path(path)
    end = path.suffix.lower()
    with naming(path.name):
        if path.name.lower().endswith(NIFTI_ENDS):
            return _read_nifti(path)
        if end == ".rda":
            return read_rda(_text(path))
        if end in (".spar", ".sdat"):
            return read_spar(_text(_spar_beside(path)))
    return read_with_spec2nii(path)


def _read_nifti(path: Path) -> Scan:
    """Scan of a NIfTI-MRS file; its data stay unread."""
    image = open_image(path)
    qform, sform = image.get_qform(coded=True)[0], image.get_sform(coded=True)[0]
    beside = path.with_name(path.name.partition(".")[0] + ".json")
    metadata = _extension(image) | (read_json(beside) if beside.is_file() else {})
    return read_nifti_header(image.shape, qform, sform, metadata)


def _extension(image: Any) -> dict[str, Any]:
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
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, timeout=TIME_LIMIT, check=False
    )
    said = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return said[-1] if done.returncode == 0 and said else "of unknown version"


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
    program = shutil.which(CONVERTER_PROGRAM)
    if program is None:
        raise MissingProgramError(CONVERTER_ADVICE.format(name=path.name))
    version = spec2nii_version(program)
    with tempfile.TemporaryDirectory() as folder:
        command = [program, *arguments, "-f", "voxel", "-o", folder, str(path.resolve())]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False, cwd=folder
        )
        written = sorted(Path(folder).glob("voxel*.nii.gz"), key=lambda file: len(file.name))
        if done.returncode != 0 or not written:
            said = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()
            raise BadInputError(
                f"{path.name} was not converted by spec2nii {version} ({said[-1]}); convert it "
                "by hand and give the NIfTI-MRS file"
            )
        with naming(path.name):
            scan = _read_nifti(written[0])
    return Scan(scan.voxel, scan.te, scan.tr, scan.tm, scan.sequence,
                f"{arguments[0]} by spec2nii {version}")  # fmt: skip
