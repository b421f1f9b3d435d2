"""The sink: finished files to the output folder, whole or not at all."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from nipype.interfaces.base import (
    DynamicTraitedSpec,
    File,
    InputMultiObject,
    OutputMultiPath,
    TraitedSpec,
    Undefined,
    isdefined,
    traits,
)
from nipype.utils.filemanip import ensure_list

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.whole import put_all, remove, whole

GZIP_LEVEL = 1  # of 9; noise does not get much smaller


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file under a temporary name beside the target, then rename it.

    A ``.nii`` whose target is a ``.nii.gz`` is compressed, the same source to the same bytes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole(target) as temporary:
        fill(source, temporary)


def fill(source: Path, target: Path) -> None:
    """Copy a file, compressed where only the name of `target` says so."""
    if source.suffix == ".nii" and target.suffix == ".gz":
        _compress(source, target)
    else:
        shutil.copyfile(source, target)


def _compress(source: Path, target: Path) -> None:
    """Compress a file without its name and time in the header."""
    with (
        source.open("rb") as plain,
        target.open("wb") as file,
        gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as packed,
    ):
        shutil.copyfileobj(plain, packed, 1 << 20)


class _SaveOutputsInputSpec(DynamicTraitedSpec, CodedInputSpec):
    folder = traits.Str(mandatory=True, hash_files=False, desc="output folder")
    targets = traits.Dict(
        traits.Str, traits.Str, mandatory=True, hash_files=False,
        desc="path below the output folder, by key",
    )  # fmt: skip
    sidecars = traits.Dict(traits.Str, traits.Dict, desc="content of the JSON file, by key")
    members = traits.Dict(
        traits.Str, traits.Dict, hash_files=False, desc="paths by member, of keys of many files"
    )
    patterns = traits.Dict(
        traits.Str,
        traits.Str,
        hash_files=False,
        desc="what else earlier runs may have left here, by key",
    )
    optional = traits.List(traits.Str, desc="keys that need not have been made")
    factual = traits.List(traits.Str, desc="keys whose sidecar also holds facts_file")
    facts_file = File(exists=True, desc="JSON: what was really done")


class _SaveOutputsOutputSpec(TraitedSpec):
    out_files = OutputMultiPath(File(exists=True), desc="files in the output folder")


class SaveOutputs(CodedInterface):
    """Copy finished files and write their sidecars.

    One input ``<key>_file`` for each key, or a list ``<key>_files`` for a key of many files, one
    for each member, whose name ends with ``_<member>``. What an earlier run left of an output that
    is optional and was not made now, or is not asked for any more (`patterns`), is removed.
    """

    input_spec = _SaveOutputsInputSpec
    output_spec = _SaveOutputsOutputSpec
    _code = (copy_whole,)

    def __init__(self, keys=(), many=(), **inputs):
        self._keys, self._many = list(keys), list(many)
        super().__init__(**inputs)
        traits_of = {f"{key}_file": File(exists=True, desc=f"file of {key}") for key in keys}
        traits_of |= {
            f"{key}_files": InputMultiObject(File(exists=True), desc=f"files of {key}")
            for key in many
        }
        for name, trait in traits_of.items():
            self.inputs.add_trait(name, trait)
            self.inputs.trait_setq(**{name: Undefined})

    def _run_interface(self, runtime):
        files = self._files()
        optional = self.inputs.optional if isdefined(self.inputs.optional) else []
        missing = [key for key, _, source in files if source is None and key not in optional]
        if missing:
            raise RuntimeError(f"outputs were not made: {', '.join(dict.fromkeys(missing))}")
        sidecars = self.inputs.sidecars if isdefined(self.inputs.sidecars) else {}
        if isdefined(self.inputs.facts_file):
            facts = json.loads(Path(self.inputs.facts_file).read_text(encoding="utf-8"))
            sidecars = sidecars | {key: sidecars[key] | facts for key in self.inputs.factual}
        for path in self._left_over():
            remove(path)
            remove(_beside(path))
        gone = [target for _, target, source in files if source is None]
        made: dict[Path, Callable[[Path], object]] = {}
        for key, target, source in files:
            if source is not None:
                made[target] = partial(fill, source)
            if key in sidecars and source is not None:
                made[_beside(target)] = partial(_write_json, sidecars[key])
            elif key in sidecars:
                gone.append(_beside(target))
        self._results["out_files"] = put_all(made)
        for path in set(gone) - set(made):
            remove(path)
        return runtime

    def _files(self) -> list[tuple[str, Path, Path | None]]:
        """Key, place in the output folder and source of every file; None where it is not made."""
        folder, found = Path(self.inputs.folder), []
        for key in self._keys:
            path = getattr(self.inputs, f"{key}_file")
            source = Path(path) if isdefined(path) else None
            found.append((key, folder / self.inputs.targets[key], source))
        for key in self._many:
            paths = getattr(self.inputs, f"{key}_files")
            paths = ensure_list(paths) if isdefined(paths) else []  # nipype unwraps a lone file
            made = {member_of(path): Path(path) for path in paths}
            targets = self.inputs.members[key]
            if unknown := sorted(set(made) - set(targets)):
                raise RuntimeError(f"{key} has no member {', '.join(unknown)}")
            found += [(key, folder / target, made.get(name)) for name, target in targets.items()]
        return found

    def _left_over(self) -> list[Path]:
        """What earlier runs left of outputs and members that are not asked for any more."""
        patterns = self.inputs.patterns if isdefined(self.inputs.patterns) else {}
        folder = Path(self.inputs.folder)
        kept = {_stem(target) for _, target, _ in self._files()}
        found = [path for pattern in patterns.values() for path in folder.glob(pattern)]
        return sorted(path for path in set(found) if _stem(path) not in kept)


def _write_json(content: dict, path: Path) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _beside(path: Path) -> Path:
    """Sidecar of a file."""
    return _stem(path).with_suffix(".json")


def _stem(path: Path) -> Path:
    """Path without its endings: the same for an image and its sidecar."""
    return path.with_name(path.name.partition(".")[0])


def member_of(path: str | Path) -> str:
    """Which of many files this is: the end of its name, as in ``z_precentral.nii.gz``."""
    return Path(path).name.partition(".")[0].rpartition("_")[2]
