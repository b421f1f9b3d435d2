"""Tissue maps that are there already: find them, and take over those of any engine."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nipype.interfaces.base import File, TraitedSpec, isdefined, traits

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.images import load_given, save
from alsflow.interfaces.report import require_same_grid
from alsflow.interfaces.whole import whole
from alsflow.nodes.anat.maps import brain_from_maps, clipped, map_problems, tissue_volume
from alsflow.nodes.errors import BadInputError

TISSUES = {"gm_file": ("GM", 1), "wm_file": ("WM", 2), "csf_file": ("CSF", 3)}
IMAGE = r"\.nii(\.gz)?"


@dataclass(frozen=True)
class PrecomputedMaps:
    """Files of one visit in a derivatives folder; None where there is none."""

    gm_file: Path
    wm_file: Path
    csf_file: Path
    mask_file: Path | None
    t1w_file: Path | None  # the head that the maps lie on, if the derivatives hold it
    made_by: str  # name and version of the program that made them


def find_precomputed(
    folder: str | Path, participant: str, session: str | None = None
) -> PrecomputedMaps:
    """Find the native-space tissue maps of one visit.

    Names of BIDS derivatives (``sub-01_label-GM_probseg.nii.gz``, as fMRIPrep writes) and of
    CAT12 (``p1sub-01_T1w.nii``) are known, in this order.

    Parameters
    ----------
    folder : path
        Derivatives of one program.
    participant, session : str
        Labels without ``sub-`` and ``ses-``.

    Raises
    ------
    BadInputError
        A map is missing, or more than one file could be it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInputError(f"The derivatives folder {folder} does not exist.")
    visit = f"sub-{participant}" + (f"_ses-{session}" if session else "")
    files = sorted(path for path in folder.rglob(f"*sub-{participant}*") if path.is_file())
    made_by = _made_by(folder)
    bids = {key: _matching(files, _bids(visit, f"label-{label}", "probseg"))
            for key, (label, _) in TISSUES.items()}  # fmt: skip
    if any(bids.values()):
        found = {key: _only(paths, visit, TISSUES[key][0], folder) for key, paths in bids.items()}
        mask = _matching(files, _bids(visit, "desc-brain", "mask"))
        head = _matching(files, _bids(visit, "desc-preproc", "T1w"))
        return PrecomputedMaps(
            **found,
            mask_file=_only(mask, visit, "brain mask", folder) if mask else None,
            t1w_file=_only(head, visit, "T1w", folder) if head else None,
            made_by=made_by,
        )
    cat12 = {key: _matching(files, _cat12(visit, number))
             for key, (_, number) in TISSUES.items()}  # fmt: skip
    found = {key: _only(paths, visit, TISSUES[key][0], folder) for key, paths in cat12.items()}
    return PrecomputedMaps(**found, mask_file=None, t1w_file=None, made_by=made_by)


def _bids(visit: str, entity: str, suffix: str) -> str:
    """Pattern of a file in native space: other entities may stand between, but no space-."""
    return rf"{visit}(_(?!ses-|space-|res-|label-|desc-)[a-z]+-\w+?)*_{entity}_{suffix}{IMAGE}"


def _cat12(visit: str, number: int) -> str:
    return rf"p{number}{visit}(_(?!ses-)[a-z]+-\w+?)*_T1w{IMAGE}"


def _matching(files: Sequence[Path], pattern: str) -> list[Path]:
    return [path for path in files if re.fullmatch(pattern, path.name)]


def _only(paths: Sequence[Path], visit: str, what: str, folder: Path) -> Path:
    if not paths:
        raise BadInputError(
            f"{folder} has no {what} of {visit} in native space: neither "
            f"{visit}_..._label-GM_probseg.nii.gz and its like, nor p1{visit}_..._T1w.nii."
        )
    if len(paths) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in paths)
        raise BadInputError(
            f"{folder} has {len(paths)} files that could be the {what} of {visit}: {names}. "
            "Leave one."
        )
    return paths[0]


def _made_by(folder: Path) -> str:
    """Program that made a derivatives folder, as its description names it."""
    path = folder / "dataset_description.json"
    if not path.is_file():
        return "not stated"
    try:
        first = json.loads(path.read_text(encoding="utf-8"))["GeneratedBy"][0]
        return " ".join(str(first[key]) for key in ("Name", "Version") if key in first)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise BadInputError(f"{path} does not say what generated it: {error}.") from error


# ---------------------------------------------------------------------------- taking over


class _AdoptMapsInputSpec(CodedInputSpec):
    t1w_file = File(exists=True, mandatory=True, desc="head that the maps lie on")
    gm_file = File(exists=True, mandatory=True, desc="grey-matter probability")
    wm_file = File(exists=True, mandatory=True, desc="white-matter probability")
    csf_file = File(exists=True, mandatory=True, desc="CSF probability")
    mask_file = File(exists=True, desc="brain mask; by default where the maps exceed one half")
    details = traits.Dict(mandatory=True, desc="engine, version and what else the engine states")


class _AdoptMapsOutputSpec(TraitedSpec):
    t1w_file = File(exists=True, desc="head, compressed NIfTI")
    gm_file = File(exists=True, desc="grey-matter probability, 0 to 1, grid of t1w_file")
    wm_file = File(exists=True, desc="white-matter probability")
    csf_file = File(exists=True, desc="CSF probability")
    mask_file = File(exists=True, desc="brain mask")
    info_file = File(exists=True, desc="engine, version and what else the engine states, JSON")


class AdoptMaps(CodedInterface):
    """Take over the tissue maps of another program, once they have been believed."""

    input_spec = _AdoptMapsInputSpec
    output_spec = _AdoptMapsOutputSpec
    _code = (map_problems, brain_from_maps, require_same_grid, find_precomputed)

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        t1w, head = load_given(self.inputs.t1w_file)
        maps = {}
        for key in TISSUES:
            maps[key], image = load_given(getattr(self.inputs, key))
            require_same_grid(head, image)
        gm, wm, csf = maps.values()
        if problems := map_problems(gm, wm, csf, head.affine):
            raise BadInputError(f"The tissue maps beside {self.inputs.gm_file} cannot be used: "
                                f"{'; '.join(problems)}.")  # fmt: skip
        self._results["mask_file"] = save(
            self._brain(head, gm, wm, csf), head.affine, folder / "mask.nii.gz"
        )
        for key, volume in maps.items():
            path = folder / f"{key.removesuffix('_file')}.nii.gz"
            self._results[key] = save(clipped(volume), head.affine, path)
        self._results["t1w_file"] = save(t1w, head.affine, folder / "t1w.nii.gz")
        volumes = {key: tissue_volume(maps[key], head.affine) for key in TISSUES}
        self._results["info_file"] = self._write_info(folder / "info.json", volumes)
        return runtime

    def _brain(self, head, gm, wm, csf):
        if not isdefined(self.inputs.mask_file):
            return brain_from_maps(gm, wm, csf)
        mask, image = load_given(self.inputs.mask_file)
        require_same_grid(head, image)
        return mask > 0

    def _write_info(self, path: Path, volumes: dict[str, float]) -> str:
        content: dict[str, Any] = dict(self.inputs.details)
        content["maps_ml"] = {key.removesuffix("_file"): round(value, 3)
                              for key, value in volumes.items()}  # fmt: skip
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        with whole(path) as partial:
            partial.write_text(text, encoding="utf-8")
        return str(path)
