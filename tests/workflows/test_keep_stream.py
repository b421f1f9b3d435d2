"""A whole stream whose intermediate results go as soon as they can."""

import mrs_clinic as people
import pytest
from derivatives import differences

from alsflow.workflows import keep
from alsflow.workflows.cache import removed

SETTING = "sd_percent = 25"


def results(clinic, work):
    """When each step was computed."""
    folder = clinic.root / work / "alsflow_wf"
    return {path: path.stat().st_mtime_ns for path in folder.rglob("result_*.pklz")}


def unlike(first, second):
    """Differences between two output folders, but for what steps were seen to use."""
    return [text for text in differences(first, second) if not text.startswith("logs/resources")]


@pytest.mark.slow
def test_derivatives_do_not_depend_on_what_is_kept(tmp_path, monkeypatch):
    """Neither those of a fresh run, nor those of a rerun with another setting."""
    monkeypatch.setattr(keep, "LARGE", 300)
    clinic = people.make_clinic(tmp_path)
    sparing = {"out": "sparing", "work": "sparing_work"}
    assert clinic.run_fitted("--keep-work", "none", **sparing) == 0
    assert clinic.run_fitted("--keep-work", "all", out="all", work="all_work") == 0
    assert unlike(clinic.root / "sparing", clinic.root / "all") == []
    gone = [path for path in (clinic.root / "sparing_work").rglob("*") if removed(path)]
    assert len(gone) > 5

    before = results(clinic, "sparing_work")
    assert clinic.run_fitted("--keep-work", "none", **sparing) == 0
    assert results(clinic, "sparing_work") == before

    for path in (clinic.root / "sparing").rglob("sub-*.*"):
        path.unlink()  # so that what went must be made again
    assert clinic.run_fitted("--keep-work", "none", settings=SETTING, **sparing) == 0
    fresh = {"out": "fresh", "work": "fresh_work"}
    assert clinic.run_fitted("--keep-work", "all", settings=SETTING, **fresh) == 0
    assert unlike(clinic.root / "sparing", clinic.root / "fresh") == []
    assert unlike(clinic.root / "all", clinic.root / "fresh") != []
