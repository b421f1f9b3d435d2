"""CAT12, SPM12 and maps that are there already: what is called, what is read, what is refused.

The programs themselves are not here. A small program takes their place: it reads the script that
Nipype wrote, and writes outputs of known content under the names of SPM12 and CAT12.
"""

import json
import os
import stat
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nipype.interfaces.base import Undefined
from scipy.io import savemat

from alsflow.interfaces import external
from alsflow.interfaces.cat12 import Cat12Job, RunCat12, read_regions, read_report, read_xml
from alsflow.interfaces.external import SpmProgram, find_spm, spm_release
from alsflow.interfaces.images import save
from alsflow.interfaces.precomputed import AdoptMaps, find_precomputed
from alsflow.interfaces.spm import SpmJob, read_deformation, read_parameters
from alsflow.nodes.errors import BadInputError, MissingProgramError
from alsflow.workflows.anat_engines import (
    OUTPUTS,
    init_cat12_segmentation_wf,
    init_precomputed_segmentation_wf,
    init_spm12_segmentation_wf,
)

AFFINE = np.array([[-2.0, 0.1, 0, 40], [0.1, 2.2, 0, -45], [0, 0, 2.4, -50], [0, 0, 0, 1]])

ROI = """<?xml version="1.0" encoding="utf-8"?>
<S>
  <neuromorphometrics>
    <names><item>Right PrG</item><item>Left PrG </item></names>
    <ids>[182;183]</ids>
    <data><Vgm>[10.5;11.25]</Vgm><Vcsf>[1;NaN]</Vcsf></data>
  </neuromorphometrics>
  <cobra>
    <names><item>Left Striatum</item></names>
    <ids>1</ids>
    <data><Vgm>9.5</Vgm></data>
  </cobra>
</S>
"""
REPORT = """<?xml version="1.0" encoding="utf-8"?>
<S>
  <software><version_cat>12.9</version_cat><revision_cat>2577</revision_cat></software>
  <subjectmeasures>
    <vol_TIV>1523.5</vol_TIV>
    <vol_abs_CGW>[301.5 700.25 520.5 1.25 0]</vol_abs_CGW>
  </subjectmeasures>
</S>
"""
BOMB = """<?xml version="1.0"?>
<!DOCTYPE S [<!ENTITY a "10"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<S><subjectmeasures><vol_TIV>&b;</vol_TIV></subjectmeasures></S>
"""
OUTSIDE = """<?xml version="1.0"?>
<!DOCTYPE S [<!ENTITY x SYSTEM "file:///etc/hostname">]>
<S><subjectmeasures><vol_TIV>&x;</vol_TIV></subjectmeasures></S>
"""

STAND_IN = """#!{python}
import os, re, shutil, sys
from pathlib import Path
line = " ".join(sys.argv[1:])
name = re.search(r"addpath\\('(.*?)'\\);(\\w+)", line)
script = Path(name[1]) / (name[2] + ".m") if name else Path(sys.argv[-1])
text = script.read_text()
with open({log!r}, "a") as log:
    log.write(line + "\\n")
if "ALSFLOW|" in text:
    print({answer!r})
    sys.exit()
head = Path(re.search(r"'([^']*t1w\\.nii)", text)[1])
for source in Path({outputs!r}).rglob("*"):
    if source.is_file():
        target = head.parent / source.relative_to({outputs!r})
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
print("last words")
"""


@pytest.fixture
def head(tmp_path):
    """Arrays and files of a ball of grey matter around white matter, inside CSF."""
    shape = (40, 38, 36)
    place = nib.affines.apply_affine(AFFINE, np.moveaxis(np.indices(shape), 0, -1))
    radius = np.sqrt((place**2).sum(axis=-1))
    wm = (radius < 26).astype(np.float32)
    gm = ((radius >= 26) & (radius < 33)).astype(np.float32)
    csf = ((radius >= 33) & (radius < 37)).astype(np.float32)
    t1w = (100 * wm + 70 * gm + 20 * csf).astype(np.int16)
    folder = tmp_path / "input"
    folder.mkdir()
    maps = {"t1w": t1w, "gm": gm, "wm": wm, "csf": csf}
    return maps, {k: save(v, AFFINE, folder / f"{k}.nii.gz") for k, v in maps.items()}


def write_maps(maps, folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for key, name in names.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save(maps[key], AFFINE, path)


@pytest.fixture
def stand_in(tmp_path, head):
    """Make a program that answers like SPM12 and writes what CAT12 and SPM12 write."""
    maps, _ = head
    outputs, spm = tmp_path / "outputs", tmp_path / "spm12"
    write_maps(maps, outputs / "mri",
               {"gm": "p1t1w.nii", "wm": "p2t1w.nii", "csf": "p3t1w.nii"})  # fmt: skip
    write_maps(maps, outputs, {"gm": "c1t1w.nii", "wm": "c2t1w.nii", "csf": "c3t1w.nii",
                               "t1w": "mt1w.nii"})  # fmt: skip
    write_maps(maps, outputs / "mri", {"gm": "mwp1t1w.nii"})
    for file, text in (("report/cat_t1w.xml", REPORT), ("label/catROI_t1w.xml", ROI)):
        (outputs / file).parent.mkdir(parents=True)
        (outputs / file).write_text(text)
    savemat(outputs / "t1w_seg8.mat", {"Affine": np.diag([1.1, 1, 1, 1]), "ll": [[-9.0, -7.5]]})
    (spm / "tpm").mkdir(parents=True)
    save(np.zeros((4, 4, 4, 6), np.float32), np.eye(4), spm / "tpm" / "TPM.nii")

    def make(name="SPM12", cat="CAT12.9 r2577", engine="cat12", drop=()):
        where = outputs if engine == "spm12" else outputs / "mri"
        field = np.zeros((4, 5, 6, 1, 3), np.float32)
        for file in ("y_t1w.nii", "iy_t1w.nii"):
            nib.save(nib.Nifti1Image(field, AFFINE), where / file)
        for file in drop:
            next(outputs.rglob(file)).unlink()
        program = tmp_path / "bin" / "matlab"
        program.parent.mkdir(exist_ok=True)
        answer = f"noise\nALSFLOW|{name}|7771|{cat}|{spm}|\nnoise" if name else "hello"
        program.write_text(
            STAND_IN.format(
                python=sys.executable,
                log=str(tmp_path / "log"),
                answer=answer,
                outputs=str(outputs),
            )
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return str(program)

    return make


def run_workflow(workflow, t1w_file, folder):
    """Run to the end; returns the path of each output of the port."""
    workflow.base_dir = str(folder)
    workflow.inputs.inputnode.t1w_file = t1w_file
    workflow.config["execution"] = {"stop_on_first_crash": "true", "create_report": "false",
                                    "crashdump_dir": str(folder)}  # fmt: skip
    graph = workflow.run()
    adopt = next(node for node in graph.nodes() if node.name == "adopt")
    return {name: getattr(adopt.result.outputs, name) for name in OUTPUTS}


# ------------------------------------------------------------------- finding the programs


def test_nothing_installed_says_what_to_do(tmp_path):
    with pytest.raises(MissingProgramError, match="--anat-engine cat") as error:
        find_spm({"PATH": str(tmp_path)})
    assert "SPMMCRCMD" in str(error.value)


@pytest.mark.parametrize("variable", ["SPMMCRCMD", "MATLABCMD"])
def test_a_variable_that_names_nothing_is_named(tmp_path, variable):
    with pytest.raises(MissingProgramError, match=f"{variable} is '/no/such run'"):
        find_spm({"PATH": str(tmp_path), variable: "/no/such run"})


def test_standalone_comes_before_matlab(stand_in, tmp_path):
    program = stand_in()
    path = os.path.dirname(program)
    assert find_spm({"PATH": path}) == SpmProgram("matlab", standalone=False)
    command = f"{program} /opt/mcr script"
    assert find_spm({"PATH": path, "SPMMCRCMD": command}) == SpmProgram(command, True)
    with pytest.raises(MissingProgramError, match=r"no spm\.m"):
        find_spm({"PATH": path, "SPM_PATH": str(tmp_path)})
    (tmp_path / "spm.m").write_text("")
    assert find_spm({"PATH": path, "SPM_PATH": str(tmp_path)}).folders == (str(tmp_path),)


@pytest.mark.parametrize("standalone", [True, False])
def test_releases_are_asked_for(stand_in, tmp_path, monkeypatch, standalone):
    monkeypatch.chdir(tmp_path)
    program = stand_in()
    command = f"{program} /opt/mcr script" if standalone else program
    release = spm_release(SpmProgram(command, standalone))
    assert (release.spm, release.cat) == ("SPM12 r7771", "CAT12.9 r2577")
    line = (tmp_path / "log").read_text()
    assert ("-nodesktop" in line) != standalone
    assert ("/opt/mcr script" in line) == standalone


@pytest.mark.parametrize(
    ("answer", "words"), [("SPM8", "is SPM8 r7771"), ("", "does not answer as SPM12 does")]
)
def test_another_program_is_refused(stand_in, tmp_path, monkeypatch, answer, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingProgramError, match=words):
        spm_release(SpmProgram(stand_in(name=answer), standalone=False))


def test_a_program_that_fails_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingProgramError, match="does not answer as SPM12 does"):
        spm_release(SpmProgram("/bin/false", standalone=False))


def test_spm_without_cat12_is_refused(stand_in, head, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunCat12(t1w_file=head[1]["t1w"], command=stand_in(cat="none"))
    with pytest.raises(MissingProgramError, match="has no CAT12"):
        run.run(cwd=str(tmp_path))


# ------------------------------------------------------------------- scripts


def script_of(job):
    return job._make_matlab_command(job._parse_inputs())


def test_the_script_for_cat12(head, tmp_path):
    image = tmp_path / "t1w.nii"
    save(head[0]["t1w"], AFFINE, image)
    script = script_of(Cat12Job(SpmProgram("matlab", False), in_files=[str(image)]))
    batch = "jobs{1}.spm.tools.cat.estwrite"
    for line in (
        "nproc = 0",
        "output.GM.native = 1",
        "output.WM.native = 1",
        "output.CSF.native = 1",
        "output.GM.mod = 1",
        "output.surface = 0",
        "output.ROImenu.atlases.neuromorphometrics = 1",
        "output.ROImenu.atlases.cobra = 1",
        "extopts.ignoreErrors = 0",
        "output.warps(1) = 1",
        "output.warps(2) = 1",
    ):
        assert f"{batch}.{line};" in script
    assert f"{batch}.surface" not in script
    assert f"'{image},1'" in script
    assert "spm_jobman('run', jobs)" in script


def test_the_script_for_spm12(head, tmp_path):
    image, tpm = tmp_path / "t1w.nii", tmp_path / "TPM.nii"
    save(head[0]["t1w"], AFFINE, image)
    save(head[0]["t1w"], AFFINE, tpm)
    script = script_of(SpmJob(SpmProgram("matlab", False), tpm, channel_files=[str(image)]))
    batch = "jobs{1}.spm.spatial.preproc"
    assert f"{batch}.channel(1).write(1) = 0;" in script
    assert f"{batch}.channel(1).write(2) = 1;" in script
    assert f"{batch}.channel(1).biasfwhm = 60.0;" in script
    for number, native in ((1, 1), (2, 1), (3, 1), (4, 0), (5, 0), (6, 0)):
        assert f"{batch}.tissue({number}).native(1) = {native};" in script
        assert f"{batch}.tissue({number}).native(2) = 0;" in script
        assert f"'{tpm},{number}'" in script
    assert f"{batch}.warp.write(1) = 1;" in script


# ------------------------------------------------------------------- whole engines


@pytest.mark.parametrize("standalone", [True, False])
def test_cat12_from_head_to_port(stand_in, head, tmp_path, standalone):
    maps, files = head
    program = stand_in()
    command = f"{program} /opt/mcr script" if standalone else program
    workflow = init_cat12_segmentation_wf(program=SpmProgram(command, standalone))
    found = run_workflow(workflow, files["t1w"], tmp_path / "work")
    for key in ("gm", "wm", "csf", "t1w"):
        image = nib.load(found[f"{key}_file"])
        np.testing.assert_allclose(image.get_fdata(), maps[key])
        np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    mask = nib.load(found["mask_file"]).get_fdata()
    np.testing.assert_array_equal(mask, maps["gm"] + maps["wm"] + maps["csf"])
    info = json.loads(Path(found["info_file"]).read_text())
    assert info["engine"] == "cat12"
    assert info["version"] == "CAT12.9 r2577"
    assert info["totals_ml"] == {"tiv": 1523.5, "csf": 301.5, "gm": 700.25, "wm": 520.5}
    left = [row for row in info["regions"] if row["name"] == "Left PrG"]
    assert left == [{"atlas": "neuromorphometrics", "index": 183, "name": "Left PrG",
                     "gm_ml": 11.25, "wm_ml": None, "csf_ml": None}]  # fmt: skip
    expected = maps["gm"].sum() * abs(np.linalg.det(AFFINE[:3, :3])) / 1000
    assert info["maps_ml"]["gm"] == pytest.approx(expected, abs=0.01)


def test_spm12_from_head_to_port(stand_in, head, tmp_path):
    maps, files = head
    workflow = init_spm12_segmentation_wf(program=SpmProgram(stand_in(engine="spm12"), False))
    found = run_workflow(workflow, files["t1w"], tmp_path / "work")
    np.testing.assert_allclose(nib.load(found["wm_file"]).get_fdata(), maps["wm"])
    info = json.loads(Path(found["info_file"]).read_text())
    assert info["version"] == "SPM12 r7771"
    assert info["affine"][0][0] == 1.1
    assert info["log_likelihood"] == -7.5


def test_an_engine_that_ends_without_its_maps_is_an_error(stand_in, head, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = stand_in(drop=["p2t1w.nii"])
    with pytest.raises(RuntimeError, match=r"0 files p2t1w\.nii.*last words"):
        RunCat12(t1w_file=head[1]["t1w"], command=program).run(cwd=str(tmp_path))


def test_building_the_graph_without_the_program_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in (external.STANDALONE_VARIABLE, external.MATLAB_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    for build in (init_cat12_segmentation_wf, init_spm12_segmentation_wf):
        with pytest.raises(MissingProgramError, match="SPM12 is not here"):
            build()


# ------------------------------------------------------------------- reading


def test_regions_of_cat12(tmp_path):
    path = tmp_path / "catROI.xml"
    path.write_text(ROI)
    table = read_regions(path)
    assert list(table["atlas"]) == ["neuromorphometrics", "neuromorphometrics", "cobra"]
    assert list(table["index"]) == [182, 183, 1]
    assert list(table["gm_ml"]) == [10.5, 11.25, 9.5]
    assert list(table["csf_ml"].isna()) == [False, True, True]
    assert table["wm_ml"].isna().all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[10.5;11.25]", "[10.5]"), "must agree"),
        (("[182;183]", "[182]"), "must agree"),
        (("10.5;", "ten;"), "where numbers should be"),
        (("</S>", ""), "cannot be read"),
    ],
)
def test_damaged_regions_are_refused(tmp_path, change, words):
    path = tmp_path / "catROI.xml"
    path.write_text(ROI.replace(*change))
    with pytest.raises(BadInputError, match=words):
        read_regions(path)


def test_regions_that_are_not_there_are_no_empty_table(tmp_path):
    path = tmp_path / "catROI.xml"
    path.write_text("<S><a><names><item>x</item></names></a></S>")
    with pytest.raises(BadInputError, match="no regional volumes"):
        read_regions(path)


def test_totals_of_cat12(tmp_path):
    path = tmp_path / "cat.xml"
    path.write_text(REPORT)
    assert read_report(path) == {"tiv": 1523.5, "csf": 301.5, "gm": 700.25, "wm": 520.5,
                                 "version": "12.9 r2577"}  # fmt: skip
    path.write_text(REPORT.replace("<vol_TIV>1523.5</vol_TIV>", ""))
    with pytest.raises(BadInputError, match="no total volumes"):
        read_report(path)


@pytest.mark.parametrize("text", [BOMB, OUTSIDE])
def test_entities_are_never_expanded(tmp_path, text):
    path = tmp_path / "cat.xml"
    path.write_text(text)
    with pytest.raises(BadInputError, match="document type"):
        read_xml(path)


def test_parameters_of_spm12(tmp_path):
    savemat(tmp_path / "a.mat", {"lkp": [1]})
    with pytest.raises(BadInputError, match="no affine"):
        read_parameters(tmp_path / "a.mat")
    (tmp_path / "b.mat").write_bytes(b"not a file of matlab")
    with pytest.raises(BadInputError, match="not a parameter file"):
        read_parameters(tmp_path / "b.mat")


def test_deformations(tmp_path):
    points = np.random.default_rng(0).normal(size=(4, 5, 6, 1, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(points, AFFINE), tmp_path / "y.nii")
    found, affine = read_deformation(tmp_path / "y.nii")
    np.testing.assert_array_equal(found, points[:, :, :, 0])
    np.testing.assert_allclose(affine, AFFINE, atol=1e-5)
    nib.save(nib.Nifti1Image(points[..., 0, 0], AFFINE), tmp_path / "z.nii")
    with pytest.raises(BadInputError, match="shape"):
        read_deformation(tmp_path / "z.nii")


# ------------------------------------------------------------------- maps that are there

BIDS = {"gm": "sub-01_label-GM_probseg.nii.gz", "wm": "sub-01_label-WM_probseg.nii.gz",
        "csf": "sub-01_label-CSF_probseg.nii.gz"}  # fmt: skip


def test_maps_of_bids_derivatives(head, tmp_path):
    """As fMRIPrep writes them: copies in template space lie beside them and are not taken."""
    maps, files = head
    anat = tmp_path / "fmriprep" / "sub-01" / "anat"
    write_maps(maps, anat, BIDS)
    write_maps(maps, anat, {key: name.replace("label", "space-MNI152NLin6Asym_res-2_label")
                            for key, name in BIDS.items()})  # fmt: skip
    write_maps(maps, anat, {"t1w": "sub-01_desc-preproc_T1w.nii.gz"})
    write_maps({"mask": maps["wm"] + maps["gm"]}, anat, {"mask": "sub-01_desc-brain_mask.nii.gz"})
    (tmp_path / "fmriprep" / "dataset_description.json").write_text(
        json.dumps({"GeneratedBy": [{"Name": "fMRIPrep", "Version": "25.1.0"}]})
    )
    found = find_precomputed(tmp_path / "fmriprep", "01")
    assert found.gm_file == anat / BIDS["gm"]
    assert found.t1w_file.name == "sub-01_desc-preproc_T1w.nii.gz"
    workflow = init_precomputed_segmentation_wf(maps=found)
    results = run_workflow(workflow, files["t1w"], tmp_path / "work")
    mask = nib.load(results["mask_file"]).get_fdata()
    np.testing.assert_array_equal(mask, maps["wm"] + maps["gm"])
    info = json.loads(Path(results["info_file"]).read_text())
    assert (info["engine"], info["version"]) == ("precomputed", "fMRIPrep 25.1.0")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_maps_of_cat12(head, tmp_path, suffix):
    maps, files = head
    folder = tmp_path / "cat12" / "sub-01" / "ses-a" / "mri"
    names = {"gm": "p1", "wm": "p2", "csf": "p3"}
    for session in ("a", "b"):
        write_maps(maps, folder, {key: f"{start}sub-01_ses-{session}_acq-mprage_T1w{suffix}"
                                  for key, start in names.items()})  # fmt: skip
    write_maps(maps, folder, {"gm": "mwp1sub-01_ses-a_acq-mprage_T1w.nii"})
    found = find_precomputed(tmp_path / "cat12", "01", "a")
    assert found.csf_file == folder / f"p3sub-01_ses-a_acq-mprage_T1w{suffix}"
    assert found.t1w_file is None
    workflow = init_precomputed_segmentation_wf(maps=found)
    results = run_workflow(workflow, files["t1w"], tmp_path / "work")
    np.testing.assert_allclose(nib.load(results["t1w_file"]).get_fdata(), maps["t1w"])


def test_maps_of_another_person_or_visit_are_not_taken(head, tmp_path):
    maps, _ = head
    write_maps(maps, tmp_path / "anat", BIDS)
    for participant, session in (("0", None), ("1", None), ("011", None), ("01", "a")):
        with pytest.raises(BadInputError, match="has no GM of"):
            find_precomputed(tmp_path, participant, session)
    write_maps(maps, tmp_path / "ses", {k: n.replace("_label", "_ses-b_label")
                                        for k, n in BIDS.items()})  # fmt: skip
    assert find_precomputed(tmp_path, "01").gm_file.parent.name == "anat"
    assert find_precomputed(tmp_path, "01", "b").gm_file.parent.name == "ses"


def test_a_choice_between_files_is_not_made(head, tmp_path):
    maps, _ = head
    write_maps(maps, tmp_path, BIDS)
    write_maps(maps, tmp_path, {"gm": "sub-01_run-2_label-GM_probseg.nii.gz"})
    with pytest.raises(BadInputError, match="2 files that could be the GM"):
        find_precomputed(tmp_path, "01")


def test_an_incomplete_set_is_named(head, tmp_path):
    maps, _ = head
    write_maps(maps, tmp_path, BIDS)
    (tmp_path / BIDS["csf"]).unlink()
    with pytest.raises(BadInputError, match="has no CSF of sub-01"):
        find_precomputed(tmp_path, "01")
    with pytest.raises(BadInputError, match="does not exist"):
        find_precomputed(tmp_path / "absent", "01")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gm": lambda gm: 255 * gm}, "grey matter runs from 0 to 255"),
        ({"wm": lambda wm: np.where(wm > 0, np.nan, wm)}, "not numbers"),
        ({"wm": lambda wm: wm + 0.5 * (wm < 1)}, "together reach 1.5"),
        ({"gm": lambda gm: gm * 0}, "holds 0.0 mL"),
        ({"csf": lambda csf: csf[:-1]}, "same grid"),
    ],
)
def test_maps_that_cannot_be_right_are_refused(head, tmp_path, monkeypatch, change, words):
    maps, files = head
    monkeypatch.chdir(tmp_path)
    for key, function in change.items():
        save(function(maps[key]).astype(np.float32), AFFINE, files[key])
    inputs = {f"{key}_file": path for key, path in files.items()}
    with pytest.raises(BadInputError, match=words):
        AdoptMaps(**inputs, details={"engine": "x"}).run(cwd=str(tmp_path))


def test_what_rounding_put_outside_is_cut(head, tmp_path, monkeypatch):
    maps, files = head
    monkeypatch.chdir(tmp_path)
    save(maps["gm"] * 1.01 - 0.005, AFFINE, files["gm"])
    inputs = {f"{key}_file": path for key, path in files.items()}
    outputs = AdoptMaps(**inputs, mask_file=Undefined, details={}).run(cwd=str(tmp_path)).outputs
    gm = nib.load(outputs.gm_file).get_fdata()
    assert gm.min() == 0
    assert gm.max() == 1
