"""Exit codes of the command line, and the exception that ends a run with one of them.

The numbers follow the BIDS execution specification (BEP-027) and sysexits.h.
"""

from __future__ import annotations

OK = 0
FAILED = 1
INVALID_DATASET = 16
UNKNOWN_LEVEL = 17
NOTHING_SELECTED = 18
USAGE = 64
DATA = 65
INPUT_MISSING = 66
CANNOT_CREATE = 73
TRY_AGAIN = 75


class StopRunError(Exception):
    """Ends the run with `code`; the message is one sentence for the person at the keyboard."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code
