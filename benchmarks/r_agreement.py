"""How far the statistics are from R 4.2.2, over all reference values there are.

    python benchmarks/r_agreement.py [FOLDER]

FOLDER holds ``r_reference_long.csv`` and the tables it was made from. Prints one line per kind of
analysis: values compared, those that agree, the worst relative error, how many were not compared;
then why not, every value that is off, and what no part compares. Ends with 1 if one is off.

Each part is a module of ``tests/nodes/stats`` with ``compare(folder)``, which returns a row per
analysis: ``analysis, n, worst, tolerance`` and what is off (``failed`` or ``wrong``); ``skipped``,
``reasons`` and the module's ``TITLES`` (pattern of names to words) may be absent.
"""

from __future__ import annotations

import importlib.util
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT.parent / "shared/data/stats_reference"
sys.path.insert(0, str(ROOT / "tests/nodes/stats"))

PARTS = {
    "linear models": "agreement_linear",
    "comparisons": "agreement_compare",
    "mixed models": "agreement_mixed",
    "accuracy": "agreement_accuracy",
}


def title(part: str, titles: dict[str, str], analysis: str) -> str:
    """Words for an analysis; without any, the first two parts of its name."""
    words = (text for pattern, text in titles.items() if fnmatchcase(analysis, pattern))
    short = "D_*" if analysis.startswith("D_") else "_".join(analysis.split("_")[:2])
    return next(words, f"{part}: {short}")


def gather(folder: Path) -> pd.DataFrame:
    """One row per analysis of every part that is there."""
    rows = []
    for part, name in PARTS.items():
        if not importlib.util.find_spec(name):
            print(f"no {name}: {part} are not compared", file=sys.stderr)
            continue
        module = importlib.import_module(name)
        for row in module.compare(folder):
            failed = getattr(row, "failed", getattr(row, "wrong", ()))
            rows.append(
                {
                    "analysis": row.analysis,
                    "what": title(part, getattr(module, "TITLES", {}), row.analysis),
                    "values": row.n,
                    "agree": row.n - len(failed),
                    "worst": row.worst,
                    "tolerance": row.tolerance,
                    "skipped": getattr(row, "skipped", 0),
                    "failed": failed,
                    "reasons": [f"{row.analysis}: {why}" for why in getattr(row, "reasons", ())],
                }
            )
    return pd.DataFrame(rows)


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0]) if arguments else FOLDER
    table = gather(folder)
    print("| what | R values | agree | worst error | tolerance | not compared |")
    print("|---|---|---|---|---|---|")
    for words, part in table.groupby("what", sort=False):
        counts = part[["values", "agree", "skipped"]].sum()
        worst = part.loc[part["worst"].idxmax()]
        print(
            f"| {words} | {counts['values']} | {counts['agree']} | {worst['worst']:.0e} | "
            f"{worst['tolerance']:.0e} | {counts['skipped'] or ''} |"
        )
    counts = table[["values", "agree", "skipped"]].sum()
    print(f"| all | {counts['values']} | {counts['agree']} | | | {counts['skipped']} |")
    for heading in ("reasons", "failed"):
        print({"reasons": "\nNot compared:", "failed": "\nOff:"}[heading])
        lines = [line for cell in table[heading] for line in cell]
        print("\n".join(f"* {line}" for line in lines) or "nothing")
    known = pd.read_csv(folder / "r_reference_long.csv", usecols=["analysis"])["analysis"]
    print("\nOf the reference, compared by no part:")
    print(", ".join(name for name in known.unique() if name not in set(table["analysis"])) or "-")
    return int(counts["values"] != counts["agree"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
