"""Slopes of single people and who was lost, by hand."""

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.visits import decline_rates, person_slopes, retention


def table():
    rows = [
        ("sub-1", "ALS", 0.0, 40.0), ("sub-1", "ALS", 3.0, 38.5), ("sub-1", "ALS", 7.0, 33.0),
        ("sub-2", "ALS", 0.0, 44.0), ("sub-2", "ALS", 4.0, 42.0),
        ("sub-3", "ALS", 0.0, 30.0),
        ("sub-4", "HC", 0.0, 48.0), ("sub-4", "HC", 4.0, 48.0), ("sub-4", "HC", 8.0, 47.0),
        ("sub-5", "HC", 0.0, np.nan), ("sub-5", "HC", 4.0, np.nan),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["participant_id", "group", "months", "alsfrs_r"])


def test_slopes_of_people():
    found = person_slopes(table(), "alsfrs_r")
    assert list(found.index) == ["sub-1", "sub-2", "sub-3", "sub-4", "sub-5"]
    months, score = np.array([0.0, 3, 7]), np.array([40.0, 38.5, 33])
    (slope, level), cover = np.polyfit(months, score, 1, cov="unscaled")
    left = score - slope * months - level
    np.testing.assert_allclose(
        found.loc["sub-1", ["slope", "level"]].astype(float), [slope, level]
    )
    np.testing.assert_allclose(found.loc["sub-1", "se"], np.sqrt(cover[0, 0] * (left**2).sum()))
    assert found.loc["sub-2", "slope"] == pytest.approx(-0.5)
    assert np.isnan(found.loc["sub-2", "se"])
    assert list(found["reason"]) == ["", "", "one visit", "", "alsfrs_r known at no visit"]
    assert list(found["n_visits"]) == [3, 2, 1, 3, 0]


def test_visits_at_one_time_have_no_slope():
    rows = table().assign(months=2.0)
    found = person_slopes(rows, "alsfrs_r")
    assert found.loc["sub-1", "reason"] == "all visits at the same time"
    assert found["slope"].isna().all()


def test_a_decline_is_a_loss_per_month():
    found = decline_rates(table())
    assert found.loc["sub-2", "decline_rate"] == pytest.approx(0.5)
    assert list(found["status"]) == ["ok", "ok", "n/a", "ok", "n/a"]
    assert found.loc["sub-3", "reason"] == "one visit"
    soon = table().assign(months=lambda rows: rows["months"] / 10)
    assert decline_rates(soon).loc["sub-2", "status"] == "flag"
    assert "within 1 month" in decline_rates(soon).loc["sub-2", "reason"]


@pytest.mark.parametrize("score", [49.0, -1.0])
def test_a_score_out_of_range_is_refused(score):
    rows = table()
    rows.loc[4, "alsfrs_r"] = score
    with pytest.raises(BadInputError, match=f"sub-2: alsfrs_r is {score:g} at 4 months"):
        decline_rates(rows)


def test_who_was_lost_and_how_they_were():
    found = retention(table(), "alsfrs_r", group="group").set_index(["group", "visit"])
    assert list(found["n"]) == [3, 2, 1, 1, 1, 1]
    first = found.loc["ALS", 1]
    assert first["lost_after"] == 1
    assert first["alsfrs_r_lost"] == 30
    assert first["alsfrs_r_returned"] == 42
    assert found.loc[("ALS", 2), "share"] == pytest.approx(2 / 3)
    assert found.loc[("ALS", 2), "months_median"] == 3.5
    assert list(found["lost_after"]) == [1, 1, 0, 0, 0, 0]
    assert np.isnan(found.loc[("ALS", 3), "alsfrs_r_returned"])


def test_a_visit_that_was_skipped_is_no_loss():
    rows = table().assign(visit=lambda t: (t["months"] / 4).round().astype(int) + 1)
    rows = rows.drop(index=7)  # sub-4 came to visits 1 and 3
    found = retention(rows, "alsfrs_r", group="group", visit="visit").set_index(["group", "visit"])
    assert ("HC", 2) not in found.index
    assert found.loc[("HC", 1), "lost_after"] == 0
