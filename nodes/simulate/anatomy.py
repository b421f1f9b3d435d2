"""One person's anatomy: a deformed template with own skull, own sulci, own atrophy.

Everything is defined as a continuous function of a point in template space, so that a head can
be cut into voxels of any size and orientation, and so that images of other kinds of the same
person can be made from the same object later. A *source* (tissue maps of a template or of any
brain) becomes a *blueprint* (its level functions on grids), and a blueprint with a random draw
becomes an `Anatomy`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from alsflow.nodes.geometry import apply_affine, grid_points, resample, voxel_sizes, voxel_volume
from alsflow.nodes.simulate.fields import (
    exponentiate,
    jacobian_determinant,
    random_velocity,
    smooth_noise,
)

LATTICE_SPACING = 4.0  # mm, grid of deformation, skull and scalp
SHARPENING_SIGMA = 2.5  # mm; an average brain is blurred by about this much
SULCUS_GAIN = 2.1  # factor on the sharpened CSF map; opens sulci that averaging closed
SULCUS_SHARPENING = 1.0  # share of the high-pass of the CSF map that is added
WHITE_GAIN = 1.08  # the same for white matter, whose thin blades averaging hides
WHITE_SHARPENING = 0.8  # share of its high-pass that is added
CLOSING = 6.0  # mm; the inner skull bridges sulci and fissures narrower than twice this
CANAL_AREA = 250.0  # mm²; the lowest slice wider than this is the foramen magnum
MARGIN = 44.0  # mm around the tissue maps: room for skull, scalp and neck
MIN_JACOBIAN = 0.1  # smallest local volume ratio of a person's own deformation
REFERENCE_AGE = 55.0  # years, at which the age effects are zero
VENTRICLE_SIGMA = 6.0  # mm, reach of the widening around a ventricle

# Structures told apart by more than the tissue maps, and the smoothed share of the atlas from
# which on a voxel may belong to them. Their place here + 1 is the value in `Blueprint.structure`.
STRUCTURES = {
    "striatum": 0.4,
    "thalamus": 0.4,
    "pallidum": 0.4,
    "ventricles": 0.15,
    "brainstem": 0.4,
}
# Grey matter that the template's maps call white in part. The striatum is grey in them already;
# made solid after labels drawn on other brains it would outgrow the template's own.
SOLID_GREY = ("thalamus", "pallidum")
LAYERS = ("surface", "rim", "skull", "fat", "marbling", "air", "eye", "sulci", "white")
DEFORMATION_SCALES = {30.0: 2.7, 14.0: 1.5, 7.0: 0.8}  # smoothing, mm: amplitude, mm
SKIN = 2.0  # mm


@dataclass(frozen=True)
class Source:
    """Tissue maps of one brain, and an atlas in the same world.

    Attributes
    ----------
    gm, wm, csf : (x, y, z) arrays
        Fractions, 0 to 1; together 1 inside the skull.
    affine : (4, 4) array
        Voxel to mm, RAS+.
    atlas : (u, v, w) int array
        Label of each voxel, 0 to 255.
    atlas_affine : (4, 4) array
        Voxel to mm of the atlas.
    structures : dict
        Labels of ``striatum``, ``thalamus``, ``pallidum``, ``brainstem`` and ``ventricles``;
        a structure left out is made as the tissue maps say.
    """

    gm: NDArray
    wm: NDArray
    csf: NDArray
    affine: NDArray
    atlas: NDArray
    atlas_affine: NDArray
    structures: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Blueprint:
    """What all people made from one source share.

    Attributes
    ----------
    levels : (x, y, z, 2) float32 array
        First: above 0 is CSF. Second: where not CSF, above 0 is white, else grey matter.
    affine : (4, 4) array
        Voxel to mm of `levels` and `structure`.
    structure : (x, y, z) uint8 array
        0, or 1 + the place of the structure in `STRUCTURES`.
    hull : (a, b, c) float32 array
        Signed distance to the brain's hull on the lattice, mm, negative inside.
    ventricles : (a, b, c) float32 array
        Share of ventricle, smoothed, on the lattice.
    lattice_affine : (4, 4) array
        Voxel to mm of the lattice; axes along the world, `LATTICE_SPACING` apart.
    floor : float
        Height below which there is spinal canal and not brain, mm.
    loss_curve : (2, n) array
        Shift of the first level, and the share of cortical grey matter that it turns into CSF.
    atlas, atlas_affine
        As in `Source`.
    """

    levels: NDArray
    affine: NDArray
    structure: NDArray
    hull: NDArray
    ventricles: NDArray
    lattice_affine: NDArray
    floor: float
    loss_curve: NDArray
    atlas: NDArray
    atlas_affine: NDArray


@dataclass(frozen=True)
class Traits:
    """What is chosen about one person; the rest is drawn.

    Attributes
    ----------
    tiv : float
        Volume inside the skull aimed at, mL; the deformation moves it by one or two percent.
    cortical_loss : float
        Share of the cortical grey matter of the whole brain that is CSF instead.
    ventricle_growth : float
        Widening of the ventricles, mm of outward speed at their edge; negative narrows.
    rim : float
        Mean thickness of the CSF between the brain's hull and the skull, mm.
    thinning : dict
        Atlas label to the share of its grey matter that is turned into CSF, from outside.
    roughness : float
        Factor on the random deformation; 0 gives the shape of the source.
    """

    tiv: float = 1450.0
    cortical_loss: float = 0.0
    ventricle_growth: float = 0.0
    rim: float = 1.5
    thinning: dict[int, float] = field(default_factory=dict)
    roughness: float = 1.0


@dataclass(frozen=True)
class Anatomy:
    """One person; see `grow_anatomy`.

    Attributes
    ----------
    blueprint : Blueprint
        What the person was made from.
    world_to_template : (4, 4) array
        Scale, rotation and shift from the person's world to the lattice's world.
    displacement : (a, b, c, 3) float32 array
        To be added after `world_to_template`, mm, on the lattice.
    layers : (a, b, c, 9) float32 array
        The person's own `LAYERS` on the lattice: signed distance to the surface of the head
        (mm, negative inside), thickness of the CSF rim, of the skull and of the fat (mm),
        marbling of muscle (standard deviations), signed distance to air and to eyes (mm), and
        what is added to the two levels.
    traits : Traits
        What had been chosen.
    """

    blueprint: Blueprint
    world_to_template: NDArray
    displacement: NDArray
    layers: NDArray
    traits: Traits


def to_template(anatomy: Anatomy, points: NDArray) -> NDArray:
    """Points of the template that lie at `points` of the person, both (3, ...) in mm."""
    start = apply_affine(anatomy.world_to_template, points)
    at = apply_affine(np.linalg.inv(anatomy.blueprint.lattice_affine), start)
    moved = [
        ndimage.map_coordinates(anatomy.displacement[..., axis], at, order=1, mode="nearest")
        for axis in range(3)
    ]
    return start + np.stack(moved)


def signed_distance(inside: NDArray, spacing: NDArray | float) -> NDArray:
    """Distance to the surface of a bool array, mm, negative inside, about 0 on the surface."""
    outer = ndimage.distance_transform_edt(~inside, spacing)
    inner = ndimage.distance_transform_edt(inside, spacing)
    return (outer - inner).astype(np.float32)


def _high_pass(volume: NDArray, affine: NDArray) -> NDArray:
    return volume - ndimage.gaussian_filter(volume, SHARPENING_SIGMA / voxel_sizes(affine))


def _indicator(source: Source, structure: str, smoothing: float) -> NDArray:
    """Share of a structure on the grid of the tissue maps, its atlas edges smoothed (mm)."""
    members = np.isin(source.atlas, source.structures.get(structure, ())).astype(np.float32)
    members = ndimage.gaussian_filter(members, smoothing / voxel_sizes(source.atlas_affine))
    return resample(members, source.atlas_affine, source.gm.shape, source.affine)


def _levels(source: Source) -> NDArray:
    """Level functions of the sharpened tissue maps, thalamus, pallidum, brainstem made solid."""
    intracranial = source.gm + source.wm + source.csf
    csf = np.where(intracranial > 0.5, source.csf, 1.0)
    csf = SULCUS_GAIN * (csf + SULCUS_SHARPENING * _high_pass(csf, source.affine))
    wm = WHITE_GAIN * (source.wm + WHITE_SHARPENING * _high_pass(source.wm, source.affine))
    outer = csf - np.maximum(source.gm, source.wm)
    inner = wm - source.gm
    for structure in (*SOLID_GREY, "brainstem"):
        share = np.clip(4 * _indicator(source, structure, 1.0) - 1.5, 0, 1)
        side = -1.0 if structure in SOLID_GREY else 1.0
        inner = (1 - share) * inner + share * side
        if structure in SOLID_GREY:
            outer = (1 - share) * outer - share
    return np.stack([outer, inner], axis=-1).astype(np.float32)


def white_matter(source: Source) -> NDArray:
    """Bool array (x, y, z): where a person who is formed as the source has white matter."""
    outer, inner = np.moveaxis(_levels(source), -1, 0)
    return (outer <= 0) & (inner > 0)


def _structure(source: Source) -> NDArray:
    """Structure of each voxel of the tissue maps, 0 for none; see `STRUCTURES`."""
    found = np.zeros(source.gm.shape, np.uint8)
    most = np.zeros(source.gm.shape, np.float32)
    for index, (structure, least) in enumerate(STRUCTURES.items(), start=1):
        share = _indicator(source, structure, 1.0)
        wins = (share > least) & (share > most)
        found[wins] = index
        most[wins] = share[wins]
    return found


def _loss_curve(levels: NDArray, structure: NDArray) -> NDArray:
    """Share of cortical grey matter lost when the first level is raised; see `Blueprint`."""
    outer = levels[..., 0][(levels[..., 1] <= 0) & (structure == 0)]
    outer = np.sort(outer[(outer > -1) & (outer < 1)])
    shifts = np.linspace(-0.8, 0.8, 65)
    kept = np.searchsorted(outer, -shifts) / np.searchsorted(outer, 0.0)
    return np.stack([shifts, 1 - kept])


def _lattice(source: Source) -> tuple[tuple[int, int, int], NDArray]:
    """Grid along the world's axes over the brain and `MARGIN` mm beyond."""
    intracranial = np.argwhere(source.gm + source.wm + source.csf > 0.5).T
    edges = apply_affine(source.affine, intracranial)
    low, high = edges.min(1) - MARGIN, edges.max(1) + MARGIN
    count = np.ceil((high - low) / LATTICE_SPACING).astype(int) + 1
    affine = np.diag([LATTICE_SPACING] * 3 + [1.0])
    affine[:3, 3] = low
    return (int(count[0]), int(count[1]), int(count[2])), affine


def _hull(source: Source, shape: tuple[int, int, int], affine: NDArray) -> tuple[NDArray, float]:
    """Signed distance to the closed brain, continued downwards as a canal; and its floor."""
    half = np.diag([0.5, 0.5, 0.5, 1.0])  # twice as fine as the lattice
    fine_shape = tuple(2 * n - 1 for n in shape)
    fine_affine = affine @ half
    spacing = LATTICE_SPACING / 2
    brain = (source.gm + source.wm + source.csf).astype(np.float32)
    brain = resample(brain, source.affine, fine_shape, fine_affine) > 0.5
    areas = brain.sum((0, 1)) * spacing**2
    lowest = int(np.flatnonzero(areas > CANAL_AREA)[0])
    floor = float(apply_affine(fine_affine, np.array([0, 0, lowest]))[2]) + spacing / 2
    brain[:, :, :lowest] = brain[:, :, lowest : lowest + 1]  # closing must not open the canal
    wide = ndimage.distance_transform_edt(~brain, spacing) <= CLOSING
    closed = ndimage.distance_transform_edt(wide, spacing) > CLOSING
    closed = ndimage.binary_fill_holes(closed | brain)
    distance = ndimage.gaussian_filter(signed_distance(closed, spacing), 1.0)
    return distance[::2, ::2, ::2], floor


def prepare_blueprint(source: Source) -> Blueprint:
    """Turn tissue maps into level functions from which people can be grown.

    Parameters
    ----------
    source : Source
        Tissue maps and atlas of one brain, upright in its world (z up).
    """
    shape, affine = _lattice(source)
    hull, floor = _hull(source, shape, affine)
    levels, structure = _levels(source), _structure(source)
    ventricles = _indicator(source, "ventricles", 1.5)
    return Blueprint(
        levels=levels,
        affine=np.asarray(source.affine, float),
        structure=structure,
        hull=hull,
        ventricles=resample(ventricles, source.affine, shape, affine),
        lattice_affine=affine,
        floor=floor,
        loss_curve=_loss_curve(levels, structure),
        atlas=source.atlas.astype(np.uint8),
        atlas_affine=np.asarray(source.atlas_affine, float),
    )


def _ellipsoid(at: NDArray, centre: tuple[float, ...], radii: tuple[float, ...]) -> NDArray:
    """Roughly the signed distance to an ellipsoid, mm; `at` is (3, ...) mm."""
    inverse = [(at[axis] - centre[axis]) / radii[axis] for axis in range(3)]
    return (np.sqrt(sum(part**2 for part in inverse)) - 1) * min(radii)


def _head_points(blueprint: Blueprint) -> NDArray:
    """Lattice points in mm as if the hull had the place and the size of the MNI brain."""
    points = grid_points(blueprint.hull.shape, blueprint.lattice_affine).astype(np.float64)
    inside = points[:, (blueprint.hull < 0) & (points[2] > blueprint.floor)]
    low, high = inside.min(1), inside.max(1)
    centre = np.array([0.0, -17.0, 5.0])  # mm, middle of the MNI brain's bounding box
    half = np.array([71.0, 89.0, 76.0])  # mm, half its edges
    scale = half / ((high - low) / 2)
    return (points - ((low + high) / 2)[:, None, None, None]) * scale[
        :, None, None, None
    ] + centre[:, None, None, None]


def _openings(at: NDArray) -> tuple[NDArray, NDArray]:
    """Signed distance to the air spaces and to the eyes, mm; `at` as of `_head_points`."""
    spaces = [((0, 82, -50), (9, 26, 17)), ((0, 34, -40), (9, 9, 8)), ((0, 12, -90), (11, 8, 40))]
    spaces += [((side * 31, 68, -58), (11, 13, 15)) for side in (-1, 1)]
    air = np.minimum.reduce([_ellipsoid(at, centre, radii) for centre, radii in spaces])
    eyes = [_ellipsoid(at, (side * 33, 76, -33), (12, 12.5, 12)) for side in (-1, 1)]
    return air, np.minimum(*eyes)


def _surface(at: NDArray, shell: NDArray) -> NDArray:
    """Signed distance to skin: cranial `shell`, face, nose and neck; `at` of `_head_points`."""
    face = _ellipsoid(at, (0, 44, -58), (60, 56, 82))
    nose = _ellipsoid(at, (0, 100, -54), (13, 16, 20))
    neck = np.sqrt((at[0] / 60) ** 2 + ((at[1] + 22) / 66) ** 2)
    neck = np.maximum((neck - 1) * 60, at[2] + 40)
    solid = np.minimum.reduce([shell, face, nose, neck])
    return ndimage.gaussian_filter(solid, 1.0)


def _layers(blueprint: Blueprint, traits: Traits, rng: np.random.Generator) -> NDArray:
    """Draw the person's `LAYERS`; see `Anatomy`."""
    shape = blueprint.hull.shape
    at = _head_points(blueprint)

    def wavy(mean: float, variation: float, scale: float) -> NDArray:
        noise = smooth_noise(rng, shape, scale / LATTICE_SPACING)
        return mean * np.clip(1 + traits.roughness * variation * noise, 0.4, 1.8)

    vertex = 1 + 0.5 * np.clip((at[2] - 30) / 50, 0, 1)  # the brain has settled a little
    rim = wavy(traits.rim, 0.35, 14) * vertex
    skull = wavy(6.5 * np.exp(0.12 * rng.standard_normal()), 0.22, 18)
    fat = wavy(3.2 * np.exp(0.25 * rng.standard_normal()), 0.25, 22)
    temple = 8 * np.exp(-(((at[1] - 15) / 38) ** 2) - ((at[2] + 18) / 30) ** 2)  # muscle, mm
    shell = blueprint.hull - (rim + skull + fat + SKIN + temple)
    marbling = smooth_noise(rng, shape, 5 / LATTICE_SPACING)
    air, eye = _openings(at)
    shift = np.interp(traits.cortical_loss, blueprint.loss_curve[1], blueprint.loss_curve[0])
    sulci = shift + 0.12 * traits.roughness * smooth_noise(rng, shape, 8 / LATTICE_SPACING)
    white = 0.08 * traits.roughness * smooth_noise(rng, shape, 8 / LATTICE_SPACING)
    layers = (_surface(at, shell), rim, skull, fat, marbling, air, eye, sulci, white)
    return np.stack(layers, axis=-1).astype(np.float32)


def _displacement(blueprint: Blueprint, traits: Traits, rng: np.random.Generator) -> NDArray:
    """Draw the person's deformation of the lattice, mm; made gentler until it is invertible."""
    window = 0.35 + 0.65 / (1 + np.exp(np.clip((blueprint.hull - 14) / 4, -30, 30)))
    velocity = random_velocity(
        rng, blueprint.hull.shape, LATTICE_SPACING, DEFORMATION_SCALES, window
    )
    velocity *= traits.roughness
    smooth = ndimage.gaussian_filter(blueprint.ventricles, VENTRICLE_SIGMA / LATTICE_SPACING)
    inward = np.stack(np.gradient(smooth), axis=-1)
    steepest = float(np.sqrt((inward**2).sum(-1)).max())
    if steepest > 0:
        # seen from the person, a point beside a wide ventricle comes from inside it
        velocity += (traits.ventricle_growth / steepest) * inward
    while True:
        displacement = exponentiate(velocity, LATTICE_SPACING)
        if jacobian_determinant(displacement, LATTICE_SPACING).min() > MIN_JACOBIAN:
            return displacement
        velocity *= 0.8


def _world_to_template(
    blueprint: Blueprint,
    displacement: NDArray,
    rim: NDArray,
    traits: Traits,
    rng: np.random.Generator,
) -> NDArray:
    """Draw place and posture, and scale so that the volume inside the skull is as asked."""
    points = grid_points(blueprint.hull.shape, blueprint.lattice_affine)
    at = apply_affine(
        np.linalg.inv(blueprint.lattice_affine), points + np.moveaxis(displacement, -1, 0)
    )
    inside = ndimage.map_coordinates(blueprint.hull - rim, at, order=1, mode="nearest") < 0
    inside &= points[2] + displacement[..., 2] > blueprint.floor
    volume = inside.sum() * voxel_volume(blueprint.lattice_affine)
    axes = np.exp(0.02 * traits.roughness * rng.standard_normal(3))
    axes *= (traits.tiv / volume / axes.prod()) ** (1 / 3)
    angles = np.deg2rad(3 * traits.roughness * rng.standard_normal(3))
    centre = points[:, inside].mean(1)
    posture = np.eye(4)
    posture[:3, :3] = np.diag(1 / axes) @ Rotation.from_euler("xyz", angles).as_matrix()
    shift = 3 * traits.roughness * rng.standard_normal(3)
    posture[:3, 3] = centre - posture[:3, :3] @ (centre + shift)
    return posture


def grow_anatomy(blueprint: Blueprint, traits: Traits, rng: np.random.Generator) -> Anatomy:
    """Draw one person.

    Parameters
    ----------
    blueprint : Blueprint
        What the person is made from.
    traits : Traits
        What is chosen.
    rng : Generator
        Source of the rest: shape, posture, thickness of skull and scalp, sulci.
    """
    layers = _layers(blueprint, traits, rng)
    displacement = _displacement(blueprint, traits, rng)
    rim = layers[..., LAYERS.index("rim")]
    posture = _world_to_template(blueprint, displacement, rim, traits, rng)
    return Anatomy(blueprint, posture, displacement, layers, traits)
