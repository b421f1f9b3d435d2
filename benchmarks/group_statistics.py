"""Seconds that the group level takes for the declared analyses of one profile.

    python benchmarks/group_statistics.py [PROFILE [PEOPLE [MEASURES]]]

Default: the profile ``default``, 100 people at four sites, 200 measures (or all there are), 3 % of
the values missing, seven clinical scores of the patients. Prints seconds of the processor and on
the wall for the tests, the figures, the tables and the page.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import tomllib
from pathlib import Path

os.environ.setdefault("NO_ET", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from alsflow.interfaces.group_stats import (
    DrawStatistics,
    PrintTables,
    RunAnalyses,
    WriteAnalyses,
    read_registry,
)
from alsflow.nodes.stats.catalogue import Measure
from alsflow.workflows.measures import MEASURES_FILE, catalogue
from alsflow.workflows.settings import PROFILES

SITES, MISSING_SHARE = 4, 0.03
SHIFT = 0.2  # of half the plausible range, patients in every third measure
SCORES = {  # mean, standard deviation, largest
    "alsfrs_r": (38, 6, 48), "decline_rate": (0.7, 0.4, 4), "penn_total": (9, 5, 32),
    "mrc_sum": (50, 6, 60), "fvc_percent": (85, 15, 140), "foot_tapping": (25, 8, 80),
    "ecas_total": (105, 12, 136),
}  # fmt: skip


def write_people(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """``participants.tsv`` of `n` people."""
    people = pd.DataFrame({
        "participant_id": [f"sub-{k:03d}" for k in range(n)],
        "group": np.where(np.arange(n) % 2 == 0, "ALS", "control"),
        "site": [f"site-{k}" for k in rng.integers(0, SITES, n)],
        "age": rng.normal(60, 9, n).round(1),
        "sex": np.array(["male", "female"])[rng.integers(0, 2, n)],
    })  # fmt: skip
    people.to_csv("participants.tsv", sep="\t", index=False)
    return people


def write_features(
    people: pd.DataFrame, measures: list[Measure], rng: np.random.Generator
) -> None:
    """``features.tsv``: values in their plausible ranges."""
    case = (people["group"] == "ALS").to_numpy()
    parts = []
    for k, measure in enumerate(measures):
        half = (measure.high - measure.low) / 2
        noise = 0.25 * rng.standard_normal(len(people)) - SHIFT * case * (k % 3 == 0)
        values = np.clip(measure.low + half + half * noise, measure.low, measure.high)
        values[rng.random(len(people)) < MISSING_SHARE] = np.nan
        parts.append(pd.DataFrame({
            "participant_id": people["participant_id"], "session_id": "n/a",
            "measure": measure.name, "value": values, "unit": measure.unit, "qc": "ok",
            "reason": np.where(np.isnan(values), "no image", "n/a"),
        }))  # fmt: skip
    pd.concat(parts).to_csv("features.tsv", sep="\t", index=False, na_rep="n/a")


def write_scores(people: pd.DataFrame, rng: np.random.Generator) -> None:
    """``clinical_scores.tsv`` of the patients."""
    patients = people.loc[people["group"] == "ALS", "participant_id"]
    parts = []
    for name, (mean, sd, top) in SCORES.items():
        values = np.clip(rng.normal(mean, sd, len(patients)), 0, top).round(1)
        parts.append(pd.DataFrame({
            "participant_id": patients, "session_id": "n/a", "score": name, "value": values,
            "unit": catalogue().measures[name].unit, "n_items_valid": 1, "n_items": 1,
            "label": "n/a", "status": "ok", "reason": "n/a", "source": "drawn at random",
        }))  # fmt: skip
    pd.concat(parts).to_csv("clinical_scores.tsv", sep="\t", index=False)


def main(profile: str = "default", n: str = "100", k: str = "200") -> None:
    """Run the four steps and print what they took."""
    rng = np.random.default_rng(3)
    measures = [one for one in catalogue().measures.values() if one.name not in SCORES]
    people = write_people(int(n), rng)
    write_features(people, [one for one in measures if one.stream != "clinical"][: int(k)], rng)
    write_scores(people, rng)
    declared = tomllib.loads((PROFILES / f"{profile}.toml").read_text(encoding="utf-8"))
    clock = (time.process_time(), time.perf_counter())

    def say(what: str) -> None:
        cpu, wall = time.process_time() - clock[0], time.perf_counter() - clock[1]
        print(f"{what}: {cpu:.1f} s of the processor, {wall:.1f} s on the wall, so far")

    found = RunAnalyses(
        features_file="features.tsv", participants_file="participants.tsv",
        scores_file="clinical_scores.tsv", measures_file=str(MEASURES_FILE), group="group",
        analyses=declared["analysis"], strict=False, source=profile, reference="control",
        site="site", covariates=["age", "sex"],
    ).run().outputs  # fmt: skip
    tests = read_registry(found.tests_file)
    say(f"{len(tests)} tests of {tests['outcome'].nunique()} outcomes in {n} people")
    names = ("tests_file", "terms_file", "means_file", "tables_file", "summary_file")
    shared = {name: getattr(found, name) for name in names} | {"measures_file": str(MEASURES_FILE)}
    drawn = DrawStatistics(rows_file=found.rows_file, figures_file=found.figures_file, **shared)
    figures = drawn.run().outputs.figure_files
    say(f"{len(figures)} figures")
    printed = PrintTables(attrition_file=found.attrition_file, **shared).run().outputs
    say(f"{len(printed.csv_files)} tables in three formats")
    WriteAnalyses(
        attrition_file=found.attrition_file, figure_files=figures, version="0",
        template_file=str(MEASURES_FILE.parent / "analyses.html.j2"), **shared,
    ).run()  # fmt: skip
    say("the page")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main(*sys.argv[1:])
        os.chdir(Path(folder).parent)
