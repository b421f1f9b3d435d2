"""Networks and group effect of a simulated resting-state cohort: made, and found again.

    python benchmarks/func_cohort.py make OUT --n-als 8 --n-controls 8 --n-procs 2
    (run the pipeline on OUT into DERIVATIVES)
    python benchmarks/func_cohort.py judge OUT DERIVATIVES

`judge` prints, for each person, the area under the ROC curve with which the map of the left
precentral seed tells the voxels of the motor and of the somatomotor network from other grey
matter, and measured beside true connectivity; then the same of the mean of all maps in template
space, and the effect of the group on the measured and on the true values with its confidence
interval.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage, stats

from alsflow.interfaces.atlas import find_atlas
from alsflow.interfaces.images import load
from alsflow.interfaces.simulate import write_cohort
from alsflow.interfaces.template import template_file
from alsflow.nodes.atlas import fill_gaps
from alsflow.nodes.geometry import resample
from alsflow.nodes.simulate.cohort import DEFAULT_NETWORK_EFFECTS, Design, FunctionalDesign
from alsflow.nodes.simulate.networks import NETWORKS, SOMATOMOTOR

# Names of the pipeline's outputs below DERIVATIVES/sub-XX.
SEED_MAP = "*_seed-precentralLeft*_stat-r*.nii.gz"
OTHER_SPACE = "_space-MNI"  # maps on the template's grid
MEAN_OF = "*_space-MNI*_seed-precentralLeft_stat-z_desc-smooth*.nii.gz"
MEASURES = "sub-*_measures.tsv"  # measure, value; one table for each person
MEASURE = "fc_motor_interhemispheric"
GREY = 0.5  # share of a voxel from which on it counts as grey matter
CONFIDENCE = 0.95
WANTED_AREA = 0.95
FEWEST = 5  # people for a group effect
SIDES = ("Left", "Right")


def area_under_curve(values: np.ndarray, inside: np.ndarray) -> float:
    """Probability that a value from inside exceeds one from outside; ties count half."""
    n = int(inside.sum())
    ranks = stats.rankdata(values)[inside].sum()
    return float((ranks - n * (n + 1) / 2) / (n * (len(values) - n)))


def _on_grid(path: Path, grid: nib.Nifti1Image) -> np.ndarray:
    """Image at the voxels of another, by linear interpolation; not a number outside."""
    image = nib.load(path)
    index = np.indices(grid.shape[:3]).reshape(3, -1)
    matrix = np.linalg.inv(image.affine) @ grid.affine
    at = matrix[:3, :3] @ index + matrix[:3, 3:]
    data = image.get_fdata()
    data = data[..., 0] if data.ndim == 4 else data
    found = ndimage.map_coordinates(data, at, order=1, mode="constant", cval=np.nan)
    return found.reshape(grid.shape[:3])


def judge_map(truth: Path, stem: str, seed_map: Path) -> tuple[float, float]:
    """Areas under the curve for the motor and for the somatomotor network."""
    grey = nib.load(truth / f"{stem}_task-rest_label-GM_probseg.nii.gz")
    sides = (truth / f"{stem}_task-rest_label-Motor{side}_probseg.nii.gz" for side in SIDES)
    motor = sum(nib.load(path).get_fdata() for path in sides) >= GREY
    wide = nib.load(truth / f"{stem}_task-rest_desc-somatomotor_mask.nii.gz").get_fdata() > 0
    found = _on_grid(seed_map, grey)
    used = (grey.get_fdata() >= GREY) & np.isfinite(found) & (found != 0)
    return area_under_curve(found[used], motor[used]), area_under_curve(found[used], wide[used])


def judge_mean(derivatives: Path) -> tuple[float, float]:
    """Areas under the curve of the mean map of all people, inside the template's grey matter."""
    paths = sorted(derivatives.rglob(MEAN_OF))
    if not paths:
        return np.nan, np.nan
    mean = np.mean([load(path)[0] for path in paths], axis=0)
    shape, affine = mean.shape, nib.load(paths[0]).affine
    grey, image = load(template_file("gm"))
    grey = resample(grey / grey.max(), image.affine, shape, affine)
    atlas = find_atlas("neuromorphometrics")
    labels, image = load(atlas.image, np.int32)
    labels = fill_gaps(labels, image.affine).astype(np.float32)
    labels = resample(labels, image.affine, shape, affine, order=0)
    used = (grey >= GREY) & np.isfinite(mean)
    areas = []
    for networks in (("motor",), SOMATOMOTOR):
        stems = {name for network in networks for name in NETWORKS[network]}
        chosen = [label.index for label in atlas.labels if label.name.partition("_")[2] in stems]
        areas.append(area_under_curve(mean[used], np.isin(labels, chosen)[used]))
    return areas[0], areas[1]


def measured_values(derivatives: Path) -> pd.Series:
    """Measured connectivity by participant, from the tables of the people who have one."""
    found = {}
    for path in sorted(derivatives.rglob(MEASURES)):
        values = pd.read_csv(path, sep="\t", na_values="n/a").set_index("measure")["value"]
        if MEASURE in values.index:
            found[path.name.partition("_")[0]] = float(values[MEASURE])
    return pd.Series(found, dtype=float)


def group_effect(values: pd.Series, people: pd.DataFrame) -> tuple[float, float, float]:
    """Difference between people with ALS and controls, age as covariate, and its interval."""
    rows = people.loc[values.dropna().index]
    model = np.column_stack(
        [np.ones(len(rows)), rows["group"] == "ALS", rows["age"] - rows["age"].mean()]
    ).astype(float)
    y = values.dropna().to_numpy()
    weights, *_ = np.linalg.lstsq(model, y, rcond=None)
    freedom = len(y) - model.shape[1]
    variance = ((y - model @ weights) ** 2).sum() / freedom
    error = np.sqrt(variance * np.linalg.inv(model.T @ model)[1, 1])
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error)
    return float(weights[1]), float(weights[1]) - half, float(weights[1]) + half


def _population(cohort: Path, people: pd.DataFrame) -> pd.Series:
    """What was put in: connectivity in an endless run."""
    found = {}
    for stem in people.index:
        name = f"{stem}_task-rest_desc-connectivity_relmat.tsv"
        path = cohort / "derivatives" / "truth" / stem / "func" / name
        found[stem] = pd.read_csv(path, sep="\t", index_col=0).loc[MEASURE, "population"]
    return pd.Series(found)


def judge_maps(truth: Path, derivatives: Path, stems: list[str]) -> dict[str, tuple]:
    """Areas under the curve of each person who has a map of the left precentral seed."""
    found = {}
    for stem in stems:
        maps = sorted((derivatives / stem).rglob(SEED_MAP))
        maps = [path for path in maps if OTHER_SPACE not in path.name]
        if maps:
            found[stem] = judge_map(truth / stem / "func", stem, maps[0])
    return found


def judge(cohort: Path, derivatives: Path) -> int:
    """Print the tables; 0 when both requirements hold, 1 when one does not or is not seen."""
    people = pd.read_csv(cohort / "participants.tsv", sep="\t", index_col=0)
    truth = cohort / "derivatives" / "truth"
    true = pd.read_csv(truth / "measures.tsv", sep="\t", na_values="n/a")
    true = true[true["measure"] == MEASURE].set_index("participant_id")["value"]
    measured = measured_values(derivatives)
    areas = judge_maps(truth, derivatives, list(people.index))
    print("participant  motor AUC  somatomotor AUC  measured z  true z")
    for stem in people.index:
        area, z = areas.get(stem, (np.nan, np.nan)), measured.get(stem, np.nan)
        print(f"{stem:11}  {area[0]:9.3f}  {area[1]:15.3f}  {z:10.3f}  {true[stem]:6.3f}")
    effects = {}
    rows = {"measured": measured, "true, this run": true, "put in": _population(cohort, people)}
    for name, values in rows.items():
        if len(values.dropna()) >= FEWEST:
            effects[name] = group_effect(values, people)
            text = "{:+.3f} ({:+.3f} to {:+.3f})".format(*effects[name])
            print(f"{name:15} ALS - control, age as covariate: {text}")
    single = np.mean([motor for motor, _ in areas.values()]) if areas else np.nan
    area, wide = judge_mean(derivatives)
    print(f"motor network: AUC of one map {single:.3f} on average; of the mean map {area:.3f}, "
          f"wanted {WANTED_AREA}; somatomotor network: of the mean map {wide:.3f}")  # fmt: skip
    if "measured" not in effects:
        print(f"fewer than {FEWEST} people were measured: no group effect")
        return 1
    _, low, high = effects["measured"]
    inside = low <= effects["put in"][0] <= high
    print(f"the effect that was put in lies {'in' if inside else 'outside'} the measured interval")
    return 0 if inside and area >= WANTED_AREA else 1


def make(options: argparse.Namespace) -> int:
    """Write the cohort; prints CPU seconds for each person."""
    design = Design(
        options.n_als, options.n_controls, options.sites, options.seed,
        dict(DEFAULT_NETWORK_EFFECTS), ((options.resolution,) * 3,),
        func=FunctionalDesign(options.volumes),
    )  # fmt: skip
    start = time.perf_counter()
    command = "python benchmarks/func_cohort.py " + json.dumps(sys.argv[1:])
    for label in write_cohort(options.out, design, command, options.n_procs, maps=True):
        print(f"sub-{label} after {time.perf_counter() - start:.0f} s", flush=True)
    return 0


def main() -> int:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    maker = commands.add_parser("make", help="simulate the cohort")
    maker.add_argument("out")
    for name, default in (("n-als", 8), ("n-controls", 8), ("sites", 2), ("seed", 1)):
        maker.add_argument(f"--{name}", type=int, default=default)
    maker.add_argument("--volumes", type=int, default=192)
    maker.add_argument("--resolution", type=float, default=1.0, help="of the T1w image, mm")
    maker.add_argument("--n-procs", type=int, default=1)
    maker.set_defaults(run=make)
    judged = commands.add_parser("judge", help="compare the pipeline's outputs with the truth")
    judged.add_argument("cohort", type=Path)
    judged.add_argument("derivatives", type=Path)
    judged.set_defaults(run=lambda options: judge(options.cohort, options.derivatives))
    options = parser.parse_args()
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
