"""The input dataset: which people and visits it holds, which files a run may read, is it valid.

Indexing is pybids', restricted to the people and folders that are asked for and without
metadata, so that a large dataset costs no more than the part of it that is used.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import subprocess
import sysconfig
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from alsflow.nodes.errors import MissingProgramError

# What each query selects unless a filter file says otherwise, as pybids entities.
QUERIES: dict[str, dict[str, Any]] = {
    "t1w": {"datatype": "anat", "suffix": "T1w"},
    "dwi": {"datatype": "dwi", "suffix": "dwi"},
    "bold": {"datatype": "func", "suffix": "bold"},
    "fmap": {
        "datatype": "fmap",
        "suffix": [
            "epi", "phasediff", "phase1", "phase2", "magnitude", "magnitude1", "magnitude2",
            "fieldmap",
        ],
    },
    "mrs": {"datatype": "mrs", "suffix": "svs"},
    "mrsref": {"datatype": "mrs", "suffix": "mrsref"},
}  # fmt: skip
TITLES = {
    "t1w": "T1w image",
    "dwi": "diffusion series (dwi)",
    "bold": "functional series (bold)",
    "fmap": "field map",
    "mrs": "spectrum (svs) and no result of LCModel",
    "mrsref": "spectrum of water (mrsref)",
}
# Queries that filter files of other BIDS-Apps may hold; none of the streams here reads them.
OTHER_QUERIES = ("fieldmap", "flair", "megre", "mts", "roi", "sbref", "t2w")
ANY, NONE = "Query.ANY", "Query.NONE"  # how a filter says "must be there" and "must be absent"
SHORT_NAMES = {"sub": "subject", "ses": "session", "acq": "acquisition", "ce": "ceagent",
               "rec": "reconstruction", "dir": "direction", "mod": "modality",
               "desc": "description", "voi": "volume", "nuc": "nucleus"}  # fmt: skip
# Errors of the validator that are no obstacle: `participants_listed` serves to say them better.
# The others concern the content of one image: its stream refuses that person and no other.
SAID_OTHERWISE = {
    "PARTICIPANT_ID_MISMATCH",
    "NIFTI_HEADER_UNREADABLE",
    "EMPTY_FILE",
    "T1W_FILE_WITH_TOO_MANY_DIMENSIONS",
    "BVAL_MULTIPLE_ROWS",
    "BVEC_NUMBER_ROWS",
    "BVEC_ROW_LENGTH",
    "DWI_MISSING_BVAL",
    "DWI_MISSING_BVEC",
    "VOLUME_COUNT_MISMATCH",
    "ECHOTIME1_2_DIFFERENCE_UNREASONABLE",
    "FIELDMAP_WITHOUT_MAGNITUDE_FILE",
    "MAGNITUDE_FILE_WITH_TOO_MANY_DIMENSIONS",
    "PHASE_ENCODING_DIRECTION_MUST_DEFINE",
    "BOLD_NOT_4D",
    "REPETITION_TIME_MISMATCH",
    "SLICETIMING_VALUES_GREATER_THAN_REPETITION_TIME",
    "VOLUME_TIMING_MISSING_ACQUISITION_DURATION",
    "VOLUME_TIMING_NOT_MONOTONICALLY_INCREASING",
    "VOLUME_TIMING_AND_DELAY_TIME_MUTUALLY_EXCLUSIVE",
    "VOLUME_TIMING_AND_REPETITION_TIME_MUTUALLY_EXCLUSIVE",
    "REPETITION_TIME_AND_ACQUISITION_DURATION_MUTUALLY_EXCLUSIVE",
}
# Errors of images and sidecars that the stream judges where it reads them: in these folders.
SIDECAR_ERRORS = {
    "SIDECAR_KEY_REQUIRED",
    "JSON_SCHEMA_VALIDATION_ERROR",
    "JSON_INVALID",
    "JSON_NOT_AN_OBJECT",
    "INVALID_JSON_ENCODING",
    "EFFECTIVEECHOSPACING_TOO_LARGE",
    "EFFECTIVEECHOSPACING_LARGER_THAN_TOTALREADOUTTIME",
    "TOTAL_READOUT_TIME_MUST_DEFINE",
    "EPI_WITH_BVALS_NEEDS_SMALL_BVALS",
    "INTENDED_FOR",
    "PHASE_UNITS",
    "NIFTI_TOO_SMALL",
    "GZ_NOT_GZIPPED",
    "MISSING_REQUIRED_ENTITY",
}
SIDECAR_FOLDERS = {"dwi", "fmap", "func", "mrs"}
# Files beside a functional series that no stream reads: tables of a task, of heart and breath.
UNREAD = ("_events", "_physio", "_stim", "_sbref")
IMAGE_EXTENSIONS = (".nii.gz", ".nii")


class InvalidDatasetError(ValueError):
    """The folder is not a dataset that a run can start from."""


class NothingSelectedError(ValueError):
    """Labels or filters that fit nothing in the dataset."""


class FilterError(ValueError):
    """A filter file that cannot be understood."""


@dataclass(frozen=True)
class Visit:
    """One person at one time, with the files that the streams may read."""

    participant: str
    session: str | None = None
    files: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)  # what other derivatives hold of it

    @property
    def prefix(self) -> str:
        """Start of every file name, such as ``sub-01_ses-a``."""
        return f"sub-{self.participant}" + (f"_ses-{self.session}" if self.session else "")

    @property
    def folder(self) -> str:
        """Folder relative to the dataset, such as ``sub-01/ses-a``."""
        return self.prefix.replace("_ses-", "/ses-")

    @property
    def name(self) -> str:
        """Name that Nipype accepts, such as ``sub_01_ses_a``."""
        return re.sub(r"\W", "_", self.prefix)


@dataclass(frozen=True)
class Rejected:
    """A file that a query did not take, and the rule that said so."""

    path: Path
    rule: str


@dataclass(frozen=True)
class Selection:
    """The visits of a run, and what the filters left out."""

    visits: tuple[Visit, ...]
    rejected: tuple[Rejected, ...] = ()
    without: tuple[str, ...] = ()  # selected people who have none of the sessions asked for


def bare(label: str, entity: str) -> str:
    """Label without its ``sub-`` or ``ses-``.

    >>> bare("sub-01", "sub"), bare("01", "sub")
    ('01', '01')
    """
    return label.removeprefix(f"{entity}-")


def check_folder(bids_dir: Path, lenient: bool = False) -> list[str]:
    """Refuse a folder that is no BIDS dataset; returns warnings.

    With `lenient` a missing or broken ``dataset_description.json`` is a warning.
    """
    if not bids_dir.is_dir():
        raise InvalidDatasetError(f"The dataset {bids_dir} is not a folder; check the path.")
    description = bids_dir / "dataset_description.json"
    problem = ""
    if not description.is_file():
        problem = f"{bids_dir} holds no dataset_description.json, so it is no BIDS dataset"
    else:
        try:
            content = json.loads(description.read_text(encoding="utf-8-sig"))
            if not isinstance(content, dict) or "BIDSVersion" not in content:
                problem = f"{description} names no BIDSVersion"
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            problem = f"{description} is not valid JSON ({error})"
    if not problem:
        return []
    if lenient:
        return [f"{problem}; going on because validation is skipped."]
    mend = 'add one with at least "Name" and "BIDSVersion", or give --skip-bids-validation'
    raise InvalidDatasetError(f"{problem}; {mend}.")


# ---------------------------------------------------------------------------- filters


def read_filters(path: Path) -> dict[str, dict[str, Any]]:
    """Read the queries of a filter file (JSON); ``null`` and ``"*"`` become `NONE` and `ANY`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FilterError(f"The filter file {path} cannot be read: {error.strerror}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FilterError(f"The filter file {path} is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise FilterError(f"The filter file {path} must hold one object of queries.")
    return check_filters(content, f"the filter file {path}")


def check_filters(content: Mapping[str, Any], origin: str) -> dict[str, dict[str, Any]]:
    """Refuse unknown queries and entities with a `FilterError` that names the nearest."""
    known_queries = [*QUERIES, *OTHER_QUERIES]
    checked: dict[str, dict[str, Any]] = {}
    for query, entities in content.items():
        if query not in known_queries:
            raise FilterError(_unknown("query", query, known_queries, origin))
        if not isinstance(entities, Mapping):
            raise FilterError(f"The query {query!r} in {origin} must be an object of entities.")
        checked[query] = {}
        for entity, value in entities.items():
            name = SHORT_NAMES.get(entity, entity)
            if name not in _entity_names():
                known = [*_entity_names(), *SHORT_NAMES]
                raise FilterError(_unknown(f"entity of {query!r}", entity, known, origin))
            checked[query][name] = (
                {None: NONE, "*": ANY}.get(value, value) if not isinstance(value, list) else value
            )
    return checked


def _unknown(kind: str, word: str, known: Sequence[str], origin: str) -> str:
    match = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f" (did you mean {match[0]!r}?)" if match else ""
    return f"Unknown {kind} {word!r} in {origin}{hint}; known are {', '.join(known)}."


@cache
def _entity_names() -> list[str]:
    """Names of the entities that pybids reads from file names."""
    layout = _pybids()
    return sorted(layout.models.Config.load("bids").entities)


def _pybids():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import bids.layout
    return bids.layout


# ---------------------------------------------------------------------------- visits


def select_visits(
    bids_dir: Path,
    participants: Collection[str] = (),
    sessions: Collection[str] = (),
    queries: Collection[str] = ("t1w",),
    filters: Mapping[str, Mapping[str, Any]] | None = None,
) -> Selection:
    """Visits that labels ask for, each with the files of every query.

    Parameters
    ----------
    bids_dir : path
        Root of the dataset.
    participants, sessions : collections of str
        Labels with or without ``sub-`` and ``ses-``; empty means all.
    queries : collection of str
        Keys of `QUERIES`.
    filters : mapping, optional
        Entities per query as `read_filters` gives them; they override those of `QUERIES`.
    """
    people = _people(bids_dir, [bare(label, "sub") for label in participants])
    found = _visits(bids_dir, people, [bare(label, "ses") for label in sessions])
    layout = _index(bids_dir, people, {_datatype(query, filters) for query in queries})
    files: dict[tuple[str, str | None], dict[str, list[Path]]] = {
        (visit.participant, visit.session): {query: [] for query in queries} for visit in found
    }
    rejected: list[Rejected] = []
    for query in queries:
        rules = (filters or {}).get(query, {})
        for path, entities in _candidates(layout, query, rules):
            key = (entities.get("subject", ""), entities.get("session"))
            rule = _broken_rule(entities, rules)
            if key not in files:
                rule = "it belongs to no selected visit"
            if rule:
                rejected.append(Rejected(path, f"{query}: {rule}"))
            else:
                files[key][query].append(path)
    visits = tuple(
        Visit(*key, {query: tuple(sorted(paths)) for query, paths in taken.items()})
        for key, taken in files.items()
    )
    _refuse_empty(bids_dir, visits, rejected)
    without = sorted(set(people) - {visit.participant for visit in visits})
    return Selection(visits, tuple(rejected), tuple(without))


def _refuse_empty(bids_dir: Path, visits: Iterable[Visit], rejected: Iterable[Rejected]) -> None:
    """Stop at filters that leave nothing at all: whoever wrote them erred."""
    by_filter = [entry for entry in rejected if "filter" in entry.rule]
    if by_filter and not any(paths for visit in visits for paths in visit.files.values()):
        raise NothingSelectedError(
            f"The filters leave no file of {bids_dir}: {by_filter[0].path.name} was rejected "
            f"because {by_filter[0].rule.partition(': ')[2]}; mend the filter file."
        )


def _people(bids_dir: Path, wanted: Sequence[str]) -> list[str]:
    """Participants to look at, in order; unknown labels are refused."""
    present = _labels(bids_dir, "sub")
    if not present:
        raise NothingSelectedError(f"{bids_dir} holds no sub-* folder.")
    unknown = [label for label in wanted if label not in present]
    if unknown:
        names = ", ".join(f"sub-{label}" for label in unknown)
        match = difflib.get_close_matches(unknown[0], present, n=1, cutoff=0.5)
        hint = f" (did you mean sub-{match[0]}?)" if match else ""
        raise NothingSelectedError(f"{bids_dir} has no {names}{hint}; check --participant-label.")
    return [label for label in present if not wanted or label in wanted]


def _visits(bids_dir: Path, people: Iterable[str], wanted: Sequence[str]) -> list[Visit]:
    """Every session of every person, or the person alone where there is no ``ses-`` folder."""
    visits: list[Visit] = []
    seen: set[str] = set()
    for person in people:
        folder = bids_dir / f"sub-{person}"
        sessions = _labels(folder, "ses")
        seen.update(sessions)
        if not sessions:
            visits += [] if wanted else [Visit(person)]
        visits += [Visit(person, label) for label in sessions if not wanted or label in wanted]
    unknown = [label for label in wanted if label not in seen]
    if unknown:
        names = ", ".join(f"ses-{label}" for label in unknown)
        there = ", ".join(f"ses-{label}" for label in sorted(seen)) or "none"
        raise NothingSelectedError(
            f"No selected person has {names}; sessions found: {there}. Check --session-label."
        )
    return visits


def _labels(folder: Path, entity: str) -> list[str]:
    return sorted(
        entry.name.removeprefix(f"{entity}-")
        for entry in os.scandir(folder)
        if entry.is_dir() and entry.name.startswith(f"{entity}-")
    )


def _datatype(query: str, filters: Mapping[str, Mapping[str, Any]] | None) -> str:
    return str((filters or {}).get(query, {}).get("datatype", QUERIES[query]["datatype"]))


def _index(bids_dir: Path, people: Sequence[str], datatypes: Collection[str]):
    """Layout of the wanted folders of the wanted people, names only."""
    layout = _pybids()
    folders = "|".join(map(re.escape, sorted(datatypes)))
    persons = "|".join(map(re.escape, people))
    # Whatever is neither a wanted folder, nor above one, nor below one, is not even listed.
    wanted = rf"/sub-(?:{persons})(?:/ses-[^/]+)?(?:/(?:{folders})(?:/.*)?)?"
    ignore = re.compile(rf"^(?!(?:/|/dataset_description\.json|{wanted})$)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        indexer = layout.BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=[ignore])
        return layout.BIDSLayout(str(bids_dir), validate=False, indexer=indexer)


def _candidates(layout, query: str, rules: Mapping[str, Any]) -> list[tuple[Path, dict[str, Any]]]:
    """Images of the datatype and suffix of a query, which a filter may replace."""
    kind = {name: rules.get(name, value) for name, value in QUERIES[query].items()}
    found = layout.get(**kind, extension=list(IMAGE_EXTENSIONS))
    return [(Path(str(file.path)), file.get_entities()) for file in found]


def _broken_rule(entities: Mapping[str, Any], rules: Mapping[str, Any]) -> str:
    """Why a file does not pass the filter; empty if it does."""
    for name, wanted in rules.items():
        value = entities.get(name)
        allowed = wanted if isinstance(wanted, list) else [wanted]
        if wanted == ANY and value is None:
            return f"the filter wants some {name}, the file has none"
        if wanted == NONE and value is not None:
            return f"the filter wants no {name}, the file has {value}"
        if wanted not in (ANY, NONE) and not any(_same(value, entry) for entry in allowed):
            return f"the filter wants {name} = {wanted}, the file has {value or 'none'}"
    return ""


def _same(value: Any, wanted: Any) -> bool:
    """Labels as text; indices as numbers, so that ``run-01`` is run 1."""
    if wanted is None:
        return value is None
    if value is None:
        return False
    left, right = str(value), str(wanted)
    return left == right or (left.isdigit() and right.isdigit() and int(left) == int(right))


# ---------------------------------------------------------------------------- requirements


def problem_of(paths: Sequence[Path], query: str = "t1w") -> str:
    """Say what keeps the images of a query from being read at all; empty if nothing seems to."""
    if query == "t1w" and len(paths) > 1:
        names = " and ".join(path.name for path in paths)
        return (
            f"{names} were found where one T1-weighted image is expected; choose one with "
            'a filter file: --bids-filter-file with {"t1w": {"run": 1}} or another entity in '
            "which they differ."
        )
    for path in paths:
        if path.is_symlink() and not path.exists():
            return (
                f"{path} is a link to data that are not here; fetch them (for instance datalad "
                "get)."
            )
        if path.stat().st_size == 0:
            return f"{path} is an empty file; copy it again."
    return ""


def participants_present(bids_dir: Path) -> set[str]:
    """Labels of the people who have a folder."""
    return set(_labels(bids_dir, "sub"))


def participants_listed(bids_dir: Path) -> set[str] | None:
    """Labels in participants.tsv; None where the dataset has no such file."""
    table = bids_dir / "participants.tsv"
    if not table.is_file():
        return None
    # labels are ASCII whatever the encoding of the other columns
    lines = table.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    header = lines[0].split("\t") if lines else []
    if "participant_id" not in header:
        return set()
    column = header.index("participant_id")
    rows = [line.split("\t") for line in lines[1:] if line.strip()]
    return {bare(row[column].strip(), "sub") for row in rows if len(row) > column}


# ---------------------------------------------------------------------------- validator


@dataclass(frozen=True)
class Validation:
    """What the BIDS validator said that concerns a run."""

    version: str
    errors: tuple[str, ...]
    elsewhere: int  # errors in people or folders that the run does not read


def validate(
    bids_dir: Path, participants: Collection[str], datatypes: Collection[str]
) -> Validation:
    """Run the official BIDS validator; errors in what the run does not read are only counted.

    The validator carries its own schema and needs no network.
    """
    program = _validator()
    environment = {**os.environ, "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}
    command = [program, "--format", "json", "--ignoreWarnings", str(bids_dir)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise InvalidDatasetError(
            f"The BIDS validator could not read {bids_dir}: {last}; mend the dataset or give "
            "--skip-bids-validation."
        ) from None
    errors = [
        entry
        for entry in report["issues"]["issues"]
        if entry["severity"] == "error" and not _said_otherwise(entry)
    ]
    ours = [entry for entry in errors if _concerns(entry, participants, datatypes)]
    version = str(report["summary"].get("schemaVersion", "n/a"))
    return Validation(
        version=f"{validator_version()} (schema {version})",
        errors=tuple(dict.fromkeys(_issue_text(entry) for entry in ours)),
        elsewhere=len(errors) - len(ours),
    )


def validator_version() -> str:
    """Version of the installed BIDS validator."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"bids-validator-deno {version('bids-validator-deno')}"
    except PackageNotFoundError:
        return "bids-validator-deno n/a"


def _validator() -> str:
    """Path of the validator: the one beside this Python first."""
    beside = Path(sysconfig.get_path("scripts")) / "bids-validator-deno"
    program = str(beside) if beside.is_file() else shutil.which("bids-validator-deno")
    if program is None:
        raise MissingProgramError(
            "The program bids-validator-deno was not found: pip install bids-validator-deno, or "
            "give --skip-bids-validation."
        )
    return program


def _said_otherwise(issue: Mapping) -> bool:
    """Whether the stream that reads the file refuses it in words, person by person."""
    if issue["code"] in SAID_OTHERWISE:
        return True
    folder = Path(issue.get("location", "/")).parent.name
    return issue["code"] in SIDECAR_ERRORS and folder in SIDECAR_FOLDERS


def _concerns(issue: Mapping, participants: Collection[str], datatypes: Collection[str]) -> bool:
    parts = Path(issue.get("location", "/")).parts[1:]
    if parts and parts[-1].partition(".")[0].endswith(UNREAD):
        return False
    if not parts or not parts[0].startswith("sub-"):
        return True
    if parts[0].removeprefix("sub-") not in participants:
        return False
    folders = [part for part in parts[1:-1] if not part.startswith("ses-")]
    return not folders or folders[0] in datatypes


def _issue_text(issue: Mapping) -> str:
    text = f"{issue.get('location', '/').lstrip('/') or 'the dataset'}: {issue['code']}"
    if issue.get("subCode"):
        text += f" ({issue['subCode']})"
    message = " ".join(str(issue.get("issueMessage", "")).split())
    return f"{text} {message[:160]}".rstrip()
