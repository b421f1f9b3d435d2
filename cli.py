"""The front door: arguments -> settings -> graph -> run -> manifest -> exit code.

Heavy libraries are imported only when they are needed, so that ``--help`` answers at once, and
after the number of threads is set, because they read it when they are imported.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, get_args

from alsflow import __version__
from alsflow.workflows import exits
from alsflow.workflows.exits import StopRunError
from alsflow.workflows.machine import available_memory_mb, available_processes, limit_threads
from alsflow.workflows.settings import (
    STREAMS,
    KeepWork,
    Plugin,
    Settings,
    SettingsError,
    build,
    check,
    megabytes,
    merge,
    nearest,
    profile_names,
    read_profile,
    read_toml,
)
from alsflow.workflows.signals import INTERRUPTED, ending_politely
from alsflow.workflows.slurm.script import check_options

LEVELS = {"participant": "participant", "subject": "participant", "group": "group",
          "dataset": "group"}  # fmt: skip
ALIASES = {
    "--subject-label": "--participant-label",
    "--session-id": "--session-label",
    "--nthreads": "--nprocs",
    "--n-cpus": "--nprocs",
    "--mem-mb": "--mem",
    "--task-label": "--task-id",
    "--skip-bids-validator": "--skip-bids-validation",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    os.environ["NO_ET"] = os.environ["NIPYPE_NO_ET"] = "1"  # no telemetry
    os.environ["MPLBACKEND"] = "Agg"  # pictures go to files
    limit_threads(1)
    try:
        arguments = parser().parse_args(canonical(sys.argv[1:] if argv is None else argv))
        with ending_politely():
            return _run(arguments)
    except StopRunError as stop:
        _complain(str(stop))
        return stop.code
    except KeyboardInterrupt:
        _complain(INTERRUPTED)
        return exits.FAILED


def _complain(text: str) -> None:
    with suppress(OSError):  # the terminal may be gone
        print(f"alsflow: {text}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------- arguments


class Parser(argparse.ArgumentParser):
    """Ends with the exit code for usage errors, which is 64 and not argparse's 2."""

    def error(self, message: str) -> NoReturn:
        """One sentence, and where to read more."""
        print(f"{self.prog}: {message}. See {self.prog} --help.", file=sys.stderr)
        raise SystemExit(exits.USAGE)


def parser(prog: str = "alsflow", levels: str | None = None) -> argparse.ArgumentParser:
    """Build the parser of the command line, or of a program that takes several levels (``+``)."""
    main_parser = Parser(
        prog=prog,
        description="From a BIDS dataset of people with ALS and controls to motor-system "
        "measures and group results.",
        epilog="Options may be spelled with - or _; --subject-label, --session-id, --nthreads, "
        "--n-cpus and --mem-mb are understood too. Exit codes: 0 success, 1 failure, "
        "16 invalid dataset, 17 unknown analysis level, "
        "18 nothing selected, 64 usage, 65 refused data, 66 missing input, 73 output cannot be "
        "written.",
        allow_abbrev=False,
    )
    add = main_parser.add_argument
    add("bids_dir", type=Path, help="root of the input dataset; it is never written to")
    add("output_dir", type=Path, help="where the derivatives go")
    add(
        "analysis_level",
        nargs=levels,
        metavar="{participant,group}",
        help="participant first, then group",
    )
    add("--version", action="version", version=f"alsflow {__version__}")
    add("-v", "--verbose", action="count", default=0, help="more messages")
    _add_selection(main_parser.add_argument_group("what to process"))
    _add_processing(main_parser.add_argument_group("how to process it"))
    _add_execution(main_parser.add_argument_group("how to run"))
    return main_parser


def _add_selection(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--participant-label",
        nargs="+",
        metavar="LABEL",
        help="people to process, with or without sub-, or a file with one label per line",
    )
    add(
        "--session-label",
        nargs="+",
        metavar="LABEL",
        help="sessions to process, with or without ses-",
    )
    add(
        "--modalities",
        nargs="+",
        metavar="NAME",
        help=f"streams: {', '.join(STREAMS)} (default: all that the dataset has images for)",
    )
    add(
        "--bids-filter-file",
        type=Path,
        metavar="JSON",
        help='choose input files, for instance {"t1w": {"run": 1}}',
    )
    add(
        "--skip-bids-validation",
        action="store_true",
        default=None,
        help="do not run the BIDS validator",
    )
    add(
        "--derivatives",
        nargs="+",
        metavar="NAME=PATH",
        help="other derivatives to read: precomputed=/data/derivatives/cat12 (tissue maps), "
        "lcmodel=/data/derivatives/lcmodel (fits of spectra)",
    )


def _add_processing(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--profile", metavar="NAME", help=f"settings of a study: {', '.join(profile_names())}")
    add(
        "--config-file",
        type=Path,
        metavar="TOML",
        help="settings; the command line overrides them",
    )
    add("--anat-engine", metavar="NAME", help="cat (default), cat12, spm12 or precomputed")
    add(
        "-t", "--task-id", nargs="+", metavar="TASK", help="functional runs to take, by their task"
    )
    add(
        "--dummy-scans",
        type=volumes,
        metavar="N",
        help="first volumes of a functional run to leave out, or auto (default 4)",
    )
    add("--denoising", metavar="NAME", help="preset of the functional stream, or a TOML file")
    add(
        "--force",
        nargs="+",
        metavar="CHECK",
        help="go on in spite of a failed check: bvecs (sign and axes of the gradient directions)",
    )
    add("--random-seed", type=int, metavar="N", help="default 0")


def _add_execution(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "-w",
        "--work-dir",
        type=Path,
        metavar="PATH",
        help="intermediate results, kept so that a second run is fast (default ./work)",
    )
    add(
        "--nprocs",
        type=int,
        metavar="N",
        help="processes at one time (default: all processors)",
    )
    add(
        "--omp-nthreads",
        type=int,
        metavar="N",
        help="threads of one process (default: processors not needed for other visits)",
    )
    add(
        "--mem",
        dest="mem_mb",
        type=memory,
        metavar="SIZE",
        help="memory, such as 16G or 16000M; a bare number is in MB (default: most of it)",
    )
    add(
        "--plugin",
        choices=get_args(Plugin),
        help="where steps are computed: in processes of this machine (workers, the default), or "
        "as jobs of a Slurm cluster (slurm; see [slurm] in the settings)",
    )
    add(
        "--dry-run",
        action="store_true",
        help="print what was found, what is missing and what would run; write nothing",
    )
    add(
        "--why",
        action="store_true",
        help="say of every step that runs why its old result could not be used; with --dry-run of "
        "every step that would",
    )
    add(
        "--keep-work",
        choices=get_args(KeepWork),
        help="large intermediate results that stay: all; those of failed visits and later ones "
        "of the others (failed, the default); none, and a changed setting makes some again",
    )
    add(
        "--clean-workdir",
        action="store_true",
        help="empty the working directory first, so that everything is computed again",
    )
    add(
        "--stop-on-first-crash",
        action="store_true",
        default=None,
        help="end the run at the first failure",
    )
    add("--notrack", action="store_true", help="accepted; this program never tracks")


def canonical(argv: Sequence[str]) -> list[str]:
    """Arguments with every spelling of an option in the one that the parser knows.

    >>> canonical(["in", "--participant_label", "sub-01", "--mem_mb=4000"])
    ['in', '--participant-label', 'sub-01', '--mem=4000']
    """
    return [_canonical_option(text) if text.startswith("--") else text for text in argv]


def _canonical_option(text: str) -> str:
    name, sign, value = text.partition("=")
    name = name.replace("_", "-")
    return ALIASES.get(name, name) + sign + value


def memory(text: str) -> int:
    """Memory in MB, as `settings.megabytes` reads it."""
    try:
        return megabytes(text)
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from None


# ---------------------------------------------------------------------------- settings


def make_settings(arguments: argparse.Namespace) -> Settings:
    """Make settings from defaults, profile, configuration file and command line, in this order."""
    level = LEVELS.get(arguments.analysis_level)
    if level is None:
        raise StopRunError(
            exits.UNKNOWN_LEVEL,
            f"There is no analysis level {arguments.analysis_level!r}"
            f"{nearest(arguments.analysis_level, list(LEVELS))}; it is participant or group.",
        )
    try:
        given = _given(arguments) | {"analysis_level": level}
        file = read_toml(arguments.config_file) if arguments.config_file else {}
        name = given.get("profile", file.get("profile", "default"))
        settings = build(Settings, merge(_machine(), read_profile(str(name)), file, given))
        settings = replace(settings, bids_filters=_filters(settings, arguments))
        check(settings)
        check_options(settings.slurm.sbatch)
    except SettingsError as error:
        raise StopRunError(exits.USAGE, str(error)) from None
    unknown = [name for name in settings.modalities if name not in STREAMS]
    if unknown:
        raise StopRunError(
            exits.USAGE,
            f"There is no stream {', '.join(map(repr, unknown))}"
            f"{nearest(unknown[0], list(STREAMS))}; streams are {', '.join(STREAMS)}.",
        )
    return settings


def _machine() -> dict[str, Any]:
    # omp_nthreads = 0: decided when the number of visits is known
    return {"nprocs": available_processes(), "mem_mb": available_memory_mb(), "omp_nthreads": 0}


def volumes(text: str) -> int | str:
    """Check a number of volumes, or ``auto``."""
    if text == "auto" or text.isdecimal():
        return text if text == "auto" else int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number of volumes nor auto")


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Collect the settings that the command line names."""
    names = ("bids_dir", "output_dir", "work_dir", "modalities", "force", "nprocs", "omp_nthreads",
             "mem_mb", "random_seed", "profile", "skip_bids_validation",
             "stop_on_first_crash", "keep_work", "plugin")  # fmt: skip
    given = {name: getattr(arguments, name) for name in names}
    given["participant_label"] = _labels(arguments.participant_label, "sub-")
    given["session_label"] = _labels(arguments.session_label, "ses-")
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.anat_engine:
        given["anat"] = {"engine": arguments.anat_engine}
    func = {
        "task": arguments.task_id and [label.removeprefix("task-") for label in arguments.task_id],
        "dummy_scans": arguments.dummy_scans,
        "denoising": arguments.denoising,
    }
    func = {name: value for name, value in func.items() if value is not None}
    if func:
        given["func"] = func
    if arguments.derivatives:
        given["derivatives"] = dict(_pair(text) for text in arguments.derivatives)
    return given


def _pair(text: str) -> tuple[str, str]:
    name, sign, path = text.partition("=")
    if not (name and sign and path):
        raise StopRunError(exits.USAGE, f"--derivatives wants NAME=PATH, not {text!r}.")
    if not Path(path).is_dir():
        raise StopRunError(exits.USAGE, f"--derivatives {name}: {path} is not a folder.")
    return name, str(Path(path).resolve())


def _labels(given: Sequence[str] | None, prefix: str) -> list[str] | None:
    """Labels without prefix, in order and once; a file stands for its lines."""
    if given is None:
        return None
    labels: list[str] = []
    for text in given:
        is_file = os.sep in text or text.endswith((".txt", ".tsv"))
        if is_file and not Path(text).is_file():
            raise StopRunError(exits.USAGE, f"The file of labels {text} was not found.")
        lines = Path(text).read_text(encoding="utf-8").splitlines() if is_file else [text]
        labels += [line.split()[0].removeprefix(prefix) for line in lines if line.strip()]
    return list(dict.fromkeys(label for label in labels if label and label != "participant_id"))


def _filters(settings: Settings, arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    from alsflow.interfaces.bids import FilterError, check_filters, read_filters

    try:
        if arguments.bids_filter_file:
            return read_filters(arguments.bids_filter_file)
        return (
            check_filters(settings.bids_filters, "bids_filters") if settings.bids_filters else {}
        )
    except FilterError as error:
        raise StopRunError(exits.USAGE, str(error)) from None


# ---------------------------------------------------------------------------- the run


def _run(arguments: argparse.Namespace) -> int:
    settings = resolved(make_settings(arguments))
    from alsflow.workflows import app

    return app.run(
        settings,
        dry_run=arguments.dry_run,
        verbose=arguments.verbose > 0,
        why=arguments.why,
        clean=arguments.clean_workdir,
    )


def resolved(settings: Settings) -> Settings:
    """Settings with whole paths; steps run in folders of their own."""
    denoising = settings.func.denoising
    return replace(
        settings,
        bids_dir=settings.bids_dir.resolve(),
        output_dir=settings.output_dir.resolve(),
        work_dir=settings.work_dir.resolve(),
        derivatives={name: path.resolve() for name, path in settings.derivatives.items()},
        mrs=replace(
            settings.mrs,
            mapping=_absolute(settings.mrs.mapping),
            basis=_absolute(settings.mrs.basis),
        ),
        func=replace(
            settings.func,
            denoising=_absolute(denoising) if denoising.endswith(".toml") else denoising,
        ),
        group=replace(settings.group, participants=_absolute(settings.group.participants)),
    )


def _absolute(path: str) -> str:
    """Whole path of a file that may not be named."""
    return str(Path(path).resolve()) if path else ""


if __name__ == "__main__":
    sys.exit(main())
