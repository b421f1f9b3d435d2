"""One task of a job array per person, and a group job after them.

Everything that is submitted is first made as texts (`Draft`), which a dry run prints, and then
written to a folder of its own below the output folder; see `record`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from alsflow import __version__
from alsflow.interfaces import bids, slurm
from alsflow.interfaces.atlas import FOLDER_VARIABLE, atlas_folder
from alsflow.workflows import app, exits, expectation
from alsflow.workflows.cache import write_text
from alsflow.workflows.exits import StopRunError
from alsflow.workflows.manifest import Entry
from alsflow.workflows.settings import Settings, SettingsError, SlurmSettings, as_toml, megabytes
from alsflow.workflows.slurm import record
from alsflow.workflows.slurm.record import GROUP, Array, Submission
from alsflow.workflows.slurm.script import (
    JobNeed,
    batch_script,
    check_options,
    in_container,
    plain_path,
)
from alsflow.workflows.slurm.status import ALIVE, SETTLED, Overview, overview

SHARE = 0.9  # of the memory of a job that the program books; the rest is for the program itself
MOST_TASKS = 1000  # of an array, where Slurm does not say
INVALID = "--kill-on-invalid-dep=yes"  # or it would wait for ever for what cannot come
LABEL = re.compile(r"[A-Za-z0-9]+")
OVERRIDES = re.compile(r"-[pt]|--(partition|time)([= ]|$)")  # options that count instead of ours
CUT = re.compile(r"[:,\n]")  # what separates the parts of a bind

# A task notes when it starts and how it ends, whatever ends it but SIGKILL. It waits for the
# program in the background: a shell deals with a signal only between two commands.
TASK = """\
# {title}; written by alsflow-slurm {version}
run={run}
{person}
stopped=
mark() {{
  printf '%s\\t%s\\t%s\\t%s\\t%s\\n' "$2" "$stopped" "$job" "${{SLURMD_NODENAME:-}}" \\
    "$(date +%s)" > "$run/tasks/.$name.$1" && mv -f "$run/tasks/.$name.$1" "$run/tasks/$name.$1"
}}
exec >> "$run/logs/$name.log" 2>&1
echo "--- $name: job $job on ${{SLURMD_NODENAME:-}}, $(date '+%F %T'), start \
$((${{SLURM_RESTART_COUNT:-0}} + 1))"
rm -f "$run/tasks/$name.exit"
mark started ""
trap 'stopped=TERM' TERM
trap 'mark exit "$?"' EXIT
{setup}
{command} &
child=$!
wait "$child"
code=$?
while kill -0 "$child" 2> /dev/null; do
  wait "$child"
  code=$?
done
exit "$code"
"""
PERSON = """\
person=$(sed -n "$(({first} + SLURM_ARRAY_TASK_ID))p" "$run/people.txt")
if [ -z "$person" ]; then
  echo "alsflow: $run/people.txt has no line $(({first} + SLURM_ARRAY_TASK_ID))" >&2
  exit 66
fi
name=sub-$person
job=${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"""
ALL = """\
name=group
job=$SLURM_JOB_ID"""


@dataclass(frozen=True)
class Script:
    """One script, and the part of the people that it is for."""

    name: str  # of the file
    text: str
    job_name: str
    first: int = 0
    count: int = 0


@dataclass(frozen=True)
class Draft:
    """Everything that a submission would write and submit."""

    folder: Path
    submission: Submission
    settings: str  # TOML
    arrays: tuple[Script, ...]
    group: Script | None
    after: str  # any or ok: of what the group job waits for
    waits_for: tuple[str, ...] = ()  # tasks of earlier submissions that still run
    replaces: str = ""  # group job that is cancelled before

    def options(self, script: Script, jobs: Sequence[str]) -> list[str]:
        """Options of ``sbatch`` that are known only when it is called."""
        awaited = [*jobs, *self.waits_for]
        if script is not self.group or not awaited:
            return []
        return [f"--dependency=after{self.after}:{':'.join(awaited)}", INVALID]

    def calls(self) -> Iterator[str]:
        """What would be called, in words of the shell."""
        scripts = [*self.arrays, *([self.group] if self.group else [])]
        jobs = [f"JOB{number + 1}" for number in range(len(self.arrays))]
        for script in scripts:
            options = self.options(script, jobs)
            yield shlex.join(["sbatch", "--parsable", *options, f"--job-name={script.job_name}",
                              str(self.folder / script.name)])  # fmt: skip
        if self.replaces:
            yield shlex.join(["scancel", self.replaces])


# ---------------------------------------------------------------------------- checks


@dataclass(frozen=True)
class Missing:
    """What a submission lacks."""

    people: tuple[str, ...]
    group: bool  # whether the group level is to run (again)
    waits_for: tuple[str, ...] = ()  # tasks that still run, after which the group level comes
    replaces: str = ""  # group job that waits for people who are not all that are missing


@dataclass(frozen=True)
class Asked:
    """A study as it was checked before submission."""

    settings: Settings  # of the tasks
    people: tuple[str, ...]
    plan: app.Plan | None = None

    @property
    def entries(self) -> list[Entry]:
        """Streams of everybody, with what is missing already."""
        return self.plan.entries if self.plan else []


def study(settings: Settings, levels: Sequence[str], verbose: bool = False) -> Asked:
    """Check once what every task would check, and make the settings of the tasks.

    Parameters
    ----------
    settings : Settings
        Settings of the whole study, paths resolved.
    levels : sequence of str
        ``participant``, ``group`` or both.
    verbose : bool
        Name every file that is read.
    """
    with app.in_words(settings):
        app.check_places(settings)
        people: tuple[str, ...] = ()
        plan = None
        if "participant" in levels:
            plan = app.plan_participants(settings, verbose)
            people = tuple(dict.fromkeys(visit.participant for visit in plan.visits))
        if GROUP in levels:
            app.check_group(settings, alone="participant" not in levels)
        bids_checked = settings.checked_by
        if not settings.skip_bids_validation:
            bids_checked = bids.validator_version()
    for label in people:
        if not LABEL.fullmatch(label):
            raise StopRunError(
                exits.USAGE,
                f"sub-{label} is no BIDS label (letters and digits only); rename that person.",
            )
    settings = replace(settings, checked_by=bids_checked, skip_bids_validation=True)
    if not settings.modalities and plan is not None:
        settings = replace(settings, streams_found=plan.settings.modalities)
    return Asked(_resources(settings), people, plan)


def expected(asked: Asked) -> list[str]:
    """Say what a person is expected to take, and where a task would get less than that."""
    if asked.plan is None:
        return []
    settings, plan = asked.settings, asked.plan
    cpus, memory_gb = settings.nprocs, megabytes(settings.slurm.array_mem) / 1000
    threads = settings.omp_nthreads or cpus
    found = expectation.cohort(
        plan.visits, plan.entries, replace(plan.settings, omp_nthreads=threads)
    )
    if not found.needs:
        return []
    one, (visit, step, most_gb) = found.one(cpus), found.largest
    visits = Counter(visit.participant for visit in plan.visits)
    took = one.minutes * max(visits.values())
    lines = [
        f"a person is expected to take about {expectation.duration(took)} on {cpus} processors, "
        f"and at most {one.memory_gb:.1f} GB at one time."
    ]
    limit = settings.slurm.array_time
    if took > minutes(limit):
        lines.append(f"that is more than the {_in_words(limit)} of a task; give --time.")
    if most_gb + expectation.OWN_GB > memory_gb:
        lines.append(
            f"the step {step} of {visit} is expected to need {most_gb:.1f} GB, and the program "
            f"{expectation.OWN_GB:.1f} GB, more than the {settings.slurm.array_mem} of a task; "
            "give --mem."
        )
    return lines


def beyond(table: SlurmSettings) -> list[str]:
    """Say where a task asks for more time than its partition gives.

    Slurm takes such jobs, and lets them wait for ever; no mistake where a QOS allows more.
    """
    partition = table.partition or os.environ.get("SBATCH_PARTITION", "")
    if "," in partition or any(OVERRIDES.match(option) for option in table.sbatch):
        return []
    found = slurm.partition_minutes(partition)
    if found is None or minutes(table.array_time) <= found[1]:
        return []
    name, limit = found
    return [
        f"the partition {name} gives at most {expectation.duration(limit)} to a job, less than "
        f"the {_in_words(table.array_time)} of a task, which may wait for ever; give --time or "
        "--partition."
    ]


def _in_words(limit: str) -> str:
    """Time limit of a task; bare numbers are minutes."""
    return f"{limit} min" if limit.isdecimal() else limit


def check_limits(table: SlurmSettings) -> None:
    """Refuse values that no job can be asked for."""
    minutes(table.array_time)
    megabytes(table.array_mem)
    check_options(table.sbatch)


def again(settings: Settings, lacks: Missing, verbose: bool = False) -> Asked:
    """Check those who are missing once more: their data may have been mended since.

    Parameters
    ----------
    settings : Settings
        Settings of the tasks of the submission that is resumed.
    lacks : Missing
        As `missing` gives it.
    verbose : bool
        Name every file that is read.
    """
    checked = bool(settings.checked_by)
    asked = Asked(_resources(settings), ())
    if lacks.people:
        part = replace(settings, participant_label=lacks.people, skip_bids_validation=not checked)
        asked = study(part, ["participant"], verbose)
    # the group level keeps the people that were asked for at first
    settings = replace(asked.settings, participant_label=settings.participant_label)
    return replace(asked, settings=settings)


def _resources(settings: Settings) -> Settings:
    """Settings of a task: as many processes and as much memory as its job has."""
    array = settings.slurm
    return replace(
        settings,
        plugin="workers",
        nprocs=array.array_cpus,
        mem_mb=int(SHARE * megabytes(array.array_mem)),
    )


def program(settings: Settings) -> list[str]:
    """Start of the command of every task: this program, as the container or this Python has it."""
    return ["alsflow"] if settings.slurm.container else [sys.executable, "-P", "-m", "alsflow"]


def minutes(text: str) -> int:
    """Whole minutes of a time limit, in any of the spellings of Slurm.

    >>> minutes("90"), minutes("12:00:00"), minutes("2-0"), minutes("1-12:30"), minutes("0:30")
    (90, 720, 2880, 2190, 1)
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if match is None:
        raise SettingsError(
            f"slurm.array_time = {text!r} is no time; write 12:00:00, 2-00:00:00 or minutes."
        )
    days, *parts = (int(part) if part else 0 for part in match.groups())
    given = sum(part is not None for part in match.groups()[1:])
    if match[1] is None and given < 3:  # minutes, or minutes and seconds
        parts = [0, *parts[:2]]
    total = ((days * 24 + parts[0]) * 60 + parts[1]) * 60 + parts[2]
    if total <= 0:
        raise SettingsError(f"slurm.array_time = {text!r} is no time for a task to run.")
    return -(-total // 60)


# ---------------------------------------------------------------------------- texts


def draft(
    asked: Asked,
    levels: Sequence[str],
    folder: Path,
    resumes: str = "",
    waits_for: Sequence[str] = (),
    replaces: str = "",
) -> Draft:
    """Make the texts of a submission.

    Parameters
    ----------
    asked : Asked
        Settings of the tasks, and whom they are for.
    levels : sequence of str
        ``participant``, ``group`` or both.
    folder : Path
        Where they will lie.
    resumes : str
        Submission whose people these are.
    waits_for : sequence of str
        Tasks of earlier submissions after which the group job comes, besides those of this one.
    replaces : str
        Pending group job that this submission takes the place of.
    """
    settings = asked.settings
    parts = list(split(len(asked.people), slurm.max_array_tasks() or MOST_TASKS))
    scripts = [_array_script(settings, folder, number, part, parts)
               for number, part in enumerate(parts, 1)]  # fmt: skip
    group = _group_script(settings, folder) if GROUP in levels else None
    submission = _unsubmitted(asked, levels, folder, resumes)
    return Draft(folder, submission, as_toml(settings), tuple(scripts), group,
                 settings.slurm.group_after, tuple(waits_for), replaces)  # fmt: skip


def _unsubmitted(asked: Asked, levels: Sequence[str], folder: Path, resumes: str) -> Submission:
    """Record of a submission of which Slurm does not know yet."""
    return Submission(
        folder.name,
        tuple(levels),
        asked.people,
        resumes=resumes,
        mem=asked.settings.slurm.array_mem,
        time=asked.settings.slurm.array_time,
        submitted=datetime.now(UTC).isoformat(timespec="seconds"),
        user=os.geteuid(),
        version=__version__,
        folder=folder,
    )


def split(count: int, most: int) -> Iterator[tuple[int, int]]:
    """First and number of the people of each array.

    >>> list(split(5, 2)), list(split(0, 2))
    ([(0, 2), (2, 2), (4, 1)], [])
    """
    for first in range(0, count, most):
        yield first, min(most, count - first)


def shares(limit: int, arrays: int) -> list[int]:
    """Tasks of each array that may run at one time, so that all keep to the limit together.

    >>> shares(20, 3), shares(2, 3), shares(0, 2)
    ([7, 7, 6], [1, 1, 1], [0, 0])
    """
    if not limit:
        return [0] * arrays
    return [max(1, limit // arrays + (number < limit % arrays)) for number in range(arrays)]


def _array_script(
    settings: Settings,
    folder: Path,
    number: int,
    part: tuple[int, int],
    parts: Sequence[tuple[int, int]],
) -> Script:
    first, count = part
    share = shares(settings.slurm.array_tasks, len(parts))[number - 1]
    job_name = f"{_job_name(folder)}-people{number if len(parts) > 1 else ''}"
    need = _need(settings, job_name, folder, "slurm-%A_%a.out",
                 array=f"1-{count}" + (f"%{share}" if share else ""))  # fmt: skip
    command = [*_command(settings, "participant", folder), "--participant-label"]
    text = _script(settings, need, folder, PERSON.format(first=first),
                   f'{shlex.join(command)} "$person"',
                   "One task per person: its number is a line of people.txt")  # fmt: skip
    name = f"participant{f'-{number}' if len(parts) > 1 else ''}.sh"
    return Script(name, text, job_name, first, count)


def _group_script(settings: Settings, folder: Path) -> Script:
    job_name = f"{_job_name(folder)}-group"
    need = _need(settings, job_name, folder, "slurm-%j.out")
    text = _script(settings, need, folder, ALL, shlex.join(_command(settings, GROUP, folder)),
                   "The group level")  # fmt: skip
    return Script("group.sh", text, job_name)


def _need(settings: Settings, name: str, folder: Path, log_name: str, array: str = "") -> JobNeed:
    return JobNeed(
        name,
        f"{plain_path(folder / record.LOGS)}/{log_name}",
        cores=settings.slurm.array_cpus,
        memory_mb=megabytes(settings.slurm.array_mem),
        minutes=minutes(settings.slurm.array_time),
        array=array,
        options=("--requeue",),  # finished steps are kept, so a task may start again
        environment=_atlases(),
    )


def _script(
    settings: Settings, need: JobNeed, folder: Path, person: str, command: str, title: str
) -> str:
    """Text of a script: what Slurm reads, the notes of the task, the setup, the program."""
    lines = batch_script(["true"], settings.slurm, need).splitlines()
    count = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    body = TASK.format(
        title=title,
        version=__version__,
        run=shlex.quote(str(folder)),
        person=person,
        setup="\n".join(lines[count:-1]),
        command=command,
    )
    return "\n".join([*lines[:count], body])


def _job_name(folder: Path) -> str:
    """Name that the jobs of no other submission have, without anything from the dataset."""
    return f"alsflow-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}-{folder.name}"


def _command(settings: Settings, level: str, folder: Path) -> list[str]:
    """Command of a task, in its container if there is one."""
    command = [*program(settings), str(settings.bids_dir), str(settings.output_dir), level,
               "--config-file", str(folder / record.SETTINGS)]  # fmt: skip
    if not settings.slurm.container:
        return command
    writable = [settings.output_dir, settings.work_dir]
    readable = [*_read_only(settings), *map(Path, _atlases().values())]
    for path in (*writable, *readable):
        if CUT.search(str(path)):
            raise SettingsError(
                f"{path} cannot be seen inside a container, because its name holds ':' or ','; "
                "rename it."
            )
    environment = {"NO_ET": "1", **_atlases()}
    return in_container(command, settings.slurm, writable, readable, environment)


def _atlases() -> dict[str, str]:
    """Atlas folder, where one is named: else it is the user's, or that of the container."""
    named = os.environ.get(FOLDER_VARIABLE)
    return {FOLDER_VARIABLE: str(atlas_folder().resolve())} if named else {}


def _read_only(settings: Settings) -> Iterator[Path]:
    """Everything outside the output and the working folder that a task reads."""
    yield settings.bids_dir
    yield from settings.derivatives.values()
    files = (settings.mrs.mapping, settings.mrs.basis, settings.group.participants,
             settings.func.denoising)  # fmt: skip
    yield from (Path(file).parent for file in files if os.sep in file)


# ---------------------------------------------------------------------------- submission


def write(plan: Draft) -> None:
    """Write the scripts and what the tasks read."""
    for name in (record.LOGS, record.TASKS):
        (plan.folder / name).mkdir(parents=True)
    write_text(plan.folder / record.PEOPLE, "".join(f"{p}\n" for p in plan.submission.people))
    write_text(plan.folder / record.SETTINGS, plan.settings)
    for script in [*plan.arrays, *([plan.group] if plan.group else [])]:
        write_text(plan.folder / script.name, script.text)
    plan.submission.save()


def submit(plan: Draft) -> Submission:
    """Submit all scripts of a draft, or none.

    Raises
    ------
    StopRunError
        With the sentence of Slurm; what it had taken by then is cancelled.
    """
    submission = plan.submission
    with _whole(plan) as taken:
        write(plan)
        for script in plan.arrays:
            taken.append(slurm.submit(plan.folder / script.name, name=script.job_name))
            array = Array(taken[-1], script.first, script.count)
            submission = replace(submission, arrays=(*submission.arrays, array))
            submission.save()
        if plan.group is not None:
            options = plan.options(plan.group, taken)
            path = plan.folder / plan.group.name
            taken.append(slurm.submit(path, options, name=plan.group.job_name))
            submission = replace(submission, group=taken[-1])
            submission.save()
        if plan.replaces:
            slurm.cancel([plan.replaces])
    return submission


@contextmanager
def _whole(plan: Draft) -> Iterator[list[str]]:
    """Cancel the jobs of a submission that cannot be completed; they are put into the list."""
    taken: list[str] = []
    try:
        yield taken
    except BaseException as error:
        why = str(error) or type(error).__name__
        if not isinstance(error, slurm.RefusedError | slurm.FullError):
            taken += _unheard(plan, taken)
        left = f"; its jobs could not be cancelled: scancel {' '.join(taken)}"
        left = "" if not taken or slurm.cancel(taken) else left
        if taken:
            jobs = [Array(job, 0, 0) for job in taken]
            record.withdraw(replace(plan.submission, arrays=tuple(jobs)), why)
        else:
            shutil.rmtree(plan.folder, ignore_errors=True)
        if not isinstance(error, slurm.SlurmError):
            raise
        hint = ""
        if isinstance(error, slurm.FullError):
            hint = "; submit fewer people at a time with --participant-label"
        code = exits.TRY_AGAIN if isinstance(error, slurm.UnreachableError) else exits.FAILED
        raise StopRunError(
            code, f"Slurm does not take the jobs: {why.rstrip('.')}{hint}; nothing runs{left}."
        ) from None


def _unheard(plan: Draft, taken: Sequence[str]) -> list[str]:
    """Jobs that Slurm took without our hearing of it, say because of Ctrl-C at that moment."""
    scripts = [*plan.arrays, *([plan.group] if plan.group else [])][len(taken) :]
    found = [slurm.find(script.job_name) for script in scripts[:1]]  # it was this one's turn
    return [job for job in found if job and job not in taken]


def refuse_if_alive(output_dir: Path) -> None:
    """Stop where jobs for an output folder are in the queue, whoever submitted them."""
    runs = [run for run in record.read_submissions(output_dir) if run.jobs]
    for user in {run.user for run in runs}:
        mine = [run for run in runs if run.user == user]
        jobs = slurm.states([job for run in mine for job in run.jobs], user=user)
        if jobs is None:
            raise StopRunError(exits.TRY_AGAIN, "Slurm does not answer; try again later.")
        alive = [name for name, job in jobs.items() if job.kind == "live"]
        for run in mine:
            count = sum(name.partition("_")[0] in run.jobs for name in alive)
            if count:
                raise StopRunError(
                    exits.CANNOT_CREATE,
                    f"{run.name} for {output_dir} still has {count} tasks in the queue; wait for "
                    f"it (alsflow-slurm status {shlex.quote(str(output_dir))}), or end it with "
                    f"scancel {' '.join(run.jobs)}.",
                )


# ---------------------------------------------------------------------------- resuming


def missing(view: Overview, levels: Sequence[str]) -> Missing:
    """Who has neither a result nor a task in the queue."""
    people = tuple(task.label for task in view.people if task.state not in (*SETTLED, *ALIVE))
    group = view.group
    again = GROUP in levels and (
        bool(people) or group is None or group.state not in (*SETTLED, *ALIVE)
    )
    running = [task.job for task in view.people if task.state in ALIVE]
    replaces = ""
    if again and group is not None and group.state == "pending":
        replaces = group.job
    elif again and group is not None and group.state == "running":
        running.append(group.job)
    return Missing(people, again, tuple(running), replaces)


def look(output_dir: Path, name: str = "") -> tuple[list[Submission], Overview]:
    """Last submission for an output folder, or the one of a name, and its state."""
    submissions = record.read_submissions(output_dir)
    runs = record.chain(submissions, name)
    if not runs:
        known = ", ".join(run.name for run in submissions if not run.withdrawn)
        text = f"there is no {name} for {output_dir} (there are: {known})" if known and name else (
            f"nothing was submitted for {output_dir}: it has no {record.RUNS}"
        )  # fmt: skip
        raise StopRunError(exits.INPUT_MISSING, text[0].upper() + text[1:] + ".")
    view = overview(output_dir, runs)
    inside = {task.label for task in view.people}
    others = {label for run in submissions if not run.withdrawn for label in run.people} - inside
    return runs, replace(view, others=len(others))
