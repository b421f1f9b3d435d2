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


@numba.njit(cache=True, fastmath=True, inline="always")
def _corner(x, y, z, shape):
    """First corner, and weights towards the second, clamped to a grid."""
    x = min(max(x, 0.0), shape[0] - 1.001)
    y = min(max(y, 0.0), shape[1] - 1.001)
    z = min(max(z, 0.0), shape[2] - 1.001)
    i, j, k = int(x), int(y), int(z)
    return i, j, k, x - i, y - j, z - k


@numba.njit(cache=True, fastmath=True, inline="always")
def _blend(grid, i, j, k, u, v, w, c):
    """Trilinear value of channel `c`."""
    low = (grid[i, j, k, c] * (1 - u) + grid[i + 1, j, k, c] * u) * (1 - v) + (
        grid[i, j + 1, k, c] * (1 - u) + grid[i + 1, j + 1, k, c] * u
    ) * v
    high = (grid[i, j, k + 1, c] * (1 - u) + grid[i + 1, j, k + 1, c] * u) * (1 - v) + (
        grid[i, j + 1, k + 1, c] * (1 - u) + grid[i + 1, j + 1, k + 1, c] * u
    ) * v
    return low * (1 - w) + high * w


@numba.njit(cache=True, fastmath=True)
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


@numba.njit(cache=True, fastmath=True)
def _brain_class(outer, inner, structure):
    """Class of a point inside the skull from its two levels and its structure."""
    if outer > 0:
        return VENTRICLE if structure == VENTRICLES_AT else CSF
    if inner > 0:
        return BRAINSTEM if structure == BRAINSTEM_AT else WHITE
    if 0 < structure < VENTRICLES_AT:
        return CORTEX + structure
    return CORTEX


@numba.njit(cache=True, fastmath=True)
def _label(
    classes, regions, grid_to_template, displacement, to_lattice, hull, layers,
    template_to_levels, levels, structure, template_to_atlas, atlas, floor,
):  # fmt: skip
    """Fill `classes` and `regions`; matrices are (3, 4), `to_lattice` is (scale, x, y, z)."""
    g, m, a = grid_to_template, template_to_levels, template_to_atlas
    for fx in range(classes.shape[0]):
        for fy in range(classes.shape[1]):
            for fz in range(classes.shape[2]):
                x = g[0, 0] * fx + g[0, 1] * fy + g[0, 2] * fz + g[0, 3]
                y = g[1, 0] * fx + g[1, 1] * fy + g[1, 2] * fz + g[1, 3]
                z = g[2, 0] * fx + g[2, 1] * fy + g[2, 2] * fz + g[2, 3]
                s = to_lattice[0]
                lx, ly, lz = to_lattice[1], to_lattice[2], to_lattice[3]
                i, j, k, u, v, w = _corner(x * s + lx, y * s + ly, z * s + lz, displacement.shape)
                x += _blend(displacement, i, j, k, u, v, w, 0)
                y += _blend(displacement, i, j, k, u, v, w, 1)
                z += _blend(displacement, i, j, k, u, v, w, 2)
                i, j, k, u, v, w = _corner(x * s + lx, y * s + ly, z * s + lz, layers.shape)
                surface = _blend(layers, i, j, k, u, v, w, SURFACE)
                if surface > 0:
                    continue
                beyond = _blend(hull, i, j, k, u, v, w, 0) - _blend(layers, i, j, k, u, v, w, RIM)
                if beyond > 0:
                    classes[fx, fy, fz] = _outside_class(
                        layers, i, j, k, u, v, w, -surface, beyond
                    )
                    continue
                outer = _blend(layers, i, j, k, u, v, w, SULCI)
                inner = _blend(layers, i, j, k, u, v, w, WHITE_SHIFT)
                canal = z < floor
                at_z = max(z, floor)  # the canal goes on as the lowest slice
                p = m[0, 0] * x + m[0, 1] * y + m[0, 2] * at_z + m[0, 3]
                q = m[1, 0] * x + m[1, 1] * y + m[1, 2] * at_z + m[1, 3]
                r = m[2, 0] * x + m[2, 1] * y + m[2, 2] * at_z + m[2, 3]
                i, j, k, u, v, w = _corner(p, q, r, levels.shape)
                outer += _blend(levels, i, j, k, u, v, w, 0)
                if canal:
                    classes[fx, fy, fz] = SPINAL_CSF if outer > 0 else CORD
                    continue
                inner += _blend(levels, i, j, k, u, v, w, 1)
                near = structure[int(i + u + 0.5), int(j + v + 0.5), int(k + w + 0.5)]
                classes[fx, fy, fz] = _brain_class(outer, inner, near)
                p = a[0, 0] * x + a[0, 1] * y + a[0, 2] * z + a[0, 3] + 0.5
                q = a[1, 0] * x + a[1, 1] * y + a[1, 2] * z + a[1, 3] + 0.5
                r = a[2, 0] * x + a[2, 1] * y + a[2, 2] * z + a[2, 3] + 0.5
                if 0 <= p < atlas.shape[0] and 0 <= q < atlas.shape[1] and 0 <= r < atlas.shape[2]:
                    regions[fx, fy, fz] = atlas[int(p), int(q), int(r)]


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
    lattice = np.linalg.inv(blueprint.lattice_affine)
    classes = np.zeros(fine_shape, np.uint8)
    regions = np.zeros(fine_shape, np.uint8)
    _label(
        classes,
        regions,
        np.ascontiguousarray((anatomy.world_to_template @ fine_affine)[:3]),
        anatomy.displacement,
        np.array([lattice[0, 0], *lattice[:3, 3]]),
        blueprint.hull[..., None],
        anatomy.layers,
        np.ascontiguousarray(np.linalg.inv(blueprint.affine)[:3]),
        blueprint.levels,
        blueprint.structure,
        np.ascontiguousarray(np.linalg.inv(blueprint.atlas_affine)[:3]),
        blueprint.atlas,
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


@numba.njit(cache=True)
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
