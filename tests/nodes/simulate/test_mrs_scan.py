"""Spectra as a scanner would give them, and voxels where an operator would put them."""

import numpy as np
import pytest

from alsflow.nodes.mrs.lcmodel_table import read_table
from alsflow.nodes.mrs.voxel import box
from alsflow.nodes.simulate.anatomy import Traits, grow_anatomy, to_template
from alsflow.nodes.simulate.labels import cut_labels
from alsflow.nodes.simulate.lcmodel_text import table_text
from alsflow.nodes.simulate.mrs_scan import (
    FOOT_AREA,
    SD_PLACE,
    TILT,
    MrsSubject,
    count_tissue,
    from_template,
    place_voxel,
    scan_mrs,
    without_atrophy,
)
from alsflow.nodes.simulate.spectroscopy import (
    BROAD,
    METABOLITES,
    Chemistry,
    MrsDesign,
    MrsScanner,
)
from alsflow.nodes.simulate.spectrum import (
    DWELL,
    LOWEST,
    make_spectrum,
    metabolite_fid,
    ppm_axis,
    real_spectrum,
)

FREQUENCY = 123.25
USUAL = {name: conc for name, (conc, _) in (METABOLITES | BROAD).items()}


def spectrum(snr=40.0, fwhm=0.034, phase=0.0, parts=USUAL):
    rng = np.random.default_rng(1)
    return make_spectrum(parts, USUAL, (fwhm, snr, phase), FREQUENCY, LOWEST, rng)


@pytest.mark.parametrize(("name", "ppm"), [("NAA", 2.008), ("GPC", 3.212), ("PCr", 3.029)])
def test_lines_lie_at_their_shift_and_have_their_width(name, ppm):
    axis, places = ppm_axis(FREQUENCY, 0.2)
    curve = real_spectrum(metabolite_fid(name, 0.05, FREQUENCY), places)
    assert axis[curve.argmax()] == pytest.approx(ppm, abs=0.005)
    near = np.abs(axis - ppm) < 0.1
    fine = np.linspace(ppm - 0.08, ppm + 0.08, 2001)
    smooth = np.interp(fine, axis[near][::-1], curve[near][::-1])
    assert np.ptp(fine[smooth > smooth.max() / 2]) == pytest.approx(0.05, abs=0.006)


def test_the_area_of_a_line_counts_protons_whatever_its_width():
    axis, places = ppm_axis(FREQUENCY, 0.2)
    areas = [
        real_spectrum(metabolite_fid(name, fwhm, FREQUENCY), places)[
            np.abs(axis - ppm) < 0.15
        ].sum()
        for name, ppm, fwhm in (("NAA", 2.008, 0.02), ("NAA", 2.008, 0.05), ("Scyllo", 3.34, 0.03))
    ]
    assert areas[1] / areas[0] == pytest.approx(1, abs=0.05)
    assert areas[2] / areas[0] == pytest.approx(2, abs=0.06)


def test_metabolites_have_positive_frequencies_from_water():
    """The sign that spec2nii gives NIfTI-MRS; the other one makes a fit nonsense."""
    found = spectrum(snr=200.0)
    power = np.abs(np.fft.fft(found.fid))
    at = np.fft.fftfreq(len(power), DWELL)[power.argmax()]
    assert 4.65 - at / FREQUENCY == pytest.approx(2.01, abs=0.02)


def test_the_printed_snr_is_that_of_the_curves():
    found = spectrum(snr=25.0)
    curves = found.curves
    residual = (curves.data - curves.fit).std()
    assert (curves.fit - curves.baseline).max() / (2 * residual) == pytest.approx(25, rel=0.1)
    assert found.snr == 25
    half = spectrum(snr=25.0, parts={name: value / 2 for name, value in USUAL.items()})
    assert half.snr in (12, 13)


def test_a_phase_turns_the_signal_and_not_the_curves():
    turned, plain = spectrum(phase=90.0), spectrum()
    np.testing.assert_allclose(turned.fid, 1j * plain.fid, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(turned.curves.data, plain.curves.data)


def test_the_axis_is_the_one_lcmodel_uses(shared_data):
    lines = (shared_data / "lcmodel/sim_steam160_healthy/out.coord").read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if "points on ppm-axis" in line)
    theirs = np.array(" ".join(lines[start + 1 : start + 39]).split(), float)
    axis, _ = ppm_axis(FREQUENCY, 1.0)
    assert abs(len(axis) - len(theirs)) <= 2
    assert np.diff(axis).mean() == pytest.approx(np.diff(theirs).mean(), abs=1e-6)


# ---------------------------------------------------------------------------- voxel


@pytest.fixture(scope="module")
def person(ball_blueprint):
    traits = Traits(tiv=1450.0, thinning={1: 0.3})
    return grow_anatomy(ball_blueprint, traits, np.random.default_rng(3))


@pytest.fixture(scope="module")
def labels(person):
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-60, -75, -57)
    return cut_labels(person, (65, 65, 65), affine)


def test_a_point_of_the_template_is_found_in_the_person(person):
    for point in ((5.0, -10.0, 8.0), (30.0, 5.0, 20.0), (-20.0, -30.0, 30.0)):
        there = from_template(person, np.array(point))
        assert np.linalg.norm(there - point) > 0.5
        back = to_template(person, there[:, None])[:, 0]
        np.testing.assert_allclose(back, point, atol=0.01)


def test_tissue_is_counted_where_the_voxel_is(person, labels):
    white = box(from_template(person, np.array([5.0, -10.0, 8.0])), np.eye(3), [10, 12, 8])
    assert count_tissue(white, labels) == {"gm": 0.0, "wm": 1.0, "csf": 0.0}
    edge = box(from_template(person, np.array([-32.0, -10.0, 8.0])), np.eye(3), [30, 20, 22])
    now, before = (
        count_tissue(edge, own) for own in (labels, without_atrophy(person, labels, edge))
    )
    assert sum(now.values()) == pytest.approx(sum(before.values()))
    assert now["wm"] == before["wm"]
    assert now["gm"] < before["gm"] - 0.02
    assert now["csf"] > before["csf"] + 0.02
    inside = edge.holds
    points = np.indices(labels.classes.shape).reshape(3, -1)
    at = labels.affine[:3, :3] @ points + labels.affine[:3, 3:]
    found = labels.classes.ravel()[inside(at)]
    assert now["gm"] == pytest.approx((found == 9).mean(), abs=0.01)


def test_a_long_echo_time_has_the_rows_and_the_range_of_a_long_one(person, labels):
    subject = MrsSubject(person, labels, Chemistry(USUAL, USUAL))
    scans = [
        scan_mrs(subject, design, MrsScanner(), np.random.default_rng(4))
        for design in (MrsDesign(te=0.16, tm=0.04, sequence="STEAM"), MrsDesign())
    ]
    steam, press = (read_table(table_text(scan.printed), "a.table") for scan in scans)
    assert steam.inputs["echot"] == "160.0"
    assert steam.inputs["ppmend"] == "1.0"
    assert "ppmend" not in press.inputs
    assert (steam.n_rows, press.n_rows) == (26, 35)
    assert [scan.printed.curves.ppm.min() > 0.99 for scan in scans] == [True, False]
    np.testing.assert_array_equal(scans[0].voxel.affine, scans[1].voxel.affine)
    assert scans[0].truth.measures == scans[1].truth.measures


def test_operators_differ_a_little(person):
    voxels = [
        place_voxel(person, (32.0, 24.0, 20.0), np.random.default_rng(seed)) for seed in range(40)
    ]
    centres = np.array([voxel.centre for voxel in voxels])
    np.testing.assert_allclose(centres.mean(0), from_template(person, FOOT_AREA), atol=1.2)
    assert np.all(np.abs(centres.std(0) - SD_PLACE) < 0.6)
    turned = person.world_to_template[:3, :3] @ np.mean([v.affine[:3, :3] for v in voxels], 0)
    turned /= np.linalg.norm(turned, axis=0)
    assert np.rad2deg(np.arcsin(turned[2, 1])) == pytest.approx(TILT, abs=3)  # the front is up
