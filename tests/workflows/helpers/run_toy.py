"""The command line with the toy stream, in a process of its own.

``DIE_AT=<n>`` in the environment has the driver kill itself before it renames its n-th file into
place, ``DIE_AT=<module>:<name>`` before it calls that function for the first time.
"""

import importlib
import os
import signal
import sys
import types

import toy_streams

from alsflow import cli
from alsflow.interfaces.pages import write_page
from alsflow.workflows import participant


def write_reports(settings, visits, manifest):
    for visit in visits:
        write_page(settings.output_dir / f"{visit.prefix}.html", f"<html>{visit.prefix}</html>")


def arm(place):
    """Have this process die of itself."""
    module, _, name = place.rpartition(":")
    module, name, number = (module, name, 1) if module else ("os", "replace", int(name))
    holder = importlib.import_module(module)
    function, calls = getattr(holder, name), []

    def deadly(*arguments, **options):
        calls.append(name)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    setattr(holder, name, deadly)


if __name__ == "__main__":
    participant.STREAMS["anat"] = toy_streams.init_toy_wf
    outputs = types.ModuleType("alsflow.workflows.outputs")
    outputs.requested = toy_streams.requested
    outputs.withdraw = toy_streams.withdraw
    report = types.ModuleType("alsflow.workflows.report")
    report.write_reports = write_reports
    report.write_index = lambda settings, manifest: None
    sys.modules[outputs.__name__], sys.modules[report.__name__] = outputs, report
    if "DIE_AT" in os.environ:
        arm(os.environ["DIE_AT"])
    sys.exit(cli.main(sys.argv[1:]))
