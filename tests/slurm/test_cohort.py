"""The true streams through `--plugin slurm`: the same derivatives as with workers."""

import os
import sys
from pathlib import Path

import pytest
from derivatives import differences

from alsflow import cli

EXAMPLE = Path(__file__).resolve().parents[2] / "bids_example"


def run(out, work, *options):
    """Exit code of the command line on the anatomy and the spectra of one simulated person."""
    lcmodel = EXAMPLE / "derivatives" / "lcmodel"
    argv = [EXAMPLE, out, "participant", "-w", work, "--participant-label", "01", "--nprocs", 2,
            "--mem", "6G", "--skip-bids-validation", "--derivatives", f"lcmodel={lcmodel}",
            *options]  # fmt: skip
    return cli.main([str(word) for word in argv])


def ours(cluster):
    """Numbers and names of the jobs that steps were; the last may not have left the queue."""
    return [job[:2] for job in cluster.jobs() if job[1].startswith("als-")]


@pytest.mark.slow
def test_the_same_derivatives_as_with_workers(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    config = tmp_path / "config.toml"
    config.write_text("[slurm]\npoll = 0.5\nlag = 5.0\ngroup_minutes = 0.3\n")
    by_slurm = ["--plugin", "slurm", "--config-file", config]
    # The output folder has the same name, because that is an input of the last steps.
    first, second, out = tmp_path / "first", tmp_path / "second", tmp_path / "out"
    assert run(out, tmp_path / "work_slurm", *by_slurm) == 0
    jobs = ours(cluster)
    assert len(jobs) >= 3
    assert run(out, tmp_path / "work_slurm", *by_slurm) == 0
    assert ours(cluster) == jobs  # all cached
    out.rename(first)
    assert run(out, tmp_path / "work") == 0
    out.rename(second)
    assert differences(first, second) == []
