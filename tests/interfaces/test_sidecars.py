import json

import pytest

from alsflow.interfaces.sidecars import read_sidecar, split_name
from alsflow.nodes.errors import BadInputError


def write(path, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def image(tmp_path):
    return tmp_path / "sub-01" / "ses-a" / "dwi" / "sub-01_ses-a_dir-AP_run-2_dwi.nii.gz"


def test_name_is_split():
    assert split_name("sub-01_dir-AP_dwi.nii.gz") == ({"sub": "01", "dir": "AP"}, "dwi")
    assert split_name("dwi.json") == ({}, "dwi")


def test_nearer_and_more_specific_files_override(tmp_path, image):
    write(tmp_path / "dwi.json", A=1, B=1, C=1, D=1)
    write(tmp_path / "sub-01" / "sub-01_dwi.json", B=2, C=2, D=2)
    write(image.parent / "sub-01_ses-a_dwi.json", C=3, D=3)
    write(image.parent / "sub-01_ses-a_dir-AP_run-2_dwi.json", D=4)
    assert read_sidecar(image, tmp_path) == {"A": 1, "B": 2, "C": 3, "D": 4}


def test_what_does_not_apply_is_not_read(tmp_path, image):
    write(tmp_path / "bold.json", A=1)
    write(tmp_path / "dir-PA_dwi.json", A=2)
    write(tmp_path / "acq-x_dwi.json", A=3)
    write(image.parent / "sub-01_ses-a_dir-AP_dwi.json", B=1)
    write(image.parents[1] / "anat" / "sub-01_ses-a_dwi.json", C=1)
    write(tmp_path.parent / "dwi.json", D=1)
    try:
        assert read_sidecar(image, tmp_path) == {"B": 1}
    finally:
        (tmp_path.parent / "dwi.json").unlink()


def test_byte_order_mark_is_read(tmp_path, image):
    image.parent.mkdir(parents=True)
    own = image.with_name(image.name.replace(".nii.gz", ".json"))
    own.write_bytes(b"\xef\xbb\xbf" + '{"Übung": 1}'.encode())
    assert read_sidecar(image, tmp_path) == {"Übung": 1}
    own.write_text('{"Übung": 1}', encoding="latin-1")
    with pytest.raises(BadInputError, match="not valid JSON"):
        read_sidecar(image, tmp_path)
    own.write_text("[1]")
    with pytest.raises(BadInputError, match="no JSON object"):
        read_sidecar(image, tmp_path)


def test_two_that_apply_equally_are_refused(tmp_path, image):
    write(image.parent / "sub-01_dir-AP_dwi.json", A=1)
    write(image.parent / "sub-01_run-2_dwi.json", A=2)
    with pytest.raises(BadInputError, match="merge them"):
        read_sidecar(image, tmp_path)


def test_image_elsewhere_is_refused(tmp_path, image):
    with pytest.raises(BadInputError, match="not inside"):
        read_sidecar(image, tmp_path / "other")
