"""Shared by all tests: where the reference data lie, if they are here at all."""

import os
import signal
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config):
    """Let what the tests start hear an interrupt in the background too, and see no own atlases."""
    os.environ.pop("ALSFLOW_ATLAS_DIR", None)
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"reference data not found beside the checkout ({folder.name})")
    return folder


@pytest.fixture(scope="session")
def realdata(shared_data) -> Path:
    return shared_data / "realdata"
