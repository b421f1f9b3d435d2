"""What visits tell without a model of everybody: each person's slope, and who did not return."""

from __future__ import annotations

import numpy as np
import pandas as pd

from alsflow.nodes.errors import BadInputError

ALSFRS_R_MAX = 48  # points; Cedarbaum et al. (1999), doi:10.1016/s0022-510x(99)00210-5
SHORT_SPAN = 1.0  # months between first and last visit below which a slope is flagged


def person_slopes(
    table: pd.DataFrame, outcome: str, *, time: str = "months", person: str = "participant_id"
) -> pd.DataFrame:
    """Least-squares slope of each person over his visits.

    Parameters
    ----------
    table : (n, ...) DataFrame
        One row per visit; visits without outcome or time do not count.

    Returns
    -------
    (people, 8) DataFrame
        Indexed by person in the order of the table: ``n_visits``, ``first``, ``last`` (unit of
        time), ``span``, ``slope`` (unit of the outcome per unit of time), ``level`` (outcome at
        time 0), ``se`` of the slope (from three visits), ``reason`` where the slope is NaN.
    """
    rows = []
    people = list(dict.fromkeys(table[person]))
    seen = dict(list(table.dropna(subset=[outcome, time]).groupby(person, sort=False)))
    for who in people:
        visits = seen.get(who)
        empty = np.empty(0)
        months = empty if visits is None else visits[time].to_numpy(dtype=float)
        values = empty if visits is None else visits[outcome].to_numpy(dtype=float)
        rows.append(_slope(months, values, outcome))
    return pd.DataFrame(rows, index=pd.Index(people, name=person))


def _slope(months: np.ndarray, values: np.ndarray, outcome: str) -> dict[str, float | int | str]:
    n = len(months)
    found: dict[str, float | int | str] = {
        "n_visits": n,
        "first": float(months.min()) if n else float("nan"),
        "last": float(months.max()) if n else float("nan"),
        "span": float(np.ptp(months)) if n else float("nan"),
        "slope": float("nan"),
        "level": float("nan"),
        "se": float("nan"),
        "reason": "",
    }
    if n < 2 or found["span"] == 0:
        none = f"{outcome} known at no visit"
        found["reason"] = {0: none, 1: "one visit"}.get(n, "all visits at the same time")
        return found
    centred = months - months.mean()
    squares = float(centred @ centred)
    slope = float(centred @ values) / squares
    left = values - values.mean() - slope * centred
    found["slope"], found["level"] = slope, float(values.mean() - slope * months.mean())
    if n > 2:
        found["se"] = float(np.sqrt(left @ left / (n - 2) / squares))
    return found


def decline_rates(
    table: pd.DataFrame,
    score: str = "alsfrs_r",
    *,
    time: str = "months",
    person: str = "participant_id",
    highest: float = ALSFRS_R_MAX,
) -> pd.DataFrame:
    """Points of a score lost per month by each person, from all his visits.

    The rate from one visit, (48 - score) / months since onset, supposes a full score at onset;
    this one does not, and is the slope over the visits with its sign turned.

    Returns
    -------
    (people, 6) DataFrame
        ``decline_rate`` (points per month; above 0 is a loss), ``se``, ``n_visits``, ``span``
        (months), ``status`` (``ok``, ``flag`` or ``n/a``) and ``reason``.
    """
    beyond = table[(table[score] > highest) | (table[score] < 0)]
    if len(beyond):
        row = beyond.iloc[0]
        raise BadInputError(
            f"{row[person]}: {score} is {row[score]:g} at {row[time]:g} months, outside 0 to "
            f"{highest:g}"
        )
    slopes = person_slopes(table, score, time=time, person=person)
    short = slopes["slope"].notna() & (slopes["span"] < SHORT_SPAN)
    status = np.select([slopes["slope"].isna(), short], ["n/a", "flag"], "ok")
    reason = slopes["reason"].mask(short, f"visits within {SHORT_SPAN:g} month")
    return pd.DataFrame(
        {
            "decline_rate": -slopes["slope"],
            "se": slopes["se"],
            "n_visits": slopes["n_visits"],
            "span": slopes["span"],
            "status": status,
            "reason": reason,
        }
    )


def retention(
    table: pd.DataFrame,
    outcome: str,
    *,
    time: str = "months",
    person: str = "participant_id",
    group: str = "",
    visit: str = "",
) -> pd.DataFrame:
    """Who was seen at each visit, and whether those who did not return were different.

    Parameters
    ----------
    visit : str
        Column with the number of the planned visit; empty: the visits of a person in order.

    Returns
    -------
    DataFrame
        One row per group and visit: ``n``, ``share`` of the group's people, ``months_median``,
        ``months_low``, ``months_high``, ``lost_after`` (people never seen again though others
        were), and the mean outcome at this visit of those lost and of those who came back.
    """
    rows = table.dropna(subset=[outcome, time]).sort_values([person, time], kind="stable")
    number = rows[visit] if visit else rows.groupby(person).cumcount() + 1
    rows = rows.assign(_visit=number, _group=rows[group] if group else "all")
    rows["_last"] = rows.groupby(person)["_visit"].transform("max")
    final = rows["_visit"].max()
    found = []
    for (label, k), now in rows.groupby(["_group", "_visit"], sort=True):
        lost = now["_last"] == k if k < final else pd.Series(False, index=now.index)
        found.append(
            {
                "group": label,
                "visit": k,
                "n": now[person].nunique(),
                "share": now[person].nunique()
                / rows.loc[rows["_group"] == label, person].nunique(),
                f"{time}_median": now[time].median(),
                f"{time}_low": now[time].min(),
                f"{time}_high": now[time].max(),
                "lost_after": int(lost.sum()),
                f"{outcome}_lost": now.loc[lost, outcome].mean(),
                f"{outcome}_returned": now.loc[~lost, outcome].mean() if k < final else np.nan,
            }
        )
    return pd.DataFrame(found)
