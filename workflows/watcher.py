"""What those who follow a run are told of."""

from __future__ import annotations

from typing import Any


class Watcher:
    """Is told what happens to the nodes; does nothing unless a subclass does."""

    def planned(self, nodes: list[Any], repaired: dict[Any, str]) -> None:
        """All nodes of the run, and why some old results were dropped."""

    def started(self, node: Any) -> None:
        """`node` was given to be computed."""

    def retried(self, node: Any, text: str) -> None:
        """`node` died as `text` says, and will be computed once more, alone."""

    def reopened(self, node: Any, reason: str) -> None:
        """`node` had finished, and is looked at or computed again for this `reason`."""

    def finished(self, node: Any, seconds: float, cached: bool) -> None:
        """`node` has its result; it took `seconds` (now, or when it was computed)."""

    def failed(self, node: Any, text: str) -> None:
        """`node` has no result; `text` is the traceback."""

    def waiting(self) -> None:
        """Hear that some time has passed."""

    def said(self, text: str) -> None:
        """Hear what the people should know of the machine or cluster that computes."""
