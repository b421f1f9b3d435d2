"""Running LCModel, with a small stand-in for the program."""

import json
import re
import stat
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from alsflow.interfaces import mrs_run
from alsflow.interfaces.mrs_lcmodel import read_lcmodel
from alsflow.interfaces.mrs_plan import check_mrs
from alsflow.interfaces.mrs_run import RunLCModel, load_spectrum, run_inputs
from alsflow.nodes.errors import BadInputError, MissingProgramError

TABLE = """ LCModel (Version 6.3-1N)

$$CONC  2 lines in following concentration table = NCONC+1
    Conc.  %SD /Cr+PCr  Metabolite
    5.893   1%   1.000 Cr+PCr

$$MISC  5 lines in following misc. output table
  FWHM = 0.032 ppm    S/N = 120
  Data shift = 0.000 ppm
  Ph:   2 deg       1.0 deg/ppm

$$DIAG  0 lines in following diagnostic table:


$$INPU  0 lines in following table of input changes:
"""
FATAL = """ LCModel (Version 6.3-1N)

$$DIAG  1 lines in following diagnostic table:
   1 FATAL     MYBASI  9

$$INPU  0 lines in following table of input changes:
"""
CSV = "Row, Col, Cr+PCr, Cr+PCr %SD, Cr+PCr/Cr+PCr\n  1,   1,    5.893,    1,    1.000\n"
HEADER = {"SpectrometerFrequency": [123.25], "ResonantNucleus": ["1H"], "EchoTime": 0.03,
          "ProtocolName": "PRESS", "SpectralWidth": 2000.0, "PatientName": "Somebody"}  # fmt: skip
VOXEL = np.diag([20.0, 30.0, 25.0, 1.0])
POINTS = 128


def decay(points=POINTS, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=points) + 1j * rng.normal(size=points)).astype(np.complex64)


def write_svs(path, signal=None, header=HEADER, dwell=5e-4):
    signal = decay() if signal is None else np.asarray(signal)
    image = nib.Nifti2Image(signal.reshape((1, 1, 1, -1) + signal.shape[1:]), VOXEL)
    zooms = list(image.header.get_zooms())
    image.header.set_zooms(zooms[:3] + [dwell] + zooms[4:])
    image.header.extensions.append(nib.nifti1.Nifti1Extension(44, json.dumps(header).encode()))
    nib.save(image, path)
    return path


@pytest.fixture
def lcmodel(tmp_path, monkeypatch):
    """Put a stand-in on the PATH; it keeps the control that it was given."""

    def install(body):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "lcmodel"
        program.write_text(
            f"#!{sys.executable}\nimport sys, pathlib\ncontrol = sys.stdin.read()\n"
            f"open('seen', 'w').write(control)\n{body}\n"
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder))

    return install


def write(name, text):
    return f"pathlib.Path({name!r}).write_text({text!r})"


GOOD = f"{write('out.table', TABLE)}\n{write('out.csv', CSV)}\n{write('out.print', 'dump')}"


@pytest.fixture
def inputs(tmp_path):
    (tmp_path / "te30.basis").write_text(" $SEQPAR\n $END\n $BASIS1\n $END\n")
    return {"spectrum_file": str(write_svs(tmp_path / "sub-01_svs.nii.gz")),
            "basis_file": str(tmp_path / "te30.basis")}  # fmt: skip


def run(inputs, folder, **more):
    folder.mkdir(exist_ok=True)
    return RunLCModel(**{**inputs, **more}).run(cwd=str(folder)).outputs


def namelist(text):
    """Values of a Fortran namelist, read without the code that wrote it."""
    assert text.startswith(" $LCMODL\n")
    assert text.endswith("\n $END\n")
    found = re.findall(r"^ ([a-z0-9()]+)= (?:'((?:[^']|'')*)'|(\S+))$", text, re.MULTILINE)
    assert len(found) == text.count("\n") - 2
    assert len({name for name, _, _ in found}) == len(found)
    return {name: bare if bare else string.replace("''", "'") for name, string, bare in found}


def read_raw(path):
    """Head and numbers of a RAW file by its fixed columns."""
    *heads, numbers = path.read_text().split(" $END\n")
    assert [head.split()[0] for head in heads] == ["$SEQPAR", "$NMID"]
    rows = [(float(line[:15]), float(line[15:30])) for line in numbers.splitlines()]
    assert {len(line) for line in numbers.splitlines()} == {30}
    return "".join(heads), np.array(rows) @ [1, 1j]


def test_what_lcmodel_is_given(inputs, tmp_path, lcmodel):
    lcmodel(GOOD)
    water = write_svs(tmp_path / "sub-01_mrsref.nii.gz", 100 * decay(POINTS + 2, 2))
    more = {"water_file": str(water), "control": {"nomit": 2, "chomit": ["PCr", "N'A"],
            "doecc": True, "atth2o": 0.9}}  # fmt: skip
    outputs = run(inputs, tmp_path / "work", **more)
    folder = tmp_path / "work" / "lcmodel"
    given = namelist((folder / "seen").read_text())
    assert given == {
        "owner": "", "key": "210387309", "lps": "0", "neach": "99", "dows": "T", "doecc": "T",
        "filbas": "te30.basis", "filraw": "data.RAW", "filh2o": "data.H2O",
        "ltable": "7", "filtab": "out.table", "lcoord": "9", "filcoo": "out.coord",
        "lcsv": "11", "filcsv": "out.csv", "lprint": "6", "filpri": "out.print",
        "nunfil": str(POINTS), "deltat": "0.0005", "hzpppm": "123.25", "echot": "30.0",
        "nomit": "2", "chomit(1)": "PCr", "chomit(2)": "N'A", "atth2o": "0.9",
    }  # fmt: skip
    head, found = read_raw(folder / "data.RAW")
    np.testing.assert_allclose(found, decay(), rtol=1e-6)
    assert "SEQ = 'PRESS'" in head
    assert "FMTDAT = '(2E15.6)'" in head
    assert "VOLUME = 15\n" in head
    assert "ECHOT = 30\n" in head  # ms: LCModel compares it with the basis set
    _, found = read_raw(folder / "data.H2O")
    np.testing.assert_allclose(found, 100 * decay(POINTS + 2, 2)[:POINTS], rtol=1e-6)
    (fit,) = read_lcmodel(Path(outputs.table_file))
    assert fit.result.rows[0].conc == 5.893
    assert [Path(path).name for path in outputs.out_files] == [
        "out.table", "out.csv", "out.print"]  # fmt: skip
    assert not (folder / "te30.basis").exists()  # one copy for each person would fill a disk


def test_without_water_nothing_is_scaled_and_nothing_personal_is_kept(inputs, tmp_path, lcmodel):
    lcmodel(GOOD + "\nsys.exit(3)")
    outputs = run(inputs, tmp_path / "work")
    given = namelist((tmp_path / "work" / "lcmodel" / "seen").read_text())
    assert not {"dows", "filh2o", "title"} & set(given)
    info = json.loads(Path(outputs.info_file).read_text())
    assert (info["version"], info["status"], info["exit_status"]) == ("6.3-1N", "ok", 3)
    assert (info["basis"], info["water"], info["water_te"]) == ("te30.basis", False, None)
    assert info["settings"]["echot"] == 30
    assert str(tmp_path) not in json.dumps(info)
    assert "210387309" not in json.dumps(info)
    written = [p.read_text() for p in (tmp_path / "work").rglob("*") if p.is_file()]
    assert not any("Somebody" in text for text in written)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print('no such thing')", r"no such thing, exit status 0"),
        ("print('FATAL ERROR  MYCONT  2.   (Check)\\nSee the manual.  ***')", "FATAL MYCONT 2,"),
        (write("out.print", "  1 FATAL     MYCONT 12\n"), "FATAL MYCONT 12,"),
        (write("out.table", " LCModel (Version 6.3-1N)\n\n") + "\nsys.exit(2)",
         "it says nothing, exit status 2"),
        (write("out.table", TABLE[:300]), "no whole table for sub-01_svs.nii.gz"),
        (write("out.table", ""), "no whole table"),
    ],
)  # fmt: skip
def test_a_run_without_a_whole_table_is_refused_whatever_its_status(
    inputs, tmp_path, lcmodel, body, said
):
    lcmodel(body)
    stale = tmp_path / "work" / "lcmodel"
    stale.mkdir(parents=True)
    (stale / "out.csv").write_text(CSV)
    if "out.table" not in body:
        (stale / "out.table").write_text(TABLE)  # of an earlier run
    with pytest.raises(BadInputError, match=said):
        run(inputs, tmp_path / "work")
    assert not (stale / "out.csv").exists()


def test_a_fatal_table_is_handed_on_with_its_reason(inputs, tmp_path, lcmodel):
    lcmodel(write("out.table", FATAL) + "\n" + write("out.csv", ""))
    outputs = run(inputs, tmp_path / "work")
    info = json.loads(Path(outputs.info_file).read_text())
    assert (info["status"], info["exit_status"]) == ("fatal", 0)
    assert "MYBASI 9" in info["status_reason"]
    assert read_lcmodel(Path(outputs.table_file))[0].result.status == "fatal"


def test_a_run_that_does_not_end_is_ended(inputs, tmp_path, lcmodel, monkeypatch):
    lcmodel(GOOD + "\nimport time; time.sleep(20)")
    monkeypatch.setattr(mrs_run, "TIME_LIMIT", 1.0)
    with pytest.raises(BadInputError, match="did not end within 1 s"):
        run(inputs, tmp_path / "work")


def test_without_the_program(inputs, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingProgramError, match="--derivatives lcmodel=FOLDER"):
        run(inputs, tmp_path / "work")
    with pytest.raises(MissingProgramError):
        check_mrs(basis=inputs["basis_file"])


def test_the_name_of_a_basis_set_is_made_harmless(inputs, tmp_path, lcmodel):
    lcmodel(GOOD + "\nassert (pathlib.Path('gamma_it_s__3T.basis')).is_file()")
    basis = tmp_path / "gamma_it's $3T.basis"
    basis.write_text(" $BASIS1\n")
    outputs = run({**inputs, "basis_file": str(basis)}, tmp_path / "work")
    assert json.loads(Path(outputs.info_file).read_text())["exit_status"] == 0
    given = namelist((tmp_path / "work" / "lcmodel" / "seen").read_text())
    assert given["filbas"] == "gamma_it_s__3T.basis"


@pytest.mark.parametrize(
    ("control", "said"),
    [
        ({"filtab": "elsewhere"}, "'filtab' of LCModel cannot be chosen"),
        ({"NUNFIL": 5}, "'nunfil' of LCModel cannot be chosen"),
        ({"a=1 b": 2}, "it is no name"),
        ({"doecc": True}, "doecc need a water reference"),
        ({"chomit": "a\nb"}, "without line breaks"),
        ({"chomit": "a $END"}, "without line breaks and $"),
        ({"ppmst": float("nan")}, "give a number"),
    ],
)
def test_settings_that_cannot_be_chosen(inputs, tmp_path, lcmodel, control, said):
    lcmodel(GOOD)
    with pytest.raises(BadInputError, match=re.escape(said)):
        run(inputs, tmp_path / "work", control=control)


def without(name):
    return {key: value for key, value in HEADER.items() if key != name}


@pytest.mark.parametrize(
    ("signal", "header", "dwell", "said"),
    [
        (np.ones((POINTS, 2), np.complex64), HEADER, 5e-4, "combine coils and average first"),
        (np.ones(POINTS, np.float32), HEADER, 5e-4, "real numbers"),
        (np.ones(32, np.complex64), HEADER, 5e-4, "32 points"),
        (np.full(POINTS, np.nan, np.complex64), HEADER, 5e-4, "not finite"),
        (np.zeros(POINTS, np.complex64), HEADER, 5e-4, "zeros only"),
        (None, without("EchoTime"), 5e-4, "has no EchoTime"),
        (None, without("SpectrometerFrequency"), 5e-4, "has no SpectrometerFrequency"),
        (None, {**HEADER, "ResonantNucleus": ["31P"]}, 5e-4, "measured on 31P"),
        (None, HEADER, 8e-4, "no time between two points"),
        (None, without("SpectralWidth"), 1.0, "no time between two points"),
    ],
)
def test_spectra_that_lcmodel_cannot_fit(inputs, tmp_path, lcmodel, signal, header, dwell, said):
    lcmodel(GOOD)
    write_svs(tmp_path / "sub-01_svs.nii.gz", signal, header, dwell)
    with pytest.raises(BadInputError, match=f"sub-01_svs.nii.gz .*{said}"):
        run(inputs, tmp_path / "work")


def test_axes_of_length_1_are_no_matter_and_the_width_stands_in(tmp_path):
    write_svs(tmp_path / "a_svs.nii.gz", decay()[:, None, None], HEADER, dwell=1.0)
    found = load_spectrum(tmp_path / "a_svs.nii.gz", {"EchoTime": 0.144})
    np.testing.assert_array_equal(found.signal, decay())
    assert (found.dwell, found.te, found.volume, found.sequence) == (5e-4, 0.144, 15, "PRESS")


def test_the_header_has_more_digits_of_the_frequency_than_a_sidecar(tmp_path):
    path = write_svs(tmp_path / "a_svs.nii.gz")
    assert load_spectrum(path, {"SpectrometerFrequency": [123.2]}).mhz == 123.25
    with pytest.raises(BadInputError, match=r"123.25 MHz in its header and 63.9 MHz"):
        load_spectrum(path, {"SpectrometerFrequency": 63.9})
    path = write_svs(tmp_path / "b_svs.nii.gz", header=without("SpectrometerFrequency"))
    assert load_spectrum(path, {"SpectrometerFrequency": [123.2]}).mhz == 123.2


@pytest.mark.parametrize(
    ("points", "dwell", "mhz", "said"),
    [
        (POINTS - 1, 5e-4, 123.25, "lengths 128 and 127 points"),
        (POINTS, 2.5e-4, 123.25, "times between points"),
        (POINTS, 5e-4, 297.2, "frequencies 123.25 and 297.2 MHz"),
    ],
)
def test_a_water_reference_of_another_scan(inputs, tmp_path, lcmodel, points, dwell, mhz, said):
    lcmodel(GOOD)
    header = {**without("SpectralWidth"), "SpectrometerFrequency": [mhz]}
    water = write_svs(tmp_path / "sub-01_mrsref.nii.gz", decay(points), header, dwell)
    with pytest.raises(BadInputError, match=f"sub-01_mrsref.nii.gz .*{said}"):
        run(inputs, tmp_path / "work", water_file=str(water))


def test_inputs_from_a_dataset_hold_no_names(tmp_path):
    folder = tmp_path / "sub-01" / "mrs"
    folder.mkdir(parents=True)
    (tmp_path / "svs.json").write_text(json.dumps({"EchoTime": 0.16, "PatientName": "Somebody"}))
    svs = write_svs(folder / "sub-01_svs.nii.gz", header=without("EchoTime"))
    water = write_svs(folder / "sub-01_mrsref.nii.gz")
    found = run_inputs(svs, water, "te160.basis", tmp_path)
    assert found == {"spectrum_file": str(svs), "water_file": str(water), "water_metadata": {},
                     "basis_file": "te160.basis", "metadata": {"EchoTime": 0.16}}  # fmt: skip
    assert load_spectrum(svs, found["metadata"]).te == 0.16


def test_raw_file_of_a_real_spectrum_is_the_one_that_lcmodel_was_given(
    shared_data, tmp_path, lcmodel
):
    """Same numbers, same sign, same volume as the RAW and H2O of a run of LCModel 6.3-1N."""
    lcmodel(GOOD)
    (tmp_path / "te30.basis").write_text(" $BASIS1\n")
    scan = shared_data / "mrs" / "philips_press30_sub-01"
    inputs = run_inputs(
        scan / "sub-01_svs.nii.gz", scan / "sub-01_mrsref.nii.gz", tmp_path / "te30.basis"
    )
    run(inputs, tmp_path / "work")
    case = shared_data / "lcmodel" / "real_osprey_press30_01"
    for name in ("data.RAW", "data.H2O"):
        head, found = read_raw(tmp_path / "work" / "lcmodel" / name)
        *heads, numbers = (case / name).read_text().split("$END\n")
        expected = np.array(numbers.split(), float).reshape(-1, 2) @ [1, 1j]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert len(found) == len(expected) == 2048
        assert "HZPPPM = 127.755264" in head
        assert "VOLUME = 20.28" in head
        assert "HZPPPM = 127.755264" in "".join(heads)
    given = namelist((tmp_path / "work" / "lcmodel" / "seen").read_text())
    control = (case / "control").read_text()
    for key in ("nunfil", "deltat", "hzpppm", "echot", "ltable", "lcoord", "lcsv", "lprint"):
        assert re.search(rf"^ {key}= {given[key]}$", control, re.MULTILINE), key
