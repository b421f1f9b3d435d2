"""The spectroscopy voxel on slices: left is left whatever the grid, and the overlap's peak."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import grid_points
from alsflow.nodes.report.spectroscopy_voxel import (
    MARGIN,
    PIXEL,
    draw_overlap,
    draw_voxel,
    overlap_caption,
    overlap_peak,
)

CENTRE = np.array([-22.0, 10.0, 31.0])
HALF = np.array([15.0, 9.0, 12.0])  # mm, half edges of a voxel along the axes of the world
BRAIN = np.array([50.0, 60.0, 45.0])  # mm, half axes


def grid(kind):
    """Shape and affine of a field of view about the origin."""
    axes = {
        "ras": np.diag([2.0, 2.2, 2.1]),
        "left-handed": np.diag([-2.0, 2.2, 2.1]),
        "permuted": np.array([[0, 0, -2.1], [2.0, 0, 0], [0, 2.2, 0]]),
        "oblique": Rotation.from_euler("xyz", [25, -20, 30], degrees=True).as_matrix() * 2.0,
    }[kind]
    shape = np.array((81, 85, 83))
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = -axes @ ((shape - 1) / 2)
    return tuple(shape), affine


def head(kind):
    """Image, voxel, affine and brain of one head on a grid."""
    shape, affine = grid(kind)
    points = grid_points(shape, affine)
    brain = np.square(points / BRAIN.reshape(3, 1, 1, 1)).sum(axis=0) < 1
    offset = np.abs(points - CENTRE.reshape(3, 1, 1, 1))
    mask = (offset <= HALF.reshape(3, 1, 1, 1)).all(axis=0)
    return brain * (100.0 + points[0]), mask, affine, brain


def outline(figure, brain, affine):
    """Coordinates to the right, mm, of the outline in each of the three tiles."""
    axes = figure.axes[0]
    vertices = np.vstack([path.vertices for path in axes.collections[0].get_paths()])
    starts = [text.get_position()[0] - 3 for text in axes.texts if text.get_text() in "LP"]
    low = grid_points(brain.shape, affine)[:, brain].min(axis=1) - MARGIN
    column = np.searchsorted(starts, vertices[:, 0]) - 1
    return [
        low[right] + (vertices[column == k, 0] - starts[k]) * PIXEL
        for k, right in enumerate((0, 0, 1))
    ]


@pytest.mark.parametrize("kind", ["ras", "left-handed", "permuted", "oblique"])
def test_the_outline_is_where_the_voxel_is_on_any_grid(kind):
    t1w, mask, affine, brain = head(kind)
    figure = draw_voxel(t1w, mask, affine, brain)
    sides = outline(figure, brain, affine)
    for own, axis in zip(sides, (0, 0, 1), strict=True):
        assert own.min() == pytest.approx(CENTRE[axis] - HALF[axis], abs=2)
        assert own.max() == pytest.approx(CENTRE[axis] + HALF[axis], abs=2)
    said = [text.get_text() for text in figure.axes[0].texts]
    places = dict(text.split(" = ") for text in said if " = " in text)
    for axis, value in zip("xyz", CENTRE, strict=True):
        assert float(places[axis]) == pytest.approx(value, abs=1.5)
    assert [text for text in said if len(text) == 1] == ["L", "R", "L", "R", "P", "A"]


def test_a_turned_grid_does_not_blow_up_the_frame():
    sizes = {}
    for kind in ("ras", "oblique"):
        t1w, mask, affine, brain = head(kind)
        sizes[kind] = draw_voxel(t1w, mask, affine, brain).get_size_inches()
    np.testing.assert_allclose(sizes["oblique"], sizes["ras"], rtol=0.05)


def test_the_picture_shows_the_head_the_right_way_round():
    """The head is brighter to the right: so must be the picture, on a left-handed grid too."""
    for kind in ("ras", "left-handed"):
        t1w, mask, affine, _ = head(kind)
        picture = draw_voxel(t1w, mask, affine).axes[0].images[0].get_array()[..., 0]
        axial = picture[:, : int(2 * (BRAIN[0] + MARGIN) / PIXEL)]
        row = axial[axial.shape[0] // 2]
        inside = row[row > 0.05]
        assert inside[-20:].mean() > inside[:20].mean() + 0.1


def test_a_voxel_beside_the_brain_is_still_in_the_frame():
    t1w, mask, affine, brain = head("ras")
    brain[:] = brain & (grid_points(brain.shape, affine)[0] > 10)
    figure = draw_voxel(t1w, mask, affine, brain)
    vertices = np.vstack([p.vertices for p in figure.axes[0].collections[0].get_paths()])
    assert vertices[:, 0].min() * PIXEL > MARGIN / 2


def test_no_voxel_is_refused():
    t1w, mask, affine, _ = head("ras")
    with pytest.raises(BadInputError, match="is empty"):
        draw_voxel(t1w, mask & False, affine)


def test_the_peak_lies_in_the_middle_of_those_that_share_it():
    _, affine = grid("permuted")
    overlap = np.zeros((81, 85, 83))
    overlap[10:21, 30:35, 40:43] = 0.75
    overlap[12, 31, 41] = 0.75 - 1e-6  # the same but for rounding
    overlap[50, 50, 50] = 0.5
    place, share = overlap_peak(overlap, affine)
    np.testing.assert_allclose(place, affine[:3] @ [15, 32, 41, 1])
    assert share == pytest.approx(0.75)
    with pytest.raises(BadInputError, match="0 everywhere"):
        overlap_peak(0 * overlap, affine)


def test_colours_of_the_overlap_are_those_of_the_bar():
    t1w, mask, affine, _ = head("left-handed")
    figure = draw_overlap(mask * 1.0, affine, t1w, affine, 4)
    picture, bar = (axes.images[0].get_array() for axes in figure.axes)
    top = bar[0, -1, :3]
    assert np.isclose(picture, top, atol=0.02).all(axis=-1).sum() > 1000  # 30 x 18 mm and two more
    said = {text.get_text() for text in figure.texts}
    assert {"0", "100", "people, %"} <= said
    assert any("voxels of 4 people" in text for text in said)
    half = draw_overlap(mask * 0.25, affine, t1w, affine, 4).axes[0]
    assert not np.isclose(half.images[0].get_array(), top, atol=0.02).all(axis=-1).any()
    assert not half.collections  # nowhere half of the people


def test_the_caption_says_how_many_meet_where():
    text = overlap_caption(21, 0.952, [-7.2, -22.0, 58.4])
    assert "21 people" in text
    assert "x −7, y −22, z 58 mm: the voxels of 95 % of them" in text
    assert "mm: all." in overlap_caption(2, 1.0, [0, 0, 0])
    assert "one person" in overlap_caption(1, 1.0, [0, 0, 0])
