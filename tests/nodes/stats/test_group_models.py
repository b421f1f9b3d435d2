"""All measures together: what one lacks must not touch another."""

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.effects import benjamini_hochberg
from alsflow.nodes.stats.group import fit_measures
from alsflow.nodes.stats.participants import Columns, clean_people
from alsflow.nodes.stats.tables import parse_table
from alsflow.workflows.measures import catalogue

N = 24
MOTOR = ("gmv_precentral_both_tiv", "gmv_striatum_both_tiv", "gmv_thalamus_both_tiv")


def people(columns: Columns = Columns()):  # noqa: B008 - frozen
    rng = np.random.default_rng(1)
    lines = ["participant_id\tgroup\tsite\tage\tsex\tscanner"]
    for i in range(N):
        site, scanner = ("A", "Prisma") if i < N // 2 else ("B", "Skyra")
        cells = [f"sub-{i:02d}", ("ALS", "control")[i % 2], site, f"{rng.uniform(40, 75):.1f}"]
        lines.append("\t".join([*cells, "FM"[i // 2 % 2], scanner]))
    return clean_people(parse_table("\n".join(lines), "participants.tsv"), columns, {})


def wide(**measures):
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"participant_id": [f"sub-{i:02d}" for i in range(N)]})
    table["session_id"] = "n/a"
    for name in MOTOR:
        table[name] = rng.normal(1, 0.1, N)
    return table.assign(**measures)


def fit(table, columns=Columns(), missing=None):  # noqa: B008 - frozen
    return fit_measures(table, people(columns), columns, catalogue(), missing or {}, {})


def test_an_untested_measure_does_not_count_in_the_false_discovery_rate():
    whole = fit(wide()).tests.set_index("measure")
    lacking = fit(wide(gmv_striatum_both_tiv=np.nan)).tests.set_index("measure")
    kept = [MOTOR[0], MOTOR[2]]
    np.testing.assert_array_equal(lacking.loc[kept, "p"], whole.loc[kept, "p"])
    np.testing.assert_allclose(
        lacking.loc[kept, "q"], benjamini_hochberg(whole.loc[kept, "p"].to_numpy())
    )
    row = lacking.loc[MOTOR[1]]
    assert (row["status"], row["n"], row["n_missing"]) == ("n/a", 0, N)
    assert row["reason"] == "nobody of the group ALS has this measure"
    assert np.isnan(row["q"])


def test_families_are_corrected_apart():
    alone = fit(wide()).tests.set_index("measure")
    more = fit(wide(tiv=np.random.default_rng(3).normal(1400, 90, N))).tests.set_index("measure")
    np.testing.assert_array_equal(more.loc[list(MOTOR), "q"], alone["q"])
    assert more.at["tiv", "q"] == more.at["tiv", "p"]


def test_people_without_the_measure_are_named_with_their_reasons():
    values = wide()[MOTOR[0]].copy()
    values[[0, 3, 5]] = np.nan
    missing = {("sub-00", MOTOR[0]): "flagged: x", ("sub-05", MOTOR[0]): "flagged: x"}
    row = fit(wide(**{MOTOR[0]: values}), missing=missing).tests.set_index("measure").loc[MOTOR[0]]
    assert row["missing"] == "sub-00, sub-05: flagged: x; sub-03: not in the table of measures"
    assert (row["n"], row["n_case"], row["n_control"]) == (N - 3, 11, 10)
    assert row["n_per_site"] == "A: 5 ALS, 4 control; B: 6 ALS, 6 control"
    lost = "A: 1 of 6 ALS, 2 of 6 control; B: 0 of 6 ALS, 0 of 6 control"
    assert (row["n_missing"], row["missing_per_site"]) == (3, lost)
    centre = fit(wide(**{MOTOR[0]: values}), Columns(site="")).tests.set_index("measure")
    assert centre.at[MOTOR[0], "missing_per_site"] == "1 of 12 ALS, 2 of 12 control"
    assert centre.at[MOTOR[1], "missing_per_site"] == "0 of 12 ALS, 0 of 12 control"


def test_a_measure_of_one_site_can_be_tested_where_all_people_together_cannot():
    """Each site has its own scanner: with both, site and scanner are one and the same."""
    columns = Columns(covariates=("age", "scanner"))
    values = wide()[MOTOR[0]].where(np.arange(N) < N // 2)
    result = fit(wide(**{MOTOR[0]: values}), columns)
    status = result.tests.set_index("measure")["status"]
    assert list(status[list(MOTOR)]) == ["tested", "n/a", "n/a"]
    assert result.design.empty
    assert "site and scanner carry the same information" in result.notes[0]
    row = result.tests.set_index("measure").loc[MOTOR[0]]
    assert row["model"] == f"{MOTOR[0]} ~ group + age"
    assert row["notes"] == (
        "site is left out: all are of site A; scanner is left out: all are of scanner Prisma"
    )


def test_nothing_to_test_is_refused_with_the_reason():
    with pytest.raises(BadInputError, match="can be estimated: site and scanner carry"):
        fit(wide(), Columns(covariates=("age", "scanner")))
