"""One real cluster for all tests of this folder."""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
for _folder in (FOLDER, FOLDER.parent / "workflows" / "helpers"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

_spec = importlib.util.spec_from_file_location(
    "toy_conftest", FOLDER.parent / "workflows" / "conftest.py"
)
_module = importlib.util.module_from_spec(_spec)
sys.modules["toy_conftest"] = _module  # its dataclass looks there
_spec.loader.exec_module(_module)
toy = _module.toy


def pytest_collection_modifyitems(items):
    """All tests of the cluster are slow, marked, and go to the same process."""
    for item in items:
        if FOLDER in Path(item.path).parents and "real_cluster" in getattr(
            item, "fixturenames", ()
        ):
            item.add_marker(pytest.mark.slurm)
            item.add_marker(pytest.mark.xdist_group("slurm"))


@pytest.fixture(scope="session")
def real_cluster():
    """The cluster, for the whole session."""
    import cluster

    problem = cluster.missing()
    if problem:
        pytest.skip(problem)
    with cluster.Cluster() as started:
        yield started


@pytest.fixture
def cluster(real_cluster, monkeypatch):
    """The cluster without jobs, and the environment in which programs talk to it."""
    monkeypatch.setenv("SLURM_CONF", str(real_cluster.conf))
    yield real_cluster
    real_cluster.clear()
