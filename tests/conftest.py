"""Shared by all tests: where the reference data lie, if they are here at all."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"reference data not found beside the checkout ({folder.name})")
    return folder


@pytest.fixture(scope="session")
def realdata(shared_data) -> Path:
    return shared_data / "realdata"
