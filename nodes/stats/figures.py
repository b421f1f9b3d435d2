"""Figures of the group result; they are drawn in `alsflow.nodes.report.statistics`."""

from alsflow.nodes.report.statistics import PALETTE, forest, strip

__all__ = ["PALETTE", "forest", "strip"]
