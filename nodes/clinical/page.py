"""The parts of docs/clinical.md that are made from what the program declares."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping

from alsflow.nodes.clinical.alsfrs import ITEM, TOTAL
from alsflow.nodes.clinical.cognition import CRITERIA, ECAS_PARTS, POINTS, QUOTIENT
from alsflow.nodes.clinical.columns import FILE_NAMES, Field, item_fields
from alsflow.nodes.clinical.motor import (
    AGE,
    AMPLITUDE,
    FVC_LITRES,
    FVC_PERCENT,
    GRADE,
    HEIGHT,
    PENN_SHEET,
    TAPS,
    Z_SUM,
    Z,
)
from alsflow.nodes.clinical.options import ClinicalOptions
from alsflow.nodes.clinical.score import SIDES, Scale

TITLES = {
    "alsfrs": "ALSFRS-R",
    "mrc": "MRC grades",
    "penn": "Penn upper motor neuron score",
    "cmap": "motor amplitudes",
    "fvc": "lung function",
    "tapping": "tapping",
    "ecas": "ECAS",
    "handedness": "Edinburgh inventory",
    "diagnosis": "diagnostic category",
    "person": "about the person and visit",
}
VALUES = {
    "sex": "male or female", "onset_date": "date", "visit_date": "date",
    "alsfrs_gastrostomy": "yes or no", "fvc_posture": "words", "symptom_duration": "months",
    "age": str(AGE), "height": str(HEIGHT), "fvc_percent": str(FVC_PERCENT),
    "fvc_litres": str(FVC_LITRES), "handedness_quotient": str(QUOTIENT),
    "alsfrs_total": str(TOTAL),
}  # fmt: skip


def clinical_page(template: str, measures: str) -> str:
    """Page from its text and the text of ``measures.toml``."""
    scores = score_table(measures)
    items = item_table(item_fields(ClinicalOptions()).values())
    return template.replace("{scores}", scores).replace("{items}", items)


def score_table(measures: str) -> str:
    """Markdown table of every clinical score."""
    declared = tomllib.loads(measures)
    ours = [item for item in declared["measure"] if item["stream"] == "clinical"]
    lines = [
        "| score | range | how it is made | no value where | in ALS |",
        "|---|---|---|---|---|",
    ]
    for item in ours:
        sides = item.get("sides", [""])
        names = ", ".join(f"`{item['name'].format(side=side)}`" for side in sides)
        what = item["description"].format(side="/".join(sides))
        unit = "" if item["unit"] == "1" else f" {item['unit']}"
        span = f"{item['low']:g} to {item['high']:g}{unit}"
        lines.append(f"| {names} | {span} | {what} | {item['missing']} | {item['expected']} |")
    return "\n".join([*lines, "", "Sources:", "", *_sources(ours, declared["source"])])


def _sources(items: Iterable[Mapping], sources: Mapping[str, str]) -> list[str]:
    keys = dict.fromkeys(item["range_source"] for item in items)
    names = {key: [item["name"] for item in items if item["range_source"] == key] for key in keys}
    return [f"* {', '.join(_plain(name) for name in names[key])}: {sources[key]}" for key in keys]


def _plain(name: str) -> str:
    return f"`{name.replace('_{side}', '')}`" if "{side}" not in name else f"`{name}`"


def item_table(fields: Iterable[Field]) -> str:
    """Markdown table of every item, by tool."""
    by_tool: dict[str, list[Field]] = {}
    for entry in fields:
        by_tool.setdefault(entry.tool, []).append(entry)
    lines = ["| tool | items | values | short names in |", "|---|---|---|---|"]
    for tool, members in by_tool.items():
        groups: dict[str, list[str]] = {}
        for entry in members:
            groups.setdefault(_values(entry), []).append(entry.name)
        files = ", ".join(f"`{name}.tsv`" for name in sorted(FILE_NAMES.get(tool, ())))
        title = TITLES[tool]
        for values, names in groups.items():
            words = ", ".join(f"`{name}`" for name in _sided(names))
            lines.append(f"| {title} | {words} | {values} | {files} |")
            title = files = ""  # once for each tool
    return "\n".join(lines)


def _sided(names: list[str]) -> list[str]:
    """Join the two sides of an item in one name."""
    short = []
    for name in names:
        base, _, side = name.rpartition("_")
        both = side in SIDES and {f"{base}_{s}" for s in SIDES} <= set(names)
        short.append(f"{base}_left/right" if both else name)
    return list(dict.fromkeys(short))


def _values(entry: Field) -> str:
    """What the cells of an item may hold."""
    if entry.name in VALUES:
        return VALUES[entry.name]
    if entry.tool == "diagnosis":
        return ", ".join(CRITERIA[entry.item][0])
    if entry.tool == "penn" and entry.item in PENN_SHEET:
        return str(Scale(0, PENN_SHEET[entry.item].highest))
    if entry.tool == "ecas":
        highest = ECAS_PARTS["total"]
        parts = {key: sum(part.values()) for key, part in ECAS_PARTS.items()}
        return str(Scale(0, (highest | parts)[entry.item]))
    if entry.tool == "cmap":
        is_sum, is_z = entry.item.startswith("total"), entry.item.startswith("z_")
        return str(Z_SUM if is_sum else Z if is_z else AMPLITUDE)
    if "total" in entry.item:
        return "sum, checked against the items"
    return str({"alsfrs": ITEM, "mrc": GRADE, "tapping": TAPS, "handedness": POINTS}[entry.tool])
