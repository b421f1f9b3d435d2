"""CAT12: run it through Nipype's interface, and read what it writes.

Nipype's own collection of the outputs is not used: it asks for files that CAT12 writes only with
surfaces, and fails without them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
from nipype.interfaces.base import File, TraitedSpec, traits
from nipype.interfaces.cat12 import CAT12Segment
from nipype.interfaces.spm import SPMCommand

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.external import SpmProgram, require_cat12, spm_release
from alsflow.interfaces.spm import ImageForSpm, find_one, tail
from alsflow.nodes.errors import BadInputError

LARGEST_XML = 50_000_000  # bytes
VOLUMES = {"Vgm": "gm_ml", "Vwm": "wm_ml", "Vcsf": "csf_ml"}
CGW = ("csf", "gm", "wm")  # order of CAT12's absolute volumes
CHOICES: dict[str, Any] = {
    "n_jobs": 0,  # more would return before the work is done
    "ignore_errors": 0,  # an error must be one
    "surface_and_thickness_estimation": 0,
    "surface_measures": 0,
    "neuromorphometrics": True,
    # both: releases of Nipype differ in which of the two names asks for which atlas
    "cobra": True,
    "hammers": True,
    "lpba40": False,
    "gm_output_native": True,
    "wm_output_native": True,
    "csf_output_native": True,
    "gm_output_modulated": True,
    "wm_output_modulated": True,
    "csf_output_modulated": False,
    "label_warped": False,
    "save_bias_corrected": False,
    "las_warped": False,
    "jacobianwarped": False,
    "warps": (1, 1),
}


class _NothingCollected(TraitedSpec):
    """CAT12's outputs are found by their names, not by Nipype."""


class Cat12Job(CAT12Segment):
    """Nipype's call of CAT12, that neither starts MATLAB to be made nor collects outputs."""

    output_spec = _NothingCollected
    _jobtype, _jobname = "tools", "cat.estwrite"

    def __init__(self, program: SpmProgram, **inputs):
        given = {**CHOICES, **inputs, "matlab_cmd": program.command}
        if program.standalone:
            given["use_mcr"] = True
        if program.folders:
            given["paths"] = list(program.folders)
        SPMCommand.__init__(self, **given)

    @property
    def version(self):
        """Release for Nipype's checks, which would start MATLAB; `spm_release` has seen it."""
        return "12"

    def _parse_inputs(self, skip=()):
        """Put the choice of surfaces where CAT12's batch has it: Nipype writes it one level up."""
        (job,) = super()._parse_inputs(skip)
        if "surface" in job:
            job["output"]["surface"] = job.pop("surface")
        return [job]

    def _list_outputs(self):
        return {}


# ---------------------------------------------------------------------------- reading


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds no tree from a document that declares entities of its own."""

    def doctype(self, name, public, system):
        raise BadInputError("it declares a document type, which no file of CAT12 does")


def read_xml(path: Path) -> ElementTree.Element:
    """Root of an XML file; entities that it may declare are never expanded."""
    if path.stat().st_size > LARGEST_XML:
        raise BadInputError(f"{path} is too large to be a file of CAT12.")
    parser = ElementTree.XMLParser(target=_NoDoctype())
    try:
        return ElementTree.parse(path, parser).getroot()
    except (ElementTree.ParseError, BadInputError) as error:
        raise BadInputError(f"{path} cannot be read as a file of CAT12: {error}.") from error


def _numbers(element: ElementTree.Element | None, path: Path) -> list[float]:
    """Numbers of a MATLAB vector such as ``[1.2;3 NaN]``."""
    text = (element.text or "" if element is not None else "").strip().strip("[]")
    try:
        return [float(item) for item in re.split(r"[;,\s]+", text) if item]
    except ValueError as error:
        raise BadInputError(f"{path} holds {text[:40]!r} where numbers should be.") from error


def read_regions(path: str | Path) -> pd.DataFrame:
    """Regional volumes of ``catROI_*.xml``.

    Returns
    -------
    DataFrame
        Columns atlas, index, name, gm_ml, wm_ml, csf_ml; a tissue that CAT12 does not give for
        an atlas is missing there (NaN), never zero.
    """
    path = Path(path)
    tables = [_atlas_rows(atlas, path) for atlas in read_xml(path)]
    tables = [table for table in tables if len(table)]
    if not tables:
        raise BadInputError(f"{path} holds no regional volumes.")
    return pd.concat(tables, ignore_index=True)


def _atlas_rows(atlas: ElementTree.Element, path: Path) -> pd.DataFrame:
    """Rows of one atlas; columns of different length cannot be told which belongs to which."""
    columns: dict[str, list[Any]] = {
        "name": [(item.text or "").strip() for item in atlas.findall("names/item")],
        "index": [int(number) for number in _numbers(atlas.find("ids"), path)],
    }
    for tag, column in VOLUMES.items():
        if (element := atlas.find(f"data/{tag}")) is not None:
            columns[column] = _numbers(element, path)
    if not set(VOLUMES.values()) & set(columns):
        return pd.DataFrame()
    columns = {key: values for key, values in columns.items() if values}
    if len({len(values) for values in columns.values()}) != 1 or "name" not in columns:
        lengths = ", ".join(f"{len(values)} of {key}" for key, values in columns.items())
        raise BadInputError(f"{path}: the atlas {atlas.tag} has {lengths}; these must agree.")
    table = pd.DataFrame(columns).assign(atlas=atlas.tag)
    return table.reindex(columns=["atlas", "index", "name", *VOLUMES.values()])


def read_report(path: str | Path) -> dict[str, Any]:
    """Total volumes, mL, and releases from ``cat_*.xml``.

    Returns
    -------
    dict
        tiv, csf, gm, wm in mL, and version, the release of CAT12 as the file names it.
    """
    path = Path(path)
    root = read_xml(path)
    tiv = _numbers(root.find("subjectmeasures/vol_TIV"), path)
    volumes = _numbers(root.find("subjectmeasures/vol_abs_CGW"), path)
    if len(tiv) != 1 or len(volumes) < len(CGW):
        raise BadInputError(f"{path} holds no total volumes: CAT12 did not come to its end.")
    found: dict[str, Any] = {"tiv": tiv[0]}
    found |= dict(zip(CGW, volumes, strict=False))
    parts = [root.findtext(f"software/{tag}", "") for tag in ("version_cat", "revision_cat")]
    found["version"] = " r".join(part.strip() for part in parts if part and part.strip())
    return found


# ---------------------------------------------------------------------------- running


class _RunCat12InputSpec(CodedInputSpec):
    t1w_file = File(exists=True, mandatory=True, desc="head, native space")
    command = traits.Str(mandatory=True, desc="command of MATLAB or of stand-alone SPM12")
    standalone = traits.Bool(False, usedefault=True, desc="command is that of stand-alone SPM12")
    folders = traits.List(traits.Str(), desc="folders to add to the path of MATLAB")


class _RunCat12OutputSpec(TraitedSpec):
    t1w_file = File(exists=True, desc="the head as CAT12 was given it")
    gm_file = File(exists=True, desc="grey matter, native space")
    wm_file = File(exists=True, desc="white matter, native space")
    csf_file = File(exists=True, desc="CSF, native space")
    modulated_file = File(exists=True, desc="modulated grey matter in CAT12's template space")
    forward_file = File(exists=True, desc="deformation y_, as SPM stores it")
    inverse_file = File(exists=True, desc="deformation iy_, as SPM stores it")
    details = traits.Dict(desc="release, total and regional volumes as CAT12 states them")


class RunCat12(CodedInterface):
    """Segment one head with CAT12."""

    input_spec = _RunCat12InputSpec
    output_spec = _RunCat12OutputSpec
    _code = (spm_release, read_regions)

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        folders = tuple(self.inputs.folders or ())
        program = SpmProgram(self.inputs.command, self.inputs.standalone, folders)
        release = spm_release(program)
        require_cat12(release)
        head = ImageForSpm.write(self.inputs.t1w_file, folder / "head" / "t1w.nii")
        result = Cat12Job(program, in_files=[str(head)]).run(cwd=str(folder))
        self._results |= self._outputs_in(head, tail(result.runtime))
        report = read_report(find_one(head.parent, "cat_t1w.xml", tail(result.runtime)))
        regions = read_regions(find_one(head.parent, "catROI_t1w.xml", tail(result.runtime)))
        self._results["details"] = {
            "engine": "cat12",
            "version": release.cat,
            "spm": release.spm,
            "totals_ml": {key: report[key] for key in ("tiv", *CGW)},
            "regions": regions.astype(object).where(regions.notna(), None).to_dict("records"),
        }
        return runtime

    @staticmethod
    def _outputs_in(head: Path, log: str) -> dict[str, str]:
        names = {
            "gm_file": "p1t1w.nii",
            "wm_file": "p2t1w.nii",
            "csf_file": "p3t1w.nii",
            "modulated_file": "mwp1t1w.nii",
            "forward_file": "y_t1w.nii",
            "inverse_file": "iy_t1w.nii",
        }
        found = {key: str(find_one(head.parent, name, log)) for key, name in names.items()}
        return found | {"t1w_file": str(head)}
