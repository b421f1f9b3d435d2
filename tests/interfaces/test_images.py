"""What a header must say before anything is planned on it."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from alsflow.interfaces.images import read_grid
from alsflow.nodes.errors import BadInputError

SHAPE = (5, 6, 7, 3)
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2.5, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])


@pytest.fixture
def stored(tmp_path):
    """Write an image whose header has been changed behind nibabel's back."""

    def write(**fields):
        image = nib.Nifti1Image(np.ones(SHAPE, np.float32), AFFINE)
        image.set_qform(AFFINE, code=1)
        header = image.header
        for name, value in fields.items():
            header[name] = value
        path = tmp_path / "bold.nii.gz"
        path.write_bytes(
            gzip.compress(header.binaryblock + bytes(4) + image.get_fdata().tobytes())
        )
        return path

    return write


def sizes(*edges):
    return [-1, *edges, 2, 0, 0, 0]


def test_shape_without_volumes_and_affine_as_stored(stored):
    shape, affine = read_grid(stored())
    assert shape == SHAPE[:3]
    np.testing.assert_allclose(affine, AFFINE)
    read_grid(stored(pixdim=sizes(0, 2.5, 3)))  # the sform is what counts


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sform_code": 0, "pixdim": sizes(2, 0, 3)}, "voxels of 2 x 0 x 3 mm"),
        ({"sform_code": 0, "qform_code": 0}, "nobody knows which of its sides is left"),
        ({"srow_x": 0}, "no usable orientation"),
        ({"srow_x": np.nan}, "no usable orientation"),
        ({"srow_x": [2, 2, 0, 0]}, "not at right angles"),
    ],
)
def test_a_header_that_cannot_be_is_refused(stored, fields, words):
    with pytest.raises(BadInputError, match=words):
        read_grid(stored(**fields))
