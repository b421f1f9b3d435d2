"""JSON that says itself whether it is what was written: one other byte is mostly JSON still."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def sealed(content: Any) -> str:
    """Text of JSON with the checksum of its content."""
    return json.dumps({"md5": _md5(content), "content": content})


def unsealed(text: str) -> Any:
    """Content of such a text.

    Raises
    ------
    ValueError
        If it is none, or is not what was written.
    """
    stored = json.loads(text)
    if not isinstance(stored, dict) or stored.keys() != {"md5", "content"}:
        raise ValueError("holds no checksum")
    if stored["md5"] != _md5(stored["content"]):
        raise ValueError("does not fit its checksum")
    return stored["content"]


def _md5(content: Any) -> str:
    return hashlib.md5(json.dumps(content).encode(), usedforsecurity=False).hexdigest()
