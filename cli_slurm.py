"""``alsflow-slurm``: a study as a job array with one task per person, and a group job after it.

alsflow-slurm BIDS_DIR OUTPUT_DIR participant group [options of alsflow and of Slurm]
alsflow-slurm status OUTPUT_DIR
alsflow-slurm resume OUTPUT_DIR
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from alsflow import cli
from alsflow.nodes.errors import MissingProgramError
from alsflow.workflows import exits
from alsflow.workflows.exits import StopRunError
from alsflow.workflows.machine import limit_threads
from alsflow.workflows.settings import (
    Settings,
    SettingsError,
    SlurmSettings,
    build,
    check,
    merge,
    read_toml,
)

PROGRAM = "alsflow-slurm"
LEVELS = ("participant", "group")
# Options that stand for settings of the table [slurm], and their help.
SLURM_OPTIONS = {
    "partition": ("NAME", "partition"),
    "account": ("NAME", "account"),
    "qos": ("NAME", "quality of service"),
    "container": ("IMAGE", "image in which the tasks run (default: this Python)"),
    "runtime": ("NAME", "apptainer (default), singularity, podman or docker"),
    "array_tasks": ("N", "people at one time (default 20; 0: no limit)"),
    "array_time": ("TIME", "time limit of a task: 12:00:00 (default), 2-00:00:00 or minutes"),
    "group_after": ("WHEN", "group level after any end of the people (any, default), or only if "
                    "all went well (ok)"),
}  # fmt: skip
SPELLINGS = {
    "array_time": "--time",
    "array_tasks": "--array-tasks",
    "group_after": "--group-after",
}
WHOLE = ("array_tasks",)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    os.environ["NO_ET"] = os.environ["NIPYPE_NO_ET"] = "1"  # no telemetry
    os.environ["MPLBACKEND"] = "Agg"
    limit_threads(1)
    words = cli.canonical(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Callable[[list[str]], int]] = {"status": _status, "resume": _resume}
    try:
        if words and words[0] in commands:
            return commands[words[0]](words[1:])
        return _submit(words)
    except StopRunError as stop:
        _say(str(stop))
        return stop.code
    except SettingsError as error:
        _say(str(error))
        return exits.USAGE
    except BrokenPipeError:  # say, status | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.FAILED
    except MissingProgramError as error:
        _say(str(error))
        return exits.FAILED
    except OSError as error:  # while something was written or read
        _say(f"{error.filename or 'the output folder'}: {error.strerror or error}.")
        return exits.CANNOT_CREATE
    except KeyboardInterrupt:
        _say("interrupted; alsflow-slurm status shows what was submitted.")
        return exits.FAILED


def _say(text: str) -> None:
    print(f"{PROGRAM}: {text}", file=sys.stderr)


# ---------------------------------------------------------------------------- arguments


def submit_parser() -> argparse.ArgumentParser:
    """Parser of a submission: everything of ``alsflow``, and what Slurm is asked for."""
    parser = cli.parser(PROGRAM, levels="+")
    parser.description = (
        "Submit a study to Slurm: an array with one task per person, and a group job after it. "
        f"See also {PROGRAM} status OUTPUT_DIR and {PROGRAM} resume OUTPUT_DIR, with --help."
    )
    parser.epilog = (
        "--nprocs and --mem are those of one task. With --dry-run the scripts are printed, and "
        "nothing is written or submitted. Every option of this group is a setting of the table "
        "[slurm] of --config-file, which has more of them."
    )
    _add_slurm(parser)
    return parser


def _add_slurm(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("Slurm")
    for name, (metavar, text) in SLURM_OPTIONS.items():
        option = SPELLINGS.get(name, f"--{name}")
        group.add_argument(option, dest=f"slurm_{name}", metavar=metavar, help=text,
                           type=int if name in WHOLE else str)  # fmt: skip


def resume_parser() -> argparse.ArgumentParser:
    """Parser of ``alsflow-slurm resume``."""
    parser = cli.Parser(
        prog=f"{PROGRAM} resume",
        description="Submit again who is missing: failed, refused, killed or never started; and "
        "the group level after them. Nobody who is done, running or waiting is submitted.",
        allow_abbrev=False,
    )
    parser.add_argument("output_dir", type=Path, help="output folder of the submission")
    parser.add_argument("--run", default="", metavar="NAME", help="submission (default: the last)")
    parser.add_argument("--nprocs", type=int, metavar="N", help="processors of a task")
    parser.add_argument("--mem", metavar="SIZE", help="memory of a task, such as 32G")
    parser.add_argument("--dry-run", action="store_true", help="print what would be submitted")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="more messages")
    _add_slurm(parser)
    return parser


def status_parser() -> argparse.ArgumentParser:
    """Parser of ``alsflow-slurm status``."""
    parser = cli.Parser(
        prog=f"{PROGRAM} status",
        description="Show who is done, running, waiting or failed, and why.",
        epilog="Exit codes: 0 all done; 75 something is running or waiting; 1 something failed "
        "and nothing runs any more; 66 nothing was submitted.",
        allow_abbrev=False,
    )
    parser.add_argument("output_dir", type=Path, help="output folder of the submission")
    parser.add_argument("--run", default="", metavar="NAME", help="submission (default: the last)")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--json", action="store_true", help="everything, as JSON")
    kind.add_argument("--tsv", action="store_true", help="one row per person, as a table of text")
    parser.add_argument("-v", "--verbose", action="store_true", help="a row for everybody")
    return parser


def _levels(given: Sequence[str]) -> tuple[str, ...]:
    """Levels in the order in which they run, by their usual names."""
    for word in given:
        if word not in cli.LEVELS:
            raise StopRunError(
                exits.UNKNOWN_LEVEL,
                f"There is no analysis level {word!r}; levels are participant, group, or both.",
            )
    found = {cli.LEVELS[word] for word in given}
    return tuple(level for level in LEVELS if level in found)


def _slurm_given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Settings of the table [slurm] that the command line names."""
    names = {name: getattr(arguments, f"slurm_{name}") for name in SLURM_OPTIONS}
    names["array_cpus"] = arguments.nprocs
    names["array_mem"] = getattr(arguments, "mem", None)
    if getattr(arguments, "mem_mb", None) is not None:
        names["array_mem"] = f"{arguments.mem_mb}M"
    return {name: value for name, value in names.items() if value is not None}


def _with_slurm(settings: Settings, given: dict[str, Any], dry_run: bool = False) -> Settings:
    """Settings with those of Slurm that the command line names, checked.

    In a dry run, which may be made elsewhere, a missing image is told and no obstacle.
    """
    from alsflow.workflows.slurm.array import check_limits

    known = {entry.name: getattr(settings.slurm, entry.name) for entry in fields(SlurmSettings)}
    table = build(SlurmSettings, merge(known, given), where="slurm.")
    check_limits(table)
    image = table.container
    if image and "://" not in image and table.runtime in ("apptainer", "singularity"):
        if not Path(image).exists():
            text = f"The container {image} was not found; give the path of its image."
            if not dry_run:
                raise StopRunError(exits.USAGE, text)
            _say(text)
        table = replace(table, container=str(Path(image).resolve()))
    settings = replace(settings, slurm=table)
    check(settings)
    return settings


# ---------------------------------------------------------------------------- submission


def _submit(words: list[str]) -> int:
    from alsflow.workflows.slurm import array, record

    arguments = submit_parser().parse_args(words)
    for name in ("why", "clean_workdir"):
        if getattr(arguments, name, False):
            option = f"--{name.replace('_', '-')}"
            raise StopRunError(exits.USAGE, f"{option} is for alsflow itself, not for {PROGRAM}.")
    levels = _levels(arguments.analysis_level)
    arguments.analysis_level = levels[0]
    settings = cli.resolved(cli.make_settings(arguments))
    settings = _with_slurm(settings, _slurm_given(arguments), arguments.dry_run)
    if settings.plugin == "slurm":
        _say("plugin = slurm is for alsflow itself; every task runs on the processors of its job.")
    if not arguments.dry_run:
        _need_slurm()
        array.refuse_if_alive(settings.output_dir)
    asked = array.study(settings, levels, arguments.verbose > 0)
    _tell(asked)
    if arguments.dry_run:
        return _show(array.draft(asked, levels, record.next_folder(settings.output_dir)))
    with record.submitting(settings.output_dir):
        array.refuse_if_alive(settings.output_dir)  # others may have been as quick
        plan = array.draft(asked, levels, record.next_folder(settings.output_dir))
        return _submitted(array.submit(plan), settings.output_dir)


def _need_slurm() -> None:
    if shutil.which("sbatch") is None:
        raise StopRunError(
            exits.FAILED,
            "sbatch was not found: submit where Slurm is, on a login node of the cluster "
            "(--dry-run works anywhere).",
        )


def _tell(asked: Any) -> None:
    """Say what is to be expected, and of whom it is known that something is missing or refused."""
    from alsflow.workflows.slurm.array import beyond, expected

    for line in [*expected(asked), *beyond(asked.settings.slurm)]:
        _say(line)
    for entry in asked.entries:
        if entry.state in ("absent", "refused") and (entry.expected or entry.state == "refused"):
            _say(f"{entry.stream}: {entry.state}: {entry.reason}")


def _show(plan: Any) -> int:
    """Print everything that would be written and called."""
    for script in [*plan.arrays, *([plan.group] if plan.group else [])]:
        print(f"# ---- {plan.folder / script.name}\n{script.text}")
    print("# ---- what would be called (JOB1: the number that Slurm gives to the first array)")
    for call in plan.calls():
        print(call)
    people = plan.submission.people
    print(f"\n{_people(len(people))}{': ' + ' '.join(people) if people else ''}")
    print("Nothing was written or submitted.")
    return exits.OK


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count} people"


def _submitted(submission: Any, output_dir: Path) -> int:
    parts = [f"array {entry.job} ({_people(entry.count)})" for entry in submission.arrays]
    if submission.group:
        parts.append(f"group level {submission.group}{' after them' if parts else ''}")
    print(f"{submission.name} submitted: {', '.join(parts)}.")
    print(f"See how far it is with: {PROGRAM} status {shlex.quote(str(output_dir))}")
    return exits.OK


# ---------------------------------------------------------------------------- resume


def _resume(words: list[str]) -> int:
    from alsflow.workflows.slurm import array, record

    arguments = resume_parser().parse_args(words)
    output_dir = arguments.output_dir.resolve()
    array.look(output_dir, arguments.run)  # before a lock file is made where nothing is
    if arguments.dry_run:
        plan = _plan_again(output_dir, arguments)
        return exits.OK if plan is None else _show(plan)
    _need_slurm()
    with record.submitting(output_dir):
        plan = _plan_again(output_dir, arguments)
        return exits.OK if plan is None else _submitted(array.submit(plan), output_dir)


def _plan_again(output_dir: Path, arguments: argparse.Namespace) -> Any:
    """Draft of what is missing; None if nothing is."""
    from alsflow.workflows.slurm import array, record

    runs, view = array.look(output_dir, arguments.run)
    if view.silent:
        raise StopRunError(
            exits.TRY_AGAIN,
            "Slurm does not answer, so who is running is not known; try again later.",
        )
    lacks = array.missing(view, runs[0].levels)
    if not lacks.people and not lacks.group:
        left = sum(task.state in ("running", "pending") for task in view.tasks)
        text = f"{left} tasks are in the queue" if left else "all are done"
        _say(f"nothing is missing of {view.run}: {text}.")
        return None
    settings = build(Settings, read_toml(runs[-1].folder / record.SETTINGS))
    settings = _with_slurm(settings, _slurm_given(arguments))
    asked = array.again(settings, lacks, arguments.verbose > 0)
    _tell(asked)
    levels = [*(["participant"] if lacks.people else []), *(["group"] if lacks.group else [])]
    return array.draft(asked, levels, record.next_folder(output_dir), runs[0].name,
                       lacks.waits_for, lacks.replaces)  # fmt: skip


# ---------------------------------------------------------------------------- status


def _status(words: list[str]) -> int:
    from alsflow.workflows.slurm import array

    arguments = status_parser().parse_args(words)
    output_dir = arguments.output_dir.resolve()
    _, view = array.look(output_dir, arguments.run)
    if arguments.json:
        print(json.dumps(view.as_json(), indent=2))
    elif arguments.tsv:
        _print_tsv([asdict(task) for task in view.tasks])
    else:
        from alsflow.workflows.slurm.table import show

        show(view, output_dir, everybody=arguments.verbose)
    return view.exit_code


def _print_tsv(rows: Sequence[dict[str, Any]]) -> None:
    """One line per person; what is not known is n/a."""
    print("\t".join(rows[0]))
    for row in rows:
        cells = (" ".join(str(value).split()) for value in row.values())
        print("\t".join("n/a" if cell in ("", "None") else cell for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
