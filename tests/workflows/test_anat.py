"""The anatomical stream: variants build, outputs have a source, and it tells the truth."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from alsflow.cli import main
from alsflow.interfaces.bids import Visit
from alsflow.interfaces.images import load
from alsflow.interfaces.warps import load_warp
from alsflow.nodes.geometry import voxel_volume
from alsflow.workflows.anat import init_anat_stream_wf
from alsflow.workflows.outputs import declared, output_path, requested
from alsflow.workflows.settings import AnatSettings, Settings

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "bids_example"


@pytest.fixture
def settings(tmp_path):
    return Settings(EXAMPLE, tmp_path / "out", "participant", work_dir=tmp_path / "work")


def visit(session=None):
    return Visit("01", session, {"t1w": (EXAMPLE / "sub-01/anat/sub-01_T1w.nii.gz",)})


@pytest.fixture
def deep_atlas(shared_data, monkeypatch):
    """Atlas folder in which CoBrA has been fetched."""
    monkeypatch.setenv("ALSFLOW_ATLAS_DIR", str(shared_data / "atlases"))


def connected(workflow):
    """Inputs of the sink that something feeds."""
    sink = workflow.get_node("ds_anat")
    edges = [data["connect"] for _, node, data in workflow._graph.in_edges(data=True)
             if node.name == sink.name]  # fmt: skip
    return sink, {target for group in edges for _, target in group}


@pytest.mark.parametrize(
    "anat",
    [
        AnatSettings(),
        AnatSettings(denoise=False),
        AnatSettings(normalisation="shooting", smoothing=6.0, template_voxel=2.0),
    ],
)
def test_every_variant_feeds_every_output(settings, anat):
    settings = replace(settings, anat=anat)
    workflow = init_anat_stream_wf(visit(), settings)
    sink, fed = connected(workflow)
    assert fed == {f"{key}_file" for key in requested(visit(), "anat", settings)}
    assert set(sink.inputs.targets) == set(requested(visit(), "anat", settings))


def test_two_atlases_feed_their_own_outputs(settings, deep_atlas):
    workflow = init_anat_stream_wf(visit(), settings)
    _, fed = connected(workflow)
    assert {"deep_labels_file", "deep_morph_file", "deep_label_names_file"} <= fed
    assert fed == {f"{key}_file" for key in requested(visit(), "anat", settings)}
    measure = workflow.get_node("measure_wf.measure")
    assert set(measure.inputs.deep_regions) == {"striatum", "thalamus"}
    assert (
        output_path("anat.deep_labels", visit(), settings).name == "sub-01_atlas-cobra_dseg.nii.gz"
    )


@pytest.mark.parametrize("session", [None, "a"])
def test_no_two_outputs_share_a_name(settings, session):
    paths = requested(visit(session), "anat", settings)
    assert not [path for path, count in Counter(paths.values()).items() if count > 1]
    for path in paths.values():
        relative = path.relative_to(settings.output_dir)
        assert str(relative).startswith("sub-01/ses-a/" if session else "sub-01/")
        assert path.name.startswith("sub-01_ses-a_" if session else "sub-01_")


def test_every_output_says_what_it_is():
    for key, entry in declared()["anat"].items():
        assert entry["about"][0].isupper(), key
        assert not entry["about"].endswith("."), key
        assert "{prefix}" in entry["path"], key


def run(bids, out, work, *more):
    return main([str(bids), str(out), "participant", "-w", str(work), "--nprocs", "1",
                 "--skip-bids-validation", *more])  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One person of the example from scan to measures."""
    room = tmp_path_factory.mktemp("anat")
    bids = room / "bids"
    bids.mkdir()
    for name in ("dataset_description.json", "participants.tsv"):
        shutil.copy(EXAMPLE / name, bids / name)
    shutil.copytree(EXAMPLE / "sub-01" / "anat", bids / "sub-01" / "anat")
    code = run(bids, room / "out", room / "work")
    return room, code


def measures(room):
    path = room / "out/sub-01/anat/sub-01_desc-anat_measures.tsv"
    return pd.read_csv(path, sep="\t").set_index("measure")


def image(room, name):
    return load(room / "out/sub-01/anat" / f"sub-01_{name}.nii.gz")


@pytest.mark.slow
class TestOnePerson:
    def test_everything_is_there(self, finished):
        room, code = finished
        assert code == 0
        settings = Settings(room / "bids", room / "out", "participant")
        for key, path in requested(visit(), "anat", settings).items():
            assert path.stat().st_size > 0, key

    def test_volumes_are_near_the_truth(self, finished):
        room, _ = finished
        found = measures(room)["value"]
        truth = pd.read_csv(EXAMPLE / "derivatives/truth/measures.tsv", sep="\t")
        truth = truth[truth["participant_id"] == "sub-01"].set_index("measure")["value"]
        assert found["wm"] == pytest.approx(truth["wm"], rel=0.04)
        assert found["gm"] == pytest.approx(truth["gm"], rel=0.06)
        assert found["tiv"] == pytest.approx(truth["tiv"], rel=0.06)

    def test_tables_agree_with_the_maps(self, finished):
        room, _ = finished
        found = measures(room)["value"]
        gm, grid = image(room, "label-GM_probseg")
        assert found["gm"] == pytest.approx(gm.sum() * voxel_volume(grid.affine), rel=1e-4)
        labels, _ = image(room, "atlas-neuromorphometrics_dseg")
        names = pd.read_csv(
            room / "out/sub-01/anat/sub-01_atlas-neuromorphometrics_dseg.tsv", sep="\t"
        ).set_index("name")["index"]
        left = gm[labels == names["Left_PrG_precentral_gyrus"]].sum() * voxel_volume(grid.affine)
        assert found["gmv_precentral_left"] == pytest.approx(left, rel=1e-4)

    def test_left_is_left(self, finished):
        room, _ = finished
        labels, grid = image(room, "atlas-neuromorphometrics_dseg")
        names = pd.read_csv(
            room / "out/sub-01/anat/sub-01_atlas-neuromorphometrics_dseg.tsv", sep="\t"
        ).set_index("name")["index"]
        for side, sign in (("Left", -1), ("Right", 1)):
            where = np.argwhere(labels == names[f"{side}_PrG_precentral_gyrus"])
            middle = np.argwhere(labels > 0)
            offset = nib.affines.apply_affine(grid.affine, where.mean(0))[0]
            assert sign * (offset - nib.affines.apply_affine(grid.affine, middle.mean(0))[0]) > 15

    def test_tissues_fill_the_mask(self, finished):
        room, _ = finished
        total = sum(image(room, f"label-{name}_probseg")[0] for name in ("GM", "WM", "CSF"))
        mask, _ = image(room, "desc-brain_mask")
        np.testing.assert_allclose(total[mask > 0], 1, atol=1e-3)
        assert not total[mask == 0].any()

    def test_modulated_maps_sum_to_the_native_volume(self, finished):
        room, _ = finished
        for name in ("GM", "WM"):
            native, grid = image(room, f"label-{name}_probseg")
            warped, template = image(
                room, f"space-MNI152NLin2009aSym_label-{name}_desc-modulated_vbm"
            )
            smooth, _ = image(
                room, f"space-MNI152NLin2009aSym_label-{name}_desc-modulatedSmooth_vbm"
            )
            amount = native.sum() * voxel_volume(grid.affine)
            assert warped.sum() * voxel_volume(template.affine) == pytest.approx(amount, rel=0.01)
            assert smooth.sum() == pytest.approx(warped.sum(), rel=0.01)

    def test_the_jacobian_is_positive_and_the_template_is_met(self, finished):
        room, _ = finished
        jacobian, _ = image(room, "space-MNI152NLin2009aSym_desc-jacobian_vbm")
        assert jacobian.min() >= 0
        qc = json.loads((room / "out/sub-01/anat/sub-01_desc-anat_qc.json").read_text())
        assert qc["flags"] == []
        assert qc["metrics"]["jacobian_min"] > 0
        assert qc["metrics"]["template_dice_gm"] > 0.88

    def test_the_field_on_disk_makes_the_warped_map(self, finished):
        from scipy import ndimage

        room, _ = finished
        path = "out/sub-01/anat/sub-01_from-T1w_to-MNI152NLin2009aSym_mode-image_xfm.nii.gz"
        points, _ = load_warp(room / path)
        native, grid = image(room, "label-WM_probseg")
        voxels = nib.affines.apply_affine(np.linalg.inv(grid.affine), np.moveaxis(points, 0, -1))
        again = ndimage.map_coordinates(native, np.moveaxis(voxels, -1, 0), order=1)
        warped, _ = image(room, "space-MNI152NLin2009aSym_label-WM_probseg")
        np.testing.assert_allclose(again, warped, atol=2e-3)

    def test_sidecars_name_the_source(self, finished):
        room, _ = finished
        folder = room / "out/sub-01/anat"
        head = json.loads((folder / "sub-01_desc-preproc_T1w.json").read_text())
        assert head["SkullStripped"] is False
        assert head["Sources"] == ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz"]
        smooth = folder / "sub-01_space-MNI152NLin2009aSym_label-GM_desc-modulatedSmooth_vbm.json"
        assert json.loads(smooth.read_text())["SmoothingFWHM"] == 8.0

    def test_a_rerun_computes_nothing_and_a_setting_only_what_follows(self, finished, capsys):
        room, _ = finished
        # the name of this check sorts last: it changes what the others read
        assert run(room / "bids", room / "out", room / "work") == 0
        assert "(15 from the cache)" in "".join(capsys.readouterr())
        config = room / "config.toml"
        config.write_text("[anat]\nsmoothing = 6.0\n")
        assert run(room / "bids", room / "out", room / "work", "--config-file", str(config)) == 0
        assert "(12 from the cache)" in "".join(capsys.readouterr())
