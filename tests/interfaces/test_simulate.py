import inspect
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from alsflow import cli_simulate
from alsflow.interfaces import simulate
from alsflow.interfaces.atlas import add_atlas, check_atlas, find_atlas
from alsflow.interfaces.normalise import GAP_REACH
from alsflow.interfaces.simulate import (
    atlas_cortex,
    atlas_regions,
    template_source,
    write_cohort,
)
from alsflow.nodes.atlas import fill_gaps
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.simulate.anatomy import prepare_blueprint
from alsflow.nodes.simulate.cohort import (
    DEFAULT_EFFECTS,
    DEFAULT_MRS_EFFECTS,
    DEFAULT_NETWORK_EFFECTS,
    SITE,
    Design,
    DiffusionDesign,
    FunctionalDesign,
    draw_diffusion_site,
    draw_functional_site,
    draw_people,
    draw_site,
    generator,
    head_measures,
    scan_person,
    scan_person_mrs,
)
from alsflow.nodes.simulate.diffusion import make_gradients
from alsflow.nodes.simulate.functional import slice_times
from alsflow.nodes.simulate.lcmodel_text import table_text
from alsflow.nodes.simulate.networks import MODULES, NETWORKS, limit_band, sample_z
from alsflow.nodes.simulate.spectroscopy import MrsDesign
from alsflow.nodes.simulate.tracts import MEASURED
from alsflow.nodes.stats.catalogue import parse_catalogue

EXAMPLE = Path(__file__).resolve().parents[2] / "bids_example"
DWI = DiffusionDesign(6, 1, voxels=((5.0, 5.0, 4.5), (5.0, 4.5, 5.0)))
FUNC = FunctionalDesign(12, 2.0, ((6.0, 6.0, 6.0), (6.0, 5.5, 6.0)))
EFFECTS = DEFAULT_EFFECTS | {"fa_corticospinal_tract_both": -0.3} | DEFAULT_NETWORK_EFFECTS
EFFECTS |= DEFAULT_MRS_EFFECTS
VOXELS = ((4.0, 4.0, 4.0), (4.0, 3.5, 4.0))
SMALL = Design(2, 2, 2, 3, EFFECTS, VOXELS, DWI, FUNC, MrsDesign())


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


# ---------------------------------------------------------------------------- diffusion


def diffusion_files(cohort, person):
    folder, stem = cohort / f"sub-{person.label}", f"sub-{person.label}_dir-"
    return folder / "dwi" / f"{stem}AP_dwi", folder / "fmap" / f"{stem}PA_epi"


def test_series_lie_on_disk_as_their_site_stores_them(cohort):
    for person in draw_people(SMALL, atlas_regions()):
        series, reverse = diffusion_files(cohort, person)
        site = draw_diffusion_site(SMALL, person.site)
        image = nib.load(series.with_suffix(".nii.gz"))
        assert nib.aff2axcodes(image.affine) == tuple(site.storage)
        edges = (*DWI.voxel(person.site), 8)
        np.testing.assert_allclose(image.header.get_zooms(), edges, rtol=1e-5)
        other = nib.load(reverse.with_suffix(".nii.gz"))
        np.testing.assert_allclose(other.affine, image.affine)
        assert other.shape == image.shape[:3]
        sidecars = [
            json.loads(path.with_suffix(".json").read_text()) for path in (series, reverse)
        ]
        directions = [sidecar["PhaseEncodingDirection"] for sidecar in sidecars]
        assert directions == (["j-", "j"] if site.storage[1] == "A" else ["j", "j-"])
        assert sidecars[0]["B0FieldSource"] == sidecars[1]["B0FieldIdentifier"]
        target = sidecars[1]["IntendedFor"][0].removeprefix("bids::")
        assert (cohort / target).is_file()


def test_b_vectors_on_disk_are_the_scanners_directions(cohort):
    """FSL's rule written out: along the voxel axes, the first reversed if right-handed."""
    for person in draw_people(SMALL, atlas_regions()):
        series, _ = diffusion_files(cohort, person)
        affine = nib.load(series.with_suffix(".nii.gz")).affine
        rng = generator(SMALL.seed, SITE, person.site).spawn(2)[1]
        applied = make_gradients(DWI.directions, DWI.n_b0, DWI.bval, rng)
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        assert np.abs(axes - np.sign(axes) * (np.abs(axes) > 0.5)).max() > 0.05  # oblique
        expected = applied.directions @ axes
        if np.linalg.det(axes) > 0:
            expected[:, 0] *= -1
        found = np.loadtxt(series.with_suffix(".bvec"))
        np.testing.assert_allclose(found, expected.T, atol=2e-6)
        np.testing.assert_array_equal(np.loadtxt(series.with_suffix(".bval")), applied.bvals)
    storages = {draw_diffusion_site(SMALL, site).storage for site in range(2)}
    assert len(storages) == 2


def test_the_effect_on_the_tract_stands_in_the_truth(cohort):
    effects = table(cohort / "derivatives" / "truth" / "effects.tsv").set_index("measure")
    for side in ("left", "right", "both"):
        assert effects.loc[f"fa_corticospinal_tract_{side}", "relative_effect"] == -0.3
        assert -0.4 < effects.loc[f"fa_corticospinal_tract_{side}", "mean_change"] < -0.2
        assert effects.loc[f"rd_corticospinal_tract_{side}", "mean_change"] > 0.15
        assert abs(effects.loc[f"fa_corticothalamic_tract_{side}", "mean_change"]) < 0.01


def test_motion_and_field_stand_in_the_truth(cohort):
    truth = cohort / "derivatives" / "truth" / "sub-01" / "dwi"
    motion = pd.read_csv(truth / "sub-01_dir-AP_desc-motion_timeseries.tsv", sep="\t")
    assert list(motion["volume"].astype(str)) == [*map(str, range(7)), "reverse"]
    meaning = json.loads((truth / "sub-01_dir-AP_desc-motion_timeseries.json").read_text())
    assert set(motion.columns) <= set(meaning)
    assert not motion.iloc[0][["trans_x", "trans_y", "rot_z"]].any()
    assert motion["trans_x"].iloc[1:].abs().min() > 0
    field = nib.load(truth / "sub-01_dir-AP_desc-shift_fieldmap.nii.gz")
    brain = nib.load(truth / "sub-01_desc-brain_mask.nii.gz").get_fdata() > 0
    assert 2 < np.quantile(np.abs(field.get_fdata()[brain]), 0.99) < 8


def test_the_tensor_maps_hold_the_true_means(cohort):
    truth = cohort / "derivatives" / "truth" / "sub-01" / "dwi"
    measures = table(cohort / "derivatives" / "truth" / "measures.tsv")
    own = measures[measures["participant_id"] == "sub-01"].set_index("measure")["value"]
    fa = nib.load(truth / "sub-01_model-tensor_param-fa_dwimap.nii.gz").get_fdata()
    share = nib.load(truth / "sub-01_label-CorticostriatalTractLeft_probseg.nii.gz").get_fdata()
    core = share >= 0.5
    mean = np.average(fa[core], weights=share[core])
    assert own["fa_corticostriatal_tract_left"] == pytest.approx(mean, abs=1e-4)


def test_the_tracts_are_an_atlas_that_can_be_added(cohort, tmp_path):
    folder = cohort / "derivatives" / "simulation" / "atlas"
    image, labels = folder / "tracts.nii.gz", folder / "LABELS.tsv"
    space = "MNI152NLin2009aSym"
    add_atlas("simulated", image, labels, space=space, kind="masks4d", folder=tmp_path)
    atlas = find_atlas("simulated", tmp_path)
    assert set(atlas.regions) == set(MEASURED)
    assert check_atlas("simulated", tmp_path) == []


# ---------------------------------------------------------------------------- resting state


def truth_of(cohort, end, name="sub-01"):
    return cohort / "derivatives" / "truth" / name / "func" / f"{name}_task-rest_{end}"


def test_resting_state_series_lie_on_disk_with_their_timing(cohort):
    site = draw_functional_site(SMALL, 0)
    stem = cohort / "sub-01" / "func" / "sub-01_task-rest_bold"
    image = nib.load(stem.with_suffix(".nii.gz"))
    sidecar = json.loads(stem.with_suffix(".json").read_text())
    assert nib.aff2axcodes(image.affine) == tuple(site.storage)
    np.testing.assert_allclose(image.header.get_zooms(), (6, 6, 6, 2), rtol=1e-5)
    assert image.shape[3] == 12
    assert (sidecar["TaskName"], sidecar["RepetitionTime"]) == ("rest", 2.0)
    assert sidecar["EchoTime"] == 0.03
    expected = slice_times(image.shape[2], 2.0, site.multiband)
    np.testing.assert_array_equal(sidecar["SliceTiming"], expected)
    assert sidecar["TotalReadoutTime"] == pytest.approx(site.readout, abs=1e-6)
    forward = site.polarity == (1 if site.storage[1] == "A" else -1)
    assert sidecar["PhaseEncodingDirection"] == ("j" if forward else "j-")


def test_the_spin_echoes_belong_to_the_series(cohort):
    series = cohort / "sub-01" / "func" / "sub-01_task-rest_bold"
    sidecar = json.loads(series.with_suffix(".json").read_text())
    directions = set()
    for name in ("AP", "PA"):
        path = cohort / "sub-01" / "fmap" / f"sub-01_acq-bold_dir-{name}_epi"
        own = json.loads(path.with_suffix(".json").read_text())
        assert own["B0FieldIdentifier"] == sidecar["B0FieldSource"]
        assert (cohort / own["IntendedFor"][0].removeprefix("bids::")).is_file()
        image = nib.load(path.with_suffix(".nii.gz"))
        np.testing.assert_allclose(image.affine, nib.load(series.with_suffix(".nii.gz")).affine)
        from_front = own["PhaseEncodingDirection"] == "j-"
        assert from_front == ((name == "AP") == (nib.aff2axcodes(image.affine)[1] == "A"))
        directions.add(own["PhaseEncodingDirection"])
    assert directions == {"j", "j-"}


def test_the_truth_of_a_run_can_be_found_again_from_its_files(cohort):
    courses = pd.read_csv(truth_of(cohort, "desc-networks_timeseries.tsv"), sep="\t")
    assert len(courses) == 12
    assert courses["onset"].iloc[-1] == pytest.approx(22.0)
    assert sum(name.startswith("network_") for name in courses) == len(MODULES)
    pair = courses[["region_precentral_left", "region_precentral_right"]].to_numpy()
    value = sample_z(*limit_band(pair[4:], 2.0).T)
    table_ = pd.read_csv(truth_of(cohort, "desc-connectivity_relmat.tsv"), sep="\t")
    own = table_.set_index("measure").loc["fc_motor_interhemispheric"]
    assert own["realised"] == pytest.approx(value, abs=1e-4)
    assert own["population"] < own["population_unaffected"]
    assert own["realised"] < own["realised_unaffected"]
    measures = table(cohort / "derivatives" / "truth" / "measures.tsv")
    mine = measures[measures["participant_id"] == "sub-01"].set_index("measure")["value"]
    assert mine["fc_motor_interhemispheric"] == pytest.approx(own["realised"])
    assert {f"fc_precentral_{region}_both" for region in atlas_regions()} - set(mine.index) == {
        "fc_precentral_precentral_both"
    }


def test_the_effect_on_the_network_stands_in_the_truth(cohort):
    effects = table(cohort / "derivatives" / "truth" / "effects.tsv").set_index("measure")
    own = effects.loc["fc_motor_interhemispheric"]
    assert own["relative_effect"] == -0.3
    tables = [
        pd.read_csv(truth_of(cohort, "desc-connectivity_relmat.tsv", name), sep="\t", index_col=0)
        for name in ("sub-01", "sub-03")
    ]
    mean = sum(one.loc["fc_motor_interhemispheric"] for one in tables)
    made = mean["realised"] / mean["realised_unaffected"] - 1
    assert own["mean_change"] == pytest.approx(made, rel=1e-6)
    assert own["scale"] == "relative"
    assert effects.loc["fc_precentral_thalamus_both", "scale"] == "difference"


def test_motion_stands_in_the_truth_of_a_run(cohort):
    path = truth_of(cohort, "desc-motion_timeseries.tsv")
    motion = pd.read_csv(path, sep="\t")
    assert list(motion["volume"].astype(str)) == [*map(str, range(12)), "fmap"]
    assert not motion.iloc[0][["trans_x", "rot_x"]].any()
    assert motion["drift"].iloc[11] < 1
    meaning = json.loads(path.with_suffix(".json").read_text())
    assert set(motion.columns) <= set(meaning)


def test_the_network_maps_are_shares_of_the_grey_matter(cohort):
    def image(end):
        return nib.load(truth_of(cohort, end)).get_fdata()

    total = 0
    for network in NETWORKS:
        for side in ("Left", "Right"):
            total = total + image(f"label-{network.title()}{side}_probseg.nii.gz")
    grey = image("label-GM_probseg.nii.gz")
    assert (total <= grey + 1e-5).all()
    assert 0.8 < total.sum() / grey.sum() < 0.95  # what the atlas calls white has no network
    left, right = (image(f"label-Motor{side}_probseg.nii.gz") for side in ("Left", "Right"))
    affine = nib.load(truth_of(cohort, "label-GM_probseg.nii.gz")).affine
    centres = [(affine @ [*np.average(np.argwhere(m), 0, m[m > 0]), 1])[:3] for m in (left, right)]
    assert centres[0][0] < -15 < 15 < centres[1][0]
    mask = image("desc-somatomotor_mask.nii.gz") > 0
    assert mask[left > 0.5].all()
    assert not mask[image("label-VisualLeft_probseg.nii.gz") > 0.5].any()


def test_every_name_of_a_network_is_one_of_the_atlas():
    names = {name for members in NETWORKS.values() for name in members}
    owners = atlas_cortex().owners
    assert len(owners) == 2 * len(names)
    assert set(owners.values()) == set(MODULES)
    atlas = {label.index: label.name for label in find_atlas("neuromorphometrics").labels}
    assert atlas[next(k for k, v in owners.items() if v == ("sensory", "right"))].startswith(
        "Right_"
    )


@pytest.mark.slow
def test_the_t1w_image_is_the_same_without_the_other_scans(cohort, tmp_path):
    plain = replace(
        SMALL,
        n_patients=1,
        n_controls=0,
        dwi=None,
        func=None,
        mrs=None,
        effects=DEFAULT_EFFECTS,
    )
    list(write_cohort(tmp_path / "plain", plain, "the command", maps=True))
    first, again = files(cohort), files(tmp_path / "plain")
    images = {name for name in again if name.endswith(".nii.gz")}
    assert len(images) == 5
    assert all(first[name] == again[name] for name in images)


@pytest.mark.slow
def test_the_same_bytes_whatever_the_number_of_processes_and_of_people(cohort, tmp_path):
    few = replace(SMALL, n_patients=1, n_controls=1)
    list(write_cohort(tmp_path / "again", few, "the command", n_procs=2, maps=True))
    first, again = files(cohort), files(tmp_path / "again")
    images = {name for name in again if name.endswith(".nii.gz")}
    assert len(images) == 2 * (5 + 14 + 31 + 2) + 1
    fits = {name for name in again if "lcmodel/sub-" in name}
    assert len(fits) == 2 * 4
    assert all(first[name] == again[name] for name in images | fits)


def test_a_folder_that_holds_something_is_left_alone(cohort):
    before = files(cohort)
    with pytest.raises(FileExistsError, match="not an empty folder"):
        next(write_cohort(cohort, SMALL, "the command"))
    assert files(cohort) == before


def test_a_cohort_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(task):
        raise RuntimeError("scanner broken")

    monkeypatch.setattr("alsflow.interfaces.simulate._start_worker", lambda bundles: None)
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
    printed = table_text(scan_person_mrs(design, people[0], head).printed)
    assert (EXAMPLE / "derivatives/lcmodel/sub-01/sub-01.table").read_text() == printed


def test_the_scores_of_the_example_are_what_its_command_makes(tmp_path):
    words = [line.split() for line in (EXAMPLE / "README.md").read_text().splitlines()]
    command = next(line for line in words if line[:1] == ["alsflow-simulate"])
    design = cli_simulate.requested(cli_simulate.parser().parse_args(command[1:]))
    simulate._write_phenotype(tmp_path, design, draw_people(design, atlas_regions()))
    assert files(tmp_path / "phenotype") == files(EXAMPLE / "phenotype")


def test_the_truth_of_the_example_is_plausible_and_speaks_of_the_catalogue():
    catalogue = parse_catalogue((EXAMPLE.parent / "workflows/data/measures.toml").read_text())
    true = table(EXAMPLE / "derivatives" / "truth" / "measures.tsv")
    scanned = {m.name for m in catalogue.measures.values() if m.stream in ("anat", "mrs")}
    assert set(true["measure"]) == scanned
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
    assert designs[0][0].dwi is None
    assert "modalities" not in designs[0][1]


def test_diffusion_comes_with_an_effect_of_its_own_and_says_itself_again(designs):
    words = "out --modalities anat dwi --dwi-directions 64 --dwi-voxel 2 2x2x3"
    assert cli_simulate.main(words.split()) == 0
    design, command = designs[0]
    assert design.dwi == DiffusionDesign(64, voxels=((2, 2, 2), (2, 2, 3)))
    assert design.effects == {"gmv_precentral_both": -0.12, "fa_corticospinal_tract_both": -0.1}
    assert cli_simulate.main(command.split()[1:]) == 0
    assert designs[1] == designs[0]


def test_resting_state_comes_with_an_effect_of_its_own_and_says_itself_again(designs):
    words = "out --modalities func dwi --func-volumes 100 --func-tr 0.8 --func-voxel 3 3x3x4"
    assert cli_simulate.main(words.split()) == 0
    design, command = designs[0]
    assert design.func == FunctionalDesign(100, 0.8, ((3, 3, 3), (3, 3, 4)))
    assert design.effects["fc_motor_interhemispheric"] == -0.3
    assert design.effects["fa_corticospinal_tract_both"] == -0.1
    assert cli_simulate.main(command.split()[1:]) == 0
    assert designs[1] == designs[0]
    cli_simulate.main(
        ["out", "--modalities", "anat", "func", "--effect", "fc_motor_interhemispheric=0"]
    )
    assert designs[2][0].effects == {"fc_motor_interhemispheric": 0.0}
    assert designs[2][0].dwi is None


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
