"""Simulated people on disk: a BIDS dataset with its truth beside it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from glob import escape
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from alsflow import __version__
from alsflow.interfaces.atlas import find_atlas
from alsflow.interfaces.images import load
from alsflow.interfaces.simulate_diffusion import write_atlas, write_diffusion
from alsflow.interfaces.simulate_files import (
    scanner_words,
    write_image,
    write_json,
    write_table,
    write_text,
)
from alsflow.interfaces.simulate_functional import write_functional
from alsflow.interfaces.simulate_mrs import describe_lcmodel, write_mrs
from alsflow.interfaces.template import SPACE, template_file
from alsflow.nodes.atlas import fill_gaps
from alsflow.nodes.simulate import phenotype
from alsflow.nodes.simulate.anatomy import Blueprint, Source, prepare_blueprint
from alsflow.nodes.simulate.cohort import (
    PATIENT,
    Design,
    Person,
    Regions,
    draw_people,
    draw_site,
    effect_table,
    head_measures,
    is_difference,
    person_scores,
    scan_person,
    scan_person_diffusion,
    scan_person_functional,
    scan_person_mrs,
)
from alsflow.nodes.simulate.connectivity import MOTOR, Cortex
from alsflow.nodes.simulate.head import Head
from alsflow.nodes.simulate.labels import TISSUES
from alsflow.nodes.simulate.networks import network_labels
from alsflow.nodes.simulate.tracts import Bundles, lay_bundles

ATLAS = "neuromorphometrics"
LOCK = ".lock"  # in a folder that is being filled
BIDS_VERSION = "1.10.0"
LICENCE = "CC-BY-NC-4.0"  # that of the labels which shaped the deep grey matter
STEP = 0.5  # of the noise; a finer stored scale makes files larger and images no better
# Names of the atlas, without side, that make up each structure of a source.
STRUCTURE_NAMES = {
    "striatum": ("Caudate", "Putamen", "Accumbens_Area"),
    "thalamus": ("Thalamus_Proper",),
    "pallidum": ("Pallidum",),
    "brainstem": ("Brain_Stem", "Ventral_DC"),
    "ventricles": ("Lateral_Ventricle", "Inf_Lat_Vent", "3rd_Ventricle", "4th_Ventricle"),
}
PARTICIPANT_COLUMNS = {
    "participant_id": {"Description": "Participant"},
    "site": {"Description": "Scanning site"},
    "age": {"Description": "Age at the scan", "Units": "year"},
    "sex": {"Description": "Sex", "Levels": {"M": "male", "F": "female"}},
    "group": {
        "Description": "Diagnosis",
        "Levels": {"ALS": "amyotrophic lateral sclerosis", "control": "healthy control"},
    },
    "age_at_onset": {"Description": "Age at the first symptom", "Units": "year"},
    "disease_duration": {
        "Description": "Time from the first symptom to the scan",
        "Units": "month",
    },
    "onset": {
        "Description": "Where the first symptom was",
        "Levels": {"limb": "in a limb", "bulbar": "in the bulbar muscles"},
    },
}


def template_source() -> Source:
    """Tissue maps of the template and the atlas of the cohort, as simulation wants them."""
    gm, image = load(template_file("gm"))
    wm, _ = load(template_file("wm"))
    head, _ = load(template_file("t1"))
    gm, wm = gm / 255, wm / 255
    csf = np.where(head > 0, np.clip(1 - gm - wm, 0, 1), 0).astype(np.float32)
    atlas = find_atlas(ATLAS)
    labels, labels_image = load(atlas.image, np.int32)
    plain = {label.index: _plain(label.name) for label in atlas.labels}
    regions = fill_gaps(labels, labels_image.affine)  # as the anatomical stream uses them
    structures = {
        structure: tuple(index for index, name in plain.items() if name in names)
        for structure, names in STRUCTURE_NAMES.items()
    }
    return Source(gm, wm, csf, image.affine, regions, labels_image.affine, structures)


def atlas_regions() -> Regions:
    """Atlas labels of each region and side, as the measures define them."""
    return find_atlas(ATLAS).regions


def atlas_cortex() -> Cortex:
    """Networks and measured regions, by the labels of the cohort's atlas."""
    atlas = find_atlas(ATLAS)
    names = ((label.index, _plain(label.name), label.side) for label in atlas.labels)
    return Cortex(network_labels(names), atlas.regions)


def _plain(name: str) -> str:
    """Name of a label without its side."""
    return name.removeprefix("Left_").removeprefix("Right_")


# ---------------------------------------------------------------------------- files


def _t1w_sidecar(design: Design, site: int) -> dict[str, Any]:
    scanner = draw_site(design, site)
    return {
        **scanner_words(site, "3D", "GR"),
        "RepetitionTime": 2.3,
        "EchoTime": 0.0029,
        "InversionTime": 0.9,
        "FlipAngle": 9,
        "SimulatedGain": scanner.gain,
        "SimulatedNoise": round(scanner.noise, 6),
        "SimulatedNonUniformity": round(scanner.non_uniformity, 6),
        "SimulatedContrast": round(scanner.grey, 6),
    }


def _write_person(folder: Path, design: Design, person: Person, head: Head, maps: bool) -> None:
    stem = f"sub-{person.label}"
    name = folder / stem / "anat" / f"{stem}_T1w"
    scanner = draw_site(design, person.site)
    step = STEP * scanner.noise * scanner.gain
    voxels = np.rint(np.clip(head.scan.image / step, 0, 32767))
    voxels = voxels.astype(np.uint8 if voxels.max() < 256 else np.int16)
    write_image(name.with_suffix(".nii.gz"), voxels, head.scan.affine, step)
    write_json(name.with_suffix(".json"), _t1w_sidecar(design, person.site))
    if not maps:
        return
    truth = folder / "derivatives" / "truth" / stem / "anat"
    for index, tissue in enumerate(TISSUES):
        share = head.scan.fractions[..., index]
        path = truth / f"{stem}_label-{tissue.upper()}_probseg.nii.gz"
        write_image(path, share, head.scan.affine)
    brain = head.scan.brain.astype(np.uint8)
    write_image(truth / f"{stem}_desc-brain_mask.nii.gz", brain, head.scan.affine)
    write_json(truth / f"{stem}_desc-brain_mask.json", {"Type": "Brain"})


# ---------------------------------------------------------------------------- people

_workers: dict[str, Any] = {}  # what each process of a pool makes once


def _start_worker(bundles: Bundles | None) -> None:
    _workers["blueprint"] = prepare_blueprint(template_source())
    _workers["regions"] = atlas_regions()
    _workers["bundles"] = bundles
    _workers["cortex"] = atlas_cortex()


def _start_apart(bundles: Bundles | None) -> None:
    """Start a process of a pool, which leaves interruptions to its parent and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _start_worker(bundles)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # nobody would see the result


def _make_person(task: tuple[Path, Design, Person, bool]) -> tuple[dict, dict]:
    """Write one person's images; returns true measures, and those without atrophy."""
    folder, design, person, maps = task
    blueprint: Blueprint = _workers["blueprint"]
    head = scan_person(design, person, blueprint)
    _write_person(folder, design, person, head, maps)
    true, before = head_measures(head, _workers["regions"])
    if design.dwi is not None:
        scan = scan_person_diffusion(design, person, head.anatomy, _workers["bundles"])
        write_diffusion(folder, design, person, scan, maps)
        true, before = true | scan.truth.measures, before | scan.truth.unaffected
    if design.func is not None:
        run = scan_person_functional(design, person, head.anatomy, _workers["cortex"])
        write_functional(folder, design, person, run, maps)
        true |= run.truth.connectivity.measures
        before |= run.truth.unaffected.measures
    if design.mrs is not None:
        spectroscopy = scan_person_mrs(design, person, head)
        write_mrs(folder, design, person, spectroscopy)
        true |= spectroscopy.truth.measures
        before |= spectroscopy.truth.unaffected
    return true, before


def _make_people(
    tasks: list[tuple[Path, Design, Person, bool]], bundles: Bundles | None, n_procs: int
) -> Iterator:
    """Results of `_make_person` in the order of the tasks."""
    if n_procs == 1:
        _start_worker(bundles)
        yield from map(_make_person, tasks)
        _workers.clear()
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(n_procs, context, _start_apart, (bundles,)) as pool:
        try:
            yield from pool.map(_make_person, tasks)
        except BaseException:  # also an interruption: what is being made is of no use any more
            pool.shutdown(wait=False, cancel_futures=True)
            for process in active_children():
                process.kill()
            raise


# ---------------------------------------------------------------------------- dataset


def _describe(folder: Path, command: str) -> None:
    software = {"Name": "alsflow-simulate", "Version": __version__, "Description": command}
    description = {
        "Name": "Simulated multi-centre cohort of ALS and controls",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "raw",
        "License": LICENCE,
        "Authors": ["The alsflow developers"],
        "GeneratedBy": [software],
    }
    write_json(folder / "dataset_description.json", description)
    truth = {
        "Name": "What was put into the simulated cohort",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [software | {"Name": "truth"}],
    }
    write_json(folder / "derivatives" / "truth" / "dataset_description.json", truth)


def _readme(design: Design, command: str) -> str:
    effects = [f"* {name}: {change:+.0%}" for name, change in design.effects.items() if change]
    return f"""# Simulated cohort

{design.n_patients} people with ALS and {design.n_controls} controls at {design.n_sites} site(s).
Nobody here exists: heads, scores and demographics were drawn by `alsflow-simulate`.

    {command}

makes this dataset again. Run with the same versions of alsflow and of the packages that it uses,
on the same kind of processor, every byte is the same.

Put into the group with ALS:

{chr(10).join(effects) or "* nothing"}

`derivatives/truth/measures.tsv` holds each person's true values, counted on labels finer than
the voxels, and `derivatives/truth/effects.tsv` the effect on each measure.

{_diffusion_words(design)}\
{_functional_words(design)}\
{_mrs_words(design)}\
The heads are deformations of the ICBM 2009a template ({SPACE}) with deep structures after labels
provided by Neuromorphometrics, Inc. (CC BY-NC 4.0: non-commercial use).
"""


def _diffusion_words(design: Design) -> str:
    if design.dwi is None:
        return ""
    return """\
`derivatives/truth/sub-*/dwi` holds the motion, eddy currents, drift and field of each diffusion
series, and `derivatives/simulation/atlas` the tracts in template space.

"""


def _functional_words(design: Design) -> str:
    if design.func is None:
        return ""
    return """\
`derivatives/truth/sub-*/func` holds the motion, drift, field, networks and connectivity of each
resting-state series.

"""


def _mrs_words(design: Design) -> str:
    if design.mrs is None:
        return ""
    return """\
`derivatives/lcmodel` holds fits of the spectra in LCModel's format, drawn without LCModel, and
`derivatives/truth/sub-*/mrs` each person's concentrations and how the spectrum failed, if it did.

"""


def _write_participants(folder: Path, people: list[Person]) -> None:
    rows = [{"participant_id": f"sub-{person.label}", **person.row} for person in people]
    write_table(folder / "participants.tsv", rows, list(PARTICIPANT_COLUMNS))
    write_json(folder / "participants.json", PARTICIPANT_COLUMNS)


def _write_phenotype(folder: Path, design: Design, people: list[Person]) -> None:
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in phenotype.SCORE_TITLES}
    for person in people:
        for name, row in person_scores(design, person).items():
            rows[name].append({"participant_id": f"sub-{person.label}"} | row)
    for name, columns in phenotype.score_columns().items():
        if rows[name]:
            path = folder / "phenotype" / f"{name}.tsv"
            write_table(path, rows[name], ["participant_id", *columns])
            title = {"MeasurementToolMetadata": {"Description": phenotype.SCORE_TITLES[name]}}
            write_json(path.with_suffix(".json"), title | columns)


def _write_truth(
    folder: Path, design: Design, people: list[Person], measures: list[tuple[dict, dict]]
) -> None:
    truth = folder / "derivatives" / "truth"
    rows, changes = [], []
    usual = _usual(people, measures)
    for person, (true, before) in zip(people, measures, strict=True):
        who = {"participant_id": f"sub-{person.label}", "session_id": "n/a"}
        rows += [
            who | {"measure": name, "value": value, "unit": unit}
            for name, (value, unit) in true.items()
        ]
        if person.row["group"] == PATIENT:
            changes.append({name: _change(name, true, before, usual) for name in true})
    write_table(
        truth / "measures.tsv", rows, ["participant_id", "session_id", "measure", "value", "unit"]
    )
    table = effect_table(design.effects, pd.DataFrame(changes, columns=list(measures[0][0])))
    write_table(truth / "effects.tsv", table.to_dict("records"), list(table.columns))


def _usual(people: list[Person], measures: list[tuple[dict, dict]]) -> dict[str, float]:
    """Mean over people with ALS of what scatters from run to run, without the disease."""
    ill = [
        before
        for person, (_, before) in zip(people, measures, strict=True)
        if person.row["group"] == PATIENT and MOTOR in before
    ]
    return {MOTOR: float(np.mean([before[MOTOR][0] for before in ill]))} if ill else {}


def _change(name: str, true: dict, before: dict, usual: dict[str, float]) -> float:
    difference = true[name][0] - before[name][0]
    return difference if is_difference(name) else difference / usual.get(name, before[name][0])


def write_cohort(
    out: str | Path,
    design: Design,
    command: str,
    n_procs: int = 1,
    maps: bool = False,
) -> Iterator[str]:
    """Write a simulated cohort as a BIDS dataset, whole or not at all.

    Parameters
    ----------
    out : path
        Folder to make; it may exist if it is empty.
    design : Design
        Who is in it, and with which effects.
    command : str
        Command that makes this dataset; stands in its README.
    n_procs : int
        People made at the same time; the dataset does not depend on it.
    maps : bool
        Write each person's true tissue fractions, brain mask, tensor and network maps too.

    Yields
    ------
    str
        Label of each person when it is done, for showing progress.

    Raises
    ------
    FileExistsError
        `out` holds something.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not an empty folder")
    regions = atlas_regions()
    people = draw_people(design, regions)
    bundles = lay_bundles() if design.dwi is not None else None
    _sweep(out)
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex[:12]}.partial")
    partial.mkdir(parents=True)
    lock = _lock(partial)
    try:
        tasks = [(partial, design, person, maps) for person in people]
        measures = []
        for person, found in zip(people, _make_people(tasks, bundles, n_procs), strict=True):
            measures.append(found)
            yield person.label
        _describe(partial, command)
        write_text(partial / "README.md", _readme(design, command))
        if design.mrs is not None:
            describe_lcmodel(partial, BIDS_VERSION)
        _write_participants(partial, people)
        _write_phenotype(partial, design, people)
        _write_truth(partial, design, people, measures)
        if bundles is not None:
            write_atlas(partial, template_source(), bundles)
        (partial / LOCK).unlink()
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if lock is not None:
            lock.close()


def _lock(folder: Path) -> IO[str] | None:
    """Lock of a folder that is being filled; None if another process fills it.

    The lock is the system's and vanishes with the process, whatever ends it.
    """
    handle = (folder / LOCK).open("a")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    except OSError:  # a disk without locks
        pass
    return handle


def _sweep(out: Path) -> None:
    """Remove what killed processes have left of the same cohort."""
    for old in out.parent.glob(f".{escape(out.name)}.*.partial"):
        lock = _lock(old) if (old / LOCK).is_file() else None
        if lock is not None:
            shutil.rmtree(old, ignore_errors=True)
            lock.close()
