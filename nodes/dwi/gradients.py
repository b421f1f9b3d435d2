"""b-values and gradient directions: what a diffusion series was weighted with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alsflow.nodes.epi.series import listed
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import voxel_sizes

B0_MAX = 50.0  # s/mm2; a volume at or below this b-value counts as b=0
SHELL_GAP = 80.0  # s/mm2; b-values closer than this belong to one shell
TENSOR_B_MAX = 1500.0  # s/mm2; above, the decay in the brain is not that of one tensor
B_TOO_SMALL = 10.0  # s/mm2; where the largest is smaller, the unit is another one
B_TOO_LARGE = 20000.0  # s/mm2; no scanner for people gets there
MIN_DIRECTIONS = 6  # of a tensor
SAME_DIRECTION = np.cos(np.deg2rad(2.0))  # cosine; g and -g are one direction
ROUNDED = 0.02  # difference of a length from 1 that two decimals can make
SHORTEST = 0.1  # length below which a vector names no direction
SCALED = 0.05  # relative difference up to which b follows the squared length
MIN_SPAN = 0.005  # least singular value of the directions' design against the largest


@dataclass(frozen=True)
class Gradients:
    """Diffusion weighting of the volumes of one series.

    Attributes
    ----------
    bvals : (n,) array
        b-values, s/mm2.
    directions : (n, 3) array
        Unit vectors in RAS+ world coordinates; (0, 0, 0) for volumes without weighting.
    """

    bvals: NDArray
    directions: NDArray

    @property
    def b0(self) -> NDArray:
        """(n,) bool array: the volumes without diffusion weighting."""
        return self.bvals <= B0_MAX

    def __len__(self) -> int:
        return len(self.bvals)

    def __getitem__(self, chosen: NDArray) -> Gradients:
        """Weighting of some of the volumes."""
        return Gradients(self.bvals[chosen], self.directions[chosen])


@dataclass(frozen=True)
class Table:
    """A table of gradients as FSL stores it, after its check.

    Attributes
    ----------
    bvals : (n,) array
        b-values, s/mm2.
    bvecs : (3, n) array
        Unit vectors in FSL's axes; (0, 0, 0) for volumes without weighting.
    notes : tuple of str
        What was mended on the way.
    """

    bvals: NDArray
    bvecs: NDArray
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shell:
    """Volumes of about the same b-value.

    Attributes
    ----------
    b : float
        Their median b-value, s/mm2.
    volumes : (m,) int array
        Which of the series they are, ascending.
    """

    b: float
    volumes: NDArray


@dataclass(frozen=True)
class TensorVolumes:
    """Volumes that a tensor is fitted to.

    Attributes
    ----------
    volumes : (m,) int array
        Which of the series they are, ascending.
    b_used : tuple of float
        b-values of their shells, b=0 left out, s/mm2.
    note : str
        Warning about the choice; empty where there is none.
    """

    volumes: NDArray
    b_used: tuple[float, ...]
    note: str = ""


def world_directions(bvecs: NDArray, affine: NDArray) -> NDArray:
    """Directions in RAS+ world coordinates, (n, 3), from FSL b-vectors, (3, n).

    FSL's vectors are relative to the voxel axes, the first of them inverted where the affine has
    a positive determinant.
    """
    vectors = np.array(bvecs, float)
    if np.linalg.det(affine[:3, :3]) > 0:
        vectors[0] *= -1
    return (affine[:3, :3] / voxel_sizes(affine) @ vectors).T


def fsl_bvecs(directions: NDArray, affine: NDArray) -> NDArray:
    """FSL b-vectors, (3, n), from directions in RAS+ world coordinates, (n, 3)."""
    vectors = np.linalg.solve(affine[:3, :3] / voxel_sizes(affine), np.asarray(directions).T)
    if np.linalg.det(affine[:3, :3]) > 0:
        vectors[0] *= -1
    return vectors


def check_gradients(
    bvals: ArrayLike, bvecs: ArrayLike, n_volumes: int, *, weighted: bool = True
) -> Table:
    """Bring a table of gradients into order, or refuse it in words.

    Parameters
    ----------
    bvals : (n,) array
        b-values, s/mm2.
    bvecs : (3, n) or (n, 3) array
        b-vectors in FSL's axes.
    n_volumes : int
        Volumes of the series.
    weighted : bool
        Whether a tensor is to be fitted to this series; False takes b=0 volumes alone, too.

    Raises
    ------
    BadInputError
        When the table cannot be used; the message says why and how to mend it.
    """
    b = check_bvals(bvals, n_volumes)
    vectors = check_shape(bvecs, n_volumes)
    b0 = b <= B0_MAX
    if weighted or not b0.all():
        check_share_of_b0(b)
    vectors[:, b0] = 0
    check_vectors(vectors, b0)
    b, vectors, notes = unit_vectors(b, vectors, ~b0)
    if weighted:
        check_span(vectors[:, ~b0].T)
    return Table(b, vectors, notes)


def check_bvals(bvals: ArrayLike, n_volumes: int) -> NDArray:
    """Return b-values as (n,) array, or refuse their number, values or unit."""
    b = np.array(bvals, float).ravel()
    if len(b) != n_volumes:
        raise BadInputError(
            f"has {len(b)} b-values for {n_volumes} volumes; give one b-value per volume"
        )
    if not np.isfinite(b).all():
        raise BadInputError(
            f"has b-values that are not numbers ({listed(~np.isfinite(b))}); "
            "export the bval file again"
        )
    if b.min() < 0:
        raise BadInputError(f"has negative b-values ({listed(b < 0)}); export the bval file again")
    if 0 < b.max() < B_TOO_SMALL:
        raise BadInputError(
            f"has b-values up to {b.max():g} only, which looks like ms/µm²; "
            "multiply the b-values by 1000 to have s/mm²"
        )
    if b.max() > B_TOO_LARGE:
        raise BadInputError(
            f"has b-values up to {b.max():g} s/mm², which no scanner for people reaches; "
            "check their unit (s/m² is 1 000 000 times too large)"
        )
    return b


def check_shape(bvecs: ArrayLike, n_volumes: int) -> NDArray:
    """Return b-vectors as (3, n) array, or refuse their number."""
    vectors = np.array(bvecs, float)
    if vectors.ndim == 2 and vectors.shape == (n_volumes, 3) and n_volumes != 3:
        vectors = vectors.T.copy()
    if vectors.ndim != 2 or 3 not in vectors.shape:
        size = " x ".join(map(str, vectors.shape))
        raise BadInputError(
            f"has b-vectors of shape {size}; "
            f"give 3 rows (x, y, z) of {n_volumes} numbers, one column per volume"
        )
    if vectors.shape != (3, n_volumes):
        count = max(vectors.shape) if vectors.shape[0] == 3 else vectors.shape[0]
        raise BadInputError(
            f"has {count} b-vectors for {n_volumes} volumes; give one b-vector per volume"
        )
    return vectors


def check_share_of_b0(b: NDArray) -> None:
    """Refuse a series without weighting, or without b=0."""
    if (b <= B0_MAX).all():
        raise BadInputError(
            f"holds b=0 volumes only ({len(b)}), to which no tensor can be fitted; "
            "give the diffusion-weighted series"
        )
    if (b > B0_MAX).all():
        raise BadInputError(
            f"holds no b=0 volume (the lowest b-value is {b.min():g} s/mm², b=0 ends at "
            f"{B0_MAX:g}); add one with its b-value, the signal without weighting is needed"
        )


def check_vectors(vectors: NDArray, b0: NDArray) -> None:
    """Refuse weighted volumes without a direction."""
    broken = ~np.isfinite(vectors).all(axis=0)
    if broken.any():
        raise BadInputError(
            f"has b-vectors that are not numbers ({listed(broken)}); export the bvec file again"
        )
    empty = ~b0 & (np.linalg.norm(vectors, axis=0) < SHORTEST)
    if empty.any():
        raise BadInputError(
            f"has b-vectors of length zero on diffusion-weighted volumes ({listed(empty)}); "
            "export the bvec file again, or take those volumes out (averages over directions, "
            "which some scanners append, are no part of the series)"
        )


def unit_vectors(
    b: NDArray, vectors: NDArray, weighted: NDArray
) -> tuple[NDArray, NDArray, tuple[str, ...]]:
    """b-values, unit vectors and what was changed.

    Some scanners store several shells as one b-value and vectors of a squared length of
    b / largest b. Where the b-values say so too, or are all the same, that is taken as meant.
    """
    length = np.linalg.norm(vectors, axis=0)
    length[~weighted] = 1.0
    unit = vectors / length
    off = np.abs(length - 1) > ROUNDED
    if not off.any():
        return b, unit, ()
    share = length[weighted] ** 2 / (length[weighted] ** 2).max()
    own = b[weighted] / b[weighted].max()
    if np.allclose(own, share, rtol=SCALED):
        if np.ptp(own) <= SCALED:
            note = f"b-vectors of length {np.median(length[weighted]):.3g} were brought to 1"
        else:
            note = "b-vectors whose length repeated the b-value were brought to length 1"
        return b, unit, (note,)
    longest = length[weighted].max()
    if np.ptp(own) <= SCALED and abs(longest - 1) <= ROUNDED:
        scaled = b.copy()
        scaled[weighted] *= length[weighted] ** 2
        note = (
            f"b-vectors shorter than 1 on {off.sum()} volumes at one b-value of "
            f"{b.max():g} s/mm²: taken as b times squared length, "
            f"{scaled[weighted].min():.0f} to {scaled.max():.0f} s/mm²"
        )
        check_share_of_b0(scaled)
        return scaled, unit, (note,)
    raise BadInputError(
        f"has b-vectors whose length is not 1 ({length[weighted].min():.3g} to {longest:.3g}; "
        f"{listed(off)}) and does not follow the b-values; write vectors of length 1, and where "
        "the length held the weighting, b-values of b times squared length"
    )


def distinct_directions(directions: NDArray) -> NDArray:
    """Directions (m, 3) of which none repeats another or its opposite, in their order."""
    kept: list[NDArray] = []
    for direction in directions:
        if not kept or np.abs(np.array(kept) @ direction).max() < SAME_DIRECTION:
            kept.append(direction)
    return np.array(kept).reshape(-1, 3)


def products(directions: NDArray) -> NDArray:
    """Six products xx, xy, xz, yy, yz, zz of each direction (n, 3), the mixed ones twice."""
    x, y, z = np.asarray(directions).T
    return np.stack([x * x, 2 * x * y, 2 * x * z, y * y, 2 * y * z, z * z], axis=1)


def spans(directions: NDArray) -> bool:
    """Whether directions (n, 3) determine all six components of a tensor."""
    distinct = distinct_directions(directions)
    if len(distinct) < MIN_DIRECTIONS:
        return False
    sizes = np.linalg.svd(products(distinct), compute_uv=False)
    return bool(sizes[-1] > MIN_SPAN * sizes[0])


def check_span(directions: NDArray) -> None:
    """Refuse too few directions, or directions that leave a tensor undetermined."""
    count = len(distinct_directions(directions))
    if count < MIN_DIRECTIONS:
        raise BadInputError(
            f"has {count} distinct gradient directions, and a tensor needs {MIN_DIRECTIONS}; "
            "use a protocol with more directions"
        )
    if not spans(directions):
        raise BadInputError(
            f"has {count} distinct gradient directions that lie in one plane or cone and do not "
            "determine a tensor; check the bvec file (a row of zeros or a repeated row?)"
        )


def shells(bvals: NDArray, gap: float = SHELL_GAP) -> list[Shell]:
    """Volumes by b-value, ascending; b=0 is the first shell where there is one.

    Parameters
    ----------
    bvals : (n,) array
        b-values, s/mm2.
    gap : float
        Neighbouring b-values at least so far apart, s/mm2, part two shells.
    """
    bvals = np.asarray(bvals, float)
    order = np.argsort(bvals, kind="stable")
    apart = np.diff(bvals[order]) >= gap
    # b=0 ends at its own limit, however close the next shell is
    apart |= np.diff((bvals[order] <= B0_MAX).astype(int)) != 0
    groups: Iterable[NDArray] = np.split(order, np.flatnonzero(apart) + 1)
    return [Shell(float(np.median(bvals[group])), np.sort(group)) for group in groups]


def tensor_volumes(gradients: Gradients, b_max: float = TENSOR_B_MAX) -> TensorVolumes:
    """Volumes that a tensor can be fitted to: b=0 and the shells up to `b_max`.

    Where these do not determine a tensor, the lowest higher shell that does is taken alone, with
    a warning.
    """
    found = shells(gradients.bvals)
    b0 = np.flatnonzero(gradients.b0)
    low = [s for s in found if B0_MAX < s.b <= b_max]
    high = [s for s in found if s.b > max(b_max, B0_MAX)]
    usable = np.concatenate([s.volumes for s in low]) if low else np.empty(0, int)
    if spans(gradients.directions[usable]):
        return TensorVolumes(np.sort(np.r_[b0, usable]), tuple(s.b for s in low))
    for shell in high:
        if spans(gradients.directions[shell.volumes]):
            note = (
                f"the tensor is fitted at b = {shell.b:.0f} s/mm², above {b_max:g}: "
                "diffusivities come out too low and cannot be compared with those of b = 1000"
            )
            return TensorVolumes(np.sort(np.r_[b0, shell.volumes]), (shell.b,), note)
    raise BadInputError(
        f"has no shell, and no shells up to b = {b_max:g} s/mm² together, whose directions "
        f"determine a tensor (b-values: {', '.join(f'{s.b:.0f}' for s in found)}); "
        "give all runs of the protocol"
    )


def protocols_agree(first: Gradients, second: Gradients) -> tuple[bool, str]:
    """Whether two runs may be joined into one series, and if not, why.

    They may where both have the same shells. The number of directions may differ, and a run may
    hold b=0 volumes alone.
    """
    ours, theirs = ([s.b for s in shells(run.bvals) if s.b > B0_MAX] for run in (first, second))
    if not ours or not theirs:
        return True, ""
    same = len(ours) == len(theirs) and all(
        abs(a - b) < SHELL_GAP for a, b in zip(ours, theirs, strict=True)
    )
    if same:
        return True, ""
    mine, other = (", ".join(f"{b:.0f}" for b in run) for run in (ours, theirs))
    return False, f"one run was weighted with b = {mine} s/mm² and another with b = {other}"
