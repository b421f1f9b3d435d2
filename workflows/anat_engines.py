"""The engines other than the program's own, behind the port of every segmentation.

Input ``t1w_file``; outputs ``t1w_file``, ``gm_file``, ``wm_file``, ``csf_file``, ``mask_file``
and ``info_file``, all in native space. What follows, normalisation included, is the same for
every engine.
"""

from __future__ import annotations

from nipype.pipeline.engine import Node, Workflow

from alsflow.interfaces.cat12 import RunCat12
from alsflow.interfaces.external import SpmProgram, find_spm
from alsflow.interfaces.precomputed import AdoptMaps, PrecomputedMaps
from alsflow.interfaces.spm import RunSpm12
from alsflow.workflows.ports import port

OUTPUTS = ("t1w_file", "gm_file", "wm_file", "csf_file", "mask_file", "info_file")


def init_cat12_segmentation_wf(
    *, program: SpmProgram | None = None, name: str = "cat12_segmentation_wf"
) -> Workflow:
    """Tissue maps of one head by CAT12.

    .. workflow:: inputnode -> segment -> adopt -> outputnode

    Parameters
    ----------
    program : SpmProgram, optional
        How SPM12 is called; by default it is looked for, and its absence is an error.
    name : str
        Name of the workflow.
    """
    return _engine_wf(RunCat12, program or find_spm(), name)


def init_spm12_segmentation_wf(
    *, program: SpmProgram | None = None, name: str = "spm12_segmentation_wf"
) -> Workflow:
    """Tissue maps of one head by SPM12; see `init_cat12_segmentation_wf`."""
    return _engine_wf(RunSpm12, program or find_spm(), name)


def _engine_wf(interface: type[RunCat12] | type[RunSpm12], program: SpmProgram, name: str):
    workflow = Workflow(name=name)
    inputnode = port("inputnode", "t1w_file")
    outputnode = port("outputnode", *OUTPUTS)
    segment = Node(
        interface(
            command=program.command,
            standalone=program.standalone,
            folders=list(program.folders),
        ),
        name="segment",
    )
    adopt = Node(AdoptMaps(), name="adopt")
    workflow.connect([
        (inputnode, segment, [("t1w_file", "t1w_file")]),
        (segment, adopt, [("t1w_file", "t1w_file"),
                          ("gm_file", "gm_file"),
                          ("wm_file", "wm_file"),
                          ("csf_file", "csf_file"),
                          ("details", "details")]),
        (adopt, outputnode, [(field, field) for field in OUTPUTS]),
    ])  # fmt: skip
    return workflow


def init_precomputed_segmentation_wf(
    *, maps: PrecomputedMaps, name: str = "precomputed_segmentation_wf"
) -> Workflow:
    """Tissue maps of one head from a derivatives folder.

    .. workflow:: inputnode -> adopt -> outputnode

    Parameters
    ----------
    maps : PrecomputedMaps
        Files of this visit, as `interfaces.precomputed.find_precomputed` gives them. If they
        bring the head that they lie on, that one is used in place of the input.
    name : str
        Name of the workflow.
    """
    workflow = Workflow(name=name)
    inputnode = port("inputnode", "t1w_file")
    outputnode = port("outputnode", *OUTPUTS)
    details = {"engine": "precomputed", "version": maps.made_by}
    adopt = Node(AdoptMaps(details=details), name="adopt")
    for field in ("gm_file", "wm_file", "csf_file", "mask_file", "t1w_file"):
        path = getattr(maps, field)
        if path is not None:
            adopt.set_input(field, str(path))
    if maps.t1w_file is None:
        workflow.connect(inputnode, "t1w_file", adopt, "t1w_file")
    else:
        workflow.add_nodes([inputnode])
    workflow.connect([
        (adopt, outputnode, [(field, field) for field in OUTPUTS]),
    ])  # fmt: skip
    return workflow
