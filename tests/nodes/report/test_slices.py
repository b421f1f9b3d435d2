"""Pictures follow the world, not the order in which voxels are stored."""

import nibabel as nib
import numpy as np
import pytest

from alsflow.nodes.report.anatomy import draw_atlas, draw_outline, draw_template, palette
from alsflow.nodes.report.slices import bounds, montage, plan


@pytest.fixture(scope="module")
def head():
    """Ball of 45 mm radius with a bright mark on the left, in front and above; 2 x 2.5 x 3 mm."""
    affine = np.diag([2.0, 2.5, 3.0, 1.0])
    affine[:3, 3] = [-70, -80, -60]
    x, y, z = nib.affines.apply_affine(
        affine, np.moveaxis(np.indices((72, 64, 40)), 0, -1)
    ).transpose(3, 0, 1, 2)
    mask = x**2 + y**2 + z**2 < 45**2
    data = 100.0 * mask + 200.0 * ((x + 30) ** 2 + (y - 10) ** 2 + (z - 15) ** 2 < 6**2)
    return data.astype(np.float32), mask, affine


def stored(data, affine, axes):
    """The same world in another order of voxels."""
    image = nib.Nifti1Image(data, affine)
    change = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt(axes)
    )
    turned = image.as_reoriented(change)
    return np.asarray(turned.dataobj), turned.affine


@pytest.mark.parametrize("axes", ["LAS", "LPS", "PIR", "SAL"])
def test_a_picture_does_not_depend_on_the_order_of_voxels(head, axes):
    data, mask, affine = head
    expected = montage(data, affine, plan(mask, affine))
    other, other_affine = stored(data, affine, axes)
    other_mask, _ = stored(mask.astype(np.uint8), affine, axes)
    found = montage(other, other_affine, plan(other_mask > 0, other_affine))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_left_is_on_the_left_front_is_on_the_right_and_up_is_up(head):
    data, mask, affine = head
    layout = plan(mask, affine, count=9)
    picture = montage(data, affine, layout)
    seen = set()
    for tile in layout.tiles:
        rows, columns = layout.size(tile)
        part = picture[tile.row : tile.row + rows, tile.column : tile.column + columns]
        marked = np.argwhere(part > 220)
        if len(marked):
            row, column = marked.mean(axis=0)
            world = {
                tile.axis: tile.position,
                tile.right: layout.low[tile.right] + (column + 0.5) * layout.pixel,
                tile.up: layout.low[tile.up] + (rows - row - 0.5) * layout.pixel,
            }
            np.testing.assert_allclose([world[0], world[1], world[2]], [-30, 10, 15], atol=7)
            assert (column < columns / 2) == (tile.plane != "sagittal")
            assert row < rows / 2
            seen.add(tile.plane)
    assert seen == {"axial", "coronal", "sagittal"}


def test_an_oblique_grid_is_cut_along_the_world(head):
    """A ball stays round and in its place when the grid under it is turned by 20 degrees."""
    _, mask, affine = head
    turn = np.eye(4)
    angle = np.deg2rad(20)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    layout = plan(mask, affine, count=5)
    straight = montage(mask, affine, layout, order=0)
    turned = montage(mask, turn @ affine, layout, order=0)
    overlap = 2 * (straight * turned).sum() / (straight.sum() + turned.sum())
    assert overlap > 0.97


def test_a_mask_that_is_no_brain_shows_the_whole_image(head):
    data, mask, affine = head
    whole = bounds(np.ones_like(mask), affine)
    for wrong in (np.zeros_like(mask), np.indices(mask.shape).max(axis=0) < 3):
        layout = plan(wrong, affine)
        np.testing.assert_allclose(layout.low, whole[0])
        np.testing.assert_allclose(layout.high, whole[1])


def test_bounds_are_the_faces_of_the_voxels():
    mask = np.zeros((5, 6, 7), bool)
    mask[1:3, 2, 3:6] = True
    low, high = bounds(mask, np.diag([-2.0, 3.0, 4.0, 1.0]))
    np.testing.assert_allclose(low, [-5, 4.5, 10])
    np.testing.assert_allclose(high, [-1, 7.5, 22])


def test_the_outline_lies_on_the_border_of_the_mask(head):
    """Every point of the line is 45 mm from the centre, within half a voxel diagonal."""
    data, mask, affine = head
    figure = draw_outline(data, mask, affine)
    layout = plan(mask, affine)
    (axes,) = figure.axes
    (line,) = axes.collections
    points = np.concatenate([path.vertices for path in line.get_paths()])
    radii = []
    for tile in layout.tiles:
        rows, columns = layout.size(tile)
        x, y = points[:, 0] - tile.column, points[:, 1] - tile.row
        inside = (x > 0) & (x < columns) & (y > 0) & (y < rows)
        right = layout.low[tile.right] + x[inside] * layout.pixel
        up = layout.low[tile.up] + (rows - y[inside]) * layout.pixel
        radii.append(np.sqrt(right**2 + up**2 + tile.position**2))
    assert len(np.concatenate(radii)) > 500
    np.testing.assert_allclose(np.concatenate(radii), 45, atol=2.2)


def test_regions_are_drawn_where_they_are_in_their_own_colours(head):
    data, mask, affine = head
    region = np.zeros(mask.shape, bool)
    region[20:30, 30:40, 15:25] = True
    figure = draw_atlas(
        data, mask, affine, {"one": (region, affine), "none": (~mask & mask, affine)}
    )
    picture = figure.axes[0].images[0].get_array()
    coloured = np.ptp(np.asarray(picture), axis=2) > 0.05
    assert 0 < coloured.mean() < 0.2
    shown = [text.get_text() for text in figure.texts]
    assert any("one" in text for text in shown)
    assert any("none" in text for text in shown)


def test_template_maps_of_any_scale_give_the_same_picture(head):
    data, mask, affine = head
    gm, wm = mask.astype(np.float32), np.zeros(mask.shape, np.float32)
    wm[30:40, 25:35, 15:25] = 1
    lines = []
    for scale in (1, 255):
        axes = draw_template(data, affine, scale * (gm - wm), scale * wm, affine).axes[0]
        lines.append([path.vertices for c in axes.collections for path in c.get_paths()])
    for one, other in zip(*lines, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_an_empty_or_undefined_image_still_gives_a_picture(head):
    _, mask, affine = head
    for value in (0.0, np.nan):
        assert draw_outline(np.full(mask.shape, value), mask, affine).axes


def test_the_palette_holds_black_white_and_every_overlay():
    colours = {tuple(colour) for colour in palette(48).tolist()}
    assert {(0, 0, 0), (255, 255, 255), (255, 212, 0), (230, 159, 0)} <= colours
    assert len(colours) <= 256
