"""How far the statistics are from R 4.2.2, over all reference values there are.

    python benchmarks/r_agreement.py [FOLDER] [--worst]

FOLDER holds ``r_reference_long.csv`` and the tables it was made from. Prints one line per kind of
analysis: values compared, those that agree, the worst relative error, what was not compared and
why; with ``--worst`` the value behind each worst error as well. Ends with 1 if a value is off.

The parts are registered in `tests/nodes/stats/agreement.py` (``MODULES``).
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT.parent / "shared/data/stats_reference"
sys.path.insert(0, str(ROOT / "tests/nodes/stats"))

import agreement  # noqa: E402


def main(arguments: list[str]) -> int:
    folders = [argument for argument in arguments if not argument.startswith("-")]
    reference = agreement.Reference(Path(folders[0]) if folders else FOLDER)
    table = agreement.summary(reference)
    print("| what | R values | agree | worst error | tolerance | not compared |")
    print("|---|---|---|---|---|---|")
    for row in table.to_dict("records"):
        print(
            f"| {row['what']} | {row['values']} | {row['agree']} | {row['worst']:.0e} | "
            f"{row['tolerance']:.0e} | {row['not compared'] or ''} |"
        )
    print(f"| all | {table['values'].sum()} | {table['agree'].sum()} | | | "
          f"{table['not compared'].sum()} |")  # fmt: skip
    print("\nNot compared:")
    for row in table[table["why"] != ""].to_dict("records"):
        print(f"* {row['what']}: {row['why']}")
    if "--worst" in arguments:
        print_worst(reference)
    return int((table["agree"] != table["values"]).any())


def print_worst(reference: agreement.Reference) -> None:
    print("\nWorst value of each analysis:")
    for name in agreement.analyses(reference):
        rows = [row for row in agreement.compare(reference, name) if not row.reason]
        if rows:
            print(f"* {max(rows, key=lambda row: row.error)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
