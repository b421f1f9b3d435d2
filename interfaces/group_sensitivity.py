"""Files of what stands beside the tests: power and sample size, and ComBat for sensitivity."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from nipype.interfaces.base import File, TraitedSpec, traits

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.group import read_catalogue, read_rows, write_text
from alsflow.interfaces.group_stats import read_registry
from alsflow.nodes.stats.participants import Columns
from alsflow.nodes.stats.power import power_table
from alsflow.nodes.stats.registry import TESTED
from alsflow.nodes.stats.sensitivity import harmonised_table
from alsflow.nodes.stats.tables import format_table

PAIRS = ("n_for_observed", "n_for_declared")  # people in the two groups
PLANNED = ("analysis", "outcome")  # head of a table of power without rows


class _CheckSensitivityInputSpec(CodedInputSpec):
    tests_file = File(exists=True, mandatory=True, desc="registry of tests")
    rows_file = File(exists=True, mandatory=True, desc="cohort table of the people in the models")
    summary_file = File(exists=True, mandatory=True, desc="labels and analyses, JSON")
    measures_file = File(exists=True, mandatory=True, desc="catalogue of measures, TOML")
    covariates = traits.List(traits.Str, [], usedefault=True, desc="that ComBat preserves")


class _CheckSensitivityOutputSpec(TraitedSpec):
    power_file = File(exists=True, desc="power.tsv: power and sample size from the data at hand")
    combat_file = File(exists=True, desc="combat.tsv: group differences before and after ComBat")


class CheckSensitivity(CodedInterface):
    """Power of the group tests, and their estimates after ComBat; never in place of the tests."""

    input_spec = _CheckSensitivityInputSpec
    output_spec = _CheckSensitivityOutputSpec
    _code = (power_table, harmonised_table)

    def _run_interface(self, runtime):
        given = self.inputs
        tests = read_registry(given.tests_file)
        tests = tests[tests["status"] == TESTED]
        power = power_table(tests)
        tables = {
            "power": _split(power) if len(power) else pd.DataFrame(columns=list(PLANNED)),
            "combat": self._harmonised(tests),
        }
        for name, table in tables.items():
            path = write_text(Path(runtime.cwd) / f"{name}.tsv", format_table(table))
            self._results[f"{name}_file"] = path
        return runtime

    def _harmonised(self, tests: pd.DataFrame) -> pd.DataFrame:
        given = self.inputs
        summary = json.loads(Path(given.summary_file).read_text(encoding="utf-8"))
        catalogue = read_catalogue(given.measures_file)
        names = [name for name in dict.fromkeys(tests.loc[tests["kind"] == "groups", "outcome"])
                 if name in catalogue.measures]  # fmt: skip
        families: dict[str, list[str]] = {}
        for name in names:
            families.setdefault(catalogue.measures[name].family, []).append(name)
        rows, factors = read_rows(given.rows_file, [*names, *given.covariates])
        columns = Columns(summary["group"], summary["reference"], summary["site"],
                          tuple(given.covariates))  # fmt: skip
        return harmonised_table(rows, families, columns, summary["case"], factors)


def _split(power: pd.DataFrame) -> pd.DataFrame:
    """Table of power, numbers of the two groups in columns of their own."""
    for name in PAIRS:
        pairs = power.pop(name)
        for k, who in enumerate(("case", "reference")):
            power[f"{name}_{who}"] = [pair[k] or float("nan") for pair in pairs]
    return power
