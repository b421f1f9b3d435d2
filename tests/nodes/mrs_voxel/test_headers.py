"""Headers of spectra: one voxel in every format, and what is refused."""

import numpy as np
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.mrs.nifti_header import read_nifti_header
from alsflow.nodes.mrs.vendor_text import read_rda, read_spar
from alsflow.nodes.mrs.voxel import sequence_of, voxel_from_affine

# 20 x 40 x 25 mm at L 12, P 30, S 45 (LPS 12, 30, 45), turned 30 degrees about the z axis
COS, SIN = np.cos(np.pi / 6), np.sin(np.pi / 6)
RDA = f""">>> Begin of header <<<
PatientName: Surname^Given
StudyDate: 20200102
SequenceName: *svs_st
TR: 3000.000000
TE: 160.000000
TM: 40.000000
CSIMatrixSize[0]: 1
CSIMatrixSize[1]: 1
CSIMatrixSize[2]: 1
PositionVector[0]: 1.0
PositionVector[1]: 2.0
PositionVector[2]: 3.0
RowVector[0]: {COS}
RowVector[1]: {SIN}
RowVector[2]: 0
ColumnVector[0]: {-SIN}
ColumnVector[1]: {COS}
ColumnVector[2]: 0
VOIPositionSag: 12,000000
VOIPositionCor: 30.000000
VOIPositionTra: 45.000000
VOIThickness: 25.000000
VOIPhaseFOV: 40.000000
VOIReadoutFOV: 20.000000
VOINormalSag: 0
VOINormalCor: 0
VOINormalTra: 1
PixelSpacingRow: 40.000000
PixelSpacingCol: 20.000000
>>> End of header <<<
\x00\x01: binary""".replace("\n", "\r\n")
SPAR = """! comment : 3
patient_name : Surname
scan_id : PRESS 160
rows : 16
echo_time : 160
repetition_time : 3000
volume_selection_enable : "yes"
ap_size : 40
lr_size : 20
cc_size : 25
ap_off_center : 30
lr_off_center : 12
cc_off_center : 45
ap_angulation : 0
lr_angulation : 0
cc_angulation : 30
phase_encoding_enable : "no"
"""
EDGES = np.array([[20 * COS, -40 * SIN, 0], [20 * SIN, 40 * COS, 0], [0, 0, 25]])
CENTRE = (-12, -30, 45)


def as_set(voxel):
    """Edges without order and sign: the box itself."""
    return {tuple(corner) for corner in voxel.corners.round(3)}


def truth():
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = EDGES, CENTRE
    return voxel_from_affine(affine)


@pytest.mark.parametrize(("read", "text"), [(read_rda, RDA), (read_spar, SPAR)])
def test_a_box_of_known_place_in_both_text_formats(read, text):
    """A turn about z is the same in LPS+ and RAS+."""
    scan = read(text)
    assert as_set(scan.voxel) == as_set(truth())
    np.testing.assert_allclose(scan.voxel.centre, CENTRE)
    assert scan.voxel.volume == pytest.approx(20.0)
    assert (scan.te, scan.tr) == pytest.approx((0.16, 3.0))


def test_a_spar_with_three_angles():
    """Cranio-caudal first, then anterior-posterior, then left-right, each about a fixed axis."""
    angled = SPAR.replace("lr_angulation : 0", "lr_angulation : 35")
    voxel = read_spar(angled.replace("ap_angulation : 0", "ap_angulation : -20")).voxel
    lr, ap, cc = np.radians([-35, 20, 30])  # LPS+ to RAS+ turns the first two round
    about_z = np.array([[np.cos(cc), -np.sin(cc), 0], [np.sin(cc), np.cos(cc), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(ap), 0, np.sin(ap)], [0, 1, 0], [-np.sin(ap), 0, np.cos(ap)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(lr), -np.sin(lr)], [0, np.sin(lr), np.cos(lr)]])
    edges = about_x @ about_y @ about_z @ np.diag([20, 40, 25])
    np.testing.assert_allclose(voxel.affine[:3, :3], edges, atol=1e-9)
    np.testing.assert_allclose(voxel.centre, CENTRE)


def test_timing_sequence_and_nothing_personal():
    rda, spar = read_rda(RDA), read_spar(SPAR)
    assert (rda.sequence, rda.tm) == ("STEAM", pytest.approx(0.04))
    assert spar.sequence == "PRESS"
    assert np.isnan(spar.tm)
    assert np.isnan(read_rda(RDA.replace("TM: 40.000000", "TM: 0.000000")).tm)
    assert "Surname" not in repr(rda) + repr(spar)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (">>> End of header <<<", "", "cut off"),
        ("CSIMatrixSize[1]: 1", "CSIMatrixSize[1]: 16", "imaging"),
        ("VOIPositionCor: 30.000000", "VOIPositionCor: ", "nothing for VOIPositionCor"),
        ("VOIPositionCor: 30.000000", "VOIPositionCor: here", "'here' for VOIPositionCor"),
        ("VOINormalTra: 1", "VOINormalTra: 0.9", "right angles"),
        ("VOIPhaseFOV: 40.000000", "VOIPhaseFOV: 30.000000", "20 x 30 mm .* and 20 x 40 mm"),
        ("VOIThickness: 25.000000", "VOIThickness: 0.0", "no usable orientation"),
    ],
)
def test_what_an_rda_must_say(old, new, message):
    assert old in RDA
    with pytest.raises(BadInputError, match=message):
        read_rda(RDA.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr_size : 20\n", "", "no SPAR file"),
        ("lr_size : 20", "lr_size : 0", "no place"),
        ('volume_selection_enable : "yes"', 'volume_selection_enable : "no"', "no place"),
        ('phase_encoding_enable : "no"', 'phase_encoding_enable : "yes"', "imaging"),
        ("cc_angulation : 30", "cc_angulation :", "nothing for cc_angulation"),
        ("cc_off_center : 45", "cc_off_center : nan", "no finite number"),
    ],
)
def test_what_a_spar_must_say(old, new, message):
    assert old in SPAR
    with pytest.raises(BadInputError, match=message):
        read_spar(SPAR.replace(old, new))


def test_a_nifti_header_is_a_box():
    affine = truth().affine
    said = {
        "EchoTime": 0.16,
        "RepetitionTime": 3.0,
        "MixingTime": 0,
        "PulseSequenceFile": {"Value": "%CustomerSeq%\\own_sLASER"},
        "PatientName": "Surname",
    }
    scan = read_nifti_header((1, 1, 1, 1024, 4), affine, affine, said)
    assert as_set(scan.voxel) == as_set(truth())
    assert (scan.te, scan.tr, scan.sequence) == (0.16, 3.0, "sLASER")
    assert np.isnan(scan.tm)
    assert "Surname" not in repr(scan)
    assert np.isnan(read_nifti_header((1, 1, 1, 9), None, affine, {}).te)


def test_what_a_nifti_header_must_say():
    affine, shape = truth().affine, (1, 1, 1, 1024)
    with pytest.raises(BadInputError, match="imaging"):
        read_nifti_header((1, 8, 1, 1024), affine, affine, {})
    with pytest.raises(BadInputError, match="no place"):
        read_nifti_header(shape, None, None, {})
    with pytest.raises(BadInputError, match="no place"):
        read_nifti_header(shape, np.diag([1e4, 1e4, 1e4, 1]), None, {})
    with pytest.raises(BadInputError, match="too small"):
        read_nifti_header(shape, np.diag([0.02, 0.02, 0.02, 1]), None, {})
    moved = affine.copy()
    moved[0, 3] += 0.2
    with pytest.raises(BadInputError, match="differently"):
        read_nifti_header(shape, affine, moved, {})
    with pytest.raises(BadInputError, match="'160' for EchoTime"):
        read_nifti_header(shape, affine, affine, {"EchoTime": "160"})


def test_a_point_is_inside_or_not():
    voxel = truth()
    inside = voxel.affine[:3, :3] @ np.array([[0.49, 0.51, 0], [0, 0, -0.49], [0, 0, 0.49]])
    points = inside + voxel.centre[:, None]
    assert voxel.holds(points).tolist() == [True, False, True]
    assert not voxel.holds(np.full((3, 1), np.nan)).any()


def test_a_grid_along_the_edges_counts_the_volume():
    voxel = voxel_from_affine(np.diag([20.0, 18, 24, 1]))
    points = np.mgrid[-15:16, -15:16, -15:16].astype(np.float32)
    assert voxel.holds(points).sum() == 20 * 18 * 24


@pytest.mark.parametrize(("read", "text"), [(read_rda, RDA), (read_spar, SPAR)])
@pytest.mark.filterwarnings("ignore:overflow")
def test_damaged_headers_are_read_or_refused(read, text):
    """Cut anywhere, or with some characters exchanged: never another exception."""
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(1500):
        letters = list(text[: rng.integers(len(text))] if rng.random() < 0.3 else text)
        for place in rng.integers(len(letters), size=rng.integers(6)) if letters else ():
            letters[place] = str(rng.choice(list("0123456789-+.,:eE \r\nnaif\x00é")))
        try:
            scan = read("".join(letters))
        except BadInputError:
            refused += 1
        else:
            assert np.isfinite(scan.voxel.affine).all()
    assert 100 < refused < 1500


@pytest.mark.parametrize(
    ("texts", "sequence"),
    [
        (("*svs_se", "steam"), "PRESS"),
        (("", "svs_st_vapor_643"), "STEAM"),
        (("eja_svs_slaser", "PRESS"), "sLASER"),
        (("s-LASER",), "sLASER"),
        (("water_suppressed",), ""),
        (("svs_special",), ""),
    ],
)
def test_names_of_sequences(texts, sequence):
    assert sequence_of(*texts) == sequence
