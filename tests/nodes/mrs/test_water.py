from dataclasses import replace
from math import isnan

import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.mrs.lcmodel_table import read_table
from alsflow.nodes.mrs.water import (
    METABOLITE_SETS,
    WATER_SETS,
    Fractions,
    Scaling,
    Sequence,
    concentration,
    concentrations,
    scaling_of,
)

TISSUE = Fractions(gm=0.3, wm=0.5, csf=0.2)
PRESS = Sequence("press", te=0.160, tr=3.0)
STEAM = Sequence("steam", te=0.160, tr=3.0, tm=0.040)
# design of the correction: shares of water, attenuation of water and metabolite, results
WORKED = [
    ("fsl-mrs", PRESS, 0.206052, 0.395510, 14.3874, 13.3509, 10.0532),
    ("fsl-mrs", STEAM, 0.197895, 0.379385, 14.4052, 13.3674, 10.0656),
    ("osprey", PRESS, 0.222661, 0.395510, 15.5472, 14.4271, 10.8636),
    ("osprey", STEAM, 0.213433, 0.379385, 15.5363, 14.4169, 10.8560),
]


@pytest.fixture(scope="module")
def read(shared_data):
    def read(case):
        text = (shared_data / "lcmodel" / case / "out.table").read_text()
        return read_table(text, "out.table")

    return read


@pytest.mark.parametrize(
    ("water", "sequence", "factor", "left", "molal", "volume", "molar"), WORKED
)
def test_worked_values(water, sequence, factor, left, molal, volume, molar):
    ratio = Scaling().signal_ratio(9.276)
    assert ratio == pytest.approx(3.693263e-4, abs=5e-11)
    constants = WATER_SETS[water], METABOLITE_SETS["fsl-mrs"]
    found = concentration(ratio, "tNAA", sequence, TISSUE, *constants)
    assert found.water_factor == pytest.approx(factor, abs=6e-7)
    assert found.metabolite_factor == pytest.approx(left, abs=6e-7)
    assert found.molal == pytest.approx(molal, abs=6e-5)
    assert found.molal_volume == pytest.approx(volume, abs=6e-5)
    assert found.molar == pytest.approx(molar, abs=6e-5)
    assert (found.water_set, found.metabolite_set) == (water, "fsl-mrs")


def test_what_lcmodel_was_told_to_assume_is_undone(read):
    """One spectrum fitted with other ATTMET, ATTH2O and WCONC gives the same concentration."""
    plain, other = read("sim_steam160_dows"), read("doc_wconc")
    assert scaling_of(other) == Scaling(attmet=0.6, atth2o=0.134, wconc=42000)
    constants = WATER_SETS["fsl-mrs"], METABOLITE_SETS["fsl-mrs"]
    for name in ("tNAA", "tCr", "tCho"):
        one, two = (
            next(c for c in concentrations(r, STEAM, TISSUE, *constants) if c.metabolite == name)
            for r in (plain, other)
        )
        assert one.molal == pytest.approx(two.molal, rel=2e-3)  # three digits are printed


@pytest.mark.parametrize("case", ["bad_h2o_zero", "fatal_missing_h2o", "sim_steam160_healthy"])
def test_no_concentration_without_water(read, case):
    constants = WATER_SETS["fsl-mrs"], METABOLITE_SETS["fsl-mrs"]
    found = concentrations(read(case), STEAM, TISSUE, *constants)
    assert len(found) == 26
    assert all(isnan(c.molal) and c.reason == "not scaled by water" for c in found)


def test_a_metabolite_without_constants_or_concentration_says_so(read):
    constants = WATER_SETS["osprey"], METABOLITE_SETS["osprey"]
    found = {
        c.metabolite: c
        for c in concentrations(read("sim_steam160_dows"), STEAM, TISSUE, *constants)
    }
    assert found["GSH"].reason == "osprey has no T1 and T2 of GSH"
    assert found["Lip13b"].reason == "concentration 0 or missing"
    assert isnan(found["GSH"].molar)
    assert found["tNAA"].molal > 0


def test_pure_grey_matter_takes_grey_matter_times():
    constants = WATER_SETS["osprey"], METABOLITE_SETS["osprey"]
    found = concentration(1e-4, "tCr", PRESS, Fractions(1, 0, 0), *constants)
    assert found.metabolite_factor == pytest.approx(PRESS.attenuation(1.460, 0.146))
    assert found.molal == found.molal_volume
    assert found.molar == pytest.approx(0.78 * found.molal)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Sequence("press", te=160, tr=3000),
        lambda: Sequence("steam", te=0.16, tr=3.0),
        lambda: Sequence("isis", te=0.16, tr=3.0),
        lambda: Fractions(0.3, 0.5, 0.1),
        lambda: Fractions(-0.1, 0.9, 0.2),
        lambda: Fractions(0.0, 0.0, 1.0),
    ],
)
def test_what_cannot_be_corrected_is_refused(wrong):
    with pytest.raises(BadInputError):
        wrong()


def test_sets_of_different_fields_are_not_mixed():
    seven = replace(METABOLITE_SETS["fsl-mrs"], field_strength=7.0)
    with pytest.raises(BadInputError, match="field strengths"):
        concentration(1e-4, "tNAA", PRESS, TISSUE, WATER_SETS["fsl-mrs"], seven)
