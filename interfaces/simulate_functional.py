"""Resting-state series of simulated people on disk, with their truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsflow.interfaces.simulate_files import (
    DRIFT,
    HEAD_MOTION,
    LEVEL,
    TRUTH_AXES,
    motion_rows,
    readout_words,
    scanner_words,
    stored,
    write_image,
    write_json,
    write_shift,
    write_table,
)
from alsflow.nodes.simulate.bold import ECHO_TIME, SPIN_ECHO_TIME, SPIN_REPETITION, flip_angle
from alsflow.nodes.simulate.cohort import Design, Person, draw_functional_site
from alsflow.nodes.simulate.connectivity import DROPPED
from alsflow.nodes.simulate.functional import FunctionalScan, FunctionalScanner, thermal_noise
from alsflow.nodes.simulate.networks import MODULES, NETWORKS, SIDES, SOMATOMOTOR, TRUTH_BAND

TASK = "rest"
STEP = 0.5  # of the noise; a finer stored scale makes files larger and images no better
SERIES_LEVEL = 1  # of the compression; noise does not get much smaller
MEMBER = 0.5  # share of a voxel from which on it is one of the network
FIELD_NAME = "pepolar_bold"  # under which the series and the pair of spin echoes belong together
MOTION_COLUMNS = {
    "volume": {"Description": "Volume of the series, from 0; fmap is the pair of images in fmap"},
    **HEAD_MOTION,
    **DRIFT,
}
CONNECTIVITY_COLUMNS = {
    "measure": {"Description": "Fisher z of the correlation of two regions' mean series"},
    "realised": {
        "Description": "In this run, without noise: volumes after the first "
        f"{DROPPED}, {TRUTH_BAND[0]} to {TRUTH_BAND[1]} Hz"
    },
    "population": {"Description": "In an endless run"},
    "realised_unaffected": {"Description": "As realised, without the effect of the disease"},
    "population_unaffected": {"Description": "As population, without the effect of the disease"},
}


# ---------------------------------------------------------------------------- series


def _direction(sign: int) -> str:
    """Value of the file name's entity `dir` for phase encoding along RAS's second axis."""
    return "PA" if sign == 1 else "AP"


def _write_images(
    path: Path, data: NDArray, scan: FunctionalScan, scanner: FunctionalScanner
) -> None:
    """Write an image in the scanner's order."""
    noise = thermal_noise(scanner, scan.repetition) * scanner.gain
    step = STEP * noise if noise else float(data.max()) / 30000
    voxels = np.empty(data.shape, np.int16)
    np.rint(np.clip(data / np.float32(step), 0, 32767), out=voxels, casting="unsafe")
    turned, affine = stored(voxels, scan.affine, scanner.storage)
    repetition = scan.repetition if data.ndim == 4 else None
    write_image(path, np.ascontiguousarray(turned), affine, step, SERIES_LEVEL, repetition)


def _sidecar(design: Design, site: int, scan: FunctionalScan, sign: int) -> dict[str, Any]:
    scanner = draw_functional_site(design, site)
    lines = scan.series.shape[scan.encoding.axis]
    return {
        **scanner_words(site, "2D", "EP"),
        **readout_words(sign, scanner.storage, scanner.readout, lines),
        "SimulatedNonUniformity": round(scanner.non_uniformity, 6),
        "SimulatedRinging": scanner.ringing,
    }


def _series_sidecar(design: Design, site: int, scan: FunctionalScan) -> dict[str, Any]:
    scanner = draw_functional_site(design, site)
    times = scan.truth.slice_times.tolist()
    return {
        "TaskName": TASK,
        "Instructions": "none: the person is simulated",
        **_sidecar(design, site, scan, scan.encoding.sign),
        "RepetitionTime": scan.repetition,
        "EchoTime": ECHO_TIME,
        "FlipAngle": flip_angle(scan.repetition),
        "SliceEncodingDirection": "k",
        "SliceTiming": times if scanner.storage[2] == "S" else times[::-1],
        "MultibandAccelerationFactor": scanner.multiband,
        "NumberOfVolumesDiscardedByScanner": 0,
        "B0FieldSource": FIELD_NAME,
        "SimulatedTSNR": round(scanner.tsnr, 4) if np.isfinite(scanner.tsnr) else "inf",
        "SimulatedPhysiology": scanner.physiology,
    }


def write_functional(
    folder: Path, design: Design, person: Person, scan: FunctionalScan, maps: bool
) -> None:
    """Write one person's resting-state series, spin echoes and truth into a dataset.

    Parameters
    ----------
    folder : path
        The dataset.
    design, person, scan
        Who was scanned, and what came of it.
    maps : bool
        Write the brain mask, grey matter and networks too.
    """
    stem = f"sub-{person.label}"
    scanner = draw_functional_site(design, person.site)
    series = folder / stem / "func" / f"{stem}_task-{TASK}_bold"
    _write_images(series.with_suffix(".nii.gz"), scan.series, scan, scanner)
    write_json(series.with_suffix(".json"), _series_sidecar(design, person.site, scan))
    for index, sign in enumerate((scan.encoding.sign, -scan.encoding.sign)):
        path = folder / stem / "fmap" / f"{stem}_acq-bold_dir-{_direction(sign)}_epi"
        image = scan.echoes[..., index]
        _write_images(path.with_suffix(".nii.gz"), image, scan, scanner)
        sidecar = _sidecar(design, person.site, scan, sign) | {
            "RepetitionTime": SPIN_REPETITION,
            "EchoTime": SPIN_ECHO_TIME,
            "FlipAngle": 90,
            "B0FieldIdentifier": FIELD_NAME,
            "IntendedFor": [f"bids::{stem}/func/{series.name}.nii.gz"],
        }
        write_json(path.with_suffix(".json"), sidecar)
    _write_truth(folder / "derivatives" / "truth" / stem / "func", stem, scan)
    if maps:
        _write_maps(folder / "derivatives" / "truth" / stem / "func", stem, scan)


# ---------------------------------------------------------------------------- truth


def _write_truth(folder: Path, stem: str, scan: FunctionalScan) -> None:
    truth, name = scan.truth, f"{stem}_task-{TASK}"
    numbers = np.column_stack(
        [truth.motion.translation, truth.motion.rotation, np.append(truth.drift, 1.0)]
    )
    rows = motion_rows(numbers, list(MOTION_COLUMNS), "fmap")
    table = folder / f"{name}_desc-motion_timeseries.tsv"
    write_table(table, rows, list(MOTION_COLUMNS))
    more = {
        "CentreOfRotation": truth.motion.centre.tolist(),
        "SliceTiming": truth.slice_times.tolist(),
        **TRUTH_AXES,
    }
    write_json(table.with_suffix(".json"), MOTION_COLUMNS | more)
    write_shift(folder / f"{name}_desc-shift_fieldmap", truth.shift, scan.affine)
    _write_courses(folder / f"{name}_desc-networks_timeseries.tsv", scan)
    _write_connectivity(folder / f"{name}_desc-connectivity_relmat.tsv", scan)


def _title(name: str, side: str) -> str:
    return "".join(part.title() for part in name.split("_")) + side.title()


def _write_courses(path: Path, scan: FunctionalScan) -> None:
    """Write the series behind a run, one row for the start of each volume."""
    found = scan.truth.connectivity
    columns = {"onset": {"Description": "Start of the volume", "Units": "s"}}
    series = [scan.repetition * np.arange(len(found.networks))]
    for column, (network, side) in enumerate(MODULES):
        columns[f"network_{network}_{side}"] = {"Description": "Series of the network, SD 1"}
        series.append(found.networks[:, column])
    for (region, side), course in found.regions.items():
        columns[f"region_{region}_{side}"] = {
            "Description": "Mean series of the region's grey matter, relative to its SD in an "
            "endless run of one label"
        }
        series.append(course)
    table = np.round(np.column_stack(series), 6)
    rows = [dict(zip(columns, row.tolist(), strict=True)) for row in table]
    write_table(path, rows, list(columns))
    write_json(path.with_suffix(".json"), columns)


def _write_connectivity(path: Path, scan: FunctionalScan) -> None:
    """Write the connectivity of one run and of an endless one."""
    found, before = scan.truth.connectivity, scan.truth.unaffected
    rows = [
        {
            "measure": name,
            "realised": value,
            "population": found.population[name],
            "realised_unaffected": before.measures[name][0],
            "population_unaffected": before.population[name],
        }
        for name, (value, _) in found.measures.items()
    ]
    write_table(path, rows, list(CONNECTIVITY_COLUMNS))
    write_json(path.with_suffix(".json"), CONNECTIVITY_COLUMNS)


def _write_maps(folder: Path, stem: str, scan: FunctionalScan) -> None:
    truth, name = scan.truth, f"{stem}_task-{TASK}"
    brain = folder / f"{name}_desc-brain_mask"
    write_image(brain.with_suffix(".nii.gz"), truth.brain.astype(np.uint8), scan.affine)
    write_json(brain.with_suffix(".json"), {"Type": "Brain"})
    grey = folder / f"{name}_label-GM_probseg.nii.gz"
    write_image(grey, truth.grey, scan.affine, level=LEVEL)
    names = list(NETWORKS)
    for row, network in enumerate(names):
        for column, side in enumerate(SIDES):
            path = folder / f"{name}_label-{_title(network, side)}_probseg.nii.gz"
            write_image(path, truth.networks[..., row, column].copy(), scan.affine, level=LEVEL)
    motor = truth.networks[..., [names.index(network) for network in SOMATOMOTOR], :]
    mask = folder / f"{name}_desc-somatomotor_mask"
    member = motor.sum((-2, -1)) >= MEMBER
    write_image(mask.with_suffix(".nii.gz"), member.astype(np.uint8), scan.affine)
    words = f"Voxels of which at least {MEMBER:g} is grey matter of {', '.join(SOMATOMOTOR)}"
    write_json(mask.with_suffix(".json"), {"Type": "ROI", "Description": words})
