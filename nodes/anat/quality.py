"""Numbers about one segmentation, and the judgement whether it may enter a table.

A failed segmentation looks like a small or a large brain. Each check therefore asks something
that a failure changes and anatomy does not: is the brain where the template says, is every part
of it there, does it end before the image does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.anat.morphology import bounds
from alsflow.nodes.geometry import resample, voxel_sizes, voxel_volume

PURE = 0.9  # fraction above which a voxel counts as pure tissue
DIFFERENCE_NOISE = np.sqrt(2.0)  # the difference of two voxels is so much noisier than one
MAD_TO_SD = 1.4826
FACES = ("left", "right", "posterior", "anterior", "inferior", "superior")
VERTEX_HEIGHT = 60.0  # mm, MNI z above which the template's brain is called vertex


@dataclass(frozen=True)
class Flag:
    """One reason to keep a person's measures out of the tables."""

    name: str
    reason: str


@dataclass(frozen=True)
class Limits:
    """Ranges within which a segmentation of an adult head is believed."""

    tiv: tuple[float, float] = (1100.0, 2000.0)  # mL
    gm_to_wm: tuple[float, float] = (0.8, 2.2)
    csf_share: tuple[float, float] = (0.04, 0.45)  # of TIV
    template_overlap: float = 0.85  # Dice of the mask with the template's brain, affine
    tissue_overlap: float = 0.3  # correlation of WM with the template's, affine
    coverage: float = 0.85  # of each region of the template, affine
    cut_area: float = 2.0  # cm2 of mask on one face of the image; the cord has about 1
    asymmetry: float = 0.15  # of the two halves of the mask, (L-R)/((L+R)/2)
    holes: float = 1.0  # mL enclosed by the mask and not in it
    joint_variation: float = 1.0  # (sd GM + sd WM) / (mean WM - mean GM)


def measure_quality(
    raw: NDArray,
    corrected: NDArray,
    bias: NDArray,
    tissues: Mapping[str, NDArray],
    mask: NDArray,
    affine: NDArray,
    template: Mapping[str, NDArray],
) -> dict[str, float]:
    """Numbers that tell a good segmentation from a failed one.

    Parameters
    ----------
    raw, corrected : (x, y, z) array
        Image as acquired; denoised and even.
    bias : (x, y, z) array
        Field that was divided out.
    tissues : mapping
        Fractions `gm`, `wm` and `csf`, (x, y, z).
    mask : (x, y, z) bool array
        Brain.
    affine : (4, 4) array
        Voxels to mm.
    template : mapping
        What the affine template expects on this grid, (x, y, z): `brain`, `wm`, `left` and
        `right` (halves of the head), and one mask per region, named ``region_...``.

    Returns
    -------
    dict
        Units: volumes mL, areas cm2, `noise` and `bias_range` %, others 1.
    """
    return (
        volumes(tissues, mask, affine)
        | image_quality(raw, corrected, bias, tissues, mask)
        | mask_quality(mask, affine)
        | agreement(tissues, mask, template)
    )


def volumes(tissues: Mapping[str, NDArray], mask: NDArray, affine: NDArray) -> dict[str, float]:
    """Volumes, mL, and their ratios."""
    found = {
        name: float(part.sum(dtype=np.float64)) * voxel_volume(affine)
        for name, part in tissues.items()
    }
    total = sum(found.values())
    return found | {
        "tiv": total,
        "mask": float(mask.sum()) * voxel_volume(affine),
        "gm_to_wm": ratio(found["gm"], found["wm"]),
        "csf_share": ratio(found["csf"], total),
    }


def image_quality(
    raw: NDArray,
    corrected: NDArray,
    bias: NDArray,
    tissues: Mapping[str, NDArray],
    mask: NDArray,
) -> dict[str, float]:
    """Noise, contrast and unevenness within the brain."""
    white, grey = tissues["wm"] > PURE, tissues["gm"] > PURE
    if min(white.sum(), grey.sum(), mask.sum()) < 100:
        nothing = dict.fromkeys(("noise", "cnr", "joint_variation", "bias_range"), np.nan)
        return nothing
    white_mean, grey_mean = corrected[white].mean(), corrected[grey].mean()
    contrast = float(white_mean - grey_mean)
    spread = float(corrected[white].std() + corrected[grey].std())
    noise = noise_in(raw / bias, ndimage.binary_erosion(white))
    low, high = np.percentile(bias[mask], [5, 95])
    return {
        "noise": 100 * ratio(noise, float(white_mean)),
        "cnr": ratio(contrast, noise),
        "joint_variation": ratio(spread, contrast),
        "bias_range": 100 * (ratio(float(high), float(low)) - 1),
    }


def noise_in(volume: NDArray, region: NDArray) -> float:
    """Estimate the noise's deviation from differences of neighbours along the first axis.

    Neighbours share their tissue and their bias, but not their noise.
    """
    both = region[1:] & region[:-1]
    if both.sum() < 100:
        return float("nan")
    differences = (volume[1:] - volume[:-1])[both]
    return float(MAD_TO_SD * np.median(np.abs(differences)) / DIFFERENCE_NOISE)


def mask_quality(mask: NDArray, affine: NDArray) -> dict[str, float]:
    """Holes of the mask, and its area on each face of the image."""
    zooms = voxel_sizes(affine)
    holes = 0.0
    if mask.any():
        part = np.pad(mask[bounds(mask, 0.0, zooms)], 1)
        holes = float((ndimage.binary_fill_holes(part) & ~part).sum()) * voxel_volume(affine)
    found = {"mask_holes": holes}
    for axis in range(3):
        area = float(np.prod(np.delete(zooms, axis))) / 100
        for end, face in zip((0, -1), FACES[2 * axis : 2 * axis + 2], strict=True):
            found[f"cut_{face}"] = float(mask.take(end, axis=axis).sum()) * area
    return found


def agreement(
    tissues: Mapping[str, NDArray], mask: NDArray, template: Mapping[str, NDArray]
) -> dict[str, float]:
    """How well the brain found lies where the affine template expects it."""
    brain = template["brain"] > 0.5
    near = brain | mask
    left, right = (float((mask & side).sum()) for side in (template["left"], template["right"]))
    found = {
        "template_overlap": ratio(
            2.0 * float((mask & brain).sum()), float(mask.sum() + brain.sum())
        ),
        "tissue_overlap": correlation(tissues["wm"][near], template["wm"][near]),
        "asymmetry": ratio(left - right, (left + right) / 2),
    }
    for name, region in template.items():
        if name.startswith("region_"):
            inside = float((mask & region).sum())
            found["coverage_" + name.removeprefix("region_")] = ratio(inside, float(region.sum()))
    return found


def correlation(first: NDArray, second: NDArray) -> float:
    """Pearson's r; n/a (NaN) where one of them is constant."""
    if len(first) < 2 or first.std() == 0 or second.std() == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def ratio(top: float, low: float) -> float:
    """Quotient; n/a (NaN) where there is nothing to divide by."""
    return top / low if low else float("nan")


def expected_here(
    maps: Mapping[str, NDArray],
    maps_affine: NDArray,
    start: NDArray,
    shape: tuple[int, ...],
    affine: NDArray,
) -> dict[str, NDArray]:
    """Bring template maps onto the grid of a head; adds the two sides and `region_vertex`.

    Parameters
    ----------
    maps : mapping
        `brain`, `wm` and masks named ``region_...``, (x, y, z), on one grid.
    maps_affine : (4, 4) array
        Voxels of `maps` to template mm.
    start : (4, 4) array
        Template mm to head mm.
    shape, affine
        Grid of the head.
    """
    placed = start @ maps_affine
    found = {
        name: resample(np.asarray(part, np.float32), placed, shape, affine)
        for name, part in maps.items()
    }
    found = {name: part > 0.5 if name != "wm" else part for name, part in found.items()}
    to_template = np.linalg.inv(start) @ affine
    x, y, z = np.ogrid[: shape[0], : shape[1], : shape[2]]
    across, up = (
        row[0] * x + row[1] * y + row[2] * z + row[3] for row in (to_template[0], to_template[2])
    )
    found["left"], found["right"] = across < 0, across > 0
    found["region_vertex"] = found["brain"] & (up > VERTEX_HEIGHT)
    return found


def judge(metrics: Mapping[str, float], limits: Limits = Limits()) -> list[Flag]:
    """Reasons, in words, why a segmentation must not be used; empty when it may.

    A number that could not be computed (NaN) is a reason too.
    """
    flags = [
        Flag(f"{name}_unknown", f"{name} could not be computed")
        for name, value in metrics.items()
        if not np.isfinite(value)
    ]
    known = {name: value for name, value in metrics.items() if np.isfinite(value)}
    return flags + judge_volumes(known, limits) + judge_mask(known, limits)


def judge_volumes(metrics: Mapping[str, float], limits: Limits) -> list[Flag]:
    """Volumes and contrast against what adults have."""
    flags = []
    for name, (low, high), meaning, unit in (
        ("tiv", limits.tiv, "intracranial volume", " mL"),
        ("gm_to_wm", limits.gm_to_wm, "ratio of grey to white matter", ""),
        ("csf_share", limits.csf_share, "share of CSF in the intracranial volume", ""),
    ):
        value = metrics.get(name)
        if value is not None and not low <= value <= high:
            flags.append(
                Flag(
                    f"{name}_implausible",
                    f"{meaning} {value:.4g}{unit} is outside {low:g}-{high:g}{unit}",
                )
            )
    variation = metrics.get("joint_variation", 0.0)
    if variation > limits.joint_variation:
        flags.append(
            Flag(
                "contrast_poor", f"grey and white matter overlap (joint variation {variation:.2f})"
            )
        )
    return flags


def judge_mask(metrics: Mapping[str, float], limits: Limits) -> list[Flag]:
    """Place and completeness of the brain mask."""
    flags = []
    for name, value in metrics.items():
        if name.startswith("coverage_") and value < limits.coverage:
            region = name.removeprefix("coverage_").replace("_", " ")
            reason = f"only {100 * value:.0f} % of the {region} lies in the brain mask"
            flags.append(Flag(f"{name.removeprefix('coverage_')}_missing", reason))
        if name.startswith("cut_") and value > limits.cut_area:
            face = name.removeprefix("cut_")
            reason = f"the brain is cut by the {face} face of the image ({value:.1f} cm2)"
            flags.append(Flag(f"cut_off_{face}", reason))
    overlap = metrics.get("template_overlap", 1.0)
    if overlap < limits.template_overlap:
        flags.append(
            Flag("mask_misplaced", f"the mask overlaps the template by only {overlap:.2f}")
        )
    overlap = metrics.get("tissue_overlap", 1.0)
    if overlap < limits.tissue_overlap:
        reason = f"white matter agrees with the template's by only {overlap:.2f}"
        flags.append(Flag("tissue_misplaced", reason))
    if abs(metrics.get("asymmetry", 0.0)) > limits.asymmetry:
        reason = f"the halves of the mask differ by {100 * metrics['asymmetry']:.0f} %"
        flags.append(Flag("mask_lopsided", reason))
    if metrics.get("mask_holes", 0.0) > limits.holes:
        flags.append(Flag("mask_holes", f"the mask has holes of {metrics['mask_holes']:.1f} mL"))
    return flags
