"""What is known of each measure before any is taken: unit, label, plausible range, family."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from alsflow.nodes.errors import BadInputError

PLACES = ("region", "tract")  # what a pattern of names may run over


@dataclass(frozen=True)
class Family:
    """Measures that answer one question; the false discovery rate is held within it."""

    name: str
    title: str
    question: str
    primary: bool = False


@dataclass(frozen=True)
class Measure:
    """One number per person and session."""

    name: str
    family: str
    stream: str
    unit: str
    label: str
    description: str
    low: float  # plausible in an adult, in `unit`
    high: float
    range_source: str
    expected: str  # in ALS against controls: "lower", "higher", "none" or "unknown"
    expected_source: str
    relative: bool  # whether a difference in per cent of the control mean has a meaning


@dataclass(frozen=True)
class Catalogue:
    """All families and measures, in the order of the file that declares them."""

    families: Mapping[str, Family]
    measures: Mapping[str, Measure]

    def describe(self, name: str) -> Measure:
        """Measure called `name`; an unknown name is refused."""
        if name not in self.measures:
            raise BadInputError(f"'{name}' is not a measure that measures.toml declares")
        return self.measures[name]


def parse_catalogue(text: str) -> Catalogue:
    """Catalogue from the TOML text of ``measures.toml``.

    A ``[[measure]]`` whose name holds ``{region}``, ``{tract}`` or ``{side}`` stands for one
    measure per region (or tract) and side; with ``range_of``, ``low`` and ``high`` are factors
    on that range of the region or tract; ``without`` names regions or tracts to pass over.
    """
    declared = tomllib.loads(text)
    families = {item["name"]: Family(**item) for item in declared["family"]}
    measures: dict[str, Measure] = {}
    for item in declared["measure"]:
        for measure in _expand(item, declared):
            if measure.name in measures:
                raise ValueError(f"measures.toml declares {measure.name} twice")
            if measure.family not in families:
                raise ValueError(f"{measure.name} is of the undeclared family {measure.family}")
            measures[measure.name] = measure
    return Catalogue(families, measures)


def _expand(item: dict, declared: dict) -> list[Measure]:
    """Return the measures that one ``[[measure]]`` table stands for."""
    pattern = item["name"]
    kind = next((kind for kind in PLACES if f"{{{kind}}}" in pattern), "")
    left_out = item.get("without", [])
    places = [place for place in declared[kind] if place["name"] not in left_out] if kind else [{}]
    sides = item.get("sides", [""])
    return [
        _fill(item, kind, place, side, declared["source"])
        for place, side in product(places, sides)
    ]


def _fill(item: dict, kind: str, place: dict, side: str, sources: dict[str, str]) -> Measure:
    words = {"side": side}
    low, high, expected = item["low"], item["high"], item.get("expected", "unknown")
    source = item.get("expected_source")
    if place:
        words |= {kind: place["name"], f"{kind}_label": place["label"]}
        if item.get("range_of"):
            low, high = (
                float(f"{factor * bound:.4g}")
                for factor, bound in zip((low, high), place[item["range_of"]], strict=True)
            )
        if "expected" not in item:
            expected, source = place["expected"], place["expected_source"]
    return Measure(
        name=item["name"].format(**words),
        family=item["family"],
        stream=item["stream"],
        unit=item["unit"],
        label=item["label"].format(**words),
        description=item["description"].format(**words),
        low=low,
        high=high,
        range_source=sources[item["range_source"]],
        expected=expected,
        expected_source=sources[source] if source else "",
        relative=item.get("relative", True),
    )


def catalogue_page(catalogue: Catalogue) -> str:
    """Markdown page that lists every family and measure."""
    lines = [
        "# Measures",
        "",
        "Made from `workflows/data/measures.toml`; edit that file, not this page.",
        "",
        "A value outside the plausible range is kept and pointed out on the result page. "
        "The false discovery rate is controlled within each family.",
    ]
    for family in catalogue.families.values():
        primary = " (primary family)" if family.primary else ""
        lines += ["", f"## {family.title}{primary}", "", f"`{family.name}`: {family.question}", ""]
        lines += ["| measure | unit | what | plausible in an adult | expected in ALS |"]
        lines += ["|---|---|---|---|---|"]
        members = [m for m in catalogue.measures.values() if m.family == family.name]
        for m in members:
            span = f"{m.low:g} to {m.high:g}"
            lines.append(f"| `{m.name}` | {m.unit} | {m.description} | {span} | {m.expected} |")
        ranges = sorted({m.range_source for m in members})
        expectations = sorted({m.expected_source for m in members if m.expected_source})
        lines += ["", "Ranges: " + " ".join(ranges)]
        lines += ["", "Expected direction: " + " ".join(expectations)] if expectations else []
    return "\n".join(lines) + "\n"
