"""One fit as tables and as facts for other steps; nothing personal is in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from math import isfinite
from typing import Any

import pandas as pd

from alsflow.nodes.mrs.lcmodel_coord import Spectra
from alsflow.nodes.mrs.quality import Limits, echo_time, is_edited, judge_spectrum, tidy_rows
from alsflow.nodes.mrs.ratios import Ratio
from alsflow.nodes.mrs.result import LCModelResult

METABOLITE_COLUMNS = [
    "slice", "row", "col", "metabolite", "metabolite_std", "is_sum", "members", "conc",
    "conc_units", "sd_percent", "sd_capped", "ratio", "ratio_reference", "ratio_valid",
    "prior_outlier", "name_truncated", "pass_sd", "included", "reason", "notes",
]  # fmt: skip
RATIO_COLUMNS = [
    "name", "value", "crlb_pct", "correlation", "used_column", "sd_num", "sd_den", "rounding",
    "included", "reason", "notes",
]  # fmt: skip
SPECTRA_COLUMNS = ["ppm", "data", "fit", "baseline", "residual"]


def metabolite_table(result: LCModelResult, limits: Limits | None = None) -> pd.DataFrame:
    """Every row of the fit, columns `METABOLITE_COLUMNS`; see `quality.tidy_rows`."""
    return pd.DataFrame(tidy_rows(result, limits), columns=METABOLITE_COLUMNS)


def ratio_table(ratios: Sequence[Ratio]) -> pd.DataFrame:
    """Ratios, one row each, columns `RATIO_COLUMNS`; `value` and `rounding` have no unit."""
    rows = [
        {
            **{name: getattr(ratio, name) for name in RATIO_COLUMNS if hasattr(ratio, name)},
            "crlb_pct": ratio.value_sd,
            "reason": "; ".join(ratio.reasons),
            "notes": "; ".join(ratio.notes),
        }
        for ratio in ratios
    ]
    return pd.DataFrame(rows, columns=RATIO_COLUMNS)


def spectra_table(spectra: Spectra) -> pd.DataFrame:
    """Curves of a fit, columns `SPECTRA_COLUMNS`; the baseline is NaN for a fit without one."""
    table = pd.DataFrame({"ppm": spectra.ppm, "data": spectra.data, "fit": spectra.fit})
    table["baseline"] = float("nan") if spectra.baseline is None else spectra.baseline
    table["residual"] = table["data"] - table["fit"]
    return table[SPECTRA_COLUMNS]


def fit_facts(result: LCModelResult, limits: Limits | None = None) -> dict[str, Any]:
    """What a fit says of itself beside its tables; None where it does not say."""
    limits = limits or Limits()
    judged = judge_spectrum(result, limits)
    done = result.status == "ok"
    return {
        "done": done,
        **({} if done else {"reason": judged.reasons[0]}),
        "status": result.status,
        "status_reason": result.status_reason,
        "version": result.version or None,
        **{name: plain(value) for name, value in asdict(result.misc).items()},
        "diagnostics": [diagnostic_text(d) for d in result.diagnostics],
        "water_scaled": result.water_scaled,
        "conc_units": result.conc_units,
        "ratio_reference": result.ratio_reference or None,
        "echo_time_ms": echo_time(result),
        "edited": is_edited(result),
        "included": judged.included,
        "reasons": list(judged.reasons),
        "faults": [{"name": name, "reason": reason} for name, reason in judged.faults],
        "notes": list(judged.notes),
        "limits": {field.name: getattr(limits, field.name) for field in fields(limits)},
        "voxel": {"slice": result.slice, "row": result.row, "col": result.col},
    }


def diagnostic_text(diagnostic: Any) -> str:
    """A message of LCModel as one line, such as ``3 info RFALSI 11``."""
    parts = (diagnostic.count, diagnostic.level, diagnostic.routine, diagnostic.number)
    return " ".join(str(part) for part in parts if part is not None)


def plain(value: Any) -> Any:
    """None for a number that is not finite; else the value itself."""
    return None if isinstance(value, float) and not isfinite(value) else value
