"""LCModel, if it is here: its input files, a run, and whether the run has written a result.

LCModel ends with exit status 0 whatever happened, and leaves outputs of an earlier run in place.
So each run has a new folder, and only a table that it has written counts.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import File, OutputMultiPath, TraitedSpec, isdefined, traits

from alsflow.interfaces.anat import write_json
from alsflow.interfaces.atlas import sha256
from alsflow.interfaces.base import CodedInputSpec, CodedInterface, naming
from alsflow.interfaces.images import UNREADABLE, check_packed, open_image, reason
from alsflow.interfaces.mrs_lcmodel import read_text
from alsflow.interfaces.mrs_plan import find_lcmodel
from alsflow.interfaces.mrs_voxel import header_extension, sidecar_metadata
from alsflow.interfaces.programs import NOTHING, Ended, call, last_line
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.mrs.lcmodel_input import (
    OUTPUTS,
    Spectrum,
    control_settings,
    control_text,
    matching_water,
    raw_text,
    read_spectrum,
)
from alsflow.nodes.mrs.lcmodel_table import read_table
from alsflow.nodes.mrs.nifti_header import known_metadata
from alsflow.nodes.mrs.result import LCModelResult

FOLDER, STEM = "lcmodel", "out"
RAW, H2O, CONTROL = "data.RAW", "data.H2O", "control"
LONGEST_NAME = 200  # characters of a basis set's name; LCModel reads 255
TIME_LIMIT = 1800  # s; a fit takes seconds to minutes
STOPPED = re.compile(r"(?:FATAL ERROR|FATAL|ILLOGICAL STOP|ILLOGICAL)\s+([A-Z0-9]+)\s+(\d+)")
OF_SPECTRUM = ("SpectrometerFrequency", "ResonantNucleus", "SpectralWidth")


def run_inputs(
    spectrum: Path, water: Path | None, basis: str | Path, bids_dir: Path | None = None
) -> dict[str, Any]:
    """Inputs of `RunLCModel` for a spectrum of a dataset; see `interfaces.mrs_plan`."""
    inputs = {
        "spectrum_file": str(spectrum),
        "basis_file": str(basis),
        "metadata": _metadata(spectrum, bids_dir),
    }
    if water is not None:
        inputs |= {"water_file": str(water), "water_metadata": _metadata(water, bids_dir)}
    return inputs


def _metadata(path: Path, bids_dir: Path | None) -> dict[str, Any]:
    """The part of the sidecars that LCModel's input needs; names and dates are not in it."""
    found = sidecar_metadata(path, bids_dir)
    return known_metadata(found) | {name: found[name] for name in OF_SPECTRUM if name in found}


def load_spectrum(path: str | Path, sidecar: Mapping[str, Any]) -> Spectrum:
    """Spectrum of a NIfTI-MRS file; see `nodes.mrs.lcmodel_input.read_spectrum`."""
    with naming(Path(path).name):
        image = open_image(path)
        try:
            check_packed(path)
            data = np.asanyarray(image.dataobj)
        except UNREADABLE as error:
            raise BadInputError(
                f"is damaged or was cut off ({reason(error, path)}); copy it again"
            ) from error
        zooms = image.header.get_zooms()
        return read_spectrum(data, zooms, header_extension(image), sidecar)


class _RunLCModelInputSpec(CodedInputSpec):
    spectrum_file = File(exists=True, mandatory=True, desc="NIfTI-MRS with one decay, _svs")
    water_file = File(exists=True, desc="NIfTI-MRS of the water in the same voxel, _mrsref")
    basis_file = File(exists=True, mandatory=True, desc="basis set of LCModel")
    metadata = traits.Dict(
        traits.Str, traits.Any, usedefault=True, desc="of the sidecars; see `run_inputs`"
    )
    water_metadata = traits.Dict(
        traits.Str, traits.Any, usedefault=True, desc="the same of the water reference"
    )
    control = traits.Dict(
        traits.Str, traits.Any, usedefault=True, desc="other settings by LCModel's names"
    )


class _RunLCModelOutputSpec(TraitedSpec):
    table_file = File(exists=True, desc=".table of this run")
    coord_file = File(exists=True, desc=".coord, where it was written")
    csv_file = File(exists=True, desc=".csv, where it was written")
    print_file = File(exists=True, desc=".print, where it was written")
    out_files = OutputMultiPath(File(exists=True), desc="all of them, for `ReadFit`")
    info_file = File(exists=True, desc="JSON: program, version, status, settings without paths")


class RunLCModel(CodedInterface):
    """Fit a spectrum with LCModel; see `nodes.mrs.lcmodel_input`."""

    input_spec = _RunLCModelInputSpec
    output_spec = _RunLCModelOutputSpec
    _code = (control_settings, read_table, header_extension, call, find_lcmodel)

    def _run_interface(self, runtime):
        program = find_lcmodel()
        spectrum = load_spectrum(self.inputs.spectrum_file, self.inputs.metadata)
        water = self._water(spectrum)
        settings = control_settings(spectrum, water=water is not None, extra=self.inputs.control)
        folder = _new_folder(Path(runtime.cwd) / FOLDER)
        control = self._write_inputs(folder, spectrum, water, settings)
        done = call([program], TIME_LIMIT, stdin=control, folder=folder)
        (folder / _safe_name(self.inputs.basis_file)).unlink()
        name = Path(self.inputs.spectrum_file).name
        result = _read_result(folder / f"{STEM}.table", done, name)
        files = [path for end in OUTPUTS if (path := folder / f"{STEM}{end}").is_file()]
        for path in files:
            self._results[f"{path.suffix[1:]}_file"] = str(path)
        self._results["out_files"] = [str(path) for path in files]
        info = self._info(settings, result, done, water)
        self._results["info_file"] = write_json(info, Path(runtime.cwd) / "lcmodel.json")
        return runtime

    def _water(self, spectrum: Spectrum) -> Spectrum | None:
        if not isdefined(self.inputs.water_file):
            return None
        water = load_spectrum(self.inputs.water_file, self.inputs.water_metadata)
        with naming(Path(self.inputs.water_file).name):
            return matching_water(spectrum, water)

    def _write_inputs(
        self, folder: Path, spectrum: Spectrum, water: Spectrum | None, settings: dict[str, Any]
    ) -> str:
        """Control file, which is returned too, and what it names."""
        for name, path, one in ((RAW, self.inputs.spectrum_file, spectrum),
                                (H2O, self.inputs.water_file, water)):  # fmt: skip
            if one is not None:
                with naming(Path(path).name):
                    (folder / name).write_text(raw_text(one), encoding="ascii")
        basis = _safe_name(self.inputs.basis_file)
        shutil.copyfile(self.inputs.basis_file, folder / basis)
        text = control_text(settings, basis=basis, raw=RAW, h2o=H2O if water else "", stem=STEM)
        (folder / CONTROL).write_text(text, encoding="ascii")
        return text

    def _info(
        self, settings: dict[str, Any], result: LCModelResult, done: Ended, water: Spectrum | None
    ) -> dict[str, Any]:
        """What was run; no path, no name of a person."""
        return {
            "program": "LCModel",
            "version": result.version or None,
            "exit_status": done.code,
            "status": result.status,
            "status_reason": result.status_reason or None,
            "settings": {key: value for key, value in settings.items() if key != "key"},
            "basis": Path(self.inputs.basis_file).name,
            "basis_sha256": sha256(self.inputs.basis_file),
            "water": water is not None,
            "water_te": water.te if water is not None else None,
        }


def _new_folder(folder: Path) -> Path:
    """An empty folder: outputs of an earlier run would pass for those of this one."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    return folder


def _safe_name(basis: str) -> str:
    """Name of the basis set in the folder of a run.

    It is kept where it can be: LCModel looks for the word gamma in it.
    """
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", Path(basis).name)[-LONGEST_NAME:]


def _read_result(table: Path, done: Ended, name: str) -> LCModelResult:
    """Result in a table that LCModel has written, whatever its exit status.

    Raises
    ------
    BadInputError
        There is no table, or it breaks off before the diagnostics.
    """
    if table.is_file() and done.code >= 0:
        result = read_table(read_text(table), table.name)
        if result.status not in ("missing", "truncated"):
            return result
    said = _said(done, table.with_suffix(".print"))
    raise BadInputError(
        f"LCModel wrote no whole table for {name} ({said}, exit status {done.code}); see the list "
        "of diagnostics in LCModel's manual, and check the basis set and the settings"
    )


def _said(done: Ended, printed: Path) -> str:
    """Why LCModel stopped, or the last it said; with `printed` it says little elsewhere."""
    text = done.out + (read_text(printed) if printed.is_file() else "")
    if stops := STOPPED.findall(text):
        return "FATAL " + " ".join(stops[-1])
    return last_line(done.err) or last_line(text) or NOTHING
