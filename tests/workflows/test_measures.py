from pathlib import Path

import pandas as pd
import pytest

from alsflow.nodes.clinical.columns import SourceTable, item_fields
from alsflow.nodes.clinical.options import ClinicalOptions
from alsflow.nodes.clinical.table import clinical_table
from alsflow.nodes.dwi.measures import METRICS, TRACTS
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.catalogue import catalogue_page, parse_catalogue
from alsflow.workflows.measures import MEASURES_FILE, catalogue, clinical_text, describe

ROOT = Path(__file__).resolve().parents[2]
REGIONS = (
    "precentral", "superior_frontal", "medial_superior_frontal", "middle_frontal", "striatum",
    "thalamus",
)  # fmt: skip
MRS_UNITS = {True: "mmol/kg", False: "1"}


def test_every_measure_of_the_anatomical_stream_is_declared():
    names = {"tiv", "gm", "wm", "csf", "gm_tiv"}
    for region in REGIONS:
        names.add(f"gmv_{region}_asymmetry")
        for side in ("left", "right", "both"):
            names |= {f"gmv_{region}_{side}", f"gmv_{region}_{side}_tiv"}
    assert {m.name for m in catalogue().measures.values() if m.stream == "anat"} == names


def test_every_measure_of_the_diffusion_stream_is_declared():
    sides = ("left", "right", "both")
    names = {f"{m}_{t}_{s}" for m in METRICS for t in TRACTS for s in sides}
    names |= {f"fa_{tract}_asymmetry" for tract in TRACTS}
    names |= {f"{metric}_mrs_voxel" for metric in METRICS}
    assert {m.name for m in catalogue().measures.values() if m.stream == "dwi"} == names


def test_every_measure_of_the_spectroscopy_stream_is_declared():
    to_creatine = ("tnaa", "tcho", "mins", "glx", "gaba", "gsh")
    names = {f"mrs_{name}_tcr" for name in to_creatine} | {"mrs_tnaa_tcho", "mrs_tnaa_mins"}
    names |= {f"mrs_{m}_molal" for m in ("tnaa", "tcr", "tcho", "mins", "glx", "gaba", "gsh")}
    names |= {f"mrs_voxel_{tissue}" for tissue in ("gm", "wm", "csf")}
    assert {m.name for m in catalogue().measures.values() if m.stream == "mrs"} == names
    primary = [m.name for m in catalogue().measures.values() if m.family == "mrs_ratio"]
    assert primary == ["mrs_tnaa_tcr", "mrs_tnaa_tcho"]
    assert {describe(name).expected for name in primary} == {"lower"}


def test_maps_that_belong_together_have_ranges_that_do():
    """MD = (AD + 2 RD) / 3 must be able to hold at both ends."""
    for place in (*(f"{tract}_both" for tract in TRACTS), "mrs_voxel"):
        md, ad, rd = (describe(f"{m}_{place}") for m in ("md", "ad", "rd"))
        assert rd.low < md.low < ad.low
        assert rd.high < md.high < ad.high


def test_units_families_and_ranges_fit_together():
    for measure in catalogue().measures.values():
        share = measure.name.endswith("_tiv")
        unit = "1" if measure.name.endswith("_asymmetry") else "%" if share else "mL"
        unit = METRICS[measure.name[:2]] if measure.stream == "dwi" else unit
        unit = "1" if measure.stream == "func" else unit
        unit = MRS_UNITS["molal" in measure.name] if measure.stream == "mrs" else unit
        assert measure.stream == "clinical" or measure.unit == unit, measure.name
        assert measure.low < measure.high
        assert measure.range_source
        assert measure.expected in ("lower", "higher", "none", "unknown")
        assert "{" not in measure.label + measure.description
    assert [f.name for f in catalogue().families.values() if f.primary] == [
        "motor",
        "tract_fa",
        "motor_connectivity",
        "mrs_ratio",
    ]
    left, both = describe("gmv_striatum_left"), describe("gmv_striatum_both")
    assert left.low == pytest.approx(0.4 * both.low)
    assert left.high == pytest.approx(0.6 * both.high)


def test_a_seed_is_not_measured_with_itself():
    names = {m.name for m in catalogue().measures.values() if m.stream == "func"}
    assert "fc_precentral_thalamus_both" in names
    assert "fc_precentral_precentral_both" not in names
    assert {"alff_precentral_left", "reho_striatum_both", "fc_motor_interhemispheric"} <= names
    assert {f"fc_mrs_voxel_{region}_both" for region in REGIONS} <= names


def test_an_unknown_measure_is_refused():
    with pytest.raises(BadInputError, match="'tvi' is not a measure"):
        describe("tvi")


def test_the_page_is_up_to_date():
    """If not: python -m alsflow.workflows.measures > docs/measures.md."""
    page = (ROOT / "docs" / "measures.md").read_text(encoding="utf-8")
    assert page == catalogue_page(catalogue())


def test_the_page_on_clinical_scores_is_up_to_date():
    """If not: python -m alsflow.workflows.measures clinical > docs/clinical.md."""
    assert (ROOT / "docs" / "clinical.md").read_text(encoding="utf-8") == clinical_text()


def test_every_clinical_score_is_declared_with_its_unit():
    """All that the calculators return, whatever was measured."""
    empty = {"participant_id": ["sub-1"]} | {
        name: ["n/a"] for name in item_fields(ClinicalOptions()) if name != "fvc_posture"
    }
    scores = clinical_table([SourceTable("all.tsv", pd.DataFrame(empty, index=[2]))])
    found = dict(zip(scores["score"], scores["unit"], strict=True))
    assert found.pop("mrc_max") == "1"  # says what the scale can reach
    clinical = {m.name: m.unit for m in catalogue().measures.values() if m.stream == "clinical"}
    assert found == clinical
    assert set(scores["status"]) == {"missing", "ok"}
    assert (scores["reason"] != "").sum() == len(clinical)
    families = {describe(name).family for name in clinical}
    assert all(name.startswith("clinical_") for name in families)


def test_a_measure_declared_twice_or_without_a_family_is_an_error():
    text = MEASURES_FILE.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="twice"):
        parse_catalogue(text.replace('name = "csf"', 'name = "tiv"'))
    with pytest.raises(ValueError, match="undeclared family"):
        parse_catalogue(text.replace('family = "asymmetry"', 'family = "balance"'))
