"""Are the signs and axes of the b-vectors right? Fibres tell.

A fibre goes on in the direction it points in. With a wrong sign or exchanged axes the directions
of the tensors no longer point along the bundles that they make up, and a step along them leaves
the bundle. Fibres know no head or tail, so of the 48 ways to permute and flip three axes 24 can
be told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.anat.morphology import erode
from alsflow.nodes.dwi.gradients import B0_MAX, Gradients, shells, tensor_volumes
from alsflow.nodes.dwi.tensor import SYMMETRIC, anisotropy, design_matrix
from alsflow.nodes.geometry import voxel_sizes

Verdict = Literal["right", "wrong", "cannot tell"]
MIN_FA = 0.25  # of the voxels that are followed
MAX_VOXELS = 30_000  # that are followed
STEPS = (1.0, 2.0)  # mean voxel edges that are gone along a fibre, both ways
BLOCK = 25.0  # mm; parts of the brain so large vote independently
MIN_VOXELS = 200  # fewer show no bundles
SURE = 4.0  # standard errors by which the best must lead
MIN_LEAD = 0.01  # of its index
# a table in its own order explains more than in another one, by a factor that depends on how
# much of what the two can explain overlaps: (overlap up to, factor at least)
FOLLOW = ((0.6, 1.6), (0.9, 1.0))
MIN_ORDERS = 9  # weighted volumes; fewer leave a fit no freedom to differ in
ROWS = ("x", "y", "z")


@dataclass(frozen=True)
class BvecCheck:
    """Result of the check.

    Attributes
    ----------
    verdict : "right", "wrong" or "cannot tell"
        Of the table as given.
    matrix : (3, 3) int array
        What the rows of the bvec file are to be multiplied by to have the best table.
    index : float
        Fibre coherence of the table as given, 0 to 1.
    best_index : float
        Fibre coherence of the best of the 24 tables; of the next best where the given one is
        best.
    lead : float
        Difference between the two in standard errors over parts of the brain.
    sentence : str
        The verdict in words, with the mend where there is one.
    """

    verdict: Verdict
    matrix: NDArray
    index: float
    best_index: float
    lead: float
    sentence: str


def check_bvecs(
    signal: NDArray,
    affine: NDArray,
    gradients: Gradients,
    mask: NDArray,
    stored_affine: NDArray | None = None,
) -> BvecCheck:
    """Compare the coherence of fibres under the given table and all its relatives [1]_, [2]_.

    Parameters
    ----------
    signal : (x, y, z, n) array
        Diffusion series of a head or a slab.
    affine : (4, 4) array
        Voxels to mm.
    gradients : Gradients
        Its weighting, in world coordinates.
    mask : (x, y, z) bool array
        Brain.
    stored_affine : (4, 4) array, optional
        Voxels to mm of the file the table came with, so that the mend names its rows.

    References
    ----------
    .. [1] Schilling et al. (2019). Magn Reson Imaging 58:82-89. doi:10.1016/j.mri.2019.01.018
    .. [2] Aganj (2018). Sci Rep 8:16541. doi:10.1038/s41598-018-34940-4
    """
    zooms = voxel_sizes(affine)
    turn = affine[:3, :3] / zooms
    inside = erode(mask, max(zooms), zooms)
    fa, direction = fibres(signal, gradients, inside, turn)
    white = fa > MIN_FA
    ways = transforms()
    if np.count_nonzero(white) < MIN_VOXELS:
        votes = np.ones((len(ways), 1, 2))  # nothing speaks for any of them
    else:
        votes = np.array([coherence(fa, direction, way, zooms) for way in ways])
    to_file = file_axes(affine, affine if stored_affine is None else stored_affine)
    follows = follow_table(signal[white], gradients)
    return judge(votes, [to_file @ way @ to_file.T for way in ways], follows)


def transforms() -> list[NDArray]:
    """Signed permutations (3, 3), of each and its negative the one with fewer signs, 24.

    The first is the identity.
    """
    found = []
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            matrix = np.zeros((3, 3), int)
            matrix[range(3), order] = signs
            if signs.count(-1) < 2:
                found.append(matrix)
    return found


def fibres(
    signal: NDArray, gradients: Gradients, mask: NDArray, turn: NDArray
) -> tuple[NDArray, NDArray]:
    """FA (x, y, z) and first direction (x, y, z, 3) in voxel axes, by a plain linear fit."""
    chosen = tensor_volumes(gradients)
    used = gradients[chosen.volumes]
    design = design_matrix(Gradients(used.bvals, used.directions @ turn))
    values = signal[mask][:, chosen.volumes].astype(float)
    values = np.where(np.isfinite(values), values, 0)
    lost = (values <= 0).any(axis=1)  # beyond the field of view of some volume
    floor = 1e-3 * np.maximum(values.max(axis=1, keepdims=True), 1e-6)
    fitted = np.log(np.maximum(values, floor)) @ np.linalg.pinv(design).T
    evals, evecs = np.linalg.eigh(fitted[:, SYMMETRIC])
    fa = np.zeros(mask.shape, np.float32)
    fa[mask] = np.minimum(anisotropy(np.maximum(evals, 0)), 1)
    # noise in CSF looks like fibres
    fast = evals.mean(axis=1) > 2 * np.median(evals.mean(axis=1))
    fa[mask] = np.where(fast | lost, 0, fa[mask])
    direction = np.zeros((*mask.shape, 3), np.float32)
    direction[mask] = evecs[:, :, 2]
    return fa, direction


def follow_table(values: NDArray, gradients: Gradients) -> bool:
    """Whether the volumes fit their own table better than any other order of it.

    They do not where the order is wrong, or where the head moved so much that edges drown the
    fibres. Flips and permutations make no difference to this.

    Parameters
    ----------
    values : (m, n) array
        Signals of white matter.
    gradients : Gradients
        Weighting of the n volumes.
    """
    shell = max((s for s in shells(gradients.bvals) if s.b > B0_MAX), key=lambda s: len(s.volumes))
    count = len(shell.volumes)
    if count < MIN_ORDERS or not len(values):
        return True
    values = values[:: max(len(values) // MAX_VOXELS, 1), shell.volumes].astype(float)
    log_s = np.log(np.maximum(values, 1e-6 * values.max()))
    log_s -= log_s.mean(axis=1, keepdims=True)
    design = design_matrix(gradients[shell.volumes]) / [*[shell.b] * 6, 1.0]
    basis, sizes, _ = np.linalg.svd(design, full_matrices=False)
    basis = basis[:, sizes > 1e-6 * sizes[0]]
    freedom = (count - 1) / (count - basis.shape[1])

    def share(order: NDArray) -> float:
        explained = ((log_s @ order) ** 2).sum() / (log_s**2).sum()
        return float(1 - (1 - explained) * freedom)

    own = share(basis)
    if own <= 0:
        return False
    for way in (basis, basis[::-1]):
        for turn in range(count):
            other = np.roll(way, turn, axis=0)
            overlap = ((other.T @ basis) ** 2).sum() / basis.shape[1]
            if any(overlap < most and own < times * share(other) for most, times in FOLLOW):
                return False
    return True


def coherence(fa: NDArray, direction: NDArray, way: NDArray, zooms: NDArray) -> NDArray:
    """Agreement of each fibre with what lies ahead of and behind it, by part of the brain.

    Parameters
    ----------
    fa, direction : (x, y, z) and (x, y, z, 3) array
        See `fibres`.
    way : (3, 3) array
        What the directions are to be multiplied by.
    zooms : (3,) array
        Voxel size, mm.

    Returns
    -------
    (parts, 2) array
        Sums over voxels of agreement and of weight.
    """
    places = np.argwhere(fa > MIN_FA)
    places = places[:: max(len(places) // MAX_VOXELS, 1)]
    own = direction[tuple(places.T)]
    weight = fa[tuple(places.T)]
    ahead = own @ way.T / zooms * zooms.mean()
    agreement = np.zeros(len(places))
    top = np.array(fa.shape) - 1
    for step in (*STEPS, *(-s for s in STEPS)):
        there = np.rint(places + step * ahead).astype(int)
        within = ((there >= 0) & (there <= top)).all(axis=1)
        at = tuple(np.clip(there, 0, top).T)
        along = (direction[at] * own).sum(axis=1) ** 2
        agreement += np.where(within, fa[at] * along, 0)
    part = parts_of(places, zooms)
    sums = [np.bincount(part, weight * v) for v in (agreement / (2 * len(STEPS)), weight)]
    return np.stack(sums, axis=1)


def parts_of(places: NDArray, zooms: NDArray) -> NDArray:
    """Number of the cube of `BLOCK` mm that each voxel (n, 3) lies in."""
    cubes = (places * zooms // BLOCK).astype(int)
    return np.unique(cubes, axis=0, return_inverse=True)[1].ravel()


def judge(votes: NDArray, ways: list[NDArray], follows: bool) -> BvecCheck:
    """Verdict from the votes (24, parts, 2) of parts of the brain for each table."""
    index = votes[..., 0].sum(axis=1) / votes[..., 1].sum(axis=1)
    order = np.argsort(-index, kind="stable")
    rival = order[0] if order[0] != 0 else order[1]
    lead = lead_of(votes[rival, :, 0] - votes[0, :, 0], votes[0, :, 1])
    clear = follows and lead > SURE and abs(index[rival] / index[0] - 1) > MIN_LEAD
    verdict: Verdict = "cannot tell"
    if clear:
        verdict = "right" if index[0] > index[rival] else "wrong"
    matrix = ways[rival] if verdict == "wrong" else ways[0]
    if follows:
        sentence = in_words(verdict, matrix, index[0], index[rival], lead)
    else:
        sentence = (
            "the volumes do not follow their table of gradients, so its signs and axes cannot be "
            "judged: the order of volumes or table may be wrong, or the head moved much"
        )
    return BvecCheck(verdict, matrix, float(index[0]), float(index[rival]), lead, sentence)


def lead_of(difference: NDArray, weight: NDArray) -> float:
    """Mean difference over parts of the brain (m,) in standard errors, as a ratio of sums."""
    rest = difference - difference.sum() / weight.sum() * weight
    error = np.sqrt(len(rest) / max(len(rest) - 1, 1) * (rest**2).sum())
    return float(abs(difference.sum()) / error) if error > 0 else 0.0


def in_words(verdict: Verdict, matrix: NDArray, own: float, other: float, lead: float) -> str:
    """Verdict with its numbers and the mend."""
    numbers = f"fibre coherence {own:.3f} as given"
    if verdict == "wrong":
        return (
            f"the b-vectors are flipped or exchanged ({numbers}, {other:.3f} mended, "
            f"{lead:.0f} standard errors): {mend(matrix)}"
        )
    if verdict == "right":
        return f"signs and axes of the b-vectors fit the fibres ({numbers}, next {other:.3f})"
    return (
        "the fibres do not tell whether signs and axes of the b-vectors are right "
        f"({numbers}, {other:.3f} otherwise, {lead:.1f} standard errors); look at the colours "
        "of the FA map"
    )


def mend(matrix: NDArray) -> str:
    """What to do to the bvec file, in words, from the signed permutation of its rows."""
    source = np.abs(matrix).argmax(axis=1)
    sign = matrix.sum(axis=1)
    if (source == range(3)).all():
        flipped = [row for row in range(3) if sign[row] < 0]
        named = " and ".join(ROWS[row] for row in flipped)
        rows = " and ".join(f"row {row + 1}" for row in flipped)
        return f"flip the sign of {named}: multiply {rows} of the bvec file by -1"
    lines = [
        f"row {row + 1} = {'-' if sign[row] < 0 else ''}row {source[row] + 1}" for row in range(3)
    ]
    return f"exchange the rows of the bvec file: new {', '.join(lines)} of the old file"


def file_axes(affine: NDArray, stored: NDArray) -> NDArray:
    """Signed permutation (3, 3) from vectors in voxel axes to the rows of the bvec file."""
    axes = np.rint(np.linalg.inv(stored[:3, :3] / voxel_sizes(stored)) @ (
        affine[:3, :3] / voxel_sizes(affine)
    )).astype(int)  # fmt: skip
    if np.linalg.det(stored[:3, :3]) > 0:
        axes[0] *= -1
    return axes
