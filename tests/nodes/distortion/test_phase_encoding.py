import itertools

import nibabel as nib
import numpy as np
import pytest

from alsflow.nodes.distortion.phase_encoding import (
    LONGEST,
    PhaseEncoding,
    axis_from_sidecar,
    from_sidecar,
    readout_time,
)
from alsflow.nodes.errors import BadInputError

SHAPE = (7, 8, 9)


def stored_affines():
    """All 48 orders and flips in which an image can be stored, a little oblique."""
    tilt = np.array([[1, 0.1, -0.05], [-0.1, 1, 0.08], [0.05, -0.08, 1]])
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            affine = np.eye(4)
            affine[:3, :3] = tilt @ np.eye(3)[:, order] * flips * (2.0, 2.5, 3.0)
            yield affine


@pytest.mark.parametrize("text", ["i", "i-", "j", "j-", "k", "k-"])
def test_direction_points_the_same_way_in_the_world_after_reordering(text):
    for affine in stored_affines():
        encoding = from_sidecar({"PhaseEncodingDirection": text}, affine)
        image = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), affine)
        canonical = nib.as_closest_canonical(image).affine
        meant = affine[:3, "ijk".index(text[0])] * (-1 if text.endswith("-") else 1)
        np.testing.assert_allclose(canonical[:3, encoding.axis] * encoding.sign, meant)


def test_las_keeps_the_axis_and_turns_only_what_is_flipped():
    las = np.diag([-2.0, 2.0, 2.0, 1.0])
    assert from_sidecar({"PhaseEncodingDirection": "i"}, las) == PhaseEncoding(0, -1, None)
    assert from_sidecar({"PhaseEncodingDirection": "j-"}, las) == PhaseEncoding(1, -1, None)


def test_readout_is_given_or_computed_as_bids_says():
    assert readout_time({"TotalReadoutTime": 0.04, "EffectiveEchoSpacing": 9}) == 0.04
    spaced = {"EffectiveEchoSpacing": 0.00041}
    assert readout_time(spaced | {"ReconMatrixPE": 102}) == pytest.approx(0.04141)
    assert readout_time(spaced, 102) == pytest.approx(0.04141)
    assert readout_time(spaced) is None
    assert readout_time({}) is None
    affine = np.eye(4)[[1, 0, 2, 3]]  # stored j is world x
    meta = spaced | {"PhaseEncodingDirection": "j"}
    found = from_sidecar(meta, affine, (50, 102, 60))
    assert found == PhaseEncoding(0, 1, pytest.approx(0.04141))


@pytest.mark.parametrize(
    "meta",
    [
        {"TotalReadoutTime": 0.0},
        {"TotalReadoutTime": -0.04},
        {"TotalReadoutTime": 47.6},
        {"TotalReadoutTime": LONGEST * 1.001},
        {"TotalReadoutTime": float("nan")},
        {"TotalReadoutTime": True},
        {"TotalReadoutTime": "0.04"},
        {"EffectiveEchoSpacing": 0.41, "ReconMatrixPE": 102},
        {"EffectiveEchoSpacing": 0.00041, "ReconMatrixPE": 1},
        {"EffectiveEchoSpacing": -0.00041, "ReconMatrixPE": 102},
    ],
)
def test_readout_that_no_scanner_has_is_refused(meta):
    with pytest.raises(BadInputError, match="TotalReadoutTime|EffectiveEchoSpacing"):
        readout_time(meta)


def test_longest_readout_is_accepted():
    assert readout_time({"TotalReadoutTime": LONGEST}) == LONGEST


@pytest.mark.parametrize("text", ["y", "J", "", "j+", "jj", 1, "AP"])
def test_direction_that_is_none_is_refused(text):
    with pytest.raises(BadInputError, match="PhaseEncodingDirection"):
        from_sidecar({"PhaseEncodingDirection": text}, np.eye(4))


def test_missing_direction_says_what_cannot_be_done():
    with pytest.raises(BadInputError, match="susceptibility distortion cannot be corrected"):
        from_sidecar({"TotalReadoutTime": 0.04}, np.eye(4))
    with pytest.raises(BadInputError, match="only its axis"):
        from_sidecar({"PhaseEncodingAxis": "j"}, np.eye(4))


def test_axis_alone_serves_eddy_currents():
    turned = np.eye(4)[[1, 0, 2, 3]]
    assert axis_from_sidecar({"PhaseEncodingAxis": "j"}, turned) == 0
    assert axis_from_sidecar({"PhaseEncodingDirection": "k-"}, turned) == 2
    assert axis_from_sidecar({}, turned) is None


def test_slices_are_not_stacked_along_the_phase_encoding():
    meta = {"PhaseEncodingDirection": "k", "SliceEncodingDirection": "k-"}
    with pytest.raises(BadInputError, match="SliceEncodingDirection"):
        from_sidecar(meta, np.eye(4))
    assert from_sidecar(meta | {"SliceEncodingDirection": "j"}, np.eye(4)).axis == 2
