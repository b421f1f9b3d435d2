"""What runs inside a job of the cluster: some steps of one person, one after the other.

    python -m alsflow.workflows.slurm.inside FOLDER

FOLDER was made by the driver for this job alone (see `plugin`), and holds ``job.json`` and
one pickled node per step. Each step leaves a file with its outcome there, whole or not at all; the
driver believes nothing else. So an older result in the working directory can never be taken for
that of a job that died, and the driver can go on with what needs a step before the rest is done.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from alsflow.workflows.cache import write_text

JOB, BEGUN, CURRENT, REVOKED = "job.json", "begun.json", "current.json", "revoked"
DONE, CACHED, FAILED, LEFT = "done", "cached", "failed", "left"
LOOK = 0.5  # s between two looks for files that are late


def node_file(index: int) -> str:
    """Name of the file with a pickled node."""
    return f"node_{index:04d}.pkl"


def outcome_file(index: int) -> str:
    """Name of the file with the outcome of a node."""
    return f"outcome_{index:04d}.json"


def main(argv: Sequence[str]) -> int:
    """Run the steps of the job whose folder is the only argument."""
    folder = Path(argv[0]).resolve()
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    begun = {"job": os.environ.get("SLURM_JOB_ID", ""), "host": os.uname().nodename}
    write_text(folder / BEGUN, json.dumps(begun))
    sys.path += [entry for entry in job["path"] if entry not in sys.path]
    os.chdir(job["work_dir"])
    from alsflow.workflows.cache import FileHashes, remembered
    from alsflow.workflows.stored import portable

    hashes = FileHashes()
    states: dict[int, str] = {}
    with remembered(hashes), portable(job["work_dir"]):
        for index, step in enumerate(job["steps"]):
            if (folder / REVOKED).exists():
                print("The driver has given this job up; it ends.", file=sys.stderr)
                return 1
            write_text(folder / CURRENT, json.dumps({"index": index, "since": time.time()}))
            ready = all(states[before] in (DONE, CACHED) for before in step["after"])
            outcome = _run(folder, index, step, job["lag"], hashes) if ready else {"state": LEFT}
            states[index] = outcome["state"]
            if not (folder / REVOKED).exists():
                write_text(folder / outcome_file(index), json.dumps(outcome))
    return 0


def _run(folder: Path, index: int, step: dict[str, Any], lag: float, hashes: Any) -> dict:
    """Compute one step, unless its result stands; what came of it."""
    from alsflow.workflows.cache import drop_result, read_record
    from alsflow.workflows.plugin import compute

    print(f"alsflow: {step['name']}", flush=True)
    late = wait_for_files([Path(path) for path in step["needs"]], lag)
    if late:
        return _failed(
            f"FileNotFoundError: {late[0]}, which an earlier step has written, was not seen on "
            f"{os.uname().nodename} within {lag:g} s; raise slurm.lag."
        )
    packed = (folder / node_file(index)).read_bytes()
    try:
        node = pickle.loads(packed)
    except Exception:
        return _failed(traceback.format_exc())
    if _is_other_code(node):
        return _failed(
            f"WorkerDiedError: Another version of the program runs in jobs ({sys.executable} on "
            f"{os.uname().nodename}) than the one that submits them; give both the same (with a "
            "container, the version that is in the image) and run again."
        )
    if not step["fresh"]:  # the driver has not seen its inputs
        if _is_cached(node):
            seconds = float((read_record(node) or {}).get("seconds", 0))
            return {"state": CACHED, "error": "", "seconds": seconds, "hashes": hashes.news()}
        if _lacks_input(node):
            return {"state": LEFT}
    drop_result(node)
    answer = compute(packed, hashes)
    return {"state": FAILED if answer["error"] else DONE, **answer}


def _failed(text: str) -> dict[str, Any]:
    return {"state": FAILED, "error": text, "seconds": 0.0}


def _is_other_code(node: Any) -> bool:
    """Whether the code of a node's interface is not what the driver takes it for.

    Its result would be kept as that of the other code.
    """
    from alsflow.interfaces.base import CodedInterface

    if not isinstance(node.interface, CodedInterface):
        return False
    return node.inputs.code_version != type(node.interface)().inputs.code_version


def _is_cached(node: Any) -> bool:
    try:
        return node.is_cached() == (True, True)
    except Exception:  # running the node says what is wrong with its inputs
        return False


def _lacks_input(node: Any) -> bool:
    """Whether an input was removed to save space; the driver has it made again."""
    from alsflow.workflows.keep import check_whole

    try:
        check_whole(node)
    except FileNotFoundError:
        return True
    return False


def wait_for_files(paths: Iterable[Path], lag: float) -> list[Path]:
    """Wait until files that another machine has written are seen here; returns those that are not.

    Listing a folder makes a network file system ask the server again.
    """
    missing = list(paths)
    end = time.monotonic() + lag
    while missing := [path for path in missing if not seen(path)]:
        if time.monotonic() > end:
            break
        time.sleep(min(LOOK, lag))
    return missing


def seen(path: Path) -> bool:
    """Whether a file is there, as the server knows it."""
    if path.exists():
        return True
    try:
        return path.name in os.listdir(path.parent) and path.exists()
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
