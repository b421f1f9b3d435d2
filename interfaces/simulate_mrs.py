"""Spectra of simulated people on disk, LCModel's results, and their truth."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Extension
from numpy.typing import NDArray

from alsflow import __version__
from alsflow.interfaces.simulate_files import scanner_words, write_json, write_table, write_text
from alsflow.nodes.simulate.cohort import Design, Person, draw_mrs_site
from alsflow.nodes.simulate.lcmodel_text import coord_text, csv_text, print_text, table_text
from alsflow.nodes.simulate.mrs_scan import MrsScan
from alsflow.nodes.simulate.spectrum import DWELL, POINTS, WATER_PPM

EXTENSION_CODE = 44  # NIfTI-MRS
INTENT = "mrs_v0_9"  # version of NIfTI-MRS whose fields are used, doi:10.1002/mrm.29418
PLACE = "Paracentral lobule, both sides (foot area of the motor cortex)"
AVERAGES, WATER_AVERAGES = 64, 4
TEXTS = {".table": table_text, ".coord": coord_text, ".csv": csv_text, ".print": print_text}
CHEMISTRY_COLUMNS = {
    "metabolite": {"Description": "Metabolite by LCModel's name"},
    "concentration": {"Description": "True concentration", "Units": "mmol/kg of tissue water"},
    "unaffected": {
        "Description": "As concentration, without the effect of the disease",
        "Units": "mmol/kg of tissue water",
    },
}


def write_spectrum(path: Path, fid: NDArray, affine: NDArray, metadata: dict[str, Any]) -> None:
    """Write a NIfTI-MRS of one voxel whose bytes depend on its content alone.

    Parameters
    ----------
    path : path
        File to make; ends in ``.nii.gz``.
    fid : (n,) complex64 array
        Signal in time.
    affine : (4, 4) array
        The cube -0.5 to 0.5 to RAS+ mm.
    metadata : dict
        Of the header extension.
    """
    image = nib.Nifti2Image(fid.reshape(1, 1, 1, -1), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header["pixdim"][4] = DWELL
    image.header["intent_name"] = INTENT.encode()
    image.header.set_xyzt_units("mm", "sec")
    text = json.dumps(metadata).encode()
    image.header.extensions.append(Nifti1Extension(EXTENSION_CODE, text))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(image.to_bytes(), mtime=0))


def _header(design: Design, site: int) -> dict[str, Any]:
    """What NIfTI-MRS and BIDS both ask for."""
    if design.mrs is None:
        raise ValueError("the design asks for no spectroscopy")
    asked = design.mrs
    words = {
        "SpectrometerFrequency": [draw_mrs_site(design, site).frequency],
        "ResonantNucleus": ["1H"],
        "EchoTime": asked.te,
        "RepetitionTime": asked.tr,
        "SpectralWidth": 1 / DWELL,
    }
    return words | ({"MixingTime": asked.tm} if asked.timing.kind == "steam" else {})


def _sidecar(design: Design, person: Person, scan: MrsScan, water: bool) -> dict[str, Any]:
    asked, stem = design.mrs, f"sub-{person.label}"
    scanner = draw_mrs_site(design, person.site)
    words = scanner_words(person.site, "", "")
    kept = ("Manufacturer", "ManufacturersModelName", "InstitutionName", "MagneticFieldStrength")
    return {
        **{name: words[name] for name in kept},
        **_header(design, person.site),
        "NumberOfSpectralPoints": POINTS,
        "NumberOfTransients": WATER_AVERAGES if water else AVERAGES,
        "PulseSequenceType": asked.sequence if asked else "",
        "ChemicalShiftReference": WATER_PPM,
        "WaterSuppression": not water,
        "AcquisitionVoxelSize": np.round(scan.voxel.sizes, 4).tolist(),
        "BodyPart": "BRAIN",
        "BodyPartDetails": PLACE,
        "AnatomicalImage": f"bids::{stem}/anat/{stem}_T1w.nii.gz",
        **({} if water else {"ReferenceSignal": f"bids::{stem}/mrs/{stem}_mrsref.nii.gz"}),
        "SimulatedConcentrationFactor": round(scanner.scale, 6),
        "SimulatedCholineFactor": round(scanner.choline, 6),
    }


def write_mrs(folder: Path, design: Design, person: Person, scan: MrsScan) -> None:
    """Write one person's spectrum, water reference, LCModel's results and the truth.

    Parameters
    ----------
    folder : path
        The dataset.
    design, person, scan
        Who was scanned, and what came of it.
    """
    stem = f"sub-{person.label}"
    header = _header(design, person.site)
    for suffix, fid in (("svs", scan.fid), ("mrsref", scan.water)):
        path = folder / stem / "mrs" / f"{stem}_{suffix}.nii.gz"
        write_spectrum(path, fid, scan.voxel.affine, header)
        words = _sidecar(design, person, scan, suffix == "mrsref")
        write_json(path.with_name(f"{stem}_{suffix}.json"), words)
    for end, text in TEXTS.items():
        path = folder / "derivatives" / "lcmodel" / stem / f"{stem}{end}"
        write_text(path, text(scan.printed))
    _write_truth(folder / "derivatives" / "truth" / stem / "mrs", stem, scan)


def describe_lcmodel(folder: Path, bids_version: str) -> None:
    """Say what the results are which look like LCModel's."""
    software = {"Name": "alsflow-simulate", "Version": __version__}
    words = "Drawn and written in LCModel's format; LCModel was not run"
    description = {
        "Name": "Simulated results of LCModel",
        "BIDSVersion": bids_version,
        "DatasetType": "derivative",
        "GeneratedBy": [software | {"Description": words}],
    }
    write_json(folder / "derivatives" / "lcmodel" / "dataset_description.json", description)


def _write_truth(folder: Path, stem: str, scan: MrsScan) -> None:
    """Write concentrations with and without the disease, and how the spectrum came out."""
    truth = scan.truth
    rows = [
        {
            "metabolite": name,
            "concentration": value,
            "unaffected": truth.chemistry.unaffected[name],
        }
        for name, value in truth.chemistry.own.items()
    ]
    table = folder / f"{stem}_desc-chemistry_mrs.tsv"
    write_table(table, rows, list(CHEMISTRY_COLUMNS))
    quality = truth.quality
    more = {
        "Failure": quality.failure or "none",
        "LineWidth": quality.fwhm,
        "SNROfReferencePerson": round(quality.snr, 4),
        "Tissue": {name: round(share, 6) for name, share in truth.tissue.items()},
        "VoxelAffine": np.round(scan.voxel.affine, 6).tolist(),
    }
    write_json(table.with_suffix(".json"), CHEMISTRY_COLUMNS | more)
