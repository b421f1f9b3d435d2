"""Whether an atlas can be believed: its grid, its numbers, and left on the left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.geometry import apply_affine, stated_sizes, voxel_sizes

VOXEL_RANGE = (0.2, 8.0)  # mm
# No head in MNI space reaches beyond these, mm
REACH_LOW = np.array([-120.0, -160.0, -130.0])
REACH_HIGH = np.array([120.0, 130.0, 150.0])
PROBABILITY_MAX = 100.0  # probabilities are stored in percent


def affine_problems(affine: NDArray) -> list[str]:
    """Sentences on a voxel-to-mm affine of shape (4, 4) that no atlas can have."""
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        return ["its affine is not invertible: the header does not say where the voxels lie"]
    sizes = stated_sizes(affine)
    if sizes.min() < VOXEL_RANGE[0] or sizes.max() > VOXEL_RANGE[1]:
        shown = " x ".join(f"{size:.3g}" for size in sizes)
        return [f"its voxels are {shown} mm, outside {VOXEL_RANGE[0]} to {VOXEL_RANGE[1]} mm"]
    return []


def value_problems(volumes: Iterable[NDArray], kind: str, labels: Mapping[int, str]) -> list[str]:
    """Sentences on voxel values that do not agree with the kind of atlas or its label table.

    Parameters
    ----------
    volumes : iterable of (x, y, z) arrays
        The one volume of an atlas of labels; one volume per label of the other kinds.
    kind : {"labels", "probability", "masks4d"}
        What the values mean.
    labels : mapping of int to str
        Name of each label.
    """
    check = _label_problems if kind == "labels" else _volume_problems
    return list(check(volumes, kind, labels))


def _label_problems(
    volumes: Iterable[NDArray], kind: str, labels: Mapping[int, str]
) -> Iterator[str]:
    volume = next(iter(volumes))
    if not np.isfinite(volume).all() or (volume != np.round(volume)).any() or volume.min() < 0:
        yield "its values are not whole numbers from 0"
        return
    found = {int(value) for value in np.unique(volume)} - {0}
    if unnamed := sorted(found - set(labels)):
        yield f"label {_listed(unnamed)} of the image is not in the table"
    if empty := sorted(set(labels) - found):
        yield f"label {_listed(empty)} of the table is nowhere in the image"


def _volume_problems(
    volumes: Iterable[NDArray], kind: str, labels: Mapping[int, str]
) -> Iterator[str]:
    top = 1.0 if kind == "masks4d" else PROBABILITY_MAX
    count = 0
    for index, volume in enumerate(volumes):
        count += 1
        if not np.isfinite(volume).all() or volume.min() < 0 or volume.max() > top:
            yield f"volume {index} has values outside 0 to {top:g}"
        elif kind == "probability" and 0 < volume.max() <= 1:
            yield f"volume {index} has values up to 1 only; probabilities are percent, 0 to 100"
        elif kind == "masks4d" and not np.isin(volume, (0, 1)).all():
            yield f"volume {index} is not a mask of 0 and 1"
        elif not volume.any():
            yield f"volume {index} ({labels.get(index, 'no name')}) is empty"
    if set(range(count)) != set(labels):
        yield f"it has {count} volumes, and the table names {len(labels)} labels, counted from 0"


def _listed(numbers: list[int], most: int = 8) -> str:
    """Write the first numbers of a list as text."""
    text = ", ".join(str(number) for number in numbers[:most])
    return text + (", ..." if len(numbers) > most else "")


def centroids(
    volumes: Iterable[NDArray], kind: str, indices: Iterable[int], affine: NDArray
) -> dict[int, NDArray]:
    """Centre of each label that is there.

    Parameters
    ----------
    volumes : iterable of (x, y, z) arrays
        As in `value_problems`.
    kind : str
        As in `value_problems`.
    indices : iterable of int
        Labels asked for.
    affine : (4, 4) array
        Voxel to RAS+ mm.

    Returns
    -------
    dict of int to (3,) array
        World coordinates, mm.
    """
    wanted = set(indices)
    found: dict[int, NDArray] = {}
    for position, volume in enumerate(volumes):
        points = np.nonzero(volume)
        values = volume[points]
        label = values if kind == "labels" else np.full(len(values), position)
        weight = np.ones(len(values)) if kind == "labels" else values.astype(float)
        for index in wanted & {int(value) for value in np.unique(label)}:
            here = label == index
            centre = [np.average(axis[here], weights=weight[here]) for axis in points]
            found[index] = apply_affine(affine, np.array(centre))
    return found


def place_problems(
    centres: Mapping[int, NDArray], names: Mapping[int, str], sides: Mapping[int, str]
) -> list[str]:
    """Sentences on labels that lie outside a head, or on the side that they do not name."""
    problems = []
    for index, centre in sorted(centres.items()):
        where = f"label {index} ({names[index]})"
        shown = ", ".join(f"{value:.0f}" for value in centre)
        if (centre < REACH_LOW).any() or (centre > REACH_HIGH).any():
            problems.append(f"{where} lies at ({shown}) mm, outside any head in MNI space")
        elif centre[0] * {"left": 1, "right": -1, "": 0}[sides[index]] > 0:
            problems.append(f"{where} is called {sides[index]} and lies on the other side, at "
                            f"({shown}) mm")  # fmt: skip
    return problems


def fill_gaps(labels: NDArray, affine: NDArray, reach: float = 3.0) -> NDArray:
    """Give unlabelled voxels the nearest label.

    Maximum-probability atlases leave gaps where no label won, above all in sulci. Grey matter in
    a gap would belong to no region.

    Parameters
    ----------
    labels : (x, y, z) int array
        0 is unlabelled.
    affine : (4, 4) array
        Voxel to mm.
    reach : float
        Gaps farther than this from every label stay unlabelled, mm.

    Returns
    -------
    (x, y, z) int array
        Labelled voxels keep their label.
    """
    distance, nearest = ndimage.distance_transform_edt(
        labels == 0, sampling=voxel_sizes(affine), return_indices=True
    )
    return np.where(distance <= reach, labels[tuple(nearest)], 0).astype(labels.dtype)
