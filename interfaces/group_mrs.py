"""Files of the spectroscopy voxel at the group level: whose voxels, and what their overlap is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from nipype.interfaces.base import File, TraitedSpec, traits

from alsflow.interfaces.anat import write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.images import load
from alsflow.interfaces.template import SPACE
from alsflow.nodes.report.spectroscopy_voxel import overlap_peak
from alsflow.nodes.stats.tables import MISSING, natural_key

STREAM = "mrs"
VOXEL_NAME = re.compile(
    r"(?P<sub>sub-[^_]+)(?:_(?P<ses>ses-[^_]+))?(?:_[^_]+)*"
    rf"_space-{SPACE}_desc-voxel_probseg\.nii\.gz"
)
DIGITS = 4  # of a share


def find_voxels(
    output_dir: Path,
    people: Iterable[str] = (),
    sessions: Iterable[str] = (),
    unusable: Mapping[str, str] | None = None,
) -> list[Path]:
    """Voxels in the template under `output_dir`, one of each person.

    Parameters
    ----------
    output_dir : path
        Of the run.
    people, sessions : iterable of str
        Labels without ``sub-`` and ``ses-``; all where empty.
    unusable : mapping
        Of `read_states`: ``"sub-01 ses-a mrs"`` to why that result does not count.

    Returns
    -------
    list of path
        Of a person with several, that of the first session, and there the first by name.
    """
    people, sessions, unusable = set(people), set(sessions), unusable or {}
    found: dict[str, Path] = {}
    paths = output_dir.glob(f"sub-*/**/{STREAM}/*_desc-voxel_probseg.nii.gz")
    for path in sorted(paths, key=lambda path: natural_key(str(path))):
        name = VOXEL_NAME.fullmatch(path.name)
        if name is None:
            continue
        person, session = name["sub"], name["ses"] or MISSING
        if people and person.removeprefix("sub-") not in people:
            continue
        if sessions and session.removeprefix("ses-") not in (*sessions, MISSING):
            continue
        if f"{person} {session} {STREAM}" not in unusable:
            found.setdefault(person, path)
    return list(found.values())


class _DescribeOverlapInputSpec(CodedInputSpec):
    overlap_file = File(exists=True, mandatory=True, desc="share of the people at each place")
    count = traits.Range(low=1, mandatory=True, desc="number of people")
    sources = traits.List(traits.Str, mandatory=True, desc="voxel of each person, BIDS URI")


class _DescribeOverlapOutputSpec(TraitedSpec):
    info_file = File(exists=True, desc="JSON that stands beside the overlap")


class DescribeOverlap(CodedInterface):
    """Write the sidecar of the overlap of voxels; see `nodes.report.spectroscopy_voxel`."""

    input_spec = _DescribeOverlapInputSpec
    output_spec = _DescribeOverlapOutputSpec
    _code = (overlap_peak,)

    def _run_interface(self, runtime):
        overlap, image = load(self.inputs.overlap_file)
        place, share = overlap_peak(overlap, image.affine) if overlap.any() else ((), 0.0)
        content = {
            "Description": "Share of the people whose spectroscopy voxel covers each place, "
            "0 to 1; one voxel of each person.",
            "SpatialReference": SPACE,
            "NumberOfPeople": self.inputs.count,
            "LargestOverlap": round(share, DIGITS),
            "LargestOverlapAt": [round(float(mm), 1) for mm in place],
            "Sources": list(self.inputs.sources),
        }
        path = Path(runtime.cwd) / "desc-voxel_overlap.json"
        self._results["info_file"] = write_json(content, path)
        return runtime
