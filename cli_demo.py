"""The end of the demo: what was put into a simulated cohort, and what came out of the program."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from alsflow.interfaces.group import read_levels, read_numbers, read_table, read_tests
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.features import first_sessions
from alsflow.nodes.stats.group import analysed
from alsflow.nodes.stats.page import significant
from alsflow.nodes.stats.participants import Columns, clean_people
from alsflow.nodes.stats.recovery import MISSED, NOISE, RECOVERED, compare
from alsflow.workflows.measures import catalogue
from alsflow.workflows.settings import GroupSettings

FAILED, DATA, INPUT_MISSING = 1, 65, 66  # exit codes of the BIDS-App convention
SHOWN = ("motor", "motor_volume", "mrs_ratio")  # families of the short table
NOTABLE = 0.01  # relative effect; what follows from an effect elsewhere is smaller
IDS = ("participant_id", "session_id")


def main(argv: Sequence[str] | None = None) -> int:
    """Print injected against recovered effects.

    Returns 1 if an injected effect was missed: the limits of the estimate leave out the true
    difference of the same people, there is no estimate, or no injected effect is told from 0.
    """
    parser = argparse.ArgumentParser(prog="python -m alsflow.cli_demo", description=__doc__)
    parser.add_argument("bids_dir", type=Path, help="dataset that alsflow-simulate wrote")
    parser.add_argument("output_dir", type=Path, help="results of the group level")
    parser.add_argument("--all", action="store_true", help="every measure, not the motor regions")
    arguments = parser.parse_args(argv)
    try:
        table = recovered(arguments.bids_dir, arguments.output_dir)
        if table.empty:
            raise BadInputError("the truth holds none of the measures that were tested")
    except FileNotFoundError as problem:
        print(f"{problem.filename} is not there", file=sys.stderr)
        return INPUT_MISSING
    except BadInputError as problem:
        print(problem, file=sys.stderr)
        return DATA
    show = table if arguments.all else _short(table)
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(_printed(show), soft_wrap=not sys.stdout.isatty())
    return _conclude(table, arguments.output_dir / "group.html", console)


def recovered(bids_dir: Path, output_dir: Path) -> pd.DataFrame:
    """Injected, true and recovered difference of every measure; see `nodes.stats.recovery`."""
    settings = GroupSettings()
    columns = Columns(settings.group, settings.reference, settings.site, settings.covariates)
    truth_dir = bids_dir / "derivatives" / "truth"
    sidecar = bids_dir / "participants.json"
    levels = read_levels(sidecar) if sidecar.is_file() else {}
    people = clean_people(read_table(bids_dir / "participants.tsv"), columns, levels)
    wide, _ = first_sessions(read_numbers(output_dir / "features_wide.tsv", IDS))
    true = read_numbers(truth_dir / "measures.tsv", (*IDS, "measure", "unit"))
    used = true.merge(wide[list(IDS)], on=list(IDS))
    effects = read_table(truth_dir / "effects.tsv")
    effects["relative_effect"] = pd.to_numeric(effects["relative_effect"])
    return compare(
        effects,
        used.pivot(index="participant_id", columns="measure", values="value"),
        analysed(wide, people),
        people,
        columns,
        read_tests(output_dir / "group" / "tests.tsv"),
        catalogue(),
    )


def _short(table: pd.DataFrame) -> pd.DataFrame:
    """Motor regions, both sides, ratios of metabolites, and whatever was missed."""
    return table[table["family"].isin(SHOWN) | (table["verdict"] == MISSED)]


def _printed(rows: pd.DataFrame) -> Table:
    table = Table(title="Put into the simulated cohort, and recovered", title_justify="left")
    for name in ("measure", "injected", "true in these people", "recovered (95 % limits)"):
        table.add_column(name, justify="left" if name == "measure" else "right", no_wrap=True)
    table.add_column("verdict")
    for row in rows.to_dict("records"):
        injected = f"{100 * row['injected']:+.1f} %" if abs(row["injected"]) > NOISE else "0"
        true = f"{significant(row['true'])} ({row['true_relative']:+.1f} %)"
        if pd.isna(row["true_relative"]):
            injected = f"{row['injected']:+.3f}" if abs(row["injected"]) > NOISE else "0"
            true = significant(row["true"])
        limits = f"{significant(row['ci_low'])} to {significant(row['ci_high'])}"
        unit = "" if row["unit"] == "1" else f" {row['unit']}"
        table.add_row(
            row["measure"],
            injected,
            true,
            f"{significant(row['estimate'])}{unit} ({limits})",
            row["verdict"],
        )
    return table


def _conclude(table: pd.DataFrame, page: Path, console: Console) -> int:
    """Sum up in words; the exit code follows from them."""
    missed = int((table["verdict"] == MISSED).sum())
    injected = table[table["injected"].abs() >= NOTABLE]
    code = FAILED if missed else 0
    if injected.empty:
        console.print("No effect worth the name was put into this cohort.")
    else:
        inside = int((injected["verdict"] != MISSED).sum())
        sure = int((injected["verdict"] == RECOVERED).sum())
        console.print(
            f"{len(injected)} measures carry an injected effect of {NOTABLE:.0%} or more: "
            f"the true difference is inside the 95 % limits of {inside}, "
            f"{sure} of them told from 0."
        )
        code = code or (0 if sure else FAILED)
    console.print(f"Result page: {page.resolve()}", soft_wrap=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
