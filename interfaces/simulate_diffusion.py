"""Diffusion series of simulated people on disk, with their truth and the atlas of their tracts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsflow import __version__
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
    write_text,
)
from alsflow.nodes.dwi.gradients import fsl_bvecs
from alsflow.nodes.simulate.anatomy import Source, white_matter
from alsflow.nodes.simulate.cohort import Design, Person, draw_diffusion_site
from alsflow.nodes.simulate.diffusion import (
    ECHO_TIME,
    REPETITION_TIME,
    DiffusionScan,
    DiffusionScanner,
    tensor_parameters,
)
from alsflow.nodes.simulate.tracts import MEASURED, SIDES, Bundles, tract_labels, tract_masks

STEP = 0.5  # of the noise; a finer stored scale makes files larger and images no better
FIELD_NAME = "pepolar"  # under which the series and its reversed image belong together
MOTION_COLUMNS = {
    "volume": {"Description": "Volume of the series, from 0; reverse is the image in fmap"},
    **HEAD_MOTION,
    "eddy_x": {"Description": "Shift along the phase-encoding axis per mm along axis i"},
    "eddy_y": {"Description": "The same along axis j"},
    "eddy_z": {"Description": "The same along axis k"},
    "eddy_0": {"Description": "The same in the middle of the field of view", "Units": "mm"},
    **DRIFT,
}


# ---------------------------------------------------------------------------- series


def _write_series(path: Path, data: NDArray, scan: DiffusionScan, scanner: DiffusionScanner):
    """Write an image in the scanner's order; returns the affine it got."""
    noise = scanner.imperfections.noise * scanner.gain
    step = STEP * noise if noise else float(data.max()) / 30000
    voxels = np.rint(np.clip(data / step, 0, 32767))
    voxels = voxels.astype(np.uint8 if voxels.max() < 256 else np.int16)
    turned, affine = stored(voxels, scan.affine, scanner.storage)
    repetition = REPETITION_TIME if data.ndim == 4 else None
    write_image(path, np.ascontiguousarray(turned), affine, step, LEVEL, repetition)
    return affine


def _sidecar(design: Design, site: int, scan: DiffusionScan, sign: int) -> dict[str, Any]:
    scanner = draw_diffusion_site(design, site)
    flaws = scanner.imperfections
    lines = scan.series.shape[scan.encoding.axis]
    return {
        **scanner_words(site, "2D", "EP"),
        "RepetitionTime": REPETITION_TIME,
        "EchoTime": ECHO_TIME,
        "FlipAngle": 90,
        **readout_words(sign, scanner.storage, scanner.readout, lines),
        "B0FieldIdentifier": FIELD_NAME,
        "SimulatedNoise": round(flaws.noise, 6),
        "SimulatedNonUniformity": round(flaws.non_uniformity, 6),
        "SimulatedRinging": flaws.ringing,
        "SimulatedAnisotropyFactor": round(scanner.fa, 6),
        "SimulatedDiffusivityFactor": round(scanner.diffusivity, 6),
    }


def write_diffusion(
    folder: Path, design: Design, person: Person, scan: DiffusionScan, maps: bool
) -> None:
    """Write one person's series, reversed image and truth into a dataset.

    Parameters
    ----------
    folder : path
        The dataset.
    design, person, scan
        Who was scanned, and what came of it.
    maps : bool
        Write tensor maps and tract fractions too.
    """
    stem = f"sub-{person.label}"
    scanner = draw_diffusion_site(design, person.site)
    series = folder / stem / "dwi" / f"{stem}_dir-AP_dwi"
    affine = _write_series(series.with_suffix(".nii.gz"), scan.series, scan, scanner)
    bvecs = fsl_bvecs(scan.gradients.directions, affine) + 0.0  # no minus zeros
    write_text(
        series.with_suffix(".bval"), " ".join(f"{b:g}" for b in scan.gradients.bvals) + "\n"
    )
    rows = (" ".join(f"{value:.6f}" for value in row) for row in bvecs)
    write_text(series.with_suffix(".bvec"), "\n".join(rows) + "\n")
    sign = scan.encoding.sign
    sidecar = _sidecar(design, person.site, scan, sign) | {"B0FieldSource": FIELD_NAME}
    write_json(series.with_suffix(".json"), sidecar)
    reverse = folder / stem / "fmap" / f"{stem}_dir-PA_epi"
    _write_series(reverse.with_suffix(".nii.gz"), scan.reverse, scan, scanner)
    target = {"IntendedFor": [f"bids::{stem}/dwi/{series.name}.nii.gz"]}
    write_json(reverse.with_suffix(".json"), _sidecar(design, person.site, scan, -sign) | target)
    _write_truth(folder / "derivatives" / "truth" / stem / "dwi", stem, scan, maps)


# ---------------------------------------------------------------------------- truth


def _write_truth(folder: Path, stem: str, scan: DiffusionScan, maps: bool) -> None:
    truth = scan.truth
    numbers = np.column_stack(
        [truth.motion.translation, truth.motion.rotation, truth.eddy, truth.drift]
    )
    rows = motion_rows(numbers, list(MOTION_COLUMNS), "reverse")
    table = folder / f"{stem}_dir-AP_desc-motion_timeseries.tsv"
    write_table(table, rows, list(MOTION_COLUMNS))
    lost = [
        {"Volume": volume, "Slice": level, "Factor": factor}
        for (volume, level), factor in sorted(truth.dropouts.items())
    ]
    centre = {"CentreOfRotation": truth.motion.centre.tolist(), "SlicesWithLoss": lost}
    write_json(table.with_suffix(".json"), MOTION_COLUMNS | centre | TRUTH_AXES)
    write_shift(folder / f"{stem}_dir-AP_desc-shift_fieldmap", truth.shift, scan.affine)
    if maps:
        _write_maps(folder, stem, scan)


def _write_maps(folder: Path, stem: str, scan: DiffusionScan) -> None:
    truth = scan.truth
    brain = truth.brain
    write_image(folder / f"{stem}_desc-brain_mask.nii.gz", brain.astype(np.uint8), scan.affine)
    write_json(folder / f"{stem}_desc-brain_mask.json", {"Type": "Brain"})
    for parameter, values in tensor_parameters(truth.tensor[brain]).items():
        volume = np.zeros(brain.shape, np.float32)
        volume[brain] = values
        path = folder / f"{stem}_model-tensor_param-{parameter}_dwimap.nii.gz"
        write_image(path, volume, scan.affine, level=LEVEL)
    for row, name in enumerate(MEASURED):
        label = "".join(part.title() for part in name.split("_"))
        for column, side in enumerate(SIDES):
            path = folder / f"{stem}_label-{label}{side.title()}_probseg.nii.gz"
            write_image(path, truth.tracts[..., row, column].copy(), scan.affine, level=LEVEL)


def write_atlas(folder: Path, source: Source, bundles: Bundles) -> None:
    """Write the tracts in template space as an atlas that `alsflow-atlas add` takes."""
    folder = folder / "derivatives" / "simulation"
    masks, affine = tract_masks(bundles, white_matter(source), source.affine)
    write_image(folder / "atlas" / "tracts.nii.gz", masks, affine, level=LEVEL)
    rows = tract_labels()
    write_table(folder / "atlas" / "LABELS.tsv", rows, list(rows[0]))
    description = {
        "Name": "Tracts of the simulated cohort in template space",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "alsflow-simulate", "Version": __version__}],
    }
    write_json(folder / "dataset_description.json", description)
