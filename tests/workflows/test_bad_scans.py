"""Scans that cannot be used: their person is refused in words, and the validator stops nobody."""

import gzip
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from clinic import damage_header

from alsflow.cli import main

EXAMPLE = Path(__file__).resolve().parents[2] / "bids_example"


def image(data, zooms=(2.0, 2.0, 2.0)):
    return nib.Nifti1Image(np.asarray(data, np.float32), np.diag([*zooms, 1.0]))


def noise(*shape):
    return np.random.default_rng(0).normal(100, 20, shape)


def not_a_number(path):
    data = noise(90, 100, 80)
    data[40, 50, 40] = np.nan
    nib.save(image(data), path)


def truncated(path):
    nib.save(image(noise(90, 100, 80)), path)
    path.write_bytes(path.read_bytes()[:50_000])


def damaged_header(path):
    nib.save(image(noise(90, 100, 80)), path)
    damage_header(path)


def other_samples(path):
    """A content that unpacks, and is not the one of its checksum."""
    nib.save(image(noise(90, 100, 80)), path)
    sound = path.read_bytes()
    content = bytearray(gzip.decompress(sound))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(content))[:-8] + sound[-8:])


def flipped_bits(path):
    nib.save(image(noise(90, 100, 80)), path)
    content = bytearray(path.read_bytes())
    content[30_000:30_100] = bytes(100)
    path.write_bytes(bytes(content))


BAD = {
    "truncated": (truncated, "truncated or damaged"),
    "header": (damaged_header, "T1w.nii.gz"),
    "samples": (other_samples, "truncated or damaged"),
    "damaged": (flipped_bits, "T1w.nii.gz"),
    "nan": (not_a_number, "NaN"),
    "zeros": (lambda path: nib.save(image(np.zeros((90, 100, 80))), path), "zero"),
    "2d": (lambda path: nib.save(image(noise(90, 100)), path), "90 x 100"),
    "thick": (lambda path: nib.save(image(noise(90, 100, 30), (2, 2, 6)), path), "3 mm"),
    "series": (lambda path: nib.save(image(noise(40, 40, 40, 3)), path), "4"),
    "text": (lambda path: path.write_bytes(gzip.compress(b"hello")), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "corner": (lambda path: nib.save(image(noise(20, 20, 20)), path), "40"),
    "ball": (lambda path: nib.save(image(noise(90, 100, 80) * 0 + 5), path), ""),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_scan_is_65_and_named(kind, tmp_path, capsys):
    make, words = BAD[kind]
    bids, out = tmp_path / "bids", tmp_path / "out"
    (bids / "sub-01" / "anat").mkdir(parents=True)
    for name in ("dataset_description.json", "participants.json", "README.md"):
        shutil.copy(EXAMPLE / name, bids / name)
    table = (EXAMPLE / "participants.tsv").read_text().splitlines()[:2]
    (bids / "participants.tsv").write_text("\n".join(table) + "\n")
    make(bids / "sub-01/anat/sub-01_T1w.nii.gz")
    code = main([str(bids), str(out), "participant", "-w", str(tmp_path / "work")])
    told = capsys.readouterr()
    status = (out / "status.tsv").read_text()
    assert code == 65, status
    assert "\trefused\t" in status
    assert "sub-01" in status
    assert words in status
    assert "Traceback" not in told.out + told.err
    assert "sub-01" in told.err + told.out
    assert not list((out / "sub-01").rglob("*.nii.gz")) if (out / "sub-01").exists() else True
