from pathlib import Path

import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.catalogue import catalogue_page, parse_catalogue
from alsflow.workflows.measures import MEASURES_FILE, catalogue, describe

ROOT = Path(__file__).resolve().parents[2]
REGIONS = (
    "precentral", "superior_frontal", "medial_superior_frontal", "middle_frontal", "striatum",
    "thalamus",
)  # fmt: skip


def test_every_measure_of_the_anatomical_stream_is_declared():
    names = {"tiv", "gm", "wm", "csf", "gm_tiv"}
    for region in REGIONS:
        names.add(f"gmv_{region}_asymmetry")
        for side in ("left", "right", "both"):
            names |= {f"gmv_{region}_{side}", f"gmv_{region}_{side}_tiv"}
    assert set(catalogue().measures) == names


def test_units_families_and_ranges_fit_together():
    for measure in catalogue().measures.values():
        share = measure.name.endswith("_tiv")
        unit = "1" if measure.name.endswith("_asymmetry") else "%" if share else "mL"
        assert measure.unit == unit, measure.name
        assert measure.low < measure.high
        assert measure.range_source
        assert measure.expected in ("lower", "higher", "none", "unknown")
        assert "{" not in measure.label + measure.description
    assert [f.name for f in catalogue().families.values() if f.primary] == ["motor"]
    left, both = describe("gmv_striatum_left"), describe("gmv_striatum_both")
    assert left.low == pytest.approx(0.4 * both.low)
    assert left.high == pytest.approx(0.6 * both.high)


def test_an_unknown_measure_is_refused():
    with pytest.raises(BadInputError, match="'tvi' is not a measure"):
        describe("tvi")


def test_the_page_is_up_to_date():
    """If not: python -m alsflow.workflows.measures > docs/measures.md."""
    page = (ROOT / "docs" / "measures.md").read_text(encoding="utf-8")
    assert page == catalogue_page(catalogue())


def test_a_measure_declared_twice_or_without_a_family_is_an_error():
    text = MEASURES_FILE.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="twice"):
        parse_catalogue(text.replace('name = "csf"', 'name = "tiv"'))
    with pytest.raises(ValueError, match="undeclared family"):
        parse_catalogue(text.replace('family = "asymmetry"', 'family = "balance"'))
