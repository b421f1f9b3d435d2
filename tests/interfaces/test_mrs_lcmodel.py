import pytest

from alsflow.interfaces.mrs_lcmodel import read_lcmodel, read_text, voxels_of
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.mrs.result import LCModelError

TABLE = """ LCModel (Version 6.3-1N)
 Row#{row} Col#{col}  scan

$$CONC  2 lines in following concentration table = NCONC+1
    Conc.  %SD /Cr+PCr  Metabolite
    0.14{row}   1%   1.000 Cr+PCr

$$MISC  5 lines in following misc. output table
  FWHM = 0.032 ppm    S/N = 120
  Data shift = 0.000 ppm
  Ph:   2 deg       1.0 deg/ppm

$$DIAG  0 lines in following diagnostic table:


$$INPU  0 lines in following table of input changes:
"""
CSV = "Row, Col, Cr+PCr, Cr+PCr %SD, Cr+PCr/Cr+PCr\n"


def write_scan(folder, voxels=((2, 2), (1, 1), (1, 2))):
    for row, col in voxels:
        text = TABLE.format(row=row, col=col)
        (folder / f"scan_sl1_{row}-{col}.table").write_text(text)
    lines = [f"  {row},   {col},    0.14{row},    1,    1.000\n" for row, col in voxels]
    (folder / "scan.csv").write_text(CSV + "".join(lines))


def test_voxels_of_a_scan_come_in_order(tmp_path):
    write_scan(tmp_path)
    for place in (tmp_path, tmp_path / "scan", tmp_path / "scan_sl1_1-1.table"):
        found = [fit.result for fit in read_lcmodel(place)]
        assert [(r.slice, r.row, r.col) for r in found] == [(1, 1, 1), (1, 1, 2), (1, 2, 2)]
        assert [r.rows[0].conc for r in found] == [0.141, 0.141, 0.142]


def test_a_voxel_without_table_is_missing_and_named(tmp_path):
    write_scan(tmp_path)
    (tmp_path / "scan_sl1_1-2.table").unlink()
    found = [fit.result for fit in read_lcmodel(tmp_path)]
    assert [(r.row, r.col, r.status) for r in found] == [
        (1, 1, "ok"),
        (2, 2, "ok"),
        (1, 2, "missing"),
    ]


def test_a_voxel_that_the_csv_does_not_know_is_of_another_run(tmp_path):
    write_scan(tmp_path)
    (tmp_path / "scan_sl1_3-3.table").write_text(TABLE.format(row=3, col=3))
    with pytest.raises(LCModelError, match="another run"):
        read_lcmodel(tmp_path)


def test_several_results_in_one_folder_are_refused(tmp_path):
    (tmp_path / "a.table").write_text(TABLE.format(row=1, col=1))
    (tmp_path / "b.table").write_text(TABLE.format(row=2, col=1))
    with pytest.raises(BadInputError, match="results a, b; name one"):
        read_lcmodel(tmp_path)
    assert read_lcmodel(tmp_path / "b")[0].result.rows[0].conc == 0.142


def test_no_output_is_a_missing_result_with_its_reason(tmp_path):
    (fit,) = read_lcmodel(tmp_path)
    assert (fit.result.status, fit.result.n_rows) == ("missing", 0)
    assert "neither" in fit.result.status_reason
    with pytest.raises(BadInputError, match="no folder"):
        read_lcmodel(tmp_path / "absent" / "out")


def test_latin_1_and_byte_order_mark(tmp_path):
    (tmp_path / "latin").write_bytes("Müller".encode("latin-1"))
    (tmp_path / "marked").write_bytes("Müller".encode("utf-8-sig"))
    assert read_text(tmp_path / "latin") == read_text(tmp_path / "marked") == "Müller"


def test_all_files_of_a_run_belong_to_its_fit(shared_data):
    (fit,) = read_lcmodel(shared_data / "lcmodel" / "sim_steam160_healthy")
    assert fit.result.source == "out.table"
    assert fit.spectra.ppm.shape == (380,)
    assert fit.correlations.between("NAA+NAAG", "Cr+PCr") == 0.311
    (other,) = read_lcmodel(shared_data / "lcmodel" / "external" / "suspect" / "svs_97")
    assert (other.result.version, other.result.n_rows) == ("6.3-1B", 37)
    assert "Data of" not in repr(other.result)


def test_versions_before_6_3_are_read_by_the_same_columns(tmp_path):
    for version in ("6.1-4F", "6.2-2A"):
        text = TABLE.format(row=1, col=1).replace("6.3-1N", version)
        (tmp_path / "out.table").write_text(text.replace("   0.141", " 1.4E-01"))
        (fit,) = read_lcmodel(tmp_path)
        assert (fit.result.version, fit.result.rows[0].conc) == (version, 0.14)


def test_files_as_lcmgui_saves_them_without_stem(tmp_path):
    (tmp_path / "table").write_text(TABLE.format(row=3, col=1))
    (tmp_path / "csv").write_text(CSV + "  1,   1,    0.143,    1,    1.000\n")
    (tmp_path / "ps").write_text("%!PS")
    (tmp_path / "control").write_text(" $LCMODL")
    for place in (tmp_path, tmp_path / "table", tmp_path / "csv"):
        (fit,) = read_lcmodel(place)
        assert (fit.result.source, fit.result.rows[0].conc) == ("table", 0.143)
    (tmp_path / "csv").write_text(CSV + "  1,   1,    0.999,    1,    1.000\n")
    with pytest.raises(LCModelError, match="another run"):
        read_lcmodel(tmp_path)
    (tmp_path / "out.table").write_text(TABLE.format(row=1, col=1))
    with pytest.raises(BadInputError, match="results out, table; name one"):
        read_lcmodel(tmp_path)
    assert read_lcmodel(tmp_path / "out.table")[0].result.rows[0].conc == 0.141


def test_voxels_of_a_scan_as_lcmgui_saves_them(tmp_path):
    for row, col in ((2, 2), (1, 2)):
        (tmp_path / f"sl1_{row}-{col}.table").write_text(TABLE.format(row=row, col=col))
    lines = [f"  {row},   2,    0.14{row},    1,    1.000\n" for row in (1, 2)]
    (tmp_path / "csv").write_text(CSV + "".join(lines))
    found = [fit.result for fit in read_lcmodel(tmp_path)]
    assert [(r.slice, r.row, r.col) for r in found] == [(1, 1, 2), (1, 2, 2)]
    assert voxels_of(tmp_path.iterdir()) == [(1, 1, 2), (1, 2, 2)]
