"""What the command line says and does about the size of the working directory."""

import nibabel as nib
import numpy as np
import pytest

from alsflow.interfaces.bids import Visit
from alsflow.workflows import forecast, keep
from alsflow.workflows.cache import removed
from alsflow.workflows.forecast import Sizes, of_run, stream_sizes
from alsflow.workflows.settings import Settings


def gone(toy):
    return sorted(path.name for path in toy.work.rglob("*.txt") if removed(path))


@pytest.fixture
def tiny(toy, monkeypatch):
    """The toy, with files that count as large."""
    monkeypatch.setattr(keep, "LARGE", 10)
    (toy.root / "six.toml").write_text("[anat]\nsmoothing = 6.0\n")
    return toy


def test_changed_setting_after_none(tiny, capfd):
    tiny.add("sub-01"), tiny.add("sub-02")
    assert tiny.run("--keep-work", "none") == 0
    assert gone(tiny) == ["loaded.txt", "loaded.txt", "scaled.txt", "scaled.txt"]
    tiny.calls()
    assert tiny.run("--keep-work", "none") == 0
    assert tiny.calls() == []
    assert tiny.status() == {"sub-01": "done", "sub-02": "done"}
    capfd.readouterr()
    assert tiny.run("--keep-work", "none", "--config-file", tiny.root / "six.toml") == 0
    steps = ("load", "scale", "sink")
    assert tiny.calls() == sorted(f"0{k}:{step}" for k in (1, 2) for step in steps)
    assert tiny.status() == {"sub-01": "done", "sub-02": "done"}
    said = capfd.readouterr().err
    reason = "its output was removed to save space and is needed by sub_01_wf.anat_wf.scale"
    assert f"sub_01 anat load again: {reason}" in said
    assert "8 of 8 steps" in said  # the two that were passed over first, too
    text = (tiny.out / "sub-01" / "anat" / "sub-01_desc-toy_T1w.txt").read_text()
    assert text == "fine sub-01" * 6


def test_failed_visit_keeps_its_files(tiny, monkeypatch):
    monkeypatch.setattr(keep, "table", lambda: {"anat": {"passing": ["load"]}})
    monkeypatch.setattr(forecast, "table", dict)
    tiny.add("sub-01")
    bad = tiny.out / "sub-02" / "anat"
    tiny.add("sub-02")
    bad.parent.mkdir(parents=True)
    bad.write_text("in the way of a folder")
    assert tiny.run("--keep-work", "failed") == 1
    assert tiny.status() == {"sub-01": "done", "sub-02": "failed"}
    assert [removed(tiny.node(k, "load") / "loaded.txt") is None for k in ("01", "02")] == [
        False,
        True,
    ]
    bad.unlink()
    tiny.calls()
    assert tiny.run("--keep-work", "failed") == 0
    assert tiny.calls() == ["02:sink"]
    assert gone(tiny) == ["loaded.txt", "loaded.txt"]


def test_failure_to_make_again_is_the_failure_of_its_stream(tiny):
    image = tiny.add("sub-01")
    tiny.add("sub-02")
    assert tiny.run("--keep-work", "none") == 0
    image.write_text("fine sub-01, changed to crash")
    options = ("--keep-work", "none", "--config-file", tiny.root / "six.toml")
    assert tiny.run(*options) == 1
    assert tiny.status() == {"sub-01": "failed", "sub-02": "done"}


def test_choice_is_one_of_three(tiny, capfd):
    tiny.add("sub-01")
    assert tiny.run("--keep-work", "some") == 64
    assert "all" in capfd.readouterr().err


# ---------------------------------------------------------------------------- forecast


def image(path, shape):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)).to_filename(path)
    return path


def settings(tmp_path, **given):
    return Settings(tmp_path, tmp_path / "out", "participant", work_dir=tmp_path / "work", **given)


FACTORS = {
    "derivatives": {"t1w": 1.0, "fixed": 10.0},
    "work": {"all": {"series": 4.0, "t1w": 1.0}, "failed": {"series": 2.0}, "none": {}},
    "peak": {"all": {"series": 4.0}, "failed": {"series": 4.0}, "none": {"series": 3.0}},
}


def test_sizes_follow_from_samples():
    counts = {"t1w": 2_000_000, "series": 30_000_000}
    assert stream_sizes(FACTORS, counts, "all") == Sizes(12.0, 122.0, 120.0)
    assert stream_sizes(FACTORS, counts, "none") == Sizes(12.0, 0.0, 90.0)


def test_samples_are_read_from_headers(tmp_path):
    paths = [image(tmp_path / "a.nii.gz", (5, 6, 7)), image(tmp_path / "b.nii", (5, 6, 7, 8))]
    assert forecast.samples(paths) == 5 * 6 * 7 * 9
    assert forecast.samples(paths[1:], left_out=3) == 5 * 6 * 7 * 5


def test_table_knows_every_stream_and_choice():
    from alsflow.workflows.settings import STREAMS

    counts = {"t1w": 10_000_000, "series": 30_000_000}
    for stream in STREAMS:
        found = {keep: stream_sizes(forecast.table()[stream], counts, keep)
                 for keep in ("all", "failed", "none")}  # fmt: skip
        assert found["none"].work <= found["failed"].work <= found["all"].work
        assert found["none"].peak <= found["failed"].peak == found["all"].peak
        assert all(one.work <= one.peak for one in found.values())
    # the promise of the default, for whole visits: all build on the anatomical stream
    head = stream_sizes(forecast.table()["anat"], counts, "failed")
    for stream in ("anat", "dwi", "func"):
        more = stream_sizes(forecast.table()[stream], counts, "failed")
        whole = head if stream == "anat" else head + more
        assert whole.work <= 3 * whole.derivatives


def test_visits_in_progress_take_more():
    sizes = [Sizes(1, 10, 50), Sizes(1, 10, 30), Sizes(1, 10, 20)]
    assert of_run(sizes, at_once=1) == Sizes(3, 30, 70)
    assert of_run(sizes, at_once=2) == Sizes(3, 30, 90)
    assert of_run([], at_once=2) == Sizes(0, 0, 0)


def test_image_that_cannot_be_read_does_not_stop_the_forecast(tmp_path):
    from alsflow.workflows.manifest import Entry

    (tmp_path / "a.nii.gz").write_text("no image")
    visit = Visit("01", None, {"t1w": (tmp_path / "a.nii.gz",)})
    entries = [Entry("01", None, "anat")]
    assert forecast.forecast([visit], entries, settings(tmp_path)) == {"sub_01": Sizes()}


@pytest.mark.parametrize(
    ("free", "there", "short"),
    [(151, 0, False), (149, 0, True), (149, 20, False), (109, 40, True)],
)
def test_shortage_counts_both_folders_and_what_is_there(tmp_path, monkeypatch, free, there, short):
    monkeypatch.setattr(forecast, "free_mb", lambda folder: free)
    own = tmp_path / "work" / "alsflow_wf" / "sub_01_wf"
    other = tmp_path / "work" / "alsflow_wf" / "sub_02_wf"
    for folder in (own, other):
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(b"x" * int(there * 1e6))
    text = forecast.shortage({"sub_01": Sizes(50, 60, 100)}, settings(tmp_path))
    assert bool(text) == short
    if short:
        assert str(tmp_path / "out") in text
        assert str(tmp_path / "work") in text
        assert f"{100 - there} MB" in text
        assert f"{free} MB" in text


def test_what_derivatives_are_there_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(forecast, "free_mb", lambda folder: 149)
    sizes = {"sub_01_ses_a": Sizes(50, 60, 100)}
    assert forecast.shortage(sizes, settings(tmp_path))
    (tmp_path / "out" / "sub-01").mkdir(parents=True)
    (tmp_path / "out" / "sub-01" / "x").write_bytes(b"x" * 2_000_000)
    assert forecast.shortage(sizes, settings(tmp_path)) == ""


def test_disks_of_their_own_count_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(forecast, "_disk", str)
    room = {"out": 51, "work": 101}
    monkeypatch.setattr(forecast, "free_mb", lambda folder: room[folder.name])
    sizes = {"sub_01": Sizes(50, 60, 100)}
    assert forecast.shortage(sizes, settings(tmp_path)) == ""
    room["out"] = 49
    text = forecast.shortage(sizes, settings(tmp_path))
    assert "49 MB and 101 MB are free" in text


def test_dry_run_tells_the_forecast_and_a_run_warns(toy, capfd, monkeypatch):
    toy.add("sub-01")
    sizes = {"sub_01": Sizes(300, 900, 1200)}
    monkeypatch.setattr(forecast, "forecast", lambda *arguments: sizes)
    monkeypatch.setattr(forecast, "free_mb", lambda folder: 500.0)
    assert toy.run("--dry-run") == 0
    said = capfd.readouterr().out
    assert "About 300 MB of derivatives" in said
    assert "900 MB at the end and up to 1200 MB on the way" in said
    assert toy.run() == 0  # it is a warning: the forecast may be wrong
    assert "the disk may become full" in capfd.readouterr().err
    assert toy.status() == {"sub-01": "done"}
