"""The command line with the toy stream, in one process per person, all at the same moment."""

import multiprocessing
import os
import sys
import types

import toy_streams

from alsflow import cli
from alsflow.workflows import app, execute, participant, plugin  # noqa: F401 - once for all


def one(start, arguments):
    start.wait()
    os._exit(cli.main(arguments))


if __name__ == "__main__":
    participant.STREAMS["anat"] = toy_streams.init_toy_wf
    outputs = types.ModuleType("alsflow.workflows.outputs")
    outputs.requested = toy_streams.requested
    report = types.ModuleType("alsflow.workflows.report")
    report.write_reports = lambda *arguments: None
    sys.modules[outputs.__name__], sys.modules[report.__name__] = outputs, report
    bids_dir, output_dir, work_dir, *labels = sys.argv[1:]
    fork = multiprocessing.get_context("fork")
    plugin.get_context = lambda _=None: fork  # workers that need not import it all again
    start = fork.Event()
    options = ["-w", work_dir, "--nprocs", "1", "--mem", "1G", "--skip-bids-validation"]
    processes = [
        fork.Process(target=one, args=(start, [bids_dir, output_dir, "participant", *options,
                                               "--participant-label", label]))
        for label in labels
    ]  # fmt: skip
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
    sys.exit(max(process.exitcode for process in processes))
