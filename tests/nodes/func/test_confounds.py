"""Confounds: known motion, nipype's DVARS, and what a preset takes from the table."""

import nibabel as nib
import numpy as np
import pytest
from nipype.algorithms import confounds as nipype_confounds
from scipy.linalg import solve_toeplitz
from scipy.spatial.transform import Rotation

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.compcor import MIN_VOXELS
from alsflow.nodes.func.confounds import (
    describe_columns,
    find_confounds,
    motion_columns,
    regressors,
    unavailable,
)
from alsflow.nodes.func.dvars import dvars, temporal_snr
from alsflow.nodes.func.presets import load_preset

N, TR = 60, 2.0
RUNS = np.repeat([0, 1], [35, 25])
CENTRE = np.array([4.0, -20.0, 15.0])
DEFAULT = load_preset("motion = 24\ncompcor = {wm = 5, csf = 5}", "default")
P36 = load_preset("motion = 24\nglobal_signal = 4\nwm_csf = 4", "36P")


def poses(shifts, turns):
    """Matrices that turn about `CENTRE`, then shift; mm and radians."""
    matrices = np.tile(np.eye(4), (len(shifts), 1, 1))
    matrices[:, :3, :3] = Rotation.from_rotvec(turns).as_matrix()
    matrices[:, :3, 3] = shifts + CENTRE - matrices[:, :3, :3] @ CENTRE
    return matrices


def walk(seed=5):
    return np.cumsum(np.random.default_rng(seed).normal(size=(N, 3)) * 0.05, axis=0)


class TestMotion:
    def test_terms(self):
        shifts, turns = walk(5), walk(6) / 50
        found = motion_columns(poses(shifts, turns), CENTRE, RUNS)
        assert len(found) == 24
        np.testing.assert_allclose(found["trans_y"], shifts[:, 1], atol=1e-8)
        np.testing.assert_allclose(found["rot_z"], turns[:, 2], atol=1e-8)
        change = np.diff(turns[:, 0], prepend=np.nan)
        change[35] = np.nan  # the first of the second run
        np.testing.assert_allclose(found["rot_x_derivative1"], change, atol=1e-8)
        np.testing.assert_allclose(found["rot_x_derivative1_power2"], change**2, atol=1e-8)
        np.testing.assert_allclose(found["trans_z_power2"], shifts[:, 2] ** 2, atol=1e-8)

    def test_turning_about_the_centre_is_no_translation(self):
        found = motion_columns(poses(np.zeros((N, 3)), walk(6) / 10), CENTRE, RUNS)
        assert np.abs(found["trans_x"]).max() < 1e-8

    def test_rounding_errors_are_no_motion(self):
        still = poses(np.zeros((N, 3)), walk(7) * 1e-14)
        for course in motion_columns(still, CENTRE * 9, RUNS).values():
            assert not np.nan_to_num(course).any()


def brain_series(seed=1, voxels=500):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(voxels, N))
    noise[:, 1:] += 0.4 * noise[:, :-1]
    return (rng.uniform(500, 1500, (voxels, 1)) + 10 * noise).astype(np.float32)


class TestDvars:
    @pytest.mark.parametrize("constant", [0, 40])
    def test_nipype_finds_the_same_in_each_run(self, constant, tmp_path, monkeypatch):
        # nipype takes the Yule-Walker equations from nitime, which is not installed
        def solve(x, order):
            lags = np.correlate(x, x, "full")[len(x) - 1 :]
            return solve_toeplitz(lags[:order], lags[1 : order + 1])

        monkeypatch.setattr(nipype_confounds, "_AR_est_YW", solve)
        signal = brain_series()
        signal[:constant] = 800.0
        plain, standardised = dvars(signal, RUNS)
        for run in (0, 1):
            own = run == RUNS
            save = [tmp_path / "bold.nii", tmp_path / "mask.nii"]
            block = signal[:, own].reshape(10, 10, 5, -1)
            nib.save(nib.Nifti1Image(block, np.eye(4)), save[0])
            nib.save(nib.Nifti1Image(np.ones((10, 10, 5), np.uint8), np.eye(4)), save[1])
            expected = nipype_confounds.compute_dvars(*save, remove_zerovariance=True)
            np.testing.assert_allclose(standardised[own][1:], expected[0], rtol=1e-4)
            np.testing.assert_allclose(plain[own][1:], expected[1], rtol=1e-4)
            assert np.isnan(plain[own][0])

    def test_a_jump_stands_out(self):
        signal = brain_series()
        signal[:, 20] += 60
        standardised = dvars(signal, RUNS)[1]
        assert np.nanargmax(standardised) in (20, 21)
        assert 0.9 < np.nanmedian(standardised) < 1.1

    def test_a_series_that_never_changes_is_unknown(self):
        assert np.isnan(dvars(np.full((9, N), 7.0, np.float32), RUNS)[1]).all()


class TestTsnr:
    def test_known_noise_on_a_slope_and_a_step_between_runs(self):
        rng = np.random.default_rng(2)
        noise = rng.normal(size=(2000, N)) * 8
        signal = 1000 + noise + np.linspace(0, 90, N) + 300 * (RUNS - 25 / 60)
        found = temporal_snr(signal.astype(np.float32), RUNS)
        level = signal.mean(axis=1)
        np.testing.assert_allclose(np.median(found), np.median(level / 8), rtol=0.02)

    def test_no_noise_is_unknown(self):
        assert np.isnan(temporal_snr(np.full((3, N), 9.0, np.float32), RUNS)).all()


SHAPE = (14, 12, 13)
AFFINE = np.diag([4.0, 4.5, 5.0, 1.0])


def phantom(white=400, fluid=60, seed=8):
    """Series of a box of one brain, with noise of its own in each tissue."""
    rng = np.random.default_rng(seed)
    tissue = np.zeros((*SHAPE, 3), np.float32)
    tissue[..., 0] = 1
    inner = np.zeros(SHAPE, bool)
    inner[4:10, 4:8, 4:9] = True
    places = np.flatnonzero(inner)
    tissue.reshape(-1, 3)[places[:fluid]] = [0, 0, 1]
    tissue[:4] = [0, 1, 0] if white else [1, 0, 0]
    mask = np.ones(SHAPE, bool)
    courses = rng.normal(size=(3, N))
    signal = 1000 + 5 * tissue @ courses + rng.normal(size=(*SHAPE, N))
    return signal.astype(np.float32), tissue, mask, poses(walk(5), walk(6) / 50)


def found_in(signal, tissue, mask, motion, **options):
    return find_confounds(signal, AFFINE, mask, tissue, motion, RUNS, TR, **options)


class TestTable:
    def test_columns_and_numbers(self):
        signal, tissue, mask, motion = phantom()
        found = found_in(signal, tissue, mask, motion)
        table = found.table
        assert len(table) == N
        assert list(table["run"]) == list(RUNS)
        assert table.shape[1] == 24 + 4 + 12 + 20 + 2
        np.testing.assert_allclose(table["global_signal"], signal[mask].mean(axis=0), rtol=1e-5)
        voxels = found.masks["wm"].voxels
        np.testing.assert_allclose(table["white_matter"], signal[voxels].mean(axis=0), rtol=1e-5)
        assert np.isnan(table["framewise_displacement"][[0, 35]]).all()
        assert found.numbers["fd_mean"] == pytest.approx(table["framewise_displacement"].mean())
        assert found.tsnr.shape == SHAPE
        assert set(describe_columns(table, 0.5, 1.5)) == set(table.columns)

    def test_outliers_by_either_limit(self):
        signal, tissue, mask, motion = phantom()
        motion[10, 0, 3] += 5  # there and back: volumes 10 and 11
        signal[..., 50] += 200
        found = found_in(signal, tissue, mask, motion, fd_limit=3.0, dvars_limit=10.0)
        assert list(np.flatnonzero(found.table["motion_outlier"])) == [10, 11, 50, 51]
        assert found.numbers["outliers"] == 4

    @pytest.mark.parametrize("fluid", [MIN_VOXELS, MIN_VOXELS - 1])
    def test_edge_of_too_few_voxels(self, fluid):
        found = found_in(*phantom(fluid=fluid))
        sizes = {name: mask.size for name, mask in found.masks.items()}
        assert sizes["csf"] == fluid
        missing = found.table.filter(regex="c_comp_cor|^csf").isna().all(axis=None)
        assert missing == (fluid < MIN_VOXELS)
        for preset in (DEFAULT, P36):
            parts = regressors(found.table, preset)
            reason = unavailable(preset, parts, sizes)
            assert (reason is not None) == missing
            if missing:
                assert "cerebrospinal fluid, but only 29 voxels" in reason
                assert "unknown" in unavailable(preset, parts, {})
        motion_only = load_preset("motion = 24", "own")
        assert unavailable(motion_only, regressors(found.table, motion_only), sizes) is None

    def test_same_numbers_twice(self):
        signal, tissue, mask, motion = phantom()
        one, two = (found_in(signal, tissue, mask, motion).table for _ in range(2))
        np.testing.assert_array_equal(one.to_numpy(), two.to_numpy())


class TestRefusals:
    @pytest.mark.parametrize("change", ["mask", "tissue", "motion", "empty"])
    def test_parts_that_do_not_belong_together(self, change):
        signal, tissue, mask, motion = phantom()
        if change == "mask":
            mask = mask[:-1]
        elif change == "tissue":
            tissue = tissue[..., :2]
        elif change == "motion":
            motion = motion[1:]
        else:
            mask[:] = False
        with pytest.raises(BadInputError):
            found_in(signal, tissue, mask, motion)


class TestRegressors:
    @pytest.mark.parametrize(("motion", "last"), [
        (0, None), (6, "rot_z"), (12, "rot_z_derivative1"), (24, "rot_z_derivative1_power2"),
    ])  # fmt: skip
    def test_motion_terms(self, motion, last):
        table = found_in(*phantom()).table
        parts = regressors(table, load_preset(f"motion = {motion}", "own"))
        assert parts["motion"].shape == (N, motion)
        assert parts["compcor"].shape == parts["signals"].shape == (N, 0)
        if last:
            np.testing.assert_array_equal(parts["motion"][:, -1], table[last].fillna(0))

    def test_counts_of_the_named_presets(self):
        table = found_in(*phantom()).table
        shapes = [
            {name: part.shape[1] for name, part in regressors(table, preset).items()}
            for preset in (DEFAULT, P36)
        ]
        assert shapes[0] == {"motion": 24, "compcor": 10, "signals": 0}
        assert shapes[1] == {"motion": 24, "compcor": 0, "signals": 12}

    def test_first_volume_of_a_run_did_not_move(self):
        parts = regressors(found_in(*phantom()).table, DEFAULT)
        assert not parts["motion"][[0, 35]][:, 6:12].any()
        assert np.isfinite(parts["motion"]).all()
