import inspect
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from alsflow import cli_simulate
from alsflow.interfaces.normalise import GAP_REACH
from alsflow.interfaces.simulate import atlas_regions, template_source, write_cohort
from alsflow.nodes.atlas import fill_gaps
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.simulate.anatomy import prepare_blueprint
from alsflow.nodes.simulate.cohort import (
    Design,
    draw_people,
    draw_site,
    head_measures,
    scan_person,
)
from alsflow.nodes.stats.catalogue import parse_catalogue

EXAMPLE = Path(__file__).resolve().parents[2] / "bids_example"
SMALL = Design(2, 2, 2, seed=3, voxels=((4.0, 4.0, 4.0), (4.0, 3.5, 4.0)))


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", na_values="n/a", keep_default_na=False)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated") / "cohort"
    assert list(write_cohort(out, SMALL, "the command", maps=True)) == ["01", "02", "03", "04"]
    return out


def test_the_dataset_is_valid_bids(cohort):
    program = Path(sys.executable).with_name("bids-validator-deno")
    run = subprocess.run([program, cohort, "--json"], capture_output=True, text=True, check=False)
    issues = json.loads(run.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert run.returncode == 0


def test_nothing_but_the_dataset_is_left(cohort):
    assert [path.name for path in cohort.parent.iterdir()] == ["cohort"]


def test_participants_are_those_that_were_drawn(cohort):
    people = table(cohort / "participants.tsv").set_index("participant_id")
    drawn = draw_people(SMALL, atlas_regions())
    assert list(people.index) == [f"sub-{person.label}" for person in drawn]
    assert set(people.groupby("site")["group"].nunique()) == {2}
    for person in drawn:
        row = people.loc[f"sub-{person.label}"]
        assert (row["site"], row["sex"], row["group"]) == tuple(
            person.row[name] for name in ("site", "sex", "group")
        )
        assert row["age"] == person.row["age"]
    meaning = json.loads((cohort / "participants.json").read_text())
    assert set(meaning) == {"participant_id", *people.columns}


def test_images_have_the_grid_of_their_site_and_fit_their_type(cohort):
    for person in draw_people(SMALL, atlas_regions()):
        stem = f"sub-{person.label}"
        image = nib.load(cohort / stem / "anat" / f"{stem}_T1w.nii.gz")
        np.testing.assert_allclose(image.header.get_zooms(), SMALL.voxel(person.site))
        assert image.get_data_dtype() in (np.uint8, np.int16)
        assert 1.2 < image.get_fdata().max() / draw_site(SMALL, person.site).gain < 2.5
        assert np.asarray(image.dataobj.get_unscaled()).max() < 1000
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")


def test_the_truth_maps_hold_the_true_volumes(cohort):
    measures = table(cohort / "derivatives" / "truth" / "measures.tsv")
    assert set(measures.columns) == {"participant_id", "session_id", "measure", "value", "unit"}
    assert measures["value"].notna().all()
    for stem, true in measures.groupby("participant_id"):
        values = true.set_index("measure")["value"]
        anat = cohort / "derivatives" / "truth" / stem / "anat"
        for tissue in ("gm", "wm", "csf"):
            image = nib.load(anat / f"{stem}_label-{tissue.upper()}_probseg.nii.gz")
            volume = image.get_fdata().sum() * abs(np.linalg.det(image.affine)) / 1000
            assert volume == pytest.approx(values[tissue], rel=1e-4)
        assert values["tiv"] == pytest.approx(values["gm"] + values["wm"] + values["csf"])
        both = values["gmv_precentral_left"] + values["gmv_precentral_right"]
        assert both == pytest.approx(values["gmv_precentral_both"])


def test_the_effect_is_in_the_precentral_gyrus_and_nowhere_else(cohort):
    effects = table(cohort / "derivatives" / "truth" / "effects.tsv").set_index("measure")
    measures = table(cohort / "derivatives" / "truth" / "measures.tsv")
    assert set(effects.index) == set(measures["measure"])
    assert effects.loc["gmv_precentral_both", "relative_effect"] == -0.12
    people = [p for p in draw_people(SMALL, atlas_regions()) if p.row["group"] == "ALS"]
    shares = [share for person in people for share in person.traits.thinning.values()]
    made = effects.loc["gmv_precentral_both", "mean_change"]
    assert made == pytest.approx(-np.mean(shares), abs=2e-3)
    regional = effects.index.str.match(r"gmv_.*_(left|right|both)")
    others = effects[regional & ~effects.index.str.contains("precentral")]
    assert (others[["relative_effect", "mean_change"]].abs() < 3e-3).all(axis=None)
    assert (others["relative_effect"] == 0).all()


def test_scores_belong_to_participants(cohort):
    people = table(cohort / "participants.tsv").set_index("participant_id")["group"]
    for name in ("alsfrsr", "mrc", "penn_umn", "fvc", "tapping"):
        scores = table(cohort / "phenotype" / f"{name}.tsv").set_index("participant_id")
        expected = people.index if name in ("fvc", "tapping") else people[people == "ALS"].index
        assert list(scores.index) == list(expected)
        meaning = json.loads((cohort / "phenotype" / f"{name}.json").read_text())
        assert set(scores.columns) == set(meaning) - {"MeasurementToolMetadata"}


@pytest.mark.slow
def test_the_same_bytes_whatever_the_number_of_processes_and_of_people(cohort, tmp_path):
    few = Design(2, 1, 2, SMALL.seed, voxels=SMALL.voxels)
    list(write_cohort(tmp_path / "again", few, "the command", n_procs=2, maps=True))
    first, again = files(cohort), files(tmp_path / "again")
    images = {name for name in again if name.endswith(".nii.gz")}
    assert len(images) == 3 * 5
    assert all(first[name] == again[name] for name in images)


def test_a_folder_that_holds_something_is_left_alone(cohort):
    before = files(cohort)
    with pytest.raises(FileExistsError, match="not an empty folder"):
        next(write_cohort(cohort, SMALL, "the command"))
    assert files(cohort) == before


def test_a_cohort_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(task):
        raise RuntimeError("scanner broken")

    monkeypatch.setattr("alsflow.interfaces.simulate._start_worker", lambda: None)
    monkeypatch.setattr("alsflow.interfaces.simulate._make_person", fail)
    with pytest.raises(RuntimeError, match="scanner broken"):
        list(write_cohort(tmp_path / "out", SMALL, "the command"))
    assert list(tmp_path.iterdir()) == []


def test_the_source_is_a_whole_brain_with_an_atlas():
    source = template_source()
    total = source.gm + source.wm + source.csf
    assert total.max() <= 1.01
    assert set(source.structures) == {
        "striatum", "thalamus", "pallidum", "brainstem", "ventricles"
    }  # fmt: skip
    assert {name: len(labels) for name, labels in source.structures.items()} == {
        "striatum": 6, "thalamus": 2, "pallidum": 2, "brainstem": 3, "ventricles": 6
    }  # fmt: skip


def test_the_example_in_the_repository_is_what_its_command_makes():
    """Fails when the simulation changes and the example has not been made again."""
    words = [line.split() for line in (EXAMPLE / "README.md").read_text().splitlines()]
    command = next(line for line in words if line[:1] == ["alsflow-simulate"])
    design = cli_simulate.requested(cli_simulate.parser().parse_args(command[1:]))
    regions = atlas_regions()
    people = draw_people(design, regions)
    assert {f"sub-{p.label}" for p in people} == {path.name for path in EXAMPLE.glob("sub-*")}
    head = scan_person(design, people[0], prepare_blueprint(template_source()))
    image = nib.load(EXAMPLE / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    np.testing.assert_allclose(image.affine, head.scan.affine)
    step = image.dataobj.slope
    # another processor may round a point on an edge into the neighbouring tissue
    assert (np.abs(image.get_fdata() - head.scan.image) > 0.51 * step).mean() < 1e-3
    true = table(EXAMPLE / "derivatives" / "truth" / "measures.tsv")
    true = true[true["participant_id"] == "sub-01"].set_index("measure")["value"]
    for name, (value, _) in head_measures(head, regions)[0].items():
        assert value == pytest.approx(true[name], rel=1e-3, abs=1e-3)


def test_the_truth_of_the_example_is_plausible_and_speaks_of_the_catalogue():
    catalogue = parse_catalogue((EXAMPLE.parent / "workflows/data/measures.toml").read_text())
    true = table(EXAMPLE / "derivatives" / "truth" / "measures.tsv")
    anatomical = {m.name for m in catalogue.measures.values() if m.stream == "anat"}
    assert set(true["measure"]) == anatomical
    known = [catalogue.measures[name] for name in true["measure"]]
    assert list(true["unit"]) == [measure.unit for measure in known]
    low, high = np.array([(measure.low, measure.high) for measure in known]).T
    unusual = (true["value"] < low) | (true["value"] > high)
    assert unusual.mean() < 0.01, true[unusual]


def test_regions_are_closed_as_far_as_the_anatomical_stream_closes_them():
    reach = inspect.signature(fill_gaps).parameters["reach"].default
    assert reach == GAP_REACH


def test_the_example_fits_a_repository():
    assert sum(len(content) for content in files(EXAMPLE).values()) < 12e6


# ---------------------------------------------------------------------------- command line


@pytest.fixture
def designs(monkeypatch):
    """What the command would write, without writing it."""
    seen = []

    def record(out, design, command, n_procs, maps):
        seen.append((design, command))
        return iter(())

    monkeypatch.setattr(cli_simulate, "write_cohort", record)
    return seen


def test_options_become_the_design_and_the_command_says_them_again(designs, tmp_path):
    words = "--n-als 4 --n-controls 5 --sites 2 --seed 9 --resolution 1 1x1x1.5"
    words += " --effect gmv_striatum_left=-0.2 gmv_thalamus_both=0"
    assert cli_simulate.main([str(tmp_path / "out"), *words.split()]) == 0
    design, command = designs[0]
    assert design == Design(
        4, 5, 2, 9, {"gmv_striatum_left": -0.2, "gmv_thalamus_both": 0.0}, ((1, 1, 1), (1, 1, 1.5))
    )
    assert cli_simulate.main(command.split()[1:]) == 0
    assert designs[1] == designs[0]


def test_the_default_effect_is_precentral(designs):
    cli_simulate.main(["out"])
    assert designs[0][0].effects == {"gmv_precentral_both": -0.12}


@pytest.mark.parametrize(
    "words",
    ["", "out --resolution 1x2", "out --resolution fine", "out --effect gmv=low", "out --effect"],
)
def test_unusable_options_end_with_64(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli_simulate.main(words.split())
    assert ended.value.code == 64
    assert "alsflow-simulate:" in capsys.readouterr().err


def test_an_impossible_design_ends_with_64_and_words(tmp_path, capsys):
    code = cli_simulate.main([str(tmp_path / "out"), "--effect", "gmv_cuneus_both=-0.1"])
    assert code == 64
    assert "precentral" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_ends_with_73(cohort, capsys):
    assert cli_simulate.main([str(cohort)]) == 73
    assert "not an empty folder" in capsys.readouterr().err


def test_refused_designs_name_what_is_wrong(tmp_path):
    with pytest.raises(BadInputError, match="one site"):
        next(write_cohort(tmp_path / "out", Design(1, 1, 0, 0), "the command"))
