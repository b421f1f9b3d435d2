"""Connectivity against numpy and nilearn, and its edges."""

import nibabel as nib
import numpy as np
import pytest
from nilearn.maskers import NiftiLabelsMasker, NiftiMasker

from alsflow.nodes.func.connectivity import (
    R_MOST,
    Area,
    connection_table,
    correlations,
    fisher_z,
    mean_series,
    relation_matrix,
    seed_maps,
    seed_table,
    thresholded,
    varying,
    voxel_connections,
)

SHAPE = (7, 9, 8)
VOLUMES = 61
VOXELS = int(np.prod(SHAPE))


@pytest.fixture
def signal():
    """Voxels share a course by their place; one is constant."""
    rng = np.random.default_rng(5)
    course = rng.standard_normal(VOLUMES).cumsum()
    weight = np.linspace(-1, 1, VOXELS)[:, None]
    data = 800 + 30 * weight * course + 40 * rng.standard_normal((VOXELS, VOLUMES))
    data[100] = 512.0
    return data.astype(np.float32)


def area(name, side, chosen, label=0, reason=""):
    members = np.zeros(VOXELS, bool)
    members[chosen] = True
    return Area(name, side, members, label, reason)


LEFT = area("precentral", "left", slice(0, 60), 3)
RIGHT = area("precentral", "right", slice(400, 470), 7)
BOTH = area("precentral", "both", np.r_[0:60, 400:470])
LOST = area("striatum", "left", slice(0, 0), 9, "no voxel is there")
FLAT = area("thalamus", "left", [100], 11)


def image(values):
    affine = np.diag([3.0, 3.2, 4.0, 1.0])
    return nib.Nifti1Image(values.reshape(*SHAPE, *values.shape[1:]), affine)


def test_maps_are_those_of_nilearn(signal):
    """Seed-to-voxel correlation by the two maskers, as nilearn's own example does it."""
    data = np.delete(np.arange(VOXELS), 100)
    moving = signal[data]
    labels = np.zeros(VOXELS, np.int32)
    labels[LEFT.members], labels[RIGHT.members] = 3, 7
    series = NiftiLabelsMasker(image(labels), standardize=None).fit_transform(image(signal))
    everywhere = np.ones(VOXELS, np.int8)
    everywhere[100] = 0
    masker = NiftiMasker(image(everywhere), standardize="zscore_sample")
    voxels = masker.fit_transform(image(signal)).astype(float)
    standard = (series - series.mean(axis=0)) / series.std(axis=0, ddof=1)
    theirs = voxels.T @ standard / (VOLUMES - 1)
    ours, valued = seed_maps(mean_series(signal, [LEFT, RIGHT]), signal, np.ones(VOXELS, bool))
    np.testing.assert_array_equal(np.flatnonzero(~valued), [100])
    np.testing.assert_allclose(ours[:, data].T, theirs, atol=1e-6)
    np.testing.assert_allclose(
        ours[0, data], [np.corrcoef(signal[:60].mean(axis=0, dtype=float), v)[0, 1]
                        for v in moving.astype(float)], atol=1e-9,
    )  # fmt: skip
    assert np.ptp(ours) > 1


def test_the_seed_stays_in_its_map_and_the_rest_is_zero(signal):
    covered = np.arange(VOXELS) < 300
    r, valued = seed_maps(mean_series(signal, [LEFT, LOST]), signal, covered)
    assert valued.sum() == 299  # one of them is constant
    assert (r[0, :60] > 0.3).any()
    assert not r[0, ~valued].any()
    assert np.isnan(r[1]).all()


def test_a_voxel_that_differs_by_rounding_alone_is_constant(signal):
    signal = signal.astype(float)
    signal[100] += 1e-6 * np.random.default_rng(1).standard_normal(VOLUMES)
    assert not varying(signal)[100]
    signal[100] += 1e-2 * np.random.default_rng(1).standard_normal(VOLUMES)
    assert varying(signal).all()


def test_fisher_z_is_finite_at_the_ends():
    z = fisher_z(np.array([0.0, 0.5, 1.0, -1.0, np.nan]))
    np.testing.assert_allclose(z[:2], [0, 0.5493061443])
    np.testing.assert_allclose(z[2:4], [np.arctanh(R_MOST), -np.arctanh(R_MOST)])
    assert 8.40 < z[2] < 8.41
    assert np.isnan(z[4])


def test_the_threshold_itself_counts():
    r = np.array([[0.25, np.nextafter(0.25, 0), -0.9, 0.0, 1.0], [np.nan] * 5])
    binary, strong = thresholded(r)
    np.testing.assert_array_equal(binary[0], [1, 0, 0, 0, 1])
    np.testing.assert_array_equal(strong[0], [0.25, 0, 0, 0, 1])
    assert np.isnan(binary[1]).all()
    assert np.isnan(strong[1]).all()


def test_white_noise_is_centred_at_zero():
    noise = np.random.default_rng(8).standard_normal((20000, 150))
    seed = np.zeros(20000, bool)
    seed[:50] = True
    series = mean_series(noise, [Area("a", "", seed)])
    z = fisher_z(seed_maps(series, noise, ~seed)[0][0][~seed])
    assert abs(z.mean()) < 4 / np.sqrt(len(z) * 147)
    assert z.std() == pytest.approx(1 / np.sqrt(147), rel=0.03)


def test_the_table_of_a_seed_says_what_it_shares_and_what_lacks(signal):
    labels = [LEFT, RIGHT, LOST, FLAT]
    table = seed_table(
        [LEFT], mean_series(signal, [LEFT]), labels, mean_series(signal, labels)
    ).set_index("label")
    assert table.loc[3, ["n_voxels", "n_shared", "r"]].tolist() == [60, 60, 1.0]
    expected = np.corrcoef(signal[:60].mean(0, dtype=float), signal[400:470].mean(0, dtype=float))
    assert table.loc[7, "r"] == pytest.approx(expected[0, 1], abs=1e-9)
    assert table.loc[7, "z"] == pytest.approx(np.arctanh(expected[0, 1]), abs=1e-9)
    assert table.loc[7, ["n_shared", "reason"]].tolist() == [0, ""]
    assert np.isnan(table.loc[[9, 11], "r"]).all()
    assert table.loc[9, "reason"] == "no voxel is there"
    assert table.loc[11, "reason"] == "left thalamus: its mean series does not vary"


def test_the_matrix_is_symmetric_and_knows_what_lacks(signal):
    labels = [LEFT, LOST, RIGHT]
    series = mean_series(signal, labels)
    matrix = relation_matrix(labels, series).to_numpy()
    np.testing.assert_array_equal(matrix, matrix.T)
    assert np.isnan(matrix[1]).all()
    assert matrix[0, 0] == matrix[2, 2] == 1
    np.testing.assert_allclose(matrix[::2, ::2], np.corrcoef(series[::2]), atol=1e-12)


def test_connections_of_the_motor_region(signal):
    other = area("middle_frontal", "both", slice(200, 260))
    groups = [LEFT, RIGHT, BOTH, other, LOST]
    series = mean_series(signal, groups)
    table = connection_table(groups, series).set_index(["region", "side"])
    between = table.loc[("precentral", "right")]
    assert between["seed_side"] == "left"
    assert between["z"] == pytest.approx(np.arctanh(np.corrcoef(series[0], series[1])[0, 1]))
    assert between["n_seed"] == 60
    assert between["n_voxels"] == 70
    frontal = table.loc[("middle_frontal", "both")]
    assert frontal["r"] == pytest.approx(np.corrcoef(series[2], series[3])[0, 1])
    assert table.loc[("striatum", "left"), "reason"] == "no voxel is there"
    assert table.loc[("middle_frontal", "left"), "reason"] == "the atlas has no middle frontal"
    assert ("precentral", "both") not in table.index


def test_without_a_series_every_connection_says_why():
    groups = [LEFT, RIGHT, BOTH, LOST]
    table = connection_table(groups, np.empty((4, 0)), reason="9 degrees of freedom are left")
    assert table["z"].isna().all()
    assert set(table["reason"]) == {"9 degrees of freedom are left"}


def test_what_the_mrs_voxel_shares_with_a_region_is_left_out_of_the_region(signal):
    voxel = area("ownName", "", np.r_[30:70, 300:310])
    frontal = area("middle_frontal", "both", slice(200, 260))
    lost = area("striatum", "both", slice(0, 0), reason="no voxel is there")
    table = voxel_connections(voxel, [LEFT, BOTH, frontal, lost], signal)
    assert table["region"].tolist() == ["precentral", "middle_frontal", "striatum"]
    assert set(table["seed"]) == {"mrs_voxel"}
    motor, frontal, striatum = (row for _, row in table.iterrows())
    assert motor[["n_seed", "n_voxels", "n_shared"]].tolist() == [50, 100, 30]
    rest = np.r_[0:30, 400:470]
    one, other, whole = (
        signal[which].mean(axis=0, dtype=float) for which in (voxel.members, rest, BOTH.members)
    )
    truth = np.corrcoef(one, other)[0, 1]
    assert motor["z"] == pytest.approx(np.arctanh(truth), abs=1e-9)
    assert abs(truth - np.corrcoef(one, whole)[0, 1]) > 0.05  # or the test could not fail
    assert frontal[["n_voxels", "n_shared", "reason"]].tolist() == [60, 0, ""]
    assert np.isnan(striatum["z"])
    assert striatum["reason"] == "no voxel is there"


@pytest.mark.parametrize(("left", "reason"), [
    (20, ""),
    (19, "only 19 voxels of the middle frontal lie outside the MRS voxel (at least 20 are asked)"),
])  # fmt: skip
def test_a_region_must_be_there_outside_the_mrs_voxel(signal, left, reason):
    region = area("middle_frontal", "both", slice(200, 260))
    voxel = area("mrs", "", slice(200 + left, 290))
    row = voxel_connections(voxel, [region], signal).iloc[0]
    assert row["n_voxels"] == left
    assert row["reason"] == reason
    assert np.isfinite(row["z"]) == (not reason)


def test_an_mrs_voxel_that_is_not_there_says_so_before_anything_else(signal):
    voxel = area("mrs", "", slice(0, 0), reason="no MRS voxel")
    lost = area("striatum", "both", slice(0, 0), reason="no voxel is there")
    table = voxel_connections(voxel, [BOTH, lost], signal)
    assert table["z"].isna().all()
    assert set(table["reason"]) == {"no MRS voxel"}
    table = voxel_connections(voxel, [BOTH, lost], None, "9 degrees of freedom are left")
    assert set(table["reason"]) == {"9 degrees of freedom are left"}
    assert voxel_connections(voxel, [LEFT], signal).empty


def test_correlations_stay_within_one():
    series = np.random.default_rng(2).standard_normal((40, 13)).astype(np.float32)
    assert np.abs(correlations(series, series)).max() <= 1
