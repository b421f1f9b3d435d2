"""The group level on a cohort on paper: tables of people who do not exist."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from paper_cohort import people, true_measures, write_cohort, write_measures, write_participants

from alsflow import cli_demo
from alsflow.cli import main
from alsflow.interfaces.group import TABLE_NAME, find_tables, read_levels, read_states, read_tests
from alsflow.interfaces.images import load, save
from alsflow.interfaces.template import SPACE
from alsflow.nodes.errors import BadInputError
from alsflow.workflows.group import OVERLAP, init_group_wf, requested_group, withdraw_group
from alsflow.workflows.settings import GroupSettings, Settings


def settings(bids: Path, output: Path, **changes) -> Settings:
    return Settings(
        bids_dir=bids, output_dir=output, analysis_level="group",
        work_dir=bids.parent / "work", **changes,
    )  # fmt: skip


def run(given: Settings) -> None:
    """Run the group level."""
    workflow = init_group_wf(given)
    workflow.base_dir = str(given.work_dir)
    workflow.config["execution"] |= {
        "hash_method": "content", "crashdump_dir": str(given.work_dir), "crashfile_format": "txt",
        "stop_on_first_crash": "true",
    }  # fmt: skip
    workflow.run("Linear")


def failure(given: Settings) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - Nipype wraps what a node raises
        run(given)
    return str(caught.value)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """24 people, precentral atrophy of 12 %, and everything that goes wrong in a real cohort."""
    folder = tmp_path_factory.mktemp("cohort <b>")
    bids, output = write_cohort(folder, 24, {"precentral": -0.12})
    flagged = output / "sub-07" / "anat" / "sub-07_desc-anat_measures.tsv"
    flagged.write_text(
        flagged.read_text().replace("\tok\tn/a", "\tflagged\t<i>mask</i> at the edge")
    )
    cohort = people(24)
    rng = np.random.default_rng(5)
    lacking = true_measures(cohort[4], rng, {})
    write_measures(output, "sub-05", lacking, bad=("gmv_thalamus_both_tiv",))
    write_measures(output, "sub-99", lacking)  # not in participants.tsv
    later = {name: 0.5 * value for name, value in lacking.items()}
    write_measures(output, "sub-10", later | {"tiv": 3000.0}, "ses-b")
    (output / "sub-10" / "anat" / "sub-10_desc-anat_measures.tsv").rename(
        write_measures(output, "sub-10", lacking, "ses-a")
    )
    cohort[2]["age"] = "n/a"
    cohort[3]["site"] = "NORTH"
    write_participants(bids, [*cohort, cohort[0] | {"participant_id": "sub-98"}])
    status = ["participant_id session_id stream state reason".replace(" ", "\t")]
    status += ["sub-98\tn/a\tanat\trefused\tslices of 6 mm", "sub-01\tn/a\tanat\tdone\tn/a"]
    status += ["sub-02\tn/a\tanat\tfailed\tthe disk is full", "n/a\tn/a\tgroup\tfailed\tx"]
    (output / "status.tsv").write_text("\n".join(status) + "\n")
    given = settings(bids, output)
    run(given)
    return given


def test_everything_asked_for_is_written(result):
    assert all(path.is_file() for path in requested_group(result).values())
    figures = {path.stem for path in (result.output_dir / "group" / "figures").glob("*.png")}
    assert figures >= {"forest_motor", "gmv_precentral_both_tiv", "gmv_thalamus_both_tiv"}
    assert not list(result.output_dir.rglob(".*"))  # nothing half-written


def test_the_injected_effect_is_found_and_no_other_in_the_primary_family(result):
    tests = read_tests(result.output_dir / "group" / "tests.tsv").set_index("measure")
    motor = tests[tests["family"] == "motor"]
    assert list(motor.index[motor["q"] < 0.05]) == ["gmv_precentral_both_tiv"]
    found = motor.loc["gmv_precentral_both_tiv"]
    assert found["relative_low"] < -12 < found["relative_high"] < 0
    assert found["model"] == "gmv_precentral_both_tiv ~ group + site + age + sex"
    assert np.isnan(tests.at["gmv_precentral_asymmetry", "relative"])


def test_people_are_counted_and_the_missing_named(result):
    tests = read_tests(result.output_dir / "group" / "tests.tsv").set_index("measure")
    # of 24, sub-03 has no age; sub-02 failed later; sub-07 is flagged; sub-05 lacks the thalamus
    assert list(tests.loc["gmv_striatum_both_tiv", ["n", "n_missing", "df"]]) == [21, 2, 15]
    assert list(tests.loc["gmv_thalamus_both_tiv", ["n", "n_missing", "df"]]) == [20, 3, 14]
    missing = tests.at["gmv_thalamus_both_tiv", "missing"]
    assert missing == (
        "sub-02: anat failed: the disk is full; sub-05: region outside the image; "
        "sub-07: flagged: <i>mask</i> at the edge"
    )
    lost = tests.at["gmv_thalamus_both_tiv", "missing_per_site"]
    assert lost == (
        "north: 1 of 4 ALS, 1 of 5 control; south: 0 of 3 ALS, 0 of 3 control; "
        "west: 1 of 4 ALS, 0 of 4 control"
    )
    excluded = pd.read_csv(result.output_dir / "group" / "excluded.tsv", sep="\t")
    assert dict(excluded.to_numpy()) == {
        "sub-03": "age n/a in participants.tsv",
        "sub-98": "anat refused: slices of 6 mm",
        "sub-99": "has measures, but is not in participants.tsv",
    }


def test_who_falls_out_is_counted_by_family_site_and_group(result):
    path = result.output_dir / "group" / "attrition.tsv"
    table = pd.read_csv(path, sep="\t", keep_default_na=False)
    assert len(table) == len(set(table["family"])) * 6
    motor = table[table["family"] == "motor"].set_index(["site", "group"]).drop(columns="family")
    counts = ["n_people", "n_usable", "n_incomplete", "n_excluded"]
    # sub-03 counts without an age; sub-04 is of the NORTH; sub-98, too, and is in no table
    assert motor[counts].to_numpy().tolist() == [
        [5, 3, 0, 2], [5, 4, 0, 1], [4, 4, 0, 0], [3, 3, 0, 0], [4, 4, 1, 0], [4, 4, 0, 0],
    ]  # fmt: skip
    assert (table["n_people"] == table["n_usable"] + table["n_excluded"]).all()
    assert motor.at[("north", "ALS"), "reasons"] == (
        "1: anat refused: slices of # mm; 1: flagged: <i>mask</i> at the edge"
    )
    assert motor.at[("north", "control"), "reasons"] == "1: anat failed: the disk is full"
    assert motor.at[("south", "ALS"), "reasons"] == "n/a"


def test_features_hold_everybody_and_the_wide_table_no_flagged_value(result):
    tidy = pd.read_csv(result.output_dir / "features.tsv", sep="\t")
    wide = pd.read_csv(result.output_dir / "features_wide.tsv", sep="\t", na_values="n/a")
    assert len(wide) == 26  # 24, sub-99 and a second session
    flagged = tidy[tidy["participant_id"] == "sub-07"]
    assert (flagged["qc"] == "flagged").all()
    assert flagged["value"].notna().all()
    assert wide.set_index("participant_id").loc["sub-07"].drop("session_id").isna().all()
    units = json.loads((result.output_dir / "features_wide.json").read_text())
    assert units["gmv_precentral_both"]["Units"] == "mL"
    assert set(units) == set(wide.columns)


@pytest.mark.parametrize(
    "name",
    ["features", "features_wide", "group/tests", "group/design", "group/excluded",
     "group/attrition"],
)  # fmt: skip
def test_each_table_is_explained_column_by_column(result, name):
    columns = (result.output_dir / f"{name}.tsv").read_text().splitlines()[0].split("\t")
    described = json.loads((result.output_dir / f"{name}.json").read_text())
    assert set(columns) == set(described)
    if name == "group/design":
        assert described["site[south]"]["Description"].startswith("site: sum coding of north, so")
    assert all(entry["Description"] for entry in described.values())


def test_the_design_can_be_fitted_again_from_the_files_alone(result):
    folder = result.output_dir
    design = pd.read_csv(folder / "group" / "design.tsv", sep="\t").set_index("participant_id")
    wide = pd.read_csv(folder / "features_wide.tsv", sep="\t", na_values="n/a")
    wide = wide[wide["session_id"] != "ses-b"].set_index("participant_id")
    y = wide.loc[design.index, "gmv_precentral_both_tiv"]
    used = y.notna()
    beta = np.linalg.lstsq(design[used].to_numpy(), y[used].to_numpy(), rcond=None)[0]
    tests = read_tests(folder / "group" / "tests.tsv").set_index("measure")
    assert 2 * beta[1] == pytest.approx(tests.at["gmv_precentral_both_tiv", "estimate"], rel=1e-9)


def test_the_page_works_offline_and_escapes_what_it_was_given(result):
    page = (result.output_dir / "group.html").read_text()
    assert not re.search(r"(src|href)=[\"'](?!data:)", page)
    assert "http" not in re.sub(r"data:image/png;base64,[^\"]*", "", page)
    assert "<i>mask" not in page
    assert "&lt;i&gt;mask" in page
    for sentence in (
        "measure ~ group + site + age + sex", "group: ALS = 1, control = -1",
        "1 later ones are left out (sub-10 ses-b)", "slices of 6 mm", "are taken as one",
        "north: 1 of 4 ALS, 1 of 5 control\nwest: 1 of 4 ALS, 0 of 4 control</td>",
    ):  # fmt: skip
        assert sentence in page


def test_a_second_run_computes_nothing(result):
    before = {path: path.stat().st_mtime_ns for path in result.work_dir.rglob("result_*.pklz")}
    run(result)
    assert before == {
        path: path.stat().st_mtime_ns for path in result.work_dir.rglob("result_*.pklz")
    }


def test_a_result_of_older_figures_is_cleared(tmp_path):
    bids, output = write_cohort(tmp_path, 16)
    old = output / "group" / "figures" / "gmv_gone_both_tiv.png"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    run(settings(bids, output))
    assert not old.exists()


def test_a_withdrawn_result_comes_back_when_the_run_can_be_done_again(tmp_path):
    bids, output = write_cohort(tmp_path, 16)
    given = settings(bids, output)
    run(given)
    withdraw_group(given)
    assert not any(path.exists() for path in requested_group(given).values())
    (given.work_dir / "group_wf" / "deliver" / "result_deliver.pklz").unlink()
    run(given)
    assert all(path.is_file() for path in requested_group(given).values())


def test_people_named_for_the_run_are_the_only_ones(tmp_path):
    bids, output = write_cohort(tmp_path, 24)
    labels = tuple(f"{i:02d}" for i in range(1, 19))
    run(settings(bids, output, participant_label=labels))
    tests = read_tests(output / "group" / "tests.tsv")
    assert set(tests["n"]) == {18}
    assert "restricted to the 18 people" in (output / "group.html").read_text()


def test_one_site_and_one_sex_are_left_out_and_said(tmp_path):
    bids, output = write_cohort(tmp_path, 16)
    cohort = [person | {"site": "1", "sex": "f"} for person in people(16)]
    write_participants(bids, cohort)
    run(settings(bids, output))
    page = (output / "group.html").read_text()
    assert "measure ~ group + age<" in page
    assert "site is left out: all are of site 1" in page
    assert set(read_tests(output / "group" / "tests.tsv")["df"]) == {13}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"site": lambda p: p["group"]}, "no site scanned both groups"),
        ({"sex": lambda p: "1"}, "sex is '1', which can be read in more than one way"),
        ({"age": lambda p: "50"}, "age is 50 for all 16 people"),
        ({"group": lambda p: "ALS"}, "nobody of the reference group 'control'"),
        ({"participant_id": lambda p: "sub-01"}, "more than once"),
        ({"participant_id": lambda p: p["participant_id"] + "x"}, "nobody has both measures"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(tmp_path, change, message):
    bids, output = write_cohort(tmp_path, 16)
    [(column, value)] = change.items()
    write_participants(bids, [person | {column: value(person)} for person in people(16)])
    text = failure(settings(bids, output))
    assert "BadInputError" in text
    assert message in text
    assert not (output / "group.html").exists()


def test_too_few_people_are_refused(tmp_path):
    bids, output = write_cohort(tmp_path, 8)
    assert "at least 5 are needed" in failure(settings(bids, output))


def test_nothing_to_read_is_refused_before_anything_runs(tmp_path):
    bids, output = write_cohort(tmp_path, 8)
    with pytest.raises(BadInputError, match="no table of measures of the people named"):
        init_group_wf(settings(bids, output, participant_label=("77",)))
    with pytest.raises(BadInputError, match="run the participant level first"):
        init_group_wf(settings(bids, tmp_path / "elsewhere"))
    (bids / "participants.tsv").unlink()
    with pytest.raises(BadInputError, match=r"participants.tsv is not there"):
        init_group_wf(settings(bids, output))


def test_codes_of_sex_come_from_the_sidecar(tmp_path):
    bids, output = write_cohort(tmp_path, 16)
    write_participants(bids, [p | {"sex": str("FM".index(p["sex"]))} for p in people(16)])
    levels = {"0": {"Description": "Female"}, "1": "male"}
    (bids / "participants.json").write_text(json.dumps({"sex": {"Levels": levels}}))
    assert read_levels(bids / "participants.json") == {"0": "Female", "1": "male"}
    run(settings(bids, output))
    rows = (output / "group" / "design.tsv").read_text().splitlines()
    assert rows[0].split("\t")[-1] == "sex[female]"


def test_a_covariate_named_like_a_measure_is_refused(tmp_path):
    bids, output = write_cohort(tmp_path, 16)
    write_participants(bids, [p | {"tiv": "1400"} for p in people(16)])
    given = settings(bids, output, group=GroupSettings(covariates=("age", "tiv")))
    assert "tiv of participants.tsv has the name of a measure" in failure(given)


def test_another_reference_and_other_covariates(tmp_path):
    bids, output = write_cohort(tmp_path, 16)
    cohort = [p | {"group": {"ALS": "MND", "control": "CN"}[p["group"]]} for p in people(16)]
    write_participants(bids, cohort)
    run(settings(bids, output, group=GroupSettings(reference="CN", covariates=("age",))))
    tests = read_tests(output / "group" / "tests.tsv")
    assert set(tests["contrast"]) == {"MND - CN"}
    assert tests["model"].str.endswith("~ group + site + age").all()


def test_names_of_tables():
    assert TABLE_NAME.fullmatch("sub-01_ses-a_desc-anat_measures.tsv")["ses"] == "ses-a"
    assert TABLE_NAME.fullmatch("sub-01_desc-dwi_measures.tsv")["stream"] == "dwi"
    assert not TABLE_NAME.fullmatch("sub-01_measures.tsv")


def test_tables_of_other_sessions_are_passed_over(tmp_path):
    _, output = write_cohort(tmp_path, 2)
    write_measures(output, "sub-01", {"tiv": 1500.0}, "ses-a")
    write_measures(output, "sub-01", {"tiv": 1500.0}, "ses-b")
    names = [path.name for path in find_tables(output, ["01"], ["b"])]
    assert names == ["sub-01_desc-anat_measures.tsv", "sub-01_ses-b_desc-anat_measures.tsv"]


def test_a_table_in_the_wrong_folder_or_by_another_name_is_refused(tmp_path):
    _, output = write_cohort(tmp_path, 2)
    table = output / "sub-01" / "anat" / "sub-01_desc-anat_measures.tsv"
    wrong = table.rename(output / "sub-02" / "anat" / table.name)
    with pytest.raises(BadInputError, match="another person or session than its folder"):
        find_tables(output)
    wrong.rename(table.with_name("sub-01_measures.tsv"))
    with pytest.raises(BadInputError, match="is not named sub-X"):
        find_tables(output)


def test_states_are_read_per_stream(tmp_path):
    assert read_states(tmp_path) == ({}, {})
    (tmp_path / "status.tsv").write_text(
        "participant_id\tsession_id\tstream\tstate\treason\n"
        "01\ta\tanat\tfailed\tx\nsub-02\t\tanat\tflagged\ty\nsub-03\t\tanat\tdone\t\n"
    )
    unusable, absent = read_states(tmp_path)
    assert unusable == {"sub-01 ses-a anat": "anat failed: x"}
    assert absent == {"sub-01": "anat failed: x", "sub-02": "anat flagged: y"}


# --------------------------------------------------------------------------- closing table


def write_truth(bids: Path, output: Path, effects: dict[str, float], factor: float = 1.0) -> None:
    """Truth that equals what was measured, times `factor`."""
    truth = bids / "derivatives" / "truth"
    truth.mkdir(parents=True)
    tidy = pd.read_csv(output / "features.tsv", sep="\t", keep_default_na=False)
    tidy["value"] = tidy["value"].astype(float) * factor
    names = ["participant_id", "session_id", "measure", "value", "unit"]
    tidy[names].to_csv(truth / "measures.tsv", sep="\t", index=False)
    lines = [f"{name}\t{effects.get(name, 0)}" for name in dict.fromkeys(tidy["measure"])]
    (truth / "effects.tsv").write_text("measure\trelative_effect\n" + "\n".join(lines) + "\n")


INJECTED = {
    f"gmv_precentral_{side}{of}": -0.12
    for side in ("left", "right", "both")
    for of in ("", "_tiv")
}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    bids, output = write_cohort(folder, 24, {"precentral": -0.12})
    run(settings(bids, output))
    return bids, output


def again(simulated, tmp_path, effects, factor=1.0):
    """A copy of the dataset with its own truth."""
    bids, output = simulated
    copy = tmp_path / "bids"
    copy.mkdir()
    (copy / "participants.tsv").write_text((bids / "participants.tsv").read_text())
    write_truth(copy, output, effects, factor)
    return str(copy), str(output)


def test_a_recovered_effect_passes(simulated, tmp_path, capsys):
    arguments = again(simulated, tmp_path, INJECTED)
    assert cli_demo.main(arguments) == 0
    printed = capsys.readouterr().out
    assert re.search(r"gmv_precentral_both_tiv .*-12.0 %.* recovered", printed)
    assert re.search(r"gmv_striatum_both_tiv .* 0 .*no effect, as it should be", printed)
    assert (
        "6 measures carry an injected effect of 1% or more: "
        "the true difference is inside the 95 % limits of 6" in printed
    )
    assert printed.rstrip().endswith("group.html")


def test_the_truth_is_fitted_with_the_model_of_the_test(simulated, tmp_path):
    bids, output = again(simulated, tmp_path, INJECTED, factor=1.1)
    table = cli_demo.recovered(Path(bids), Path(output)).set_index("measure")
    np.testing.assert_allclose(table["true"], 1.1 * table["estimate"], rtol=1e-9)


def test_a_missed_effect_fails(simulated, tmp_path, capsys):
    arguments = again(simulated, tmp_path, INJECTED, factor=3.0)  # far outside the limits
    assert cli_demo.main(arguments) == 1
    assert "missed" in capsys.readouterr().out


def test_effects_that_none_can_see_fail(simulated, tmp_path, capsys):
    assert cli_demo.main(again(simulated, tmp_path, {"gmv_striatum_both_tiv": -0.01})) == 1
    printed = capsys.readouterr().out
    assert "inside the limits, not told from 0" in printed
    assert "0 of them told from 0" in printed


def test_missing_files_are_named(simulated, tmp_path, capsys):
    bids, _ = again(simulated, tmp_path, INJECTED)
    assert cli_demo.main([bids, str(tmp_path)]) == 66
    assert "features_wide.tsv is not there" in capsys.readouterr().err


def test_a_run_that_is_refused_withdraws_the_older_result(tmp_path, capsys):
    bids, output = write_cohort(tmp_path, 16)
    (bids / "dataset_description.json").write_text('{"Name": "cohort", "BIDSVersion": "1.10.0"}')
    words = [str(bids), str(output), "group", "-w", str(tmp_path / "work"),
             "--skip-bids-validation"]  # fmt: skip
    assert main(words) == 0
    assert (output / "group.html").is_file()
    assert 'href="group.html"' in (output / "index.html").read_text()
    table = bids / "participants.tsv"
    whole = table.read_text()
    table.write_text("\n".join(whole.splitlines()[:4]) + "\n")  # three people cannot be compared
    assert main(words) == 65
    assert not (output / "group.html").exists()
    assert 'href="group.html"' not in (output / "index.html").read_text()
    assert "people" in capsys.readouterr().err
    table.write_text(whole)
    assert main(words) == 0
    assert (output / "group.html").is_file()


def add_voxel(output: Path, person: str, low: int, session: str = "") -> Path:
    """Voxel of a person in the template, 20 voxels long from `low`."""
    parts = [person, session] if session else [person]
    name = f"{'_'.join(parts)}_space-{SPACE}_desc-voxel_probseg.nii.gz"
    path = output.joinpath(*parts, "mrs", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    share = np.zeros((97, 115, 94), np.float32)
    share[low : low + 20, 50:65, 60:72] = 1
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -98, -134, -72
    return Path(save(share, affine, path))


def test_voxels_of_spectroscopy_become_a_map_and_a_picture(tmp_path):
    bids, output = write_cohort(tmp_path, 16)
    given = settings(bids, output)
    assert not set(OVERLAP) & set(requested_group(given))
    add_voxel(output, "sub-01", 30)
    add_voxel(output, "sub-02", 40)
    add_voxel(output, "sub-03", 70)  # failed since
    add_voxel(output, "sub-02", 60, "ses-b")  # one voxel of each person counts
    status = "participant_id session_id stream state reason\nsub-03 n/a mrs failed full\n"
    (output / "status.tsv").write_text(status.replace(" ", "\t"))
    assert set(OVERLAP) < set(requested_group(given))
    run(given)
    assert all(path.is_file() for path in requested_group(given).values())
    data, _ = load(output / OVERLAP[0])
    assert data.max() == 1
    assert (data == 1).sum() == 10 * 15 * 12  # those that both cover
    assert (data == 0.5).sum() == 2 * 10 * 15 * 12
    sidecar = json.loads((output / OVERLAP[1]).read_text())
    assert sidecar["NumberOfPeople"] == 2
    assert [Path(source).name[:6] for source in sidecar["Sources"]] == ["sub-01", "sub-02"]
    assert all((output / source.removeprefix("bids::")).is_file() for source in sidecar["Sources"])
    np.testing.assert_allclose(sidecar["LargestOverlapAt"], [-8, -20, 58], atol=2.1)
    page = (output / "group.html").read_text()
    assert "<h2>Spectroscopy voxel</h2>" in page
    assert "Share of the 2 people" in page
    assert not re.search(r"(src|href)=[\"'](?!data:)", page)
    assert (output / "group" / "figures" / "overlap.png").is_file()

    # only those named; a person alone
    only = settings(bids, output, participant_label=tuple(f"{i:02d}" for i in range(2, 17)))
    run(only)
    assert json.loads((output / OVERLAP[1]).read_text())["NumberOfPeople"] == 1

    # nobody any more: nothing of the older result stays
    for path in output.glob("sub-*/**/mrs/*"):
        path.unlink()
    run(given)
    assert not any((output / name).exists() for name in OVERLAP)
    assert not (output / "group" / "figures" / "overlap.png").exists()
    assert "Spectroscopy voxel" not in (output / "group.html").read_text()
