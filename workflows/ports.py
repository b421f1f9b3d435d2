"""The two ends of every workflow."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node


def port(name: str, *fields: str) -> Node:
    """Node that only passes `fields` on: an ``inputnode`` or an ``outputnode``."""
    return Node(IdentityInterface(fields=list(fields), mandatory_inputs=False), name=name)
