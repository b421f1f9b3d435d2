"""Fractions of grey matter, white matter and CSF in every voxel, and the final brain mask.

In rounds: fit the mixture and the residual bias on about 2 mm samples, warp the template's maps
onto the tissues found, take sharper priors from there. Then one pass at full resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.anat import mixture as mix
from alsflow.nodes.anat.evenness import Lattice, residual_field
from alsflow.nodes.anat.mask import (
    TISSUE_DOUBT,
    TISSUE_REACH,
    Grid,
    fill_skull,
    inside_skull,
    with_edge,
)
from alsflow.nodes.anat.morphology import bounds, dilate
from alsflow.nodes.anat.priors import CSF, GM, OTHER, WM, Template, priors_at, tissue_priors
from alsflow.nodes.anat.register import Warp, WarpSettings, displaced, register_maps
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import apply_affine, resample, voxel_sizes

FINE = 1.6  # mm; larger voxels do not need the template at its own resolution
SAMPLE = 2.0  # mm, spacing of the voxels that the model is fitted on
REACH = 10.0  # mm beyond the template's brain that may still be brain
ROUGH_REACH = 16.0  # mm, where the rough mask agrees
# mm, how far tissue and skull may lie from the template: placed by an affine, or warped
AFFINE_SIGMA, AFFINE_SKULL_SIGMA = 3.0, 6.0
WARPED_SIGMA, WARPED_SKULL_SIGMA = 1.2, 4.0
VENTRICLE_DEPTH = 18.0  # mm inside the brain; CSF so deep is ventricle, free of partial volume
VENTRICLE_PERCENTILE = 35
START_SDS = (0.08, 0.05, 0.04)  # of white matter


@dataclass(frozen=True)
class TissueSettings:
    """How long and how finely the model is fitted."""

    rounds: int = 2
    iterations: int = 24  # of EM, per round
    warp: WarpSettings = WarpSettings(iterations=(60, 25), smoothing=(2.0, 0.7))


@dataclass(frozen=True)
class Tissues:
    """Result on the grid of the input."""

    gm: NDArray  # (x, y, z) float32, fraction
    wm: NDArray
    csf: NDArray
    mask: NDArray  # (x, y, z) bool
    residual: NDArray  # (x, y, z) float32, bias field left in the input, 1 on average
    model: dict[str, float]


@dataclass(frozen=True)
class Box:
    """The part of the head that can hold brain."""

    volume: NDArray  # (x, y, z) float32
    affine: NDArray  # (4, 4) voxels of the box to mm
    domain: NDArray  # (x, y, z) bool, voxels to be classified
    depth: NDArray  # (x, y, z) float32, mm under the surface of the expected brain
    place: tuple[slice, slice, slice]  # of the box in the whole image


@dataclass(frozen=True)
class Samples:
    """Voxels that the model is fitted on: every n-th of the box, inside the domain."""

    voxels: NDArray  # (3, n) indices in the box
    points: NDArray  # (3, n) mm
    intensity: NDArray  # (n,) relative to white matter
    depth: NDArray  # (n,) mm
    step: NDArray  # (3,) voxels between samples
    grid: Grid
    lattice: Lattice


@dataclass(frozen=True)
class Fit:
    """State after a round."""

    mixture: mix.Mixture
    log_bias: NDArray  # (n,) at the samples
    field: NDArray  # log bias on the lattice
    fractions: NDArray  # (3, n) expected fractions at the samples


def segment(
    volume: NDArray,
    affine: NDArray,
    rough: NDArray,
    start: NDArray,
    template: Template,
    settings: TissueSettings = TissueSettings(),
) -> Tissues:
    """Segment a denoised, bias-corrected head into tissue fractions.

    Parameters
    ----------
    volume : (x, y, z) array
        T1-weighted intensities, RAS+.
    affine : (4, 4) array
        Voxels to mm.
    rough : (x, y, z) bool array
        Brain to within some millimetres.
    start : (4, 4) array
        World mm of the template to world mm of the head.
    template : Template
        Tissue maps that serve as priors.
    settings : TissueSettings
        Rounds and iterations.
    """
    box = cut_box(volume, affine, rough, start, template)
    scale = float(np.percentile(box.volume[box.depth > 4], 88))
    samples = draw_samples(box, scale)
    to_template: Callable[[NDArray], NDArray] = lambda points: apply_affine(  # noqa: E731
        np.linalg.inv(start), points
    )
    half = template.halved()
    fine = template if voxel_sizes(affine).min() < FINE else half
    priors = tissue_priors(half, AFFINE_SIGMA, AFFINE_SKULL_SIGMA)
    at_samples = priors_at(priors, half.affine, to_template, samples.points)
    fit = first_guess(samples, at_samples)
    for turn in range(settings.rounds):
        fit = fit_round(samples, at_samples, fit, settings.iterations, first=turn == 0)
        if turn == 0:
            warp = warp_template(samples, fit, box, half, start, settings.warp)
            to_template = head_to_template(warp)
            priors = tissue_priors(fine, WARPED_SIGMA, WARPED_SKULL_SIGMA)
            at_samples = priors_at(priors, fine.affine, to_template, samples.points)
    return full_resolution(volume.shape, box, scale, samples, fit, priors, fine, to_template)


def cut_box(
    volume: NDArray, affine: NDArray, rough: NDArray, start: NDArray, template: Template
) -> Box:
    """Cut out what the affine template and the rough mask allow to be brain."""
    zooms = voxel_sizes(affine)
    inside = ndimage.gaussian_filter(template.brain.astype(np.float32), 1.0)
    expected = resample(inside, start @ template.affine, volume.shape, affine) > 0.5
    if not (expected & rough).any():
        raise BadInputError(
            "shows no brain where the template was placed; "
            "check that this is a T1-weighted image of a whole head"
        )
    place = bounds(expected | rough, ROUGH_REACH, zooms)
    expected, rough = expected[place], rough[place]
    domain = dilate(expected, REACH, zooms) | (rough & dilate(expected, ROUGH_REACH, zooms))
    depth = ndimage.distance_transform_edt(expected & rough, zooms).astype(np.float32)
    moved = affine.copy()
    moved[:3, 3] = apply_affine(affine, np.array([[part.start] for part in place]))[:, 0]
    return Box(volume[place].astype(np.float32), moved, domain, depth, place)


def draw_samples(box: Box, scale: float) -> Samples:
    """Take every n-th voxel of the domain, about `SAMPLE` mm apart."""
    zooms = voxel_sizes(box.affine)
    step = np.maximum(np.round(SAMPLE / zooms).astype(int), 1)
    chosen = np.zeros_like(box.domain)
    every = tuple(slice(None, None, width) for width in step)
    chosen[every] = True
    voxels = np.array(np.nonzero(box.domain & chosen))
    at = tuple(voxels)
    return Samples(
        voxels=voxels,
        points=apply_affine(box.affine, voxels).astype(np.float32),
        intensity=box.volume[at] / scale,
        depth=box.depth[at],
        step=step,
        grid=Grid(chosen[every].shape, tuple(voxels // step[:, None]), zooms * step),
        lattice=Lattice.over(box.volume.shape, zooms, voxels),
    )


def first_guess(samples: Samples, priors: NDArray) -> Fit:
    """Start from the intensities where the affine template is surest of each tissue."""
    means = []
    for tissue, percentile, limit in ((CSF, 25, 0.55), (GM, 50, 0.9), (WM, 60, 2.0)):
        for certainty in (0.6, 0.4, 0.25):
            sure = (priors[tissue] > certainty) & (samples.intensity < limit)
            if sure.sum() > 200:
                break
        if not sure.any():
            raise BadInputError(
                "shows no contrast between grey matter, white matter and CSF where the template "
                "expects them; check that this is a T1-weighted image"
            )
        means.append(np.percentile(samples.intensity[sure], percentile))
    if not means[CSF] < means[GM] < means[WM]:
        raise BadInputError(
            "does not look T1-weighted: CSF should be darker than grey matter, and grey matter "
            f"darker than white matter (found {means[0]:.2f}, {means[1]:.2f}, {means[2]:.2f})"
        )
    outside = mix.bin_of(samples.intensity[priors[OTHER] > 0.7])
    mixture = mix.Mixture(
        means=np.array(means),
        sds=np.array(START_SDS),
        shares=np.ones(6),
        deep_mean=0.5 * (means[GM] + means[WM]),
        outer=mix.smooth_histogram(np.bincount(outside, minlength=mix.BINS) + 1.0),
    )
    none = np.zeros(len(samples.intensity), np.float32)
    return Fit(mixture, none, np.zeros(samples.lattice.shape), np.zeros((3, len(none))))


def ventricle_mean(samples: Samples, priors: NDArray, fit: Fit, certainty: float) -> float | None:
    """CSF intensity from the ventricles, for sulcal CSF is nearly all partial volume."""
    means = fit.mixture.means
    even = samples.intensity * np.exp(-fit.log_bias)
    dark = even < 0.55 * means[GM] + 0.45 * means[CSF]
    inside = dark & (samples.depth > VENTRICLE_DEPTH) & (priors[CSF] > certainty)
    if inside.sum() <= 60:
        return None
    return float(np.percentile(even[inside], VENTRICLE_PERCENTILE))


def fit_round(samples: Samples, priors: NDArray, fit: Fit, iterations: int, *, first: bool) -> Fit:
    """Run EM with fixed priors; every other step renews the residual bias."""
    mixture, log_bias, field = fit.mixture, fit.log_bias, fit.field
    csf = ventricle_mean(samples, priors, fit, 0.35 if first else 0.5)
    if csf is not None:
        mixture = replace(mixture, means=np.array([csf, *mixture.means[1:]]))
    log_intensity = np.log(np.maximum(samples.intensity, 1e-3))
    bins = mix.bin_of(samples.intensity * np.exp(-log_bias))
    priors, *_ = found_edge(bins, priors, mixture, samples.grid)
    basis = mix.brain_shares(priors)
    for step in range(iterations):
        bins = mix.bin_of(samples.intensity * np.exp(-log_bias))
        prior, norm = mix.class_priors(priors, basis, mixture.shares)
        likelihood, fraction = mix.lookup(mixture)
        posterior = mix.responsibilities(bins, prior, likelihood)
        mixture = mix.update(mixture, bins, posterior, basis, norm, free_csf=csf is None)
        if step % 2 and step < iterations - 4:
            field = residual_field(log_intensity, log_bias, priors, mixture, samples.lattice)
            log_bias = samples.lattice.at(field)
    priors, *_ = found_edge(bins, priors, mixture, samples.grid)
    posterior, fraction = classify(bins, priors, mixture)
    return Fit(mixture, log_bias, field, mix.expected_fractions(bins, posterior, fraction))


def found_edge(
    bins: NDArray, priors: NDArray, mixture: mix.Mixture, grid: Grid
) -> tuple[NDArray, NDArray, NDArray]:
    """Priors with the brain's edge where the image puts it, solid tissue, distance to its hull."""
    prior, _ = mix.class_priors(priors, mix.brain_shares(priors), mixture.shares)
    inside, solid, distance = inside_skull(bins, prior, *mix.lookup(mixture), priors, grid)
    return with_edge(priors, inside), solid, distance


def classify(bins: NDArray, priors: NDArray, mixture: mix.Mixture) -> tuple[NDArray, NDArray]:
    """Posterior (8, n) of each class, and the table of expected fractions (8, 3, BINS)."""
    prior, _ = mix.class_priors(priors, mix.brain_shares(priors), mixture.shares)
    likelihood, fraction = mix.lookup(mixture)
    return mix.responsibilities(bins, prior, likelihood), fraction


def warp_template(
    samples: Samples,
    fit: Fit,
    box: Box,
    template: Template,
    start: NDArray,
    settings: WarpSettings,
) -> Warp:
    """Warp the template's grey and white matter onto those found."""
    found = [samples.grid.lay(fit.fractions[tissue]) for tissue in (GM, WM)]
    affine = box.affine @ np.diag([*samples.step, 1.0])
    maps = [template.gm, template.wm]
    return register_maps(
        found, affine, maps, template.affine, np.linalg.inv(start), settings=settings
    )


def head_to_template(warp: Warp) -> Callable[[NDArray], NDArray]:
    """Map of head points to template points, mm."""
    return lambda points: apply_affine(
        warp.start, displaced(points, warp.displacement, warp.affine)
    )


def full_resolution(
    shape: tuple[int, ...],
    box: Box,
    scale: float,
    samples: Samples,
    fit: Fit,
    priors: NDArray,
    template: Template,
    to_template: Callable[[NDArray], NDArray],
) -> Tissues:
    """Posterior mean fractions at every voxel, then the mask."""
    voxels = np.array(np.nonzero(box.domain))
    lattice = Lattice.over(box.volume.shape, voxel_sizes(box.affine), voxels)
    log_bias = lattice.at(fit.field)
    points = apply_affine(box.affine, voxels).astype(np.float32)
    expected = priors_at(priors, template.affine, to_template, points)
    bins = mix.bin_of(box.volume[tuple(voxels)] / scale * np.exp(-log_bias))
    grid = Grid(box.volume.shape, tuple(voxels), voxel_sizes(box.affine))
    here, solid, distance = found_edge(bins, expected, fit.mixture, grid)
    posterior, table = classify(bins, here, fit.mixture)
    # membranes and vessels in the rim look like a share of tissue
    loose = (distance > TISSUE_REACH) & (expected[OTHER] > TISSUE_DOUBT)
    posterior[1:6, loose] = 0
    posterior[mix.NUCLEI, loose] = 0
    fractions = mix.expected_fractions(bins, posterior, table)
    model = model_of(fit, scale)
    return assemble(shape, box, grid, fractions, 1 - here[OTHER], solid, log_bias, model)


def assemble(
    shape: tuple[int, ...],
    box: Box,
    grid: Grid,
    fractions: NDArray,
    inside: NDArray,
    solid: NDArray,
    log_bias: NDArray,
    model: dict[str, float],
) -> Tissues:
    """Lay the values of the domain out on the input's grid; fractions sum to 1 in the mask."""
    maps = np.stack([grid.lay(part) for part in fractions])
    mask = fill_skull(solid, grid.lay(inside), grid.zooms)
    maps[CSF][maps.sum(axis=0) < 1e-3] = 1  # in the mask, unlike any tissue: what fills the skull
    maps = maps / np.maximum(maps.sum(axis=0), 1e-6) * mask

    def whole(part: NDArray, empty: float = 0.0) -> NDArray:
        volume = np.full(shape, empty, part.dtype)
        volume[box.place] = part
        return volume

    return Tissues(
        gm=whole(maps[GM]),
        wm=whole(maps[WM]),
        csf=whole(maps[CSF]),
        mask=whole(mask),
        residual=whole(np.exp(grid.lay(log_bias)), 1.0),
        model=model,
    )


def model_of(fit: Fit, scale: float) -> dict[str, float]:
    """Parameters worth keeping, intensities in units of the bias-corrected image."""
    found = {}
    for name, tissue in (("csf", CSF), ("gm", GM), ("wm", WM)):
        found[f"{name}_mean"] = float(fit.mixture.means[tissue] * scale)
        found[f"{name}_sd"] = float(fit.mixture.sds[tissue] * scale)
    found["deep_grey_mean"] = fit.mixture.deep_mean * scale
    names = ("csf", "csf_gm", "gm", "gm_wm", "wm", "csf_wm")
    for name, share in zip(names, fit.mixture.shares, strict=True):
        found[f"{name}_share"] = float(share)
    return found
