"""The command line with the toy stream, in a process of its own."""

import sys
import types

import toy_streams

from alsflow import cli
from alsflow.workflows import participant

if __name__ == "__main__":
    participant.STREAMS["anat"] = toy_streams.init_toy_wf
    outputs = types.ModuleType("alsflow.workflows.outputs")
    outputs.requested = toy_streams.requested
    outputs.withdraw = toy_streams.withdraw
    report = types.ModuleType("alsflow.workflows.report")
    report.write_reports = lambda *arguments: None
    sys.modules[outputs.__name__], sys.modules[report.__name__] = outputs, report
    sys.exit(cli.main(sys.argv[1:]))
