"""One call from traits to a head image with its truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.simulate.anatomy import Anatomy, Blueprint, Traits, grow_anatomy
from alsflow.nodes.simulate.labels import FineLabels, cut_labels, regional_gm, tissue_volumes
from alsflow.nodes.simulate.scanner import HeadImage, Scanner, head_grid, scan

FOOT = 22.0  # mm of the neck below the foramen magnum that an image shows


@dataclass(frozen=True)
class Head:
    """An imaged person.

    Attributes
    ----------
    scan : HeadImage
        Image, tissue fractions, brain mask, receive field.
    volumes : dict
        True ``tiv``, ``gm``, ``wm``, ``csf`` and ``ventricles``, mL, from the fine labels.
    regional_gm : (256,) array
        True grey matter in each atlas label, mL.
    anatomy : Anatomy
        The person.
    labels : FineLabels
        What the truth was counted on.
    """

    scan: HeadImage
    volumes: dict[str, float]
    regional_gm: NDArray
    anatomy: Anatomy
    labels: FineLabels


def image_grid(anatomy: Anatomy, voxel: NDArray | float) -> tuple[tuple[int, int, int], NDArray]:
    """Upright RAS grid of `voxel` mm over a person's head and the top of the neck."""
    blueprint = anatomy.blueprint
    surface = anatomy.layers[..., 0].copy()
    heights = blueprint.lattice_affine[2, 3] + blueprint.lattice_affine[2, 2] * np.arange(
        surface.shape[2]
    )
    surface[:, :, heights < blueprint.floor - FOOT] = np.inf
    to_world = np.linalg.inv(anatomy.world_to_template)
    return head_grid(surface, blueprint.lattice_affine, to_world, voxel)


def simulate_head(
    blueprint: Blueprint,
    traits: Traits,
    scanner: Scanner,
    rng: np.random.Generator,
    voxel: NDArray | float = 1.0,
    grid: tuple[tuple[int, int, int], NDArray] | None = None,
) -> Head:
    """Draw a person and image it.

    Parameters
    ----------
    blueprint : Blueprint
        Made once from tissue maps by `anatomy.prepare_blueprint`.
    traits : Traits
        What is chosen about the person.
    scanner : Scanner
        What is chosen about the image.
    rng : Generator
        Source of the rest.
    voxel : (3,) array or float
        Edges of a voxel, mm, of an upright grid over the head.
    grid : (shape, affine), optional
        A grid of one's own in the person's world instead, of any orientation.
    """
    person, images = rng.spawn(2)
    anatomy = grow_anatomy(blueprint, traits, person)
    shape, affine = grid or image_grid(anatomy, voxel)
    labels = cut_labels(anatomy, shape, affine)
    return Head(
        scan=scan(labels, affine, scanner, images),
        volumes=tissue_volumes(labels),
        regional_gm=regional_gm(labels),
        anatomy=anatomy,
        labels=labels,
    )
