"""How much space a run will take, from the headers of its images and what was measured."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib

from alsflow.interfaces.bids import Visit
from alsflow.workflows.keep import table
from alsflow.workflows.machine import existing, free_mb
from alsflow.workflows.manifest import Entry
from alsflow.workflows.settings import KeepWork, Settings

MB = 1e6
USUAL_DUMMY_SCANS = 4  # left out where the signal decides


@dataclass(frozen=True)
class Sizes:
    """Space that one visit or a whole run takes, MB."""

    derivatives: float = 0.0
    work: float = 0.0  # at the end
    peak: float = 0.0  # of the working directory, while it is computed

    def __add__(self, other: Sizes) -> Sizes:
        return Sizes(
            self.derivatives + other.derivatives, self.work + other.work, self.peak + other.peak
        )


def samples(paths: Iterable[Path], left_out: int = 0) -> int:
    """Voxels of all volumes of some images but the first `left_out`, from their headers."""
    total = 0
    for path in paths:
        *grid, volumes = (*nib.load(path).shape, 1)[:4]  # type: ignore[attr-defined]
        total += prod(grid) * max(0, volumes - left_out)
    return total


def series_samples(visit: Visit, stream: str, settings: Settings) -> int:
    """Voxels of all volumes that a stream takes; what is asked of its plan, where there is one."""
    plans = import_module("alsflow.workflows.outputs").PLANS
    if stream not in plans:
        return 0
    paths = [run.path for run in plans[stream](visit, settings).runs]
    dummies = settings.func.dummy_scans if stream == "func" else 0
    return samples(paths, USUAL_DUMMY_SCANS if dummies == "auto" else int(dummies))


def stream_sizes(known: dict[str, Any], counts: dict[str, int], keep: KeepWork) -> Sizes:
    """Space that a stream takes, from the table of its sizes and the samples of its images.

    Parameters
    ----------
    known : dict
        ``derivatives``, and ``work`` and ``peak`` by what is kept: for each, bytes per sample of
        ``t1w`` and of the ``series``, and ``fixed`` MB.
    counts : dict
        Samples of the ``t1w`` image and of the ``series``.
    keep : {"all", "failed", "none"}
        What the working directory keeps.
    """

    def size(factors: dict[str, float]) -> float:
        per_sample = (factors.get(name, 0.0) * number for name, number in counts.items())
        return factors.get("fixed", 0.0) + sum(per_sample) / MB

    return Sizes(size(known["derivatives"]), size(known["work"][keep]), size(known["peak"][keep]))


def visit_sizes(visit: Visit, streams: Iterable[str], settings: Settings) -> Sizes:
    """Space that some streams of one visit take."""
    heads = {"t1w": samples(visit.files.get("t1w", ())[:1])}
    total = Sizes()
    for stream in streams:
        counts = heads | {"series": series_samples(visit, stream, settings)}
        total += stream_sizes(table()[stream], counts, settings.keep_work)
    return total


def forecast(
    visits: Sequence[Visit], entries: Sequence[Entry], settings: Settings
) -> dict[str, Sizes]:
    """Space by visit that its streams take that are to run; what cannot be read counts nothing."""
    found = {}
    for visit in visits:
        streams = [e.stream for e in entries if e.belongs_to(visit) and e.state == "not-run"]
        try:
            found[visit.name] = visit_sizes(visit, streams, settings)
        except Exception:  # noqa: BLE001 - its stream says what is wrong, when it is built
            found[visit.name] = Sizes()
    return found


def of_run(sizes: Iterable[Sizes], at_once: int) -> Sizes:
    """Space of a run that has `at_once` visits in progress at one time, at most."""
    sizes = list(sizes)
    total = sum(sizes, Sizes())
    above = sorted((one.peak - one.work for one in sizes), reverse=True)
    return Sizes(total.derivatives, total.work, total.work + sum(above[: max(1, at_once)]))


def sentence(total: Sizes, settings: Settings) -> str:
    """Forecast of a run for people."""
    return (
        f"About {size_text(total.derivatives)} of derivatives in {settings.output_dir}; in the "
        f"working directory {settings.work_dir} {size_text(total.work)} at the end and up to "
        f"{size_text(total.peak)} on the way (--keep-work {settings.keep_work})."
    )


def shortage(sizes: dict[str, Sizes], settings: Settings) -> str:
    """Sentence for disks that have less room than a run still needs; empty if all is well."""
    total = of_run(sizes.values(), settings.nprocs)
    out, work = settings.output_dir, settings.work_dir
    shared = _disk(out) == _disk(work)
    needs = {out: total.derivatives, work: total.peak}
    if _fits(needs, shared):  # without a look at what is there, which takes its time
        return ""
    there = {
        out: sum(_size_mb(folder) for folder in _own_folders(out, sizes, "")),
        work: sum(_size_mb(folder) for folder in _own_folders(work / "alsflow_wf", sizes, "_wf")),
    }
    needs = {folder: max(0.0, need - there[folder]) for folder, need in needs.items()}
    if _fits(needs, shared):
        return ""
    disk = f"{size_text(free_mb(work))} are free on the disk of both" if shared else (
        f"{size_text(free_mb(out))} and {size_text(free_mb(work))} are free"
    )  # fmt: skip
    return (
        f"the disk may become full: {out} will need about {size_text(needs[out])} more and {work} "
        f"{size_text(needs[work])}, but {disk}; make room, or give --keep-work none, fewer "
        "people or another --work-dir."
    )


def _fits(needs: dict[Path, float], shared: bool) -> bool:
    if shared:
        return sum(needs.values()) <= min(free_mb(folder) for folder in needs)
    return all(need <= free_mb(folder) for folder, need in needs.items())


def _disk(folder: Path) -> int:
    return os.stat(existing(folder)).st_dev


def _own_folders(root: Path, sizes: dict[str, Sizes], end: str) -> list[Path]:
    """Folders of the visits of a run; those of the derivatives have hyphens and levels."""
    if end:
        return [root / f"{name}{end}" for name in sizes]
    people = {name.partition("_ses_")[0].replace("sub_", "sub-", 1) for name in sizes}
    return [root / person for person in sorted(people)]


def _size_mb(folder: Path) -> float:
    """Space that the files below a folder take, MB."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except OSError:  # it has just gone
                continue
    return total / MB


def size_text(megabytes: float) -> str:
    """Size for people.

    >>> size_text(0.4), size_text(730), size_text(12_345)
    ('1 MB', '730 MB', '12 GB')
    """
    if megabytes < 9_950:
        return f"{max(1, round(megabytes))} MB"
    return f"{megabytes / 1000:.0f} GB"
