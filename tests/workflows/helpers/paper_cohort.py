"""A cohort on paper: tables of measures of people who do not exist."""

from pathlib import Path

import numpy as np

from alsflow.workflows.measures import catalogue

REGIONS = {
    "precentral": 24.0, "superior_frontal": 29.0, "medial_superior_frontal": 16.0,
    "middle_frontal": 38.0, "striatum": 16.0, "thalamus": 13.0,
}  # fmt: skip
SITES = ("north", "south", "west")


def people(n: int) -> list[dict]:
    """n people over three sites and two groups, ALS and control in turn."""
    rng = np.random.default_rng(3)
    return [
        {
            "participant_id": f"sub-{i + 1:02d}",
            "site": SITES[i // 2 % 3],
            "group": ("ALS", "control")[i % 2],
            "age": f"{rng.uniform(40, 75):.1f}",
            "sex": "FM"[int(rng.integers(2))],
        }
        for i in range(n)
    ]


def true_measures(person: dict, rng: np.random.Generator, effects: dict[str, float]) -> dict:
    """Measures of one person; `effects` are relative changes of a region in ALS."""
    tiv = rng.normal(1450 + 60 * (person["sex"] == "M"), 90)
    site = {"north": 1.0, "south": 0.98, "west": 1.02}[person["site"]]
    values = {"tiv": tiv, "gm": 0.45 * tiv, "wm": 0.35 * tiv, "csf": 0.2 * tiv, "gm_tiv": 45.0}
    values["gm"] += rng.normal(0, 10)
    values["gm_tiv"] = 100 * values["gm"] / tiv
    for region, mean in REGIONS.items():
        change = 1 + effects.get(region, 0.0) * (person["group"] == "ALS")
        size = mean * site * change * tiv / 1450 * rng.normal(1, 0.04)
        left = size / 2 * rng.normal(1, 0.01)
        values |= {
            f"gmv_{region}_left": left, f"gmv_{region}_right": size - left,
            f"gmv_{region}_both": size,
        }  # fmt: skip
        for side in ("left", "right", "both"):
            values[f"gmv_{region}_{side}_tiv"] = 100 * values[f"gmv_{region}_{side}"] / tiv
        values[f"gmv_{region}_asymmetry"] = (2 * left - size) / (size / 2)
    return values


def write_measures(folder: Path, person: str, values: dict, session: str = "", bad=()) -> Path:
    """One table of measures; those in `bad` are n/a with a reason."""
    parts = [person, session] if session else [person]
    path = folder.joinpath(*parts) / "anat" / f"{'_'.join(parts)}_desc-anat_measures.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["measure\tvalue\tunit\tqc\treason"]
    for name, value in values.items():
        unit = catalogue().measures[name].unit
        cells = ["n/a", unit, "ok", "region outside the image"]
        lines.append(
            "\t".join([name, *(cells if name in bad else [repr(value), unit, "ok", "n/a"])])
        )
    path.write_text("\n".join(lines) + "\n")
    return path


def write_cohort(folder: Path, n: int = 24, effects: dict | None = None) -> tuple[Path, Path]:
    """A dataset and its outputs under `folder`: (bids_dir, output_dir)."""
    bids, output = folder / "bids", folder / "out"
    rng = np.random.default_rng(11)
    bids.mkdir(parents=True)
    cohort = people(n)
    for person in cohort:
        values = true_measures(person, rng, effects or {})
        write_measures(output, person["participant_id"], values)
    write_participants(bids, cohort)
    return bids, output


def write_participants(bids: Path, cohort: list[dict]) -> None:
    rows = ["\t".join(cohort[0]), *("\t".join(person.values()) for person in cohort)]
    (bids / "participants.tsv").write_text("\n".join(rows) + "\n")
