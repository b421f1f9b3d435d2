"""Cut an anatomy into hard labels finer than a voxel, and count them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import voxel_sizes, voxel_volume
from alsflow.nodes.simulate.anatomy import LAYERS, SKIN, STRUCTURES, Anatomy

CLASSES = (
    "air",
    "skin",
    "fat",
    "bone",
    "marrow",
    "muscle",
    "eye",
    "csf",
    "ventricle",
    "cortex",
    "striatum",
    "thalamus",
    "pallidum",
    "white",
    "brainstem",
    "cord",
    "spinal_csf",
)
TISSUES = {
    "gm": ("cortex", "striatum", "thalamus", "pallidum"),
    "wm": ("white", "brainstem"),
    "csf": ("csf", "ventricle"),
}
FINEST = 0.7  # mm; sub-voxels are at most this long,
FEWEST, MOST = 2, 3  # but no more and no fewer than these lie along each edge
CSF_REACH = 12.0  # mm around a region in which the nearest CSF is looked for
MARROW_MIN = 4.5  # mm, thickness of skull from which there is marrow in its middle
ORBIT = 7.0  # mm of fat around an eye
FATTY, SINEWY = 1.3, -1.6  # marbling beyond which muscle is fat, or dark as bone

AIR, SKIN_CLASS, FAT, BONE, MARROW, MUSCLE, EYE = range(7)
CSF, VENTRICLE, CORTEX = 7, 8, 9
WHITE, BRAINSTEM, CORD, SPINAL_CSF = 13, 14, 15, 16
SURFACE, RIM, SKULL, FAT_LAYER, MARBLING, AIR_SPACE, EYE_SPACE, SULCI, WHITE_SHIFT = range(9)
VENTRICLES_AT = list(STRUCTURES).index("ventricles") + 1
BRAINSTEM_AT = list(STRUCTURES).index("brainstem") + 1
assert len(LAYERS) == 9  # the numbers above name their columns


@dataclass(frozen=True)
class FineLabels:
    """Hard labels of a person on a grid finer than the image's.

    Attributes
    ----------
    classes : (nx*fx, ny*fy, nz*fz) uint8 array
        Place in `CLASSES` of each sub-voxel.
    atlas : uint8 array
        Atlas label of each sub-voxel inside the skull, 0 elsewhere; same shape.
    affine : (4, 4) array
        Sub-voxel to mm of the person's world.
    factors : (int, int, int)
        Sub-voxels along each edge of a voxel of the image.
    lost : (256,) array
        Grey matter that atrophy turned into CSF in each atlas label, mL.
    """

    classes: NDArray
    atlas: NDArray
    affine: NDArray
    factors: tuple[int, int, int]
    lost: NDArray


def subdivision(affine: NDArray, finest: float = FINEST) -> tuple[int, int, int]:
    """Sub-voxels along each edge of a voxel: `finest` mm long, but from 2 to 3 of them."""
    wanted = np.ceil(voxel_sizes(affine) / finest - 1e-6)
    x, y, z = np.clip(wanted, FEWEST, MOST).astype(int).tolist()
    return x, y, z


# Compiled anew in each process (2 s): numba's cache wants a folder that can be written, which an
# installed package in a container may not have.
@numba.njit(fastmath=True, inline="always")
def _apply(matrix, x, y, z):
    """Point moved by a (3, 4) matrix."""
    return (
        matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z + matrix[0, 3],
        matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z + matrix[1, 3],
        matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z + matrix[2, 3],
    )


@numba.njit(fastmath=True, inline="always")
def _corner(matrix, shape, x, y, z):
    """First corner of the cell that holds a point, and weights of the second; clamped."""
    x, y, z = _apply(matrix, x, y, z)
    x = min(max(x, 0.0), shape[0] - 1.001)
    y = min(max(y, 0.0), shape[1] - 1.001)
    z = min(max(z, 0.0), shape[2] - 1.001)
    i, j, k = int(x), int(y), int(z)
    return i, j, k, x - i, y - j, z - k


@numba.njit(fastmath=True, inline="always")
def _blend(grid, i, j, k, u, v, w, c):
    """Trilinear value of channel `c`."""
    low = (grid[i, j, k, c] * (1 - u) + grid[i + 1, j, k, c] * u) * (1 - v) + (
        grid[i, j + 1, k, c] * (1 - u) + grid[i + 1, j + 1, k, c] * u
    ) * v
    high = (grid[i, j, k + 1, c] * (1 - u) + grid[i + 1, j, k + 1, c] * u) * (1 - v) + (
        grid[i, j + 1, k + 1, c] * (1 - u) + grid[i + 1, j + 1, k + 1, c] * u
    ) * v
    return low * (1 - w) + high * w


@numba.njit(fastmath=True)
def _outside_class(layers, i, j, k, u, v, w, depth, beyond):
    """Class outside the skull's inner face: `depth` under the skin, `beyond` that face, mm."""
    thickness = _blend(layers, i, j, k, u, v, w, SKULL)
    if beyond < thickness and depth > SKIN:
        middle = beyond / thickness
        if thickness > MARROW_MIN and 0.3 < middle < 0.75:
            return MARROW
        return BONE
    if depth < SKIN:
        return SKIN_CLASS
    if _blend(layers, i, j, k, u, v, w, AIR_SPACE) < 0:
        return AIR
    eye = _blend(layers, i, j, k, u, v, w, EYE_SPACE)
    if eye < 0:
        return EYE
    if eye < ORBIT or depth < SKIN + _blend(layers, i, j, k, u, v, w, FAT_LAYER):
        return FAT
    marbling = _blend(layers, i, j, k, u, v, w, MARBLING)
    if marbling > FATTY:
        return FAT
    if marbling < SINEWY:
        return BONE
    return MUSCLE


@numba.njit(fastmath=True)
def _brain_class(outer, inner, structure):
    """Class of a point inside the skull from its two levels and its structure."""
    if outer > 0:
        return VENTRICLE if structure == VENTRICLES_AT else CSF
    if inner > 0:
        return BRAINSTEM if structure == BRAINSTEM_AT else WHITE
    if 0 < structure < VENTRICLES_AT:
        return CORTEX + structure
    return CORTEX


@numba.njit(fastmath=True, inline="always")
def _displaced(displacement, to_lattice, x, y, z):
    """Point moved by the displacement that the lattice holds there."""
    i, j, k, u, v, w = _corner(to_lattice, displacement.shape, x, y, z)
    return (
        x + _blend(displacement, i, j, k, u, v, w, 0),
        y + _blend(displacement, i, j, k, u, v, w, 1),
        z + _blend(displacement, i, j, k, u, v, w, 2),
    )


@numba.njit(fastmath=True)
def _inside_class(levels, structure, to_levels, floor, sulci, white, x, y, z):
    """Class of a template point inside the skull; below the floor the canal goes on."""
    i, j, k, u, v, w = _corner(to_levels, levels.shape, x, y, max(z, floor))
    outer = sulci + _blend(levels, i, j, k, u, v, w, 0)
    if z < floor:
        return SPINAL_CSF if outer > 0 else CORD
    inner = white + _blend(levels, i, j, k, u, v, w, 1)
    near = structure[int(i + u + 0.5), int(j + v + 0.5), int(k + w + 0.5)]
    return _brain_class(outer, inner, near)


@numba.njit(fastmath=True)
def _class_at(hull, layers, to_lattice, levels, structure, to_levels, floor, x, y, z):
    """Class of a template point."""
    i, j, k, u, v, w = _corner(to_lattice, layers.shape, x, y, z)
    surface = _blend(layers, i, j, k, u, v, w, SURFACE)
    if surface > 0:
        return AIR
    beyond = _blend(hull, i, j, k, u, v, w, 0) - _blend(layers, i, j, k, u, v, w, RIM)
    if beyond > 0:
        return _outside_class(layers, i, j, k, u, v, w, -surface, beyond)
    sulci = _blend(layers, i, j, k, u, v, w, SULCI)
    white = _blend(layers, i, j, k, u, v, w, WHITE_SHIFT)
    return _inside_class(levels, structure, to_levels, floor, sulci, white, x, y, z)


@numba.njit(fastmath=True)
def _region_at(atlas, to_atlas, x, y, z):
    """Atlas label nearest to a template point, 0 outside the atlas."""
    p, q, r = _apply(to_atlas, x, y, z)
    i, j, k = int(np.floor(p + 0.5)), int(np.floor(q + 0.5)), int(np.floor(r + 0.5))
    if 0 <= i < atlas.shape[0] and 0 <= j < atlas.shape[1] and 0 <= k < atlas.shape[2]:
        return atlas[i, j, k]
    return 0


@numba.njit(fastmath=True)
def _label(classes, regions, to_start, lattice_grids, level_grids, atlas_grids, floor):
    """Fill `classes` and `regions`; each group of grids ends with its (3, 4) matrix."""
    displacement, hull, layers, to_lattice = lattice_grids
    levels, structure, to_levels = level_grids
    atlas, to_atlas = atlas_grids
    for fx in range(classes.shape[0]):
        for fy in range(classes.shape[1]):
            for fz in range(classes.shape[2]):
                x, y, z = _apply(to_start, fx, fy, fz)
                x, y, z = _displaced(displacement, to_lattice, x, y, z)
                label = _class_at(
                    hull, layers, to_lattice, levels, structure, to_levels, floor, x, y, z
                )
                classes[fx, fy, fz] = label
                if CSF <= label < CORD:
                    regions[fx, fy, fz] = _region_at(atlas, to_atlas, x, y, z)


def _pull(affine: NDArray) -> NDArray:
    """Matrix (3, 4) from mm to voxels of a grid."""
    return np.ascontiguousarray(np.linalg.inv(affine)[:3])


def cut_labels(
    anatomy: Anatomy,
    shape: tuple[int, int, int],
    affine: NDArray,
    factors: tuple[int, int, int] | None = None,
) -> FineLabels:
    """Hard labels of a person on a subdivision of an image grid, atrophy included.

    Parameters
    ----------
    anatomy : Anatomy
        The person.
    shape : (3,) tuple
        Voxels of the image.
    affine : (4, 4) array
        Voxel to mm in the person's world; any orientation, any voxel size.
    factors : (3,) tuple, optional
        Sub-voxels along each edge; by default see `subdivision`.
    """
    factors = factors or subdivision(affine)
    fine_shape = tuple(n * f for n, f in zip(shape, factors, strict=True))
    scale = np.diag([*(1 / np.array(factors)), 1.0])
    scale[:3, 3] = (1 / np.array(factors) - 1) / 2
    fine_affine = np.asarray(affine, float) @ scale
    blueprint = anatomy.blueprint
    to_lattice = _pull(blueprint.lattice_affine)
    classes = np.zeros(fine_shape, np.uint8)
    regions = np.zeros(fine_shape, np.uint8)
    _label(
        classes,
        regions,
        np.ascontiguousarray((anatomy.world_to_template @ fine_affine)[:3]),
        (anatomy.displacement, blueprint.hull[..., None], anatomy.layers, to_lattice),
        (blueprint.levels, blueprint.structure, _pull(blueprint.affine)),
        (blueprint.atlas, _pull(blueprint.atlas_affine)),
        blueprint.floor,
    )
    labels = FineLabels(classes, regions, fine_affine, factors, np.zeros(256))
    return thin(labels, anatomy.traits.thinning) if anatomy.traits.thinning else labels


def thin(labels: FineLabels, thinning: dict[int, float]) -> FineLabels:
    """Turn the outer layer of the grey matter of some atlas regions into CSF.

    In each region the asked share of its grey sub-voxels is taken, those nearest to CSF first,
    so that the cortex loses a layer of even thickness. In a structure away from CSF, such as the
    putamen, it is the side that looks towards the nearest CSF which is lost.

    Parameters
    ----------
    labels : FineLabels
        A person.
    thinning : dict
        Atlas label to the share of its grey matter that is lost, 0 to below 1.
    """
    classes, counts = labels.classes.copy(), np.zeros(256)
    for region, share in thinning.items():
        if not 0 <= share < 1:
            raise BadInputError(f"{share:.0%} of a region cannot be lost; give 0 to 99 %")
        box, members, depth = _depth_of_grey(labels, region)
        if members.any():
            at = np.flatnonzero(members)
            lost = at[np.argsort(depth.ravel()[at], kind="stable")[: round(share * at.size)]]
            part = classes[box]
            part[np.unravel_index(lost, part.shape)] = CSF
            counts[region] = lost.size
    return replace(labels, classes=classes, lost=counts * voxel_volume(labels.affine))


def _depth_of_grey(
    labels: FineLabels, region: int
) -> tuple[tuple[slice, slice, slice], NDArray, NDArray]:
    """Box around a region, its grey sub-voxels there, and their distance to CSF, mm."""
    edges = voxel_sizes(labels.affine)
    here = labels.atlas == region
    box = []
    for axis in range(3):
        found = np.flatnonzero(here.any(axis=tuple({0, 1, 2} - {axis})))
        reach = int(np.ceil(CSF_REACH / edges[axis]))
        first, last = (found[0], found[-1]) if found.size else (0, 0)
        box.append(slice(max(first - reach, 0), last + reach + 1))
    x, y, z = box
    classes = labels.classes[x, y, z]
    fluid = np.isin(classes, (CSF, VENTRICLE))
    depth = ndimage.distance_transform_edt(~fluid, edges)
    # smoothing orders the many sub-voxels that lie equally deep by the shape of the surface
    depth = ndimage.gaussian_filter(depth.astype(np.float32), 1.0)
    grey = tissue_table()[:, 0].astype(bool)[classes]
    return (x, y, z), grey & here[x, y, z], depth


@numba.njit
def _count(classes, factors, table, totals):
    """Sum rows of `table` by class over the sub-voxels of each voxel into `totals`."""
    columns = table.shape[1]
    for x in range(classes.shape[0]):
        for y in range(classes.shape[1]):
            for z in range(classes.shape[2]):
                label = classes[x, y, z]
                if label:
                    cell = totals[x // factors[0], y // factors[1], z // factors[2]]
                    for c in range(columns):
                        cell[c] += table[label, c]


def voxel_means(labels: FineLabels, table: NDArray) -> NDArray:
    """Mean over each voxel of values that depend on the class only.

    Parameters
    ----------
    labels : FineLabels
        Sub-voxels.
    table : (17, n) array
        Values by class; those of air must be 0.

    Returns
    -------
    means : (x, y, z, n) float32 array
        Average over the sub-voxels of each voxel of the image.
    """
    table = np.asarray(table, np.float32)
    if table[0].any():
        raise ValueError("air must be 0 in a table of values by class")
    shape = tuple(n // f for n, f in zip(labels.classes.shape, labels.factors, strict=True))
    totals = np.zeros((*shape, table.shape[1]), np.float32)
    _count(labels.classes, np.array(labels.factors), table, totals)
    return totals / np.float32(np.prod(labels.factors))


def tissue_table() -> NDArray:
    """Membership of each class in grey matter, white matter and CSF, (17, 3)."""
    return np.array([[name in TISSUES[t] for t in TISSUES] for name in CLASSES], np.float32)


def class_volumes(labels: FineLabels) -> dict[str, float]:
    """Volume of each class, mL."""
    counts = np.bincount(labels.classes.ravel(), minlength=len(CLASSES))
    return dict(zip(CLASSES, (counts * voxel_volume(labels.affine)).tolist(), strict=True))


def tissue_volumes(labels: FineLabels) -> dict[str, float]:
    """Volume of ``gm``, ``wm``, ``csf``, their sum ``tiv``, and ``ventricles``, mL.

    CSF is all fluid inside the skull and above the foramen magnum: sulci, the rim between brain
    and skull, cisterns and ventricles. Membranes and vessels are not told apart from it.
    """
    volumes = class_volumes(labels)
    tissues = {tissue: sum(volumes[name] for name in TISSUES[tissue]) for tissue in TISSUES}
    return {"tiv": sum(tissues.values()), **tissues, "ventricles": volumes["ventricle"]}


def regional_gm(labels: FineLabels) -> NDArray:
    """Grey matter in each atlas label, mL, (256,)."""
    grey = tissue_table()[:, 0].astype(bool)[labels.classes]
    return np.bincount(labels.atlas[grey], minlength=256) * voxel_volume(labels.affine)


def without_thinning(
    volumes: dict[str, float], regional: NDArray, lost: NDArray
) -> tuple[dict[str, float], NDArray]:
    """Tissue volumes and regional grey matter as they were before `thin`, all in mL."""
    total = float(lost.sum())
    before = volumes | {"gm": volumes["gm"] + total, "csf": volumes["csf"] - total}
    return before, regional + lost
