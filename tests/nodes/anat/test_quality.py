"""The judge lets a sound head pass and notices each way in which a mask or a tissue map fails."""

import numpy as np
import pytest
from scipy import ndimage

from alsflow.nodes.anat.quality import expected_here, judge, measure_quality, noise_in

SHAPE = (90, 110, 84)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
AFFINE[:3, 3] = [-90.0, -118.0, -78.0]


def ellipsoid(centre, radii):
    points = np.indices(SHAPE) * 2.0 + AFFINE[:3, 3][:, None, None, None]
    gaps = (points - np.array(centre)[:, None, None, None]) / np.array(radii)[:, None, None, None]
    return (gaps**2).sum(axis=0) <= 1


def head(noise=0.02):
    """Brain of about 1.5 L: a white middle, a grey coat, a rim of CSF."""
    rng = np.random.default_rng(3)
    brain = ellipsoid((0, -8, 8), (66, 84, 66))
    tissue = ellipsoid((0, -8, 8), (62, 80, 62))
    white = ellipsoid((0, -8, 8), (46, 62, 46))
    maps = {"wm": white, "gm": tissue & ~white, "csf": brain & ~tissue}
    maps = {name: part.astype(np.float32) for name, part in maps.items()}
    even = 1.0 * maps["wm"] + 0.7 * maps["gm"] + 0.2 * maps["csf"]
    bias = 1 + 0.1 * np.sin(np.indices(SHAPE)[0] / 30)
    raw = even * bias + noise * rng.standard_normal(SHAPE)
    cerebellum = brain & ellipsoid((0, -60, -30), (50, 34, 24))
    template = {"brain": brain, "wm": maps["wm"], "region_cerebellum": cerebellum}
    expected = expected_here(template, AFFINE, np.eye(4), SHAPE, AFFINE)
    smooth = even + 0.02 * rng.standard_normal(SHAPE)
    return {
        "raw": raw,
        "corrected": smooth,
        "bias": bias,
        "tissues": maps,
        "mask": brain,
        "affine": AFFINE,
        "template": expected,
    }


def with_mask(parts, mask):
    maps = {name: part * mask for name, part in parts["tissues"].items()}
    return parts | {"mask": mask, "tissues": maps}


def names(parts):
    return {flag.name for flag in judge(measure_quality(**parts))}


def test_a_sound_head_passes():
    metrics = measure_quality(**head())
    assert judge(metrics) == []
    assert metrics["noise"] == pytest.approx(2, rel=0.1)
    assert metrics["tiv"] == pytest.approx(1532, rel=0.01)
    assert metrics["cnr"] == pytest.approx(15, rel=0.15)
    assert abs(metrics["asymmetry"]) < 0.03


def test_a_cut_vertex_a_lost_cerebellum_and_a_lost_side_are_noticed():
    parts = head()
    points = np.indices(SHAPE) * 2.0 + AFFINE[:3, 3][:, None, None, None]
    assert "vertex_missing" in names(with_mask(parts, parts["mask"] & (points[2] < 58)))
    hindless = parts["mask"] & ~ellipsoid((0, -60, -30), (52, 36, 26))
    assert "cerebellum_missing" in names(with_mask(parts, hindless))
    assert "mask_lopsided" in names(with_mask(parts, parts["mask"] & (points[0] < 40)))


def test_a_brain_at_the_edge_of_the_image_is_noticed():
    parts = head()
    mask = parts["mask"].copy()
    top = int(np.flatnonzero(mask.any(axis=(0, 1)))[-8])
    cut = {
        name: part[:, :, :top] if isinstance(part, np.ndarray) and part.ndim == 3 else part
        for name, part in parts.items()
    }
    cut["tissues"] = {name: part[:, :, :top] for name, part in parts["tissues"].items()}
    cut["template"] = {name: part[:, :, :top] for name, part in parts["template"].items()}
    assert "cut_off_superior" in names(cut)


def test_too_large_too_small_and_misplaced_masks_are_noticed():
    parts = head()
    large = ndimage.binary_dilation(parts["mask"], iterations=5)
    grown = with_mask(parts, large)
    grown["tissues"]["csf"] = (large & (parts["tissues"]["csf"] == 0) & ~parts["mask"]) + parts[
        "tissues"
    ]["csf"]
    assert {"tiv_implausible", "mask_misplaced"} <= names(grown)
    small = ndimage.binary_erosion(parts["mask"], iterations=6)
    assert {"tiv_implausible", "mask_misplaced"} <= names(with_mask(parts, small))
    moved = {name: np.roll(part, 9, axis=1) for name, part in parts["tissues"].items()}
    away = parts | {"mask": np.roll(parts["mask"], 9, axis=1), "tissues": moved}
    assert "mask_misplaced" in names(away)


def test_tissue_that_fails_is_noticed():
    parts = head()
    swapped = dict(parts["tissues"], gm=parts["tissues"]["wm"], wm=parts["tissues"]["gm"])
    assert "tissue_misplaced" in names(parts | {"tissues": swapped})
    nothing = dict(parts["tissues"], wm=parts["tissues"]["wm"] * 0.01)
    assert "gm_to_wm_implausible" in names(parts | {"tissues": nothing})
    flat = parts | {"corrected": 0.9 + 0.2 * np.random.default_rng(0).standard_normal(SHAPE)}
    assert any(name.startswith("contrast") or name.startswith("joint") for name in names(flat))


def test_holes_and_unknown_numbers_are_reasons():
    parts = head()
    holed = parts["mask"] & ~ellipsoid((20, -8, 8), (9, 9, 9))
    assert "mask_holes" in names(with_mask(parts, holed))
    empty = with_mask(parts, np.zeros(SHAPE, bool))
    assert any(name.endswith("_unknown") for name in names(empty))


@pytest.mark.parametrize("limit", ["tiv"])
def test_the_edge_of_a_limit_is_inside(limit):
    metrics = measure_quality(**head())
    assert judge(metrics | {limit: 1100.0}) == []
    assert judge(metrics | {limit: 1099.9}) != []
    assert judge(metrics | {limit: 2000.0}) == []


def test_noise_is_not_raised_by_bias():
    rng = np.random.default_rng(0)
    ramp = 100 * np.exp(np.linspace(0, 0.5, 60))[:, None, None] * np.ones((60, 20, 20))
    noisy = ramp + 3 * rng.standard_normal(ramp.shape)
    assert noise_in(noisy, np.ones(ramp.shape, bool)) == pytest.approx(3, rel=0.05)
