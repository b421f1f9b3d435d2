"""People of all four streams whose images are too small to compute on, and steps that stand in.

The graph is the real one, with every input that a real run gives it. In place of its computation
each step writes down a digest of its inputs, so that whatever changes an input changes the result.
"""

import json
import shutil
from importlib import import_module
from pathlib import Path

import nibabel as nib
import numpy as np
from inline import execute
from nipype.interfaces.base import File, traits
from nipype.interfaces.base.specs import BaseTraitedSpec

from alsflow.interfaces.base import CodedInterface
from alsflow.workflows import participant
from alsflow.workflows.app import plan_participants
from alsflow.workflows.settings import Settings, build, merge
from alsflow.workflows.why import History

DEMO = Path(__file__).resolve().parents[3] / "bids_example"
NOWHERE = Path("/paper/out")  # the steps that stand in write nothing there
ENCODED = {"PhaseEncodingDirection": "j-", "TotalReadoutTime": 0.03}
OPPOSITE = ENCODED | {"PhaseEncodingDirection": "j"}


def make_dataset(root, people=("01",)):
    """Dataset of `people` in ``bids``, and results of LCModel in ``lcmodel``."""
    bids = root / "bids"
    bids.mkdir()
    text = json.dumps({"Name": "paper", "BIDSVersion": "1.9.0"})
    (bids / "dataset_description.json").write_text(text)
    for person in people:
        add_person(root, person)


def add_person(root, person):
    stem = root / "bids" / f"sub-{person}"
    prefix = f"sub-{person}"
    small_image(stem / "anat" / f"{prefix}_T1w", (6, 7, 5), {})
    dwi = stem / "dwi" / f"{prefix}_dwi"
    small_image(dwi, (6, 7, 5, 8), ENCODED)
    dwi.with_suffix(".bval").write_text("0 " + "1000 " * 7)
    dwi.with_suffix(".bvec").write_text("0 1 1 1 0 0 0 1\n" * 3)
    timed = {"SliceTiming": [0.0, 1.0, 0.5, 1.5, 0.25], "RepetitionTime": 2.0, "TaskName": "rest"}
    small_image(stem / "func" / f"{prefix}_task-rest_bold", (6, 7, 5, 40), ENCODED | timed)
    for name, meta, target in (
        ("acq-dwi_dir-AP", ENCODED, f"dwi/{prefix}_dwi.nii.gz"),
        ("acq-dwi_dir-PA", OPPOSITE, f"dwi/{prefix}_dwi.nii.gz"),
        ("acq-bold_dir-AP", ENCODED, f"func/{prefix}_task-rest_bold.nii.gz"),
        ("acq-bold_dir-PA", OPPOSITE, f"func/{prefix}_task-rest_bold.nii.gz"),
    ):
        small_image(stem / "fmap" / f"{prefix}_{name}_epi", (6, 7, 5),
                    meta | {"IntendedFor": [target]})  # fmt: skip
    (stem / "mrs").mkdir()
    for path in (DEMO / "sub-01" / "mrs").iterdir():
        shutil.copyfile(path, stem / "mrs" / path.name.replace("sub-01", prefix))
    fits = root / "lcmodel" / prefix
    fits.mkdir(parents=True)
    for path in (DEMO / "derivatives" / "lcmodel" / "sub-01").iterdir():
        shutil.copyfile(path, fits / path.name.replace("sub-01", prefix))


def small_image(stem, shape, meta):
    stem.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.ones(shape, np.float32), np.diag([3.0, 3.0, 3.5, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    if len(shape) == 4:
        image.header.set_zooms((3.0, 3.0, 3.5, 2.0))
    nib.save(image, f"{stem}.nii.gz")
    Path(f"{stem}.json").write_text(json.dumps(meta))


def stand_in(monkeypatch):
    """Let every step write down what came in, and nothing else."""

    def run(self, runtime):
        digest = BaseTraitedSpec.get_hashval(self.inputs, "content")[1]
        for name, trait in self.output_spec().traits(transient=None).items():
            if name.startswith("trait_"):
                continue
            path = Path(runtime.cwd) / f"{name}.txt"
            kind = trait.trait_type
            if isinstance(kind, traits.Int | traits.Float):
                self._results[name] = 1
            elif isinstance(kind, traits.Dict):
                self._results[name] = {"made": digest}
            elif isinstance(kind, traits.Str) and not isinstance(kind, File):
                self._results[name] = digest
            else:
                path.write_text(f"{type(self).__name__} {name} {digest}")
                single = isinstance(kind, File)
                self._results[name] = str(path) if single else [str(path)]
        return runtime

    for stream in participant.STREAMS:
        import_module(f"alsflow.workflows.{stream}")  # all of them are known now
    waiting = [CodedInterface]
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        monkeypatch.setattr(cls, "_run_interface", run, raising=False)


def settings_of(root, changes=None, work="work"):
    """Settings of a run on everybody, some of them changed."""
    base = {
        "bids_dir": root / "bids", "output_dir": NOWHERE, "analysis_level": "participant",
        "work_dir": root / work, "skip_bids_validation": True,
        "derivatives": {"lcmodel": str(root / "lcmodel")},
    }  # fmt: skip
    return build(Settings, merge(base, changes or {}))


def graph_of(settings):
    """Workflow of everybody whom the settings choose, as a run would build it."""
    plan = plan_participants(settings)
    workflow = participant.init_participant_wf(plan.visits, plan.entries, plan.settings)
    refused = [entry.reason for entry in plan.entries if entry.state != "not-run"]
    assert not refused, refused
    return workflow


def run(root, changes=None, forecast=False, **more):
    """Run everybody; returns the plugin and why each step ran."""
    settings = settings_of(root, changes, **more)
    settings.work_dir.mkdir(exist_ok=True)
    history = History.read(settings)
    return execute(graph_of(settings), settings.work_dir, history, forecast)


def ran(root, changes=None, **more):
    """Steps that a run computes, such as ``01 dwi series load``."""
    _, why = run(root, changes, **more)
    return {name_of(node) for node in why._texts}


def name_of(node):
    parts = (part.removesuffix("_wf").removeprefix("sub_") for part in node.fullname.split("."))
    return " ".join(list(parts)[1:])
