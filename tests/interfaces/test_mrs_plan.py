"""Which LCModel result is whose, and what is done with a visit's spectroscopy."""

import os
from pathlib import Path

import pytest

from alsflow.interfaces.mrs_lcmodel import read_lcmodel
from alsflow.interfaces.mrs_mapping import Found
from alsflow.interfaces.mrs_plan import (
    check_mrs,
    choose_spectrum,
    find_results,
    plan_mrs,
    water_of,
)
from alsflow.nodes.errors import BadInputError

HEAD = "participant_id\tsession_id\tresult\tvoxel\tslice\trow\tcol\n"


def put(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" LCModel (Version 6.3-1N)\n")


def names(found, folder):
    return {visit: [path.relative_to(folder).as_posix() for path in one.files]
            for visit, one in found.items()}  # fmt: skip


def mapping(folder, text, name="lcmodel.tsv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# ---------------------------------------------------------------------------- by name


@pytest.mark.parametrize(
    "files",
    [
        ["sub-01.table", "sub-01.csv"],
        ["sub-01_acq-press_svs.COORD", "sub-01_acq-press_svs.TABLE"],
        ["sub-01/mrs/out.coord", "sub-01/mrs/out.table"],
        ["sub-01/mrs/coord", "sub-01/mrs/csv", "sub-01/mrs/print", "sub-01/mrs/table"],
        ["sub-01/table"],
        ["group-a/sub-01_run2/lcm/fit.table"],
    ],
)
def test_names_that_are_understood(tmp_path, files):
    put(tmp_path, *files)
    found, warnings = find_results(tmp_path, [("01", None), ("02", None)])
    assert names(found, tmp_path) == {("01", None): sorted(files)}
    assert warnings == []


def test_other_files_beside_a_result_are_no_matter(tmp_path):
    put(tmp_path, "sub-01/mrs/out.table", "sub-01/mrs/control", "sub-01/mrs/ps",
        "sub-01/mrs/notes.csv", "sub-01/mrs/data.RAW", "participants.csv",
        ".git/annex/sub-01.table", "sub-01/.cache/old.table")  # fmt: skip
    found, _ = find_results(tmp_path, [("01", None)])
    assert names(found, tmp_path) == {("01", None): ["sub-01/mrs/out.table"]}
    assert find_results(tmp_path, [("02", None)]) == ({}, [])
    assert find_results(None, [("01", None)]) == ({}, [])


def test_a_label_is_not_the_start_of_another(tmp_path):
    put(tmp_path, "sub-10.table", "sub-01_ses-ab.table", "sub-01/ses-abc/table", "sub-1x/table",
        "sub-1-old/table")  # fmt: skip
    people = [("1", None), ("01", "a"), ("10", None)]
    found, _ = find_results(tmp_path, people)
    assert names(found, tmp_path) == {("10", None): ["sub-10.table"]}


def test_sessions(tmp_path):
    put(tmp_path, "sub-01/ses-a/mrs/out.table", "sub-01_ses-b.table", "sub-02/ses-a.table")
    people = [("01", "a"), ("01", "b"), ("02", "a"), ("02", "b")]
    found, _ = find_results(tmp_path, people)
    assert names(found, tmp_path) == {
        ("01", "a"): ["sub-01/ses-a/mrs/out.table"],
        ("01", "b"): ["sub-01_ses-b.table"],
        ("02", "a"): ["sub-02/ses-a.table"],
    }


def test_a_result_without_session_is_not_given_to_one(tmp_path):
    """It may be of a session that was left out of this run."""
    put(tmp_path, "sub-01.table", "sub-02_ses-a.table", "sub-03.table", "sub-03_ses-a.table")
    found, _ = find_results(tmp_path, [("01", "a"), ("02", None), ("03", "a")])
    assert "sub-01.table names no session, and the dataset has sub-01 with ses-a; name the " in (
        found["01", "a"].problem
    )
    assert "sub-02_ses-a.table names a session" in found["02", None].problem
    assert names(found, tmp_path)["03", "a"] == ["sub-03_ses-a.table"]


def test_two_results_of_one_visit_harm_that_visit_alone(tmp_path):
    put(tmp_path, "sub-01/mrs/out.table", "sub-01_acq-steam.coord", "sub-02/a.table",
        "sub-02/b.table", "sub-03.table")  # fmt: skip
    found, _ = find_results(tmp_path, [("01", None), ("02", None), ("03", None)])
    assert found["01", None].problem == (
        "sub-01/mrs/out.table and sub-01_acq-steam.coord could each be the LCModel result of "
        "sub-01; name the result in lcmodel.tsv, beside the results"
    )
    assert "sub-02/a.table and sub-02/b.table" in found["02", None].problem
    assert found["01", None].files == found["02", None].files == ()
    assert names(found, tmp_path)["03", None] == ["sub-03.table"]


def test_a_result_in_the_folder_of_another_person_is_nobodys(tmp_path):
    put(tmp_path, "sub-01/sub-02.table", "sub-03/ses-a/sub-03_ses-b.table")
    people = [("01", None), ("02", None), ("03", "a"), ("03", "b"), ("03", "c")]
    found, _ = find_results(tmp_path, people)
    assert all(not one.files for one in found.values())
    assert len(found) == 4
    assert "sub-01/sub-02.table bears the labels sub-01, sub-02" in found["01", None].problem
    assert "ses-a, ses-b" in found["03", "b"].problem


def test_a_scan_of_many_voxels_needs_one_named(tmp_path):
    put(tmp_path, "sub-01_sl1_1-1.table", "sub-01_sl1_1-2.table", "sub-01.csv",
        "sub-02/sl1_2-2.table", "sub-02/csv")  # fmt: skip
    people = [("01", None), ("02", None)]
    found, _ = find_results(tmp_path, people)
    assert "has 2 voxels (slice/row/col 1/1/1, 1/1/2); name one" in found["01", None].problem
    assert names(found, tmp_path)["02", None] == ["sub-02/csv", "sub-02/sl1_2-2.table"]
    mapping(tmp_path, "participant_id\tresult\trow\tcol\n01\tsub-01.csv\t1\t2\n")
    found, _ = find_results(tmp_path, people)
    assert found["01", None].voxel == (1, 1, 2)
    assert len(found["01", None].files) == 3


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    def scandir(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(BadInputError, match=r"folder .* cannot be read \(Permission denied\)"):
        find_results(tmp_path, [("01", None)])


def test_what_is_found_can_be_read(shared_data, tmp_path):
    case = shared_data / "lcmodel" / "sim_steam160_healthy"
    (tmp_path / "sub-01").symlink_to(case)  # not followed: links may lead in circles
    text = f"participant_id\tresult\nsub-01\t{case}\nsub-02\t{case.parent}/external/../boundary_"
    mapping(tmp_path, text + "sd15_tcho/out.csv\n")
    found, _ = find_results(tmp_path, [("01", None), ("02", None)])
    (fit,) = read_lcmodel(found["01", None].files[0])
    assert fit.correlations.between("NAA+NAAG", "Cr+PCr") == 0.311
    assert read_lcmodel(found["02", None].files[0])[0].result.status == "ok"


# ---------------------------------------------------------------------------- by mapping


def test_a_mapping_decides_alone(tmp_path):
    put(tmp_path, "P7/out.table", "P7/out.print", "odd/B.coord", "odd/A.table", "sub-02.table",
        "spar/P7.SPAR")  # fmt: skip
    text = HEAD + (
        "sub-01\tses-a\tP7\tspar/P7.SPAR\tn/a\tn/a\tn/a\n"
        "02\tb\todd/B.coord\tn/a\n"
        "03\tn/a\tn/a\tspar/P7.SPAR\n"
    )
    mapping(tmp_path, text)
    people = [("01", "a"), ("02", "b"), ("02", "c"), ("03", None), ("04", None)]
    found, warnings = find_results(tmp_path, people)
    assert names(found, tmp_path) == {
        ("01", "a"): ["P7/out.print", "P7/out.table"],
        ("02", "b"): ["odd/B.coord"],
        ("03", None): [],
    }
    assert [one.declared_absent for one in found.values()] == [False, False, True]
    assert [one.place for one in found.values()] == [
        tmp_path / "spar/P7.SPAR", None, tmp_path / "spar/P7.SPAR"]  # fmt: skip
    assert not any(one.problem for one in found.values())
    assert warnings == []


def test_a_mapping_elsewhere_outweighs_that_of_the_folder(tmp_path):
    put(tmp_path, "lcm/a.table", "lcm/b.table")
    (tmp_path / "code").mkdir()
    mapping(tmp_path / "lcm", "participant_id\tresult\n01\ta.table\n")
    other = mapping(tmp_path / "code", "participant_id\tresult\n01\t../lcm/b.table\n", "m.tsv")
    for folder in (tmp_path / "lcm", None):
        found, _ = find_results(folder, [("01", None)], other)
        assert [path.name for path in found["01", None].files] == ["b.table"]
    found, _ = find_results(tmp_path / "lcm", [("01", None)])
    assert [path.name for path in found["01", None].files] == ["a.table"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.replace("\t", " \t ").encode() + b"\n\n",
        lambda text: "\n".join(line + "\t\t" for line in text.splitlines()).encode(),
        lambda text: text.replace("fäll/out.table", '"fäll/out.table"').encode(),
        lambda text: text.replace("sub-01", "01").encode(),
    ],
)
def test_mappings_as_spreadsheets_write_them(tmp_path, change):
    put(tmp_path, "fäll/out.table")
    mapping(tmp_path, change("participant_id\tresult\nsub-01\tfäll/out.table\n"))
    found, warnings = find_results(tmp_path, [("01", None)])
    assert names(found, tmp_path) == {("01", None): ["fäll/out.table"]}
    assert warnings == []


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("01\t\tabsent\t", "there is no absent beside the table; check the path"),
        ("01\t\tP\\out.table\t", "write folders with /"),
        ("01\t\t\t", "the column result is blank; give a path, or n/a"),
        (f"01\t\t{'a' * 300}", "a path cannot be read (File name too long)"),
        ("01\t\tempty\t", "empty holds no .table or .coord"),
        ("01\t\tspar/P7.SPAR\t", "P7.SPAR belongs to no .table or .coord"),
        ("01\t\todd\t", "odd holds the results A, B; name the file of one"),
        ("01\t\tP\tabsent.rda", "there is no absent.rda"),
        ("01\t\tP\tspar", "voxel is spar, which is a folder"),
        ("01\t\tP\t\t1\t2\t3", "no voxel 1/2/3 (slice/row/col); it has 1/1/1"),
        ("01\t\tP\t\t1\ttwo\t3", "row is 'two'; give a whole number"),
        ("01\t\tP\t\t1\t0\t3", "row is '0'"),
        ("01\t\tP\t\t1\t2", "col is not given"),
        ("01\t\tP\t\t\t\t\tmore", "more cells than the header"),
        ("01\ta\tP\t", "session_id is a, and sub-01 has no sessions"),
    ],
)
def test_a_bad_row_harms_its_visit_alone(tmp_path, row, said):
    put(tmp_path, "P/out.table", "odd/A.table", "odd/B.table", "spar/P7.SPAR", "Q/out.table")
    (tmp_path / "empty").mkdir()
    mapping(tmp_path, f"{HEAD}\n02\t\tQ\n{row}\n")
    found, warnings = find_results(tmp_path, [("01", None), ("02", None)])
    assert found["01", None].problem.startswith("lcmodel.tsv, line 4: ")
    assert said in found["01", None].problem
    assert found["01", None].files == ()
    assert names(found, tmp_path)["02", None] == ["Q/out.table"]
    assert warnings == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("participant_id,result\n01,P\n", "line 1: columns must be parted by tabs"),
        ("participant_id;result\n", "parted by tabs"),
        ("participant_id\tsession_id\n", "there is no column result"),
        ("sub-01\tP/out.table\n", "no column participant_id and no column result"),
        ("\nparticipant_id\tresult\tvoxl\n", "line 2: .* the column voxl, was voxel meant?"),
        ("participant_id\tresult\tage\n", "known are participant_id, session_id"),
        ("participant_id\tresult\tresult\n", "the column result is there twice"),
        ("\n\n", "is empty"),
        ("participant_id\tresult\n".encode("utf-16"), "UTF-8"),
    ],
)
def test_a_broken_header_refuses_all(tmp_path, text, said):
    path = mapping(tmp_path, text, "map.tsv")
    for call in (lambda: check_mrs(mapping=path), lambda: find_results(None, [], path)):
        with pytest.raises(BadInputError, match=f"map.tsv.*{said}"):
            call()


def test_rows_that_contradict_each_other(tmp_path):
    put(tmp_path, *(f"{letter}/table" for letter in "ABCDE"))
    text = (
        "participant_id\tsession_id\tresult\n01\ta\tA\nsub-01\tses-a\tB\n02\ta\tC\n02\tb\tC/table"
    )
    mapping(tmp_path, text + "\n03\t\tD\n04\tn/a\tE\n04\ta\tD\n")
    people = [("01", "a"), ("02", "a"), ("02", "b"), ("03", "a"), ("03", "b"), ("04", "a")]
    found, warnings = find_results(tmp_path, people)
    assert found["01", "a"].problem == (
        "lcmodel.tsv, lines 2 and 3: one visit is there twice; leave one row"
    )
    for session in "ab":
        assert "sub-02_ses-a and sub-02_ses-b have the same result" in (
            found["02", session].problem
        )
        assert "line 6: no session_id is given, and sub-03 has ses-a, ses-b" in (
            found["03", session].problem
        )
    assert names(found, tmp_path)["04", "a"] == ["D/table"]
    assert warnings == []


def test_one_scan_may_serve_visits_by_different_voxels(tmp_path):
    put(tmp_path, "scan_sl1_1-1.table", "scan_sl1_1-2.table")
    rows = "".join(f"0{col}\t\tscan.csv\t\t1\t1\t{col}\n" for col in (1, 2))
    put(tmp_path, "scan.csv")
    mapping(tmp_path, HEAD + rows)
    found, _ = find_results(tmp_path, [("01", None), ("02", None)])
    assert [one.voxel for one in found.values()] == [(1, 1, 1), (1, 1, 2)]
    assert not any(one.problem for one in found.values())


def test_people_who_are_not_in_the_dataset(tmp_path):
    put(tmp_path, "A/table")
    mapping(tmp_path, "participant_id\tsession_id\tresult\n1\t\tA\n02\tc\tA\nn/a\t\tA\n")
    found, warnings = find_results(tmp_path, [("01", None), ("02", "a")])
    assert found == {}
    assert warnings == [
        "lcmodel.tsv, line 2: sub-1 is no visit of this run (was sub-01 meant?); the row is not "
        "used.",
        "lcmodel.tsv, line 3: sub-02_ses-c is no visit of this run; the row is not used.",
        "lcmodel.tsv, line 4: there is no participant_id; the row is not used.",
    ]


def test_a_run_of_few_people_is_not_told_of_all_the_others(tmp_path):
    put(tmp_path, "A/table")
    rows = "".join(f"{number}\tA\n" for number in range(1, 100))
    mapping(tmp_path, f"participant_id\tresult\n{rows}")
    found, warnings = find_results(tmp_path, [("7", None)])
    assert names(found, tmp_path) == {("7", None): ["A/table"]}
    assert len(warnings) == 6
    assert warnings[-1] == "lcmodel.tsv: 93 more rows fit no visit of this run."


def test_what_is_checked_before_anything_runs(tmp_path, monkeypatch):
    check_mrs()
    with pytest.raises(BadInputError, match=r"the table absent.tsv cannot be read"):
        check_mrs(mapping=tmp_path / "absent.tsv")
    with pytest.raises(BadInputError, match=r"basis set absent.basis cannot be read"):
        check_mrs(basis=tmp_path / "absent.basis")
    with pytest.raises(BadInputError, match="there is no folder .*absent with results"):
        find_results(tmp_path / "absent", [])
    basis = tmp_path / "te30.basis"
    basis.write_text("CONC $BASIS1\n")
    with pytest.raises(BadInputError, match=r"te30.basis is no basis set"):
        check_mrs(basis=str(basis))
    program = tmp_path / "lcmodel"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for text in (" $SEQPAR\n $END\n $BASIS1\n", "$basis\n"):
        basis.write_text(text)
        check_mrs(basis=str(basis))


# ---------------------------------------------------------------------------- planning


SVS = Path("sub-01/mrs/sub-01_acq-press_svs.nii.gz")
OTHER = Path("sub-01/mrs/sub-01_acq-steam_svs.nii.gz")
REFS = [Path(f"sub-01/mrs/sub-01_acq-{name}_mrsref.nii.gz") for name in ("steam", "press")]
TABLE = Path("lcm/sub-01.table")


def test_one_spectrum_is_chosen_and_several_are_refused():
    assert choose_spectrum([SVS]) == SVS
    with pytest.raises(BadInputError) as refused:
        choose_spectrum([SVS, OTHER])
    assert f"there are 2 ({SVS.name}, {OTHER.name})" in str(refused.value)
    assert '{"mrs": {"acquisition": "press"}}' in str(refused.value)
    runs = [Path("sub-01_svs.nii.gz"), Path("sub-01_run-2_svs.nii.gz")]
    with pytest.raises(BadInputError, match=r'\{"mrs": \{"run": "2"\}\}'):
        choose_spectrum(runs)


def test_water_has_the_entities_of_its_spectrum():
    assert water_of(SVS, REFS) == REFS[1]
    assert water_of(Path("sub-01_svs.nii.gz"), REFS) is None
    assert water_of(SVS, [SVS]) is None


def test_a_plan_with_everything():
    plan = plan_mrs([SVS], REFS, Found((TABLE,)), "te30.basis")
    assert (plan.fit_files, plan.place, plan.run, plan.notes) == ((TABLE,), SVS, False, ())
    assert (plan.spectrum, plan.water) == (SVS, REFS[1])


def test_lcmodel_is_run_only_where_there_is_no_result():
    plan = plan_mrs([SVS], REFS, None, "te30.basis")
    assert (plan.fit_files, plan.run, plan.water, plan.notes) == ((), True, REFS[1], ())
    plan = plan_mrs([SVS], REFS[:1], Found(), "te30.basis")
    assert plan.run
    assert [name for name, _ in plan.notes] == ["water_absent"]
    plan = plan_mrs([SVS], REFS, Found(declared_absent=True), "te30.basis")
    assert (plan.run, plan.place) == (False, SVS)
    assert plan.notes == (("no_fit", "the mapping says that there is no result of LCModel"),)


def test_a_fit_without_place_and_a_place_without_fit():
    plan = plan_mrs([], [], Found((TABLE,), voxel=(1, 2, 3)), "")
    assert (plan.place, plan.run, plan.voxel_index) == (None, False, (1, 2, 3))
    assert [name for name, _ in plan.notes] == ["no_place"]
    plan = plan_mrs([SVS], [], None)
    assert (plan.place, plan.fit_files) == (SVS, ())
    assert "no basis set" in dict(plan.notes)["no_fit"]


def test_the_place_of_a_mapping_comes_first_and_needs_no_spectrum():
    found = Found((TABLE,), place=Path("a.SPAR"))
    assert plan_mrs([SVS], [], found).place == Path("a.SPAR")
    assert plan_mrs([SVS], [], found).spectrum is None  # it is not read
    plan = plan_mrs([SVS, OTHER], REFS, found)
    assert (plan.place, plan.spectrum, plan.water) == (Path("a.SPAR"), None, None)
    plan = plan_mrs([], [], Found(place=Path("a.SPAR")), "te30.basis")
    assert (plan.run, plan.place) == (False, Path("a.SPAR"))
    assert "no _svs to run it on" in dict(plan.notes)["no_fit"]


def test_a_fit_is_not_put_where_another_spectrum_was_measured():
    steam = Found((Path("lcm/sub-01_acq-steam.table"),))
    assert plan_mrs([SVS, OTHER], REFS, steam).place == OTHER
    with pytest.raises(BadInputError, match=r"sub-01_acq-steam.table and .*differ in acq"):
        plan_mrs([SVS], REFS, steam)
    other_name = Found((Path("sub-P07_ses-2023.table"),))  # by a mapping
    assert plan_mrs([SVS], REFS, other_name).place == SVS
    found = Found(steam.files, place=Path("a.SPAR"))
    assert plan_mrs([SVS], REFS, found).spectrum is None


def test_a_fit_is_found_or_made():
    assert plan_mrs([], [], Found((TABLE,))).fitted
    assert plan_mrs([SVS], [], None, "te30.basis").fitted
    assert not plan_mrs([SVS], [], None).fitted


@pytest.mark.parametrize(
    ("spectra", "found", "said"),
    [
        ([SVS], Found(problem="lcmodel.tsv, line 3: no"), "^lcmodel.tsv, line 3: no$"),
        ([], None, "neither a spectrum"),
        ([], Found(declared_absent=True), "neither a spectrum"),
        ([SVS, OTHER], Found((TABLE,)), "there are 2"),
    ],
)
def test_what_cannot_be_planned(spectra, found, said):
    with pytest.raises(BadInputError, match=said):
        plan_mrs(spectra, REFS, found, "te30.basis")
