"""The reference tables as cohort tables, under the names that the program gives its columns."""

import re
import tomllib

import pandas as pd

from alsflow.nodes.stats.plan import parse_analyses
from alsflow.nodes.stats.sample import Sample
from alsflow.workflows.settings import PROFILES

TRACTS = {
    "cstr": "corticostriatal_tract",
    "cth": "corticothalamic_tract",
    "cst": "corticospinal_tract",
}
SIDES = {"L": "left", "R": "right"}
TAIWAN = {"age_onset": "age_at_onset", "kings_stage": "kings", "fvc_pct": "fvc_percent"}
CALSNIC = {
    "fa": "fa_mrs_voxel", "md": "md_mrs_voxel", "rd": "rd_mrs_voxel", "ad": "ad_mrs_voxel",
    "tnaa_cr": "mrs_tnaa_tcr", "tnaa_cho": "mrs_tnaa_tcho", "foot_tap": "foot_tapping",
    "symptom_duration": "disease_duration", "fc_roi": "fc_motor_interhemispheric",
}  # fmt: skip
SEX = {"M": "male", "F": "female"}
MM2_S = 1e-3  # the reference tables have diffusivities in 10-3 mm2/s, the program in mm2/s
LIMB_SCORES = ("mrc_sum", "penn", "cmap_z")


def analyses(profile):
    declared = tomllib.loads((PROFILES / f"{profile}.toml").read_text(encoding="utf-8"))
    return parse_analyses(declared["analysis"], f"{profile}.toml", ("age", "sex"))


def taiwan_name(name):
    """Our name of a column of taiwan_subjects.csv; pairs (gm, tract) also without side."""
    grey = re.fullmatch(r"gm_(\w+?)_pct(_[LR])?", name)
    if grey:
        return f"gmv_{grey[1]}_{SIDES[grey[2][1]] if grey[2] else 'both'}_tiv"
    tract = re.fullmatch(r"(fa|md|ad|rd)_(cstr|cth|cst)(_[LR])?", name)
    if tract:
        return f"{tract[1]}_{TRACTS[tract[2]]}_{SIDES[tract[3][1]] if tract[3] else 'both'}"
    score = re.fullmatch(r"(mrc|penn|cmapz_sum)_([LR])", name)
    if score:
        ours = {"mrc": "mrc_sum", "penn": "penn", "cmapz_sum": "cmap_z"}[score[1]]
        return f"{ours}_{SIDES[score[2]]}"
    return TAIWAN.get(name, name)


def side_name(name):
    """Our name, with {side}, of a column of taiwan_sides.csv."""
    if name in ("mrc", "penn", "cmapz"):
        return {"mrc": "mrc_sum", "penn": "penn", "cmapz": "cmap_z"}[name] + "_{side}"
    grey = re.fullmatch(r"gm_(\w+)", name)
    if grey:
        return f"gmv_{grey[1]}_{{side}}_tiv"
    kind, _, tract = name.partition("_")
    return f"{kind}_{TRACTS[tract]}_{{side}}"


def cohort_table(path, names, diffusivity):
    table = pd.read_csv(path).rename(columns=names)
    kinds = [name for name in table if name.split("_")[0] in ("ad", "rd", "md")]
    table[kinds] = table[kinds] * diffusivity
    return table.assign(session_id="n/a", sex=table["sex"].map(SEX))


def taiwan(folder, diffusivity=1.0):
    table = cohort_table(folder / "taiwan_subjects.csv", taiwan_name, diffusivity)
    both = {"mrc_sum": "mrc_sum", "cmap_z_sum": "cmap_z", "penn_total": "penn"}
    for total, name in both.items():
        table[total] = table[f"{name}_left"] + table[f"{name}_right"]
    scores = [f"{name}_{side}" for name in LIMB_SCORES for side in ("left", "right")]
    return Sample(table, reference="HC", factors=("sex", "onset"), scores=(*scores,
                  *both, "fvc_percent", "alsfrs_r"))  # fmt: skip


def calsnic(folder, diffusivity=1.0):
    table = cohort_table(folder / "calsnic_subjects.csv", CALSNIC, diffusivity)
    scores = ("foot_tapping", "decline_rate", "alsfrs_r", "ecas_total")
    return Sample(table, reference="HC", site="site", factors=("sex", "onset"), scores=scores)
