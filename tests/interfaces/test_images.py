"""What a header must say before anything is planned on it; files that are damaged."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from alsflow.interfaces.anat import read_volume
from alsflow.interfaces.atlas import image_problems
from alsflow.interfaces.images import check_packed, load_given, open_image, read_grid
from alsflow.interfaces.mrs_run import load_spectrum
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


def content():
    rng = np.random.default_rng(3)
    image = nib.Nifti1Image(rng.integers(0, 9, SHAPE, np.int16), AFFINE)
    return image.header.binaryblock + bytes(4) + image.get_fdata().astype(np.int16).tobytes("F")


def other_samples():
    """Content that unpacks, and is not that of the checksum: nibabel alone does not see it."""
    sound = content()
    changed = bytearray(sound)
    changed[400] ^= 8
    return gzip.compress(bytes(changed))[:-8] + gzip.compress(sound)[-8:]


def wrong_at(place):
    packed = gzip.compress(content())
    return packed[:place] + b"\xff" * 40 + packed[place + 40 :]


DAMAGED = {
    "from the start": lambda: wrong_at(10),
    "in the middle": lambda: wrong_at(180),
    "other samples": other_samples,
    "other checksum": lambda: gzip.compress(content())[:-8] + bytes(8),
    "cut off": lambda: gzip.compress(content())[:200],
    "checksum cut off": lambda: gzip.compress(content())[:-4],
    "empty": lambda: b"",
}
READERS = {
    "volume": read_volume,
    "given": load_given,
    "spectrum": lambda path: load_spectrum(path, {}),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_image_is_refused_by_its_name(tmp_path, damage, reader):
    path = tmp_path / "sub-01_bold.nii.gz"
    path.write_bytes(DAMAGED[damage]())
    with pytest.raises(BadInputError, match=r"^sub-01_bold.nii.gz .*copy it again") as caught:
        READERS[reader](path)
    assert "Error" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_image_of_an_atlas_is_a_problem(tmp_path, damage):
    path = tmp_path / "atlas.nii.gz"
    path.write_bytes(DAMAGED[damage]())
    [problem] = image_problems(path, "probability", [])
    assert "atlas.nii.gz cannot be read" in problem


def test_damaged_header_is_refused_before_anything_is_planned(tmp_path):
    path = tmp_path / "bold.nii.gz"
    path.write_bytes(DAMAGED["from the start"]())
    for read in (open_image, read_grid):
        with pytest.raises(BadInputError, match="cannot be read as an image"):
            read(path)


@pytest.mark.parametrize(
    "packed",
    [
        lambda: gzip.compress(content()),
        lambda: gzip.compress(content()) + bytes(512),  # padding of a tape
        lambda: gzip.compress(content()) + b"and more",
        lambda: b"".join(
            gzip.compress(content()[k : k + 99]) for k in range(0, len(content()), 99)
        ),
    ],
)
def test_sound_images_are_read(tmp_path, packed, monkeypatch):
    path = tmp_path / "bold.nii.gz"
    path.write_bytes(packed())
    for chunk in (2, 7, 1 << 20):
        monkeypatch.setattr("alsflow.interfaces.images.CHUNK", chunk)
        check_packed(path)
    want = np.asarray(nib.Nifti1Image.from_bytes(content()).dataobj)
    np.testing.assert_array_equal(read_volume(path)[0], want)
    plain = tmp_path / "bold.nii"
    plain.write_bytes(content())
    np.testing.assert_array_equal(load_given(plain)[0], want)
