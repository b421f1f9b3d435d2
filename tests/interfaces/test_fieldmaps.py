"""Which map serves which run: every rule, its order, and datasets that break it."""

import json

import nibabel as nib
import numpy as np
import pytest

from alsflow.interfaces.fieldmaps import choose_fieldmap
from alsflow.nodes.errors import BadInputError

SHIM = [2027, -5895, -1760, 478]
EPI = {"TotalReadoutTime": 0.04, "EchoTime": 0.07}
LAS = np.diag([-2.0, 2.0, 2.0, 1.0])


class Dataset:
    """A dataset of empty images, and what a run is offered."""

    def __init__(self, root, session="a"):
        self.root = root
        self.prefix = "sub-01" + (f"_ses-{session}" if session else "")
        self.folder = root / self.prefix.replace("_", "/")
        self.paths = []

    def add(self, place, meta=None, shape=(4, 5, 6), affine=LAS):
        path = self.folder / place.format(self.prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), affine), path)
        if meta is not None:
            path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(meta))
        self.paths.append(path)
        return path

    def choose(self, target):
        return choose_fieldmap(target, self.paths, self.root)


@pytest.fixture
def data(tmp_path):
    return Dataset(tmp_path)


def run(data, **meta):
    return data.add("dwi/{}_dir-AP_dwi.nii.gz", EPI | {"PhaseEncodingDirection": "j-"} | meta)


def opposite(data, name="fmap/{}_dir-PA_epi.nii.gz", **meta):
    return data.add(name, EPI | {"PhaseEncodingDirection": "j"} | meta)


def gre(data, acq="", **meta):
    phase = data.add(
        f"fmap/{{}}{acq}_phasediff.nii.gz", {"EchoTime1": 0.005, "EchoTime2": 0.0075} | meta
    )
    return phase, data.add(f"fmap/{{}}{acq}_magnitude1.nii.gz", {})


def test_source_and_identifier_go_first(data):
    target = run(data, B0FieldSource=["dwi0", "other"])
    opposite(data, "fmap/{}_acq-a_dir-PA_epi.nii.gz", IntendedFor=["ses-a/dwi/" + target.name])
    named = opposite(data, "fmap/{}_acq-b_dir-PA_epi.nii.gz", B0FieldIdentifier="dwi0")
    found = data.choose(target)
    assert (found.kind, found.rule, found.files) == ("pair", "B0FieldSource", (target, named))
    assert "B0FieldIdentifier" in found.reason


FORMS = [
    "ses-a/dwi/{}", ["ses-a/dwi/{}"], "bids::sub-01/ses-a/dwi/{}", "dwi/{}",
    "sub-01/ses-a/dwi/{}", ["func/none.nii.gz", "ses-a/dwi/{}"],
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_intended_for_in_each_form(data, form):
    target = run(data)
    texts = [form] if isinstance(form, str) else form
    texts = [text.format(target.name) for text in texts]
    partner = opposite(data, IntendedFor=texts[0] if isinstance(form, str) else texts)
    found = data.choose(target)
    assert (found.rule, found.files) == ("IntendedFor", (target, partner))


def test_intended_for_without_sessions(tmp_path):
    data = Dataset(tmp_path, session=None)
    target = run(data)
    partner = opposite(data, IntendedFor=f"dwi/{target.name}")
    assert data.choose(target).files == (target, partner)


def test_uri_of_another_dataset_is_not_this_one(data):
    target = run(data)
    opposite(data, IntendedFor=f"bids:raw:sub-01/ses-a/dwi/{target.name}")
    found = data.choose(target)
    assert found.kind == "none"
    assert "intended for other runs" in found.reason


def test_map_declared_for_another_run_is_not_taken_though_the_shim_fits(data):
    target = run(data, ShimSetting=SHIM)
    opposite(data, ShimSetting=SHIM, IntendedFor="ses-a/func/sub-01_ses-a_task-rest_bold.nii.gz")
    found = data.choose(target)
    assert found.kind == "none"
    assert "intended for other runs" in found.reason
    assert "names sub-01_ses-a_task-rest_bold.nii.gz, which is not there" in found.reason


def test_diffusion_runs_of_one_shim_are_a_pair_and_the_choice_says_so(data):
    ap = run(data, ShimSetting=SHIM)
    pa = opposite(data, "dwi/{}_dir-PA_dwi.nii.gz", ShimSetting=SHIM)
    gre(data, ShimSetting=[1, 2, 3, 4])
    for target, partner in ((ap, pa), (pa, ap)):
        found = data.choose(target)
        assert (found.kind, found.rule, found.files) == ("pair", "same shim", (target, partner))
        assert "nothing is declared" in found.reason


def test_declared_map_beats_undeclared_pair(data):
    target = run(data, ShimSetting=SHIM)
    opposite(data, "dwi/{}_dir-PA_dwi.nii.gz", ShimSetting=SHIM)
    files = gre(data, IntendedFor=f"ses-a/dwi/{target.name}")
    found = data.choose(target)
    assert (found.kind, found.rule, found.files) == ("gre", "IntendedFor", files)


def test_other_shim_or_unknown_shim_is_no_match(data):
    target = run(data, ShimSetting=SHIM)
    opposite(data, ShimSetting=[*SHIM[:3], 0])
    gre(data)
    found = data.choose(target)
    assert found.kind == "none"
    assert found.reason.count("ShimSetting is not the run's") == 2


def test_without_any_shim_only_a_pair_on_one_grid_is_taken(data):
    target = run(data)
    gre(data)
    assert data.choose(target).kind == "none"
    other = data.add(
        "fmap/{}_acq-wide_dir-PA_epi.nii.gz", EPI | {"PhaseEncodingDirection": "j"}, (5, 5, 6)
    )
    assert data.choose(target).kind == "none"
    partner = opposite(data)
    found = data.choose(target)
    assert (found.rule, found.files) == ("same grid", (target, partner))
    assert other not in found.files


def test_other_axis_same_direction_and_stored_flips_are_no_pair(data):
    target = run(data, ShimSetting=SHIM)
    data.add(
        "fmap/{}_dir-LR_epi.nii.gz",
        EPI | {"PhaseEncodingDirection": "i", "ShimSetting": SHIM},
    )
    data.add(
        "fmap/{}_dir-AP_epi.nii.gz",
        EPI | {"PhaseEncodingDirection": "j-", "ShimSetting": SHIM},
    )
    # j of an image stored the other way round is the run's own direction
    turned = np.diag([-2.0, -2.0, 2.0, 1.0])
    data.add(
        "fmap/{}_dir-PA_epi.nii.gz",
        EPI | {"PhaseEncodingDirection": "j", "ShimSetting": SHIM},
        affine=turned,
    )
    found = data.choose(target)
    assert found.kind == "none"
    assert "dir-LR_epi.nii.gz: it is encoded along another axis" in found.reason


def test_other_session_is_never_taken(data, tmp_path):
    target = run(data)
    elsewhere = Dataset(tmp_path, session="b")
    data.paths.append(opposite(elsewhere, IntendedFor=f"ses-a/dwi/{target.name}"))
    assert data.choose(target).kind == "none"


def test_missing_readout(data):
    """A map in Hz needs it; a pair does not, if it is missing on both sides."""
    bare = {"PhaseEncodingDirection": "j-", "ShimSetting": SHIM}
    target = data.add("dwi/{}_dir-AP_dwi.nii.gz", bare)
    gre(data, IntendedFor=f"ses-a/dwi/{target.name}")
    found = data.choose(target)
    assert found.kind == "none"
    assert "TotalReadoutTime" in found.reason
    half = opposite(data, ShimSetting=SHIM)
    assert "of one image of the pair only" in data.choose(target).reason
    half.with_name(half.name.replace(".nii.gz", ".json")).write_text(
        json.dumps(bare | {"PhaseEncodingDirection": "j"})
    )
    assert data.choose(target).files == (target, half)


def test_run_without_direction_says_what_cannot_be_done(data):
    target = data.add("dwi/{}_dwi.nii.gz", {"PhaseEncodingAxis": "j"})
    opposite(data)
    found = data.choose(target)
    assert found.kind == "none"
    assert "susceptibility distortion cannot be corrected" in found.reason


def test_incomplete_maps_say_what_they_lack(data):
    target = run(data)
    data.add("fmap/{}_acq-x_phasediff.nii.gz", {"IntendedFor": f"ses-a/dwi/{target.name}"})
    data.add("fmap/{}_acq-y_magnitude1.nii.gz", {})
    data.add("fmap/{}_acq-z_phase2.nii.gz", {})
    found = data.choose(target)
    assert found.kind == "none"
    assert "acq-x_phasediff.nii.gz: no magnitude image" in found.reason
    assert "acq-y_magnitude1.nii.gz: no phase image" in found.reason
    assert "acq-z_phase2.nii.gz: no phase image" in found.reason


@pytest.mark.parametrize(
    ("suffixes", "chosen"),
    [
        (("phase1", "phase2", "magnitude1", "magnitude2"), ("phase1", "phase2", "magnitude1")),
        (("fieldmap", "magnitude"), ("fieldmap", "magnitude")),
    ],
)
def test_other_forms_of_gradient_echo_maps(data, suffixes, chosen):
    target = run(data)
    meta = {"IntendedFor": [f"bids::sub-01/ses-a/dwi/{target.name}"]}
    files = {name: data.add(f"fmap/{{}}_{name}.nii.gz", meta) for name in suffixes}
    found = data.choose(target)
    assert found.kind == "gre"
    assert found.files == tuple(files[name] for name in chosen)


def test_functional_run_takes_two_images_of_one_contrast(data):
    bold = data.add(
        "func/{}_task-rest_bold.nii.gz",
        {"PhaseEncodingDirection": "j-", "TotalReadoutTime": 0.03, "EchoTime": 0.03},
    )
    meta = {"IntendedFor": f"ses-a/func/{bold.name}"}
    pa = opposite(data, **meta)
    found = data.choose(bold)
    assert found.kind == "none"
    assert "contrast" in found.reason
    ap = data.add("fmap/{}_dir-AP_epi.nii.gz", EPI | {"PhaseEncodingDirection": "j-"} | meta)
    assert data.choose(bold).files == (ap, pa)
    same = opposite(data, "fmap/{}_acq-bold_dir-PA_epi.nii.gz", **meta, EchoTime=0.03)
    data.paths.remove(ap)
    assert data.choose(bold).files == (bold, same)


def test_real_head_finds_its_partner(realdata):
    person = realdata / "sub-xa30"
    if not person.is_dir():
        pytest.skip("the head with a pair and a field map is not here")
    paths = sorted((person / "dwi").glob("*.nii.gz")) + sorted((person / "fmap").glob("*.nii.gz"))
    ap, pa = paths[:2]
    found = choose_fieldmap(ap, paths, realdata)
    assert (found.kind, found.rule, found.files) == ("pair", "same shim", (ap, pa))
    bold = next((person / "func").glob("*_bold.nii.gz"))
    assert choose_fieldmap(bold, paths, realdata).kind == "none"


def test_broken_sidecar_is_named(data):
    target = run(data)
    partner = opposite(data)
    partner.with_name(partner.name.replace(".nii.gz", ".json")).write_text("{'a': 1}")
    with pytest.raises(BadInputError, match="dir-PA_epi.json is not valid JSON"):
        data.choose(target)
