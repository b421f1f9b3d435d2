"""What the full name of a node says: the visit that it belongs to, and the step that it is."""

from __future__ import annotations

STREAM_WORKFLOWS = ("anat_wf", "mrs_wf", "dwi_wf", "func_wf", "group_wf")
GROUP = "group"


def visit_of(fullname: str) -> str:
    """Visit to which a node belongs.

    >>> visit_of("alsflow_wf.sub_01_ses_a_wf.anat_wf.load"), visit_of("group_wf.fit")
    ('sub_01_ses_a', 'group')
    """
    parts = fullname.split(".")
    of_visit = len(parts) > 1 and parts[1].startswith("sub_")
    return parts[1].removesuffix("_wf") if of_visit else GROUP


def step_of(fullname: str) -> str:
    """Name of a step in the table of resources.

    >>> step_of("alsflow_wf.sub_01_ses_a_wf.anat_wf.segmentation_wf.find")
    'anat.segmentation.find'
    >>> step_of("group_wf.fit"), step_of("dwi_wf.series_wf.load")
    ('group.fit', 'dwi.series.load')
    """
    parts = fullname.split(".")
    start = next((k for k, part in enumerate(parts) if part in STREAM_WORKFLOWS), 0)
    return ".".join(part.removesuffix("_wf") for part in parts[start:])
