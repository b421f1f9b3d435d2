"""The pages of a run: one per visit, and an index over the cohort. Each is one file."""

from __future__ import annotations

import platform
import tomllib
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from alsflow import __version__
from alsflow.interfaces import pages as files
from alsflow.interfaces.atlas import declaration, resolve_deep_atlas, resolve_tract_atlas
from alsflow.interfaces.bids import Visit
from alsflow.interfaces.func_denoise import read_preset
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.mrs.fractions import SAMPLES
from alsflow.nodes.report import pages
from alsflow.nodes.report.pages import Known, Person, Stream
from alsflow.workflows.cache import exclusive
from alsflow.workflows.manifest import STATUS, Entry, Manifest
from alsflow.workflows.measures import catalogue
from alsflow.workflows.settings import Settings

DATA = Path(__file__).parent / "data"
INDEX = "index.html"


def write_reports(
    settings: Settings, visits: Sequence[Visit], manifest: Manifest
) -> tuple[Path, ...]:
    """Write the page of every visit and the index over all that the folder knows of.

    A page that cannot be made leaves the others alone and is an error at the end.

    Parameters
    ----------
    settings : Settings
        Settings of the run.
    visits : sequence of Visit
        Visits of the run.
    manifest : Manifest
        What came of them.
    """
    facts, fill = _facts(), _fill()
    common = {
        "facts": facts,
        "methods": pages.text_blocks(_methods(settings, manifest, fill)),
        "software": _software(facts),
    }
    written, problems = [], []
    for visit in visits:
        try:
            person = _person(settings.output_dir, visit, manifest, facts)
        except BadInputError as error:
            problems.append(f"{visit.prefix}: {error}")
            continue
        text = fill("person.html.j2", person=person, **common)
        written.append(files.write_page(settings.output_dir / f"{visit.prefix}.html", text))
    written.append(_write_index(settings.output_dir, manifest, facts, fill))
    if problems:
        raise RuntimeError("Pages could not be made. " + " ".join(problems))
    return tuple(written)


def write_index(settings: Settings, manifest: Manifest) -> Path:
    """Write the index over all visits in ``status.tsv``, those of other runs included.

    Parameters
    ----------
    settings : Settings
        Settings of the run.
    manifest : Manifest
        What came of the visits of the run, if it had any.
    """
    return _write_index(settings.output_dir, manifest, _facts(), _fill())


def _facts() -> dict[str, Any]:
    return tomllib.loads((DATA / "report.toml").read_text(encoding="utf-8"))


def _fill() -> partial[str]:
    """Fills a template, given its name and its variables."""
    templates = files.read_texts(DATA, "*.j2") | files.read_texts(DATA, "methods.md")
    return partial(pages.render, templates, version=__version__)


def _methods(settings: Settings, manifest: Manifest, fill: partial[str]) -> str:
    """Text on the methods that were used: none before a stream has come to its end."""
    streams = {entry.stream for entry in manifest.entries if entry.state in ("done", "flagged")}
    if not streams:
        return ""
    anat = settings.anat
    cortical = declaration(anat.cortical_atlas) | {"name": anat.cortical_atlas}
    deep_name = resolve_deep_atlas(anat.subcortical_atlas, anat.cortical_atlas)
    deep = declaration(deep_name) | {"name": deep_name}
    tracts_name = resolve_tract_atlas(settings.dwi.tract_atlas)
    tracts = declaration(tracts_name) | {"name": tracts_name}
    return fill(
        "methods.md",
        streams=streams,
        anat=anat,
        cortical=cortical,
        deep=deep,
        dwi=settings.dwi,
        tracts=tracts,
        func=settings.func,
        mrs=settings.mrs,
        mrs_samples=SAMPLES,
        preset={"band": None} | read_preset(settings.func.denoising),
        seeds=", ".join(str(seed["name"]) for seed in settings.func.seeds),
    )


def _software(facts: dict[str, Any]) -> list[tuple[str, str]]:
    own = [("alsflow", __version__), ("Python", platform.python_version())]
    return own + files.releases(facts["software"]["packages"])


# ---------------------------------------------------------------------------- one visit


def _person(output_dir: Path, visit: Visit, manifest: Manifest, facts: dict[str, Any]) -> Person:
    about = {stream["name"]: stream for stream in facts["stream"]}
    streams = [
        _stream(output_dir, visit, entry, manifest, facts, about.get(entry.stream, {}))
        for entry in manifest.entries
        if entry.belongs_to(visit)
    ]
    return Person(visit.prefix, streams)


def _stream(
    output_dir: Path,
    visit: Visit,
    entry: Entry,
    manifest: Manifest,
    facts: dict[str, Any],
    about: dict[str, str],
) -> Stream:
    """Collect what one stream of a visit has to show."""
    folder = output_dir / visit.folder
    find = partial(files.visit_file, folder)
    start = f"{visit.prefix}_desc-{entry.stream}"
    quality = files.read_quality(find(f"{start}_qc.json"))
    table = files.read_measures(find(f"{start}_measures.tsv"))
    rows = pages.measure_rows(table, _known())
    columns, sided = pages.sided_table(rows)
    return Stream(
        title=about.get("title", entry.stream),
        state=entry.state,
        reason=entry.reason,
        failures=_failures(output_dir, entry, manifest),
        flags=quality.get("flags", []),
        notes=quality.get("notes", []),
        summary=pages.summary_rows(rows),
        metrics=pages.metric_rows(quality, {item["name"]: item for item in facts["metric"]}),
        region_columns=tuple(pages.REGION_COLUMNS.values()),
        regions=pages.region_rows(rows, _region_labels()),
        sided_title=about.get("sided_title", ""),
        sided_of=about.get("sided_of", ""),
        sided_columns=columns,
        sided=sided,
        missing=pages.missing_rows(rows),
        pictures=_pictures(folder, visit, entry.stream, facts),
    )


def _known() -> dict[str, Known]:
    measures = catalogue().measures.values()
    return {item.name: Known(item.label, item.low, item.high) for item in measures}


def _region_labels() -> dict[str, str]:
    """Names of regions for reading, as the measures of both sides carry them."""
    labels = {}
    for name, known in _known().items():
        match = pages.REGIONAL.fullmatch(name)
        if match and match["what"] == "both":
            labels[match["region"]] = known.label
    return labels


def _failures(output_dir: Path, entry: Entry, manifest: Manifest) -> list[dict[str, str]]:
    return [
        {
            "step": failure.step,
            "cause": failure.cause,
            "details": files.last_lines(output_dir / failure.details),
        }
        for failure in manifest.failures
        if failure.key == entry.key
    ]


def _pictures(
    folder: Path, visit: Visit, stream: str, facts: dict[str, Any]
) -> list[dict[str, str]]:
    found = []
    for picture in facts["picture"]:
        if picture["stream"] != stream:
            continue
        end = f"desc-{picture['desc']}_{picture['suffix']}"
        for name, uri in files.picture_uris(folder, visit.prefix, end, picture.get("each")):
            title = picture["title"].format(each=name)
            found.append(picture | {"uri": uri, "title": title})
    return found


# ---------------------------------------------------------------------------- the index


def _write_index(
    output_dir: Path, manifest: Manifest, facts: dict[str, Any], fill: partial[str]
) -> Path:
    logs = output_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with exclusive(logs / ".lock"):  # or what is older may come last
        return files.write_page(output_dir / INDEX, _index(output_dir, manifest, facts, fill))


def _index(output_dir: Path, manifest: Manifest, facts: dict[str, Any], fill: partial[str]) -> str:
    status = _statuses(output_dir, manifest)
    streams = sorted({row["stream"] for row in status})
    titles = {stream["name"]: stream["title"] for stream in facts["stream"]}
    states = list(facts["states"])
    counts = Counter((row["stream"], row["state"]) for row in status)
    return fill(
        "index.html.j2",
        facts=facts,
        group_pages=[
            (page, title)
            for page, title in facts["group_pages"].items()
            if (output_dir / page).is_file()
        ],
        rows=_index_rows(output_dir, status, streams),
        streams=[{"title": titles.get(name, name)} for name in streams],
        states=states,
        totals=[
            (titles.get(name, name), [counts[name, state] for state in states]) for name in streams
        ],
    )


def _statuses(output_dir: Path, manifest: Manifest) -> list[dict[str, str]]:
    """Prefix, stream, state and reason of everything of a person that was ever asked for."""
    rows = {
        (_prefix(row["participant_id"], row["session_id"]), row["stream"]): (
            row["state"],
            "" if row["reason"] == pages.NOT_AVAILABLE else row["reason"],
        )
        for row in files.read_status(output_dir / STATUS)
        if row["participant_id"].startswith("sub-")
    }
    for entry in manifest.entries:
        if entry.participant:
            rows[entry.prefix, entry.stream] = (entry.state, entry.reason)
    return [
        {"prefix": prefix, "stream": stream, "state": state, "reason": reason}
        for (prefix, stream), (state, reason) in sorted(rows.items())
    ]


def _prefix(participant: str, session: str) -> str:
    return participant if session in ("", pages.NOT_AVAILABLE) else f"{participant}_{session}"


def _index_rows(
    output_dir: Path, status: Sequence[dict[str, str]], streams: Sequence[str]
) -> list[dict[str, Any]]:
    rows = []
    for prefix in dict.fromkeys(row["prefix"] for row in status):
        mine = {row["stream"]: row for row in status if row["prefix"] == prefix}
        page = f"{prefix}.html"
        rows.append(
            {
                "prefix": prefix,
                "page": page if (output_dir / page).is_file() else "",
                "states": [mine[name]["state"] if name in mine else "" for name in streams],
                "reason": " ".join(row["reason"] for row in mine.values() if row["reason"]),
            }
        )
    return rows
