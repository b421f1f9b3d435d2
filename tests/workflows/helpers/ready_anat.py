"""An anatomical stream that hands on what was prepared."""

import json
from pathlib import Path

from nipype.interfaces.base import File, TraitedSpec
from nipype.pipeline.engine import Node, Workflow

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.workflows.outputs import sink
from alsflow.workflows.participant import TAKES
from alsflow.workflows.ports import port

QC = {"path": "{folder}/anat/{prefix}_desc-anat_qc.json", "about": "Flags", "sidecar": False}
DECLARED = {"qc": QC}  # what this stream writes
FLAG = {"name": "template_dice_gm", "reason": "the template does not fit the head"}
HANDED = tuple(dict.fromkeys(field for taken in TAKES.values() for field in taken["anat"]))


class _ReadyInputSpec(CodedInputSpec):
    t1w_file = File(exists=True, desc="head")
    mask_file = File(exists=True, desc="brain")
    gm_file = File(exists=True, desc="grey matter")
    wm_file = File(exists=True, desc="white matter")
    csf_file = File(exists=True, desc="CSF")
    to_template_file = File(exists=True, desc="place in the template")
    to_native_file = File(exists=True, desc="place of the template in the head")
    labels_file = File(exists=True, desc="labels of the cortical atlas")
    qc_file = File(exists=True, mandatory=True, desc="JSON: flags and metrics")


class _ReadyOutputSpec(TraitedSpec):
    t1w_file = File(exists=True, desc="head")
    mask_file = File(exists=True, desc="brain")
    gm_file = File(exists=True, desc="grey matter")
    wm_file = File(exists=True, desc="white matter")
    csf_file = File(exists=True, desc="CSF")
    to_template_file = File(exists=True, desc="place in the template")
    to_native_file = File(exists=True, desc="place of the template in the head")
    labels_file = File(exists=True, desc="labels of the cortical atlas")
    qc_file = File(exists=True, desc="JSON: flags and metrics")


class Ready(CodedInterface):
    """Hand on files that are there already."""

    input_spec = _ReadyInputSpec
    output_spec = _ReadyOutputSpec

    def _run_interface(self, runtime):
        given = self.inputs.get_traitsfree()
        self._results.update({field: given[field] for field in HANDED if field in given})
        return runtime


def ready_files(folder: Path, flagged: bool = False) -> dict[str, str]:
    """Files of the stream that `clinic.prepare_anatomy` and others have written."""
    files = {field: folder / f"{field.removesuffix('_file')}.nii.gz" for field in HANDED}
    files["qc_file"] = folder / ("flagged.json" if flagged else "fine.json")
    return {field: str(path) for field, path in files.items() if path.is_file()}


def write_judgements(folder: Path) -> None:
    for name, flags in (("fine", []), ("flagged", [FLAG])):
        (folder / f"{name}.json").write_text(json.dumps({"flags": flags, "metrics": {}}))


def init_ready_wf(visit, settings):
    """ready -> sink; the files lie beside the dataset."""
    workflow = Workflow(name="anat_wf")
    folder = settings.bids_dir.parent / "ready"
    ready = Node(Ready(**ready_files(folder, visit.participant == "flagged")), name="ready")
    outputnode = port("outputnode", *HANDED)
    ds_anat = sink("anat", visit, settings, "bids:raw:none")
    workflow.connect([
        (ready, outputnode, [(field, field) for field in HANDED]),
        (ready, ds_anat, [("qc_file", "qc_file")]),
    ])  # fmt: skip
    return workflow
