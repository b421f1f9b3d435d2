"""Time between volumes and of slices: every place that may tell it, and every contradiction."""

import itertools

import nibabel as nib
import numpy as np
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.timing import repetition_time, slice_times

TURN = np.array([[0.98, -0.19, 0.05], [0.19, 0.98, 0.03], [-0.05, -0.02, 1.0]])
ORDERS = list(
    itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
)


@pytest.mark.parametrize(
    ("told", "step", "units", "tr", "note"),
    [
        (2.0, 2.0, "sec", 2.0, ""),
        (2.0, 2000.0, "msec", 2.0, ""),
        (0.72, 720000.0, "usec", 0.72, ""),
        (2.0, 2.0, "unknown", 2.0, ""),
        (2.0, 2.001, "sec", 2.0, ""),
        (2.0, 0.0, "sec", 2.0, "taken from the JSON sidecar"),
        (2.0, 2000.0, "unknown", 2.0, "taken from the JSON sidecar"),
        (2.0, 1.0, "unknown", 2.0, "programs"),
        (None, 2.0, "sec", 2.0, "taken from the header"),
        (0, 2500.0, "msec", 2.5, "taken from the header"),
        (None, 1.0, "unknown", 1.0, "taken from the header"),
        (0.2, 0.2, "sec", 0.2, ""),
        (10, 10.0, "sec", 10.0, ""),
    ],
)
def test_time_between_volumes(told, step, units, tr, note):
    found, said = repetition_time({"RepetitionTime": told}, step, units)
    assert found == pytest.approx(tr)
    assert note in said
    assert bool(note) == bool(said)


@pytest.mark.parametrize(
    ("meta", "step", "units", "words"),
    [
        ({"RepetitionTime": 2.0}, 3.0, "sec", ["RepetitionTime of 2 s", "header says 3 s"]),
        ({"RepetitionTime": 2000}, 2.0, "sec", ["2000 s in its JSON sidecar", "header says 2 s"]),
        ({"RepetitionTime": 2.0}, 2.0, "msec", ["2 s in its JSON", "0.002 s", "msec"]),
        ({"RepetitionTime": 2.0}, 3.0, "unknown", ["2 s", "3 s", "no unit"]),
        ({"RepetitionTime": 2.0}, 1.0, "sec", ["2 s", "header says 1 s"]),
        ({"RepetitionTime": 2.0}, 2.0021, "sec", ["2 s", "2.0021 s"]),
        ({}, 0.0, "sec", ["no RepetitionTime in its JSON sidecar", "NIfTI header is 0"]),
        ({}, 2000.0, "unknown", ["no RepetitionTime", "is 2000 (no unit of time)"]),
        ({"RepetitionTime": 0}, float("nan"), "sec", ["no RepetitionTime", "nan"]),
        ({}, 11.0, "sec", ["11 s between volumes", "header", "0.2 to 10 s"]),
        ({"RepetitionTime": 0.19}, 0.0, "sec", ["0.19 s", "RepetitionTime"]),
        ({"RepetitionTime": 2500}, 0.0, "sec", ["2500 s", "RepetitionTime", "in seconds"]),
        ({"RepetitionTime": "2"}, 2.0, "sec", ["RepetitionTime '2'"]),
        ({"RepetitionTime": -2}, 2.0, "sec", ["RepetitionTime -2"]),
        ({"RepetitionTime": True}, 2.0, "sec", ["RepetitionTime True"]),
        ({"VolumeTiming": [0, 2, 9]}, 2.0, "sec", ["VolumeTiming", "sparse"]),
    ],
)
def test_contradictions_name_both_places(meta, step, units, words):
    with pytest.raises(BadInputError) as refusal:
        repetition_time(meta, step, units)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(("order", "signs"), ORDERS)
@pytest.mark.parametrize("direction", [None, "k", "k-", "i", "j-"])
def test_times_follow_the_slices_into_ras_order(order, signs, direction):
    """Against nibabel: an image that holds the time of its slice, reordered."""
    affine = np.eye(4)
    affine[:3, :3] = (TURN * [2.0, 2.2, 2.5])[:, order] * signs
    shape = (5, 6, 7)
    axis = "ijk".index((direction or "k")[0])
    given = np.random.default_rng(0).permutation(shape[axis]) * 0.25
    stored = given[::-1] if (direction or "k").endswith("-") else given
    image = np.broadcast_to(np.expand_dims(stored, [k for k in range(3) if k != axis]), shape)
    meta = {"SliceTiming": given.tolist()}
    if direction:
        meta["SliceEncodingDirection"] = direction
    times, note = slice_times(meta, affine, (*shape, 20), 2.0)
    assert note == ""
    turned = nib.as_closest_canonical(nib.Nifti1Image(image.copy(), affine)).get_fdata()
    ras = int(nib.orientations.io_orientation(affine)[axis, 0])
    expected = np.moveaxis(turned, ras, 0)[:, 0, 0]
    np.testing.assert_array_equal(times, expected)


def test_a_step_that_cannot_be_done_says_why():
    for meta, words in (({}, "no SliceTiming"), ({"SliceTiming": [0.0] * 6}, "one time for all")):
        times, note = slice_times(meta, np.eye(4), (4, 5, 6), 2.0)
        assert times is None
        assert note.startswith("slice timing skipped")
        assert words in note


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([0.0, 0.5], "2 times in SliceTiming and 4 slices"),
        ([0.0, 0.5, 1.0, 1.5, 1.6], "5 times in SliceTiming and 4 slices"),
        ([0.0, 500.0, 1000.0, 1500.0], "look like milliseconds"),
        ([0.0, 0.5, 1.0, 2.0], "up to 2 in SliceTiming, and a volume lasts 2 s"),
        ([0.0, -0.5, 1.0, 1.5], "below 0"),
        ([0.0, float("nan"), 1.0, 1.5], "not finite"),
        (["0", "1", "2", "3"], "no list of numbers"),
        ("ascending", "no list of numbers"),
        ([], "no list of numbers"),
        (0.5, "no list of numbers"),
    ],
)
def test_times_that_cannot_be_are_refused(given, words):
    with pytest.raises(BadInputError, match=words):
        slice_times({"SliceTiming": given}, np.eye(4), (5, 6, 4), 2.0)


def test_a_direction_that_is_none_is_refused():
    meta = {"SliceTiming": [0, 0.5, 1.0, 1.5], "SliceEncodingDirection": "z"}
    with pytest.raises(BadInputError, match="none of i, i-"):
        slice_times(meta, np.eye(4), (5, 6, 4), 2.0)


def test_the_last_time_may_come_close_to_the_end():
    times, _ = slice_times({"SliceTiming": [0, 0.5, 1, 1.999]}, np.eye(4), (5, 6, 4), 2.0)
    assert times.tolist() == [0, 0.5, 1, 1.999]
