"""The segmentation against heads whose every sub-voxel is known, and against itself."""

import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from alsflow.interfaces.anat import LoadT1w, read_template
from alsflow.interfaces.images import load
from alsflow.interfaces.simulate import template_source
from alsflow.nodes.anat.bias import brain_field, divided
from alsflow.nodes.anat.brain import locate_brain, on_grid
from alsflow.nodes.anat.tissue import segment
from alsflow.nodes.geometry import voxel_sizes, voxel_volume
from alsflow.nodes.simulate.anatomy import Traits, prepare_blueprint
from alsflow.nodes.simulate.head import simulate_head
from alsflow.nodes.simulate.scanner import Scanner

BENCHMARK = Path(__file__).resolve().parents[3] / "benchmarks" / "segmentation.py"
LIMITS = {"gm": 2, "wm": 2, "csf": 10, "tiv": 3}  # %


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("segmentation_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("case", ["1 mm, again", "atrophy"])
def test_volumes_overlap_and_mask_at_one_millimetre(benchmark, case):
    row = benchmark.run_case((None, case))
    for name, limit in LIMITS.items():
        assert abs(row[name]) < limit, row
    assert row["dice_gm"] > 0.95, row
    assert row["dice_wm"] > 0.95, row
    assert row["dice_mask"] > 0.96, row
    assert row["roi_median"] < 2, row


@pytest.fixture(scope="module")
def head():
    blueprint = prepare_blueprint(template_source())
    return simulate_head(blueprint, Traits(), Scanner(), np.random.default_rng(5), voxel=2.0).scan


def volumes(data, affine, folder, qform_only=False):
    """TIV, GM, WM, mL, of one head stored as given; denoising would only cost time here."""
    path = folder / "sub-01_T1w.nii.gz"
    image = nib.Nifti1Image(data, affine)
    if qform_only:
        image.set_qform(affine, code=1)
        image.set_sform(None, code=0)
    nib.save(image, path)
    loaded = LoadT1w(in_file=str(path)).run(cwd=str(folder)).outputs.t1w_file
    volume, stored = load(loaded)
    template = read_template()
    brain, start = locate_brain(volume, stored.affine, template.t1w, template.affine)
    rough = on_grid(brain.mask, brain.affine, volume.shape, stored.affine)
    even = divided(volume, brain_field(volume, voxel_sizes(stored.affine), rough))
    found = segment(even, stored.affine, rough, start, template)
    amounts = [
        part.sum() * voxel_volume(stored.affine) for part in (found.gm, found.wm, found.csf)
    ]
    return np.array([sum(amounts), *amounts[:2]])


@pytest.fixture(scope="module")
def as_ras(head, tmp_path_factory):
    return volumes(head.image, head.affine, tmp_path_factory.mktemp("ras"))


def las(image, affine):
    return image[::-1], affine @ np.array(
        [[-1, 0, 0, image.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]
    )


def turned(affine, degrees=12.0):
    """The same voxels, in a world turned about an oblique axis."""
    angle, axis = np.deg2rad(degrees), np.array([0.6, 0.64, 0.48])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation = np.eye(4)
    rotation[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation @ affine


@pytest.mark.slow
@pytest.mark.parametrize("stored", ["LAS, qform only", "oblique, uint8"])
def test_the_way_a_head_is_stored_does_not_matter(head, as_ras, stored, tmp_path):
    if stored == "LAS, qform only":
        found = volumes(*las(head.image, head.affine), tmp_path, qform_only=True)
    else:
        levels = np.clip(head.image * (255 / head.image.max()), 0, 255).round().astype(np.uint8)
        found = volumes(levels, turned(head.affine), tmp_path)
    np.testing.assert_allclose(found, as_ras, rtol=0.005)
