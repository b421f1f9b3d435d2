"""From a file to tissue maps with their judgement, and sentences for files that are no use."""

import gzip
import json

import nibabel as nib
import numpy as np
import pytest

from alsflow.interfaces.anat import (
    CorrectBias,
    Denoise,
    FindBrain,
    JudgeSegmentation,
    LoadT1w,
    SegmentTissue,
)
from alsflow.interfaces.images import save
from alsflow.interfaces.simulate import template_source
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.simulate.anatomy import Traits, prepare_blueprint
from alsflow.nodes.simulate.head import simulate_head
from alsflow.nodes.simulate.scanner import Scanner

TISSUES = ("gm", "wm", "csf")


def run(interface, folder, **inputs):
    folder.mkdir(exist_ok=True)
    interface.inputs.trait_set(**{name: str(value) for name, value in inputs.items()})
    return interface.run(cwd=str(folder)).outputs


def data_of(path):
    return np.asarray(nib.load(path).dataobj)


@pytest.fixture(scope="module")
def head():
    """A person of known anatomy at 2 mm, 3 % noise and 20 % non-uniformity."""
    blueprint = prepare_blueprint(template_source())
    traits = Traits(tiv=1500.0, rim=2.0, ventricle_growth=1.0)
    return simulate_head(blueprint, traits, Scanner(), np.random.default_rng(21), voxel=2.0)


@pytest.fixture(scope="module")
def chain(head, tmp_path_factory):
    """Outputs of every interface, run one after the other on that head stored as LAS."""
    folder = tmp_path_factory.mktemp("anat")
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = head.scan.image.shape[0] - 1
    save(head.scan.image[::-1], head.scan.affine @ flip, folder / "sub-01_T1w.nii.gz")
    loaded = run(LoadT1w(), folder / "load", in_file=folder / "sub-01_T1w.nii.gz")
    brain = run(FindBrain(), folder / "brain", t1w_file=loaded.t1w_file)
    rough = {"mask_file": brain.mask_file}
    clean = run(Denoise(), folder / "denoise", t1w_file=loaded.t1w_file, **rough)
    even = run(CorrectBias(), folder / "bias", t1w_file=clean.t1w_file, **rough)
    place = {"affine_file": brain.affine_file}
    inputs = {"t1w_file": even.t1w_file, "bias_file": even.bias_file, **rough, **place}
    tissue = run(SegmentTissue(), folder / "tissue", **inputs)
    maps = {f"{k}_file": getattr(tissue, f"{k}_file") for k in (*TISSUES, "mask", "t1w", "bias")}
    judged = run(JudgeSegmentation(), folder / "qc", raw_file=loaded.t1w_file, **maps, **place)
    return {"loaded": loaded, "clean": clean, "even": even, "tissue": tissue, "judged": judged}


@pytest.mark.slow
def test_tissue_is_found_within_a_few_percent(head, chain):
    """At 2 mm a voxel is nearly as thick as the cortex; at 1 mm errors are below 2 %."""
    found = {name: data_of(getattr(chain["tissue"], f"{name}_file")) for name in TISSUES}
    truth = dict(zip(TISSUES, np.moveaxis(head.scan.fractions, -1, 0), strict=True))
    for name, limit in (("gm", 0.05), ("wm", 0.03), ("csf", 0.2)):
        assert found[name].sum() == pytest.approx(truth[name].sum(), rel=limit)
    total = sum(part.sum() for part in found.values())
    assert total == pytest.approx(head.scan.fractions.sum(), rel=0.03)
    for name, least in (("gm", 0.92), ("wm", 0.94)):
        both = ((found[name] > 0.5) & (truth[name] > 0.5)).sum()
        assert 2 * both / ((found[name] > 0.5).sum() + (truth[name] > 0.5).sum()) > least


@pytest.mark.slow
def test_maps_are_fractions_in_the_mask_on_the_grid_of_the_input(chain):
    tissue, loaded = chain["tissue"], nib.load(chain["loaded"].t1w_file)
    maps = [data_of(getattr(tissue, f"{name}_file")) for name in TISSUES]
    mask = data_of(tissue.mask_file) > 0
    np.testing.assert_allclose(sum(maps)[mask], 1, atol=1e-4)
    assert not sum(maps)[~mask].any()
    assert all(part.dtype == np.float32 and part.min() >= 0 for part in maps)
    np.testing.assert_allclose(nib.load(tissue.gm_file).affine, loaded.affine, atol=1e-5)


@pytest.mark.slow
def test_mask_and_bias_match_the_truth(head, chain):
    mask, truth = data_of(chain["tissue"].mask_file) > 0, head.scan.brain
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.97
    left = data_of(chain["tissue"].bias_file)[truth] / head.scan.bias[truth]
    assert left.std() / left.mean() < 0.02
    assert head.scan.bias[truth].std() > 0.035


@pytest.mark.slow
def test_noise_is_removed_where_the_brain_is(head, chain):
    clean = data_of(chain["clean"].t1w_file)
    white = head.scan.fractions[..., 1] > 0.99
    raw = head.scan.image
    assert (
        np.diff(clean, axis=0)[white[1:] & white[:-1]].std()
        < 0.6 * np.diff(raw, axis=0)[white[1:] & white[:-1]].std()
    )
    assert clean[white].mean() == pytest.approx(raw[white].mean(), rel=0.01)


@pytest.mark.slow
def test_a_sound_head_is_not_flagged(head, chain):
    with open(chain["judged"].qc_file, encoding="utf-8") as stream:
        qc = json.load(stream)
    assert qc["flags"] == []
    assert qc["metrics"]["noise"] == pytest.approx(3, abs=0.7)
    assert qc["metrics"]["tiv"] == pytest.approx(head.volumes["tiv"], rel=0.04)


def small(folder, name="sub-02_T1w.nii.gz"):
    volume = np.random.default_rng(0).gamma(2, 50, (60, 70, 64)).astype(np.float32)
    return volume, folder / name


def refused(path, folder):
    with pytest.raises(BadInputError) as caught:
        run(LoadT1w(), folder / "load", in_file=path)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_a_truncated_file_is_called_truncated(tmp_path):
    volume, path = small(tmp_path)
    save(volume, np.diag([2, 2, 2, 1]), path)
    path.write_bytes(path.read_bytes()[:-5000])
    assert "truncated" in refused(path, tmp_path)


def test_compressed_text_and_damaged_bytes_are_refused(tmp_path):
    _, path = small(tmp_path)
    path.write_bytes(gzip.compress(b"this is no image"))
    assert "cannot be read" in refused(path, tmp_path)
    path.write_bytes(b"this is not even compressed")
    assert "cannot be read" in refused(path, tmp_path)


def test_a_damaged_middle_is_noticed(tmp_path):
    volume, path = small(tmp_path)
    save(volume, np.diag([2, 2, 2, 1]), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 60] = bytes(60)
    path.write_bytes(content)
    refused(path, tmp_path)


def test_a_short_uncompressed_file_is_refused(tmp_path):
    volume, path = small(tmp_path, "sub-02_T1w.nii")
    save(volume, np.diag([2, 2, 2, 1]), path)
    path.write_bytes(path.read_bytes()[:-5000])
    refused(path, tmp_path)


def test_values_that_are_not_numbers_name_the_file(tmp_path):
    volume, path = small(tmp_path)
    volume[3, 4, 5] = np.nan
    save(volume, np.diag([2, 2, 2, 1]), path)
    assert "not numbers" in refused(path, tmp_path)


def test_a_qform_is_enough_and_scaled_integers_are_scaled(tmp_path):
    volume, path = small(tmp_path)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-60, -70, -64]
    image = nib.Nifti1Image(np.round(volume).astype(np.int16), affine)
    image.set_sform(None, code=0)
    image.set_qform(affine, code=1)
    image.header.set_slope_inter(2.0, 10.0)
    nib.save(image, path)
    found = nib.load(run(LoadT1w(), tmp_path / "load", in_file=path).t1w_file)
    np.testing.assert_allclose(found.affine, affine, atol=1e-5)
    np.testing.assert_allclose(
        np.asarray(found.dataobj), np.asarray(nib.load(path).dataobj), rtol=1e-6
    )
