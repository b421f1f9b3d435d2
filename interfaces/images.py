"""Reading and writing images."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from numpy.typing import DTypeLike, NDArray

from alsflow.interfaces.whole import whole
from alsflow.nodes.anat.conform import check_affine
from alsflow.nodes.errors import BadInputError

# What reading a file raises that is no image, is damaged or was cut off: gzip reports a wrong
# header as OSError and a damaged content as zlib.error, nibabel short data as ValueError.
UNREADABLE = (ImageFileError, OSError, EOFError, ValueError, KeyError, zlib.error)
CHUNK = 1 << 20  # bytes
GZIP = b"\x1f\x8b"


def open_image(path: str | Path) -> nib.Nifti1Image:
    """Header of an image, its data unread; a file that is none is refused, not yet named."""
    try:
        return cast(nib.Nifti1Image, nib.load(path))
    except UNREADABLE as error:
        raise BadInputError(
            f"cannot be read as an image ({reason(error, path)}); convert or copy it again"
        ) from error


def reason(error: Exception, path: str | Path) -> str:
    """Why a file is `UNREADABLE`, without the folder that it lies in."""
    if isinstance(error, zlib.error):  # its words are "Error -3 while ..."
        return "its compressed content is damaged"
    if isinstance(error, EOFError):
        return "it ends early"
    return str(error).replace(str(path), Path(path).name)


def read_grid(path: str | Path) -> tuple[tuple[int, ...], NDArray]:
    """Shape without volumes and affine of an image as stored; refused as by `open_image`."""
    image = open_image(path)
    check_affine(image.affine)
    if image.header["sform_code"] == 0:
        if image.header["qform_code"] == 0:
            raise BadInputError(
                "has neither qform nor sform in its header, so that nobody knows which of its "
                "sides is left; convert it again"
            )
        _check_sizes(path, image.header)
    return image.shape[:3], np.asarray(image.affine)


def _check_sizes(path: str | Path, header: nib.Nifti1Header) -> None:
    """Refuse a voxel edge of 0, for which nibabel would put 1 mm."""
    with ImageOpener(str(path)) as file:
        stored = type(header).from_fileobj(file, check=False)
    if (stored["pixdim"][1:4] == 0).any():
        sizes = " x ".join(f"{size:g}" for size in stored["pixdim"][1:4])
        raise BadInputError(
            f"has voxels of {sizes} mm; correct the voxel size in the header, or convert it again"
        )


def check_packed(path: str | Path) -> None:
    """Hold the content of a gzip file against the checksum in it; other files pass.

    Who reads only the samples that the header names never comes to the checksum, and takes
    damaged ones for sound where they still unpack. What follows the content is no concern.

    Raises
    ------
    EOFError
        If the file ends before its content does.
    zlib.error
        If the content cannot be unpacked or is not that of the checksum.
    """
    with open(path, "rb") as file:
        block = file.read(CHUNK)
        while block.startswith(GZIP):  # once for each part of the file
            unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
            while not unpacker.eof:
                unpacker.decompress(block)
                block = unpacker.unused_data if unpacker.eof else file.read(CHUNK)
                if not (block or unpacker.eof):
                    raise EOFError("the compressed content ends too early")
            if len(block) < len(GZIP):
                block += file.read(CHUNK)


def load(path: str | Path, dtype: DTypeLike = np.float32) -> tuple[NDArray, nib.Nifti1Image]:
    """Array and image of one file; singleton dimensions beyond the third are dropped."""
    image = cast(nib.Nifti1Image, nib.load(path))
    data = np.asanyarray(image.dataobj)
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    return data.astype(dtype, copy=False), image


def load_given(path: str | Path) -> tuple[NDArray, nib.Nifti1Image]:
    """As `load`, of a file that others have made: refused by its name where it is damaged."""
    try:
        check_packed(path)
        return load(path)
    except UNREADABLE as error:
        raise BadInputError(
            f"{Path(path).name} is damaged or was cut off ({reason(error, path)}); "
            "make or copy it again"
        ) from error


def save(
    data: NDArray,
    affine: NDArray,
    path: str | Path,
    dtype: DTypeLike | None = None,
    tr: float | None = None,
) -> str:
    """Write one NIfTI-1 file whole or not at all; returns its path as text.

    Parameters
    ----------
    data : array
        Image in RAS+ or any order that `affine` describes.
    affine : (4, 4) array
        Voxel indices to mm.
    path : path
        Ends in ``.nii`` or ``.nii.gz``.
    dtype : dtype, optional
        Type on disk; by default that of `data`, with 64-bit floats narrowed to 32.
    tr : float, optional
        Time between the volumes of a series, s, for the header.
    """
    path = Path(path)
    if dtype is None:
        dtype = np.uint8 if data.dtype == bool else data.dtype
        dtype = np.float32 if dtype == np.float64 else dtype
    image = nib.Nifti1Image(np.asarray(data).astype(dtype, copy=False), affine)
    image.header.set_xyzt_units("mm", None if tr is None else "sec")
    if tr is not None:
        image.header["pixdim"][4] = tr
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    return write_image(image, path)


def write_image(image: nib.Nifti1Image, path: Path) -> str:
    """Write an image under a temporary name beside `path`, then rename it."""
    with whole(path) as partial:
        nib.save(image, partial)
    return str(path)


def save_like(
    image: nib.Nifti1Image, data: NDArray, path: str | Path, dtype: DTypeLike | None = None
) -> str:
    """Write `data` on the grid of `image`; see `save`."""
    return save(data, image.affine, path, dtype)
