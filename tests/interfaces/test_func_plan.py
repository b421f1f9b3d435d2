"""Which functional runs are taken, what their files must say, and what undistorts them."""

import json

import nibabel as nib
import numpy as np
import pytest

from alsflow.interfaces.func_field import FieldForBold
from alsflow.interfaces.func_plan import field_inputs, plan_func
from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.errors import BadInputError

SHAPE = (6, 7, 4)
LAS = np.diag([-3.0, 3.0, 3.5, 1.0])
GOOD = {
    "RepetitionTime": 2.0,
    "SliceTiming": [0.0, 1.0, 0.5, 1.5],
    "PhaseEncodingDirection": "j-",
    "TotalReadoutTime": 0.03,
    "EchoTime": 0.03,
}


class Dataset:
    """One person with functional series and field maps."""

    def __init__(self, root):
        self.root, self.series, self.maps = root, [], []

    def _write(self, folder, name, meta, shape, affine, tr):
        path = self.root / "sub-01" / folder / f"sub-01_{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(np.zeros(shape, np.int16), affine)
        image.header.set_xyzt_units("mm", "sec")
        if len(shape) > 3:
            image.header["pixdim"][4] = tr
        nib.save(image, path)
        path.with_name(f"sub-01_{name}.json").write_text(json.dumps(meta))
        return path

    def run(self, name, volumes=20, affine=LAS, tr=2.0, shape=SHAPE, **meta):
        size = (*shape, volumes) if volumes else shape
        meta = {key: value for key, value in (GOOD | meta).items() if value is not None}
        self.series.append(self._write("func", f"{name}_bold", meta, size, affine, tr))
        return self.series[-1]

    def map(self, name, shape=SHAPE, affine=LAS, **meta):
        self.maps.append(self._write("fmap", name, meta, shape, affine, 1.0))
        return self.maps[-1]

    def plan(self, undistort=True, task=()):
        return plan_func(tuple(self.series), tuple(self.maps), self.root, undistort, task)

    def refusal(self, **settings):
        with pytest.raises(BadInputError) as caught:
            self.plan(**settings)
        return str(caught.value)


@pytest.fixture
def data(tmp_path):
    return Dataset(tmp_path)


def names(plan):
    return [run.path.name for run in plan.runs]


def noted(plan):
    return dict(plan.notes)


def test_one_resting_run(data):
    data.run("task-rest")
    plan = data.plan()
    assert (plan.task, plan.tr, plan.axis, plan.slice_axis) == ("rest", 2.0, 1, 2)
    assert plan.slice_times == (0.0, 1.0, 0.5, 1.5)
    assert plan.encoding == PhaseEncoding(1, -1, 0.03)
    assert plan.resting
    assert plan.distortion.kind == "none"
    assert set(noted(plan)) == {"distortion_uncorrected"}
    assert "switched off" in noted(data.plan(undistort=False))["distortion_uncorrected"]


def test_resting_runs_go_before_others_and_by_name(data):
    data.run("task-Resting_run-2")
    data.run("task-nback")
    data.run("task-Resting_run-1")
    plan = data.plan()
    assert names(plan) == [f"sub-01_task-Resting_run-{k}_bold.nii.gz" for k in (1, 2)]
    assert "not_resting" not in noted(plan)


def test_a_task_alone_is_taken_and_said(data):
    data.run("task-oneback_run-1")
    data.run("task-oneback_run-2")
    plan = data.plan()
    assert len(plan.runs) == 2
    assert not plan.resting
    assert noted(plan)["not_resting"].startswith("not a resting run: task-oneback")


def test_several_tasks_want_a_choice(data):
    data.run("task-nback")
    data.run("task-faces")
    said = data.refusal()
    assert "task-faces and task-nback" in said
    assert "--task-id" in said
    assert "--bids-filter-file" in said
    assert data.plan(task=["task-nback"]).task == "nback"
    both = data.plan(task=["nback", "faces"])
    assert both.task == "faces+nback"
    assert "joined" in noted(both)["tasks_joined"]
    assert "no functional series of task-rest, only of task-faces and" in data.refusal(
        task=["rest"]
    )


def test_asked_task_goes_before_rest(data):
    data.run("task-rest")
    data.run("task-nback")
    assert data.plan(task=("nback",)).task == "nback"


def test_phase_images_and_references_are_left_out(data):
    data.run("task-rest_part-mag")
    data.run("task-rest_part-phase")
    data.series.append(data.root / "sub-01" / "func" / "sub-01_task-rest_sbref.nii.gz")
    assert names(data.plan()) == ["sub-01_task-rest_part-mag_bold.nii.gz"]
    data.series.pop(0)
    assert "no functional series of magnitudes" in data.refusal()


def test_echoes_want_a_choice(data):
    for echo in (1, 2, 3):
        data.run(f"task-rest_echo-{echo}")
    said = data.refusal()
    assert "one of 3 echoes" in said
    assert '{"bold": {"echo": 2}}' in said
    data.series = data.series[1:2]
    assert "echo-2" in noted(data.plan())["one_echo"]


def test_two_reconstructions_are_no_two_runs(data):
    data.run("task-rest_rec-a")
    data.run("task-rest_rec-b")
    assert "the same acquisition twice" in data.refusal()


def test_a_series_without_task_is_refused(data):
    data.run("acq-x")
    assert "sub-01_acq-x_bold.nii.gz does not tell its task" in data.refusal()


OBLIQUE = LAS.copy()
OBLIQUE[2, 3] = 0.11


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"affine": OBLIQUE}, "the same voxel grid"),
        ({"shape": (6, 7, 5), "SliceTiming": None}, "the same voxel grid"),
        ({"RepetitionTime": 2.5, "tr": 2.5}, "2 and 2.5 s between volumes"),
        ({"SliceTiming": [0.0, 0.5, 1.0, 1.5]}, "slices acquired at different times"),
        ({"SliceTiming": None}, "differ in SliceTiming"),
        ({"PhaseEncodingDirection": "j"}, "opposite directions"),
        ({"PhaseEncodingDirection": "i"}, "different axes"),
        ({"TotalReadoutTime": 0.031}, "readout times 0.03 and 0.031 s"),
    ],
)
def test_runs_that_do_not_go_together_are_named(data, change, words):
    data.run("task-rest_run-1")
    data.run("task-rest_run-2", **change)
    said = data.refusal()
    assert words in said
    assert "sub-01_task-rest_run-1_bold.nii.gz and sub-01_task-rest_run-2_bold.nii.gz" in said
    assert "--bids-filter-file" in said


def test_runs_stored_in_other_orientations_go_together(data):
    data.run("task-rest_run-1")
    flipped = LAS @ np.diag([1.0, -1.0, -1.0, 1.0])
    flipped[:3, 3] += LAS[:3, :3] @ [0, 6, 3]
    data.run("task-rest_run-2", affine=flipped, SliceTiming=[1.5, 0.5, 1.0, 0.0],
             PhaseEncodingDirection="j")  # fmt: skip
    plan = data.plan()
    assert len(plan.runs) == 2
    assert plan.runs[1].slice_times == plan.slice_times


def test_unknown_directions_join_only_where_names_agree(data):
    data.run("task-rest_dir-AP_run-1", PhaseEncodingDirection=None)
    data.run("task-rest_dir-AP_run-2", PhaseEncodingDirection=None)
    assert len(data.plan().runs) == 2
    assert data.plan().axis == -1
    data.run("task-rest_dir-PA", PhaseEncodingDirection=None)
    assert "dir- labels" in data.refusal()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"volumes": 0}, "holds one volume"),
        ({"volumes": 1}, "holds one volume"),
        ({"tr": 3.0}, "RepetitionTime of 2 s in its JSON sidecar, and its NIfTI header says 3 s"),
        ({"tr": 0.0, "RepetitionTime": None}, "no RepetitionTime in its JSON sidecar"),
        ({"SliceTiming": [0.0, 0.5]}, "2 times in SliceTiming and 4 slices"),
        ({"VolumeTiming": [0, 2, 5]}, "VolumeTiming"),
    ],
)
def test_refusals_name_the_file(data, change, words):
    data.run("task-rest", **change)
    said = data.refusal()
    assert said.startswith("sub-01_task-rest_bold.nii.gz ")
    assert words in said


def test_a_damaged_file_is_named(data):
    data.run("task-rest").write_bytes(b"hello")
    assert data.refusal().startswith("sub-01_task-rest_bold.nii.gz cannot be read as an image")


def test_what_was_missing_is_noted(data):
    data.run("task-rest", tr=0.0, SliceTiming=None, NumberOfVolumesDiscardedByScanner=3)
    notes = noted(data.plan())
    assert "2 s taken from the JSON sidecar" in notes["tr"]
    short, _, why = notes["slice_timing_skipped"].partition(": ")
    assert short == "slice timing skipped"  # what stands beside every value
    assert "no SliceTiming" in why
    assert data.series[0].name in why
    assert "3 initial volumes had been discarded by the scanner" in notes["volumes_discarded"]
    assert data.plan().slice_times is None


# ---------------------------------------------------------------------------- distortion


def pair(data, bold, direction="j", readouts=(0.05, 0.05), **meta):
    common = {"IntendedFor": f"bids::sub-01/func/{bold.name}", "EchoTime": 0.07}
    for name, sense, readout in zip(("one", "two"), ("", "-"), readouts, strict=True):
        extra = {} if readout is None else {"TotalReadoutTime": readout}
        data.map(f"dir-{name}_epi", PhaseEncodingDirection=f"{direction}{sense}",
                 **common, **extra, **meta)  # fmt: skip


@pytest.mark.parametrize(
    ("direction", "first"), [("j", "two"), ("i", "one")], ids=["same axis", "other axis"]
)
def test_two_images_of_another_protocol_serve_the_run(data, direction, first):
    """The run is encoded along j-; of a pair along j the image along j- comes first."""
    bold = data.run("task-rest")
    pair(data, bold, direction)
    plan = data.plan()
    assert (plan.distortion.kind, plan.distortion.rule) == ("pair", "IntendedFor")
    inputs = field_inputs(plan, data.root)
    FieldForBold(**inputs)  # every name is a port
    assert inputs["kind"] == "pair"
    assert inputs["plus_file"].endswith(f"dir-{first}_epi.nii.gz")
    assert (inputs["axis"], inputs["sign"], inputs["readout"]) == (1, -1, 0.03)
    expected = (1, -1) if direction == "j" else (0, -1)  # i of LAS runs to the left
    assert (inputs["pair_axis"], inputs["pair_sign"]) == expected
    assert (inputs["plus_readout"], inputs["minus_readout"]) == (0.05, 0.05)


@pytest.mark.parametrize("lacking", ["run", "first", "second"])
def test_a_pair_of_another_protocol_needs_three_readout_times(data, lacking):
    bold = data.run("task-rest", TotalReadoutTime=None if lacking == "run" else 0.03)
    pair(data, bold, readouts=(None if lacking == "first" else 0.05,
                               None if lacking == "second" else 0.05))  # fmt: skip
    plan = data.plan()
    assert plan.distortion.kind == "none"
    assert "TotalReadoutTime" in noted(plan)["distortion_uncorrected"]


def test_an_image_of_the_runs_contrast_makes_a_pair_with_it(data):
    bold = data.run("task-rest")
    other = data.map("dir-PA_epi", PhaseEncodingDirection="j", EchoTime=0.03,
                     TotalReadoutTime=0.03, IntendedFor=f"func/{bold.name}")  # fmt: skip
    inputs = field_inputs(data.plan(), data.root)
    FieldForBold(**inputs)
    assert inputs == {
        "kind": "own pair", "axis": 1, "sign": -1, "readout": 0.03, "plus_readout": 0.03,
        "minus_readout": 0.03, "minus_file": str(other),
    }  # fmt: skip


def test_a_gradient_echo_map_serves_the_run(data):
    bold = data.run("task-rest")
    meta = {"IntendedFor": f"func/{bold.name}", "EchoTime1": 0.005, "EchoTime2": 0.0075}
    phase, magnitude = data.map("phasediff", **meta), data.map("magnitude1")
    inputs = field_inputs(data.plan(), data.root)
    FieldForBold(**inputs)
    assert inputs["kind"] == "gre"
    assert inputs["phase_files"] == [str(phase)]
    assert inputs["magnitude_file"] == str(magnitude)
    assert inputs["echo_times"] == (0.005, 0.0075)


def test_no_polarity_is_no_correction_and_says_why(data):
    bold = data.run("task-rest", PhaseEncodingDirection=None, PhaseEncodingAxis="j")
    pair(data, bold)
    plan = data.plan()
    assert plan.distortion.kind == "none"
    assert plan.axis == 1
    assert "PhaseEncodingDirection" in noted(plan)["distortion_uncorrected"]


def test_real_runs(realdata):
    plans = {}
    for label in ("sf02", "xa30"):
        folder = realdata / f"sub-{label}"
        files = [tuple(sorted((folder / d).glob("*.nii.gz"))) for d in ("func", "fmap")]
        plans[label] = plan_func(*files, realdata, True)
    assert plans["sf02"].tr == 2.0
    assert plans["sf02"].slice_times is None
    assert plans["sf02"].encoding is None
    assert plans["xa30"].tr == 1.0
    assert len(plans["xa30"].slice_times) == 33
    assert plans["xa30"].encoding == PhaseEncoding(1, -1, 0.0340202)
