"""Where things lie, and how a run is executed, changes no result and computes nothing again."""

import os
import shutil

import pytest


@pytest.fixture
def finished(toy):
    toy.add("sub-01"), toy.add("sub-02/ses-a")
    toy.add_series("sub-01")
    assert toy.run() == 0
    assert toy.calls()
    toy.before = content(toy.out)
    return toy


def content(folder):
    """Every result of people, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("sub-*/**/*"))
        if path.is_file()
    }


def test_a_moved_working_directory_is_as_good_as_before(finished):
    toy = finished
    toy.work = toy.work.rename(toy.root / "elsewhere")
    assert toy.run() == 0
    assert toy.calls() == []
    (toy.out / "sub-01/anat/sub-01_desc-toy_T1w.txt").unlink()
    assert toy.run() == 0
    assert toy.calls() == ["01:sink"]
    assert content(toy.out) == toy.before


def test_a_copied_working_directory_is_as_good_as_the_first(finished):
    toy = finished
    shutil.copytree(toy.work, toy.root / "copy")
    shutil.rmtree(toy.work)
    toy.work = toy.root / "copy"
    assert toy.run() == 0
    assert toy.calls() == []


def test_a_moved_working_directory_still_knows_what_was_tampered_with(finished):
    toy = finished
    toy.work = toy.work.rename(toy.root / "elsewhere")
    (toy.node("01", "load") / "loaded.txt").write_text("tampered")
    assert toy.run() == 0
    assert toy.calls() == ["01:load"]
    assert content(toy.out) == toy.before


@pytest.mark.parametrize("how", ["mv", "cp", "link"])
def test_a_moved_dataset_computes_nothing(finished, how):
    toy, place = finished, finished.root / "there" / "data"
    place.parent.mkdir()
    if how == "mv":
        toy.bids.rename(place)
    elif how == "cp":
        shutil.copytree(toy.bids, place, copy_function=shutil.copyfile)  # other times and inodes
        shutil.rmtree(toy.bids)
    else:
        place.symlink_to(toy.bids)
    toy.bids = place
    assert toy.run() == 0
    assert toy.calls() == []


def test_touched_files_compute_nothing(finished):
    toy = finished
    for path in [*toy.bids.rglob("*"), *toy.work.rglob("*.txt")]:
        os.utime(path, (1, 1))
    assert toy.run() == 0
    assert toy.calls() == []


def test_links_to_the_folders_compute_nothing(finished):
    toy = finished
    for name in ("bids", "out", "work"):
        (toy.root / f"link_{name}").symlink_to(getattr(toy, name))
        setattr(toy, name, toy.root / f"link_{name}")
    assert toy.run() == 0
    assert toy.calls() == []


def test_another_output_folder_writes_and_computes_nothing_else(finished):
    toy = finished
    toy.out = toy.root / "other_out"
    assert toy.run() == 0
    assert toy.calls() == ["01:sink", "01:sink", "02_ses_a:sink"]
    assert content(toy.out) == toy.before


def test_everything_moved_at_once(finished):
    """As another mount point of the same disk: only what names the output folder runs."""
    toy, place = finished, finished.root / "mnt"
    place.mkdir()
    for name in ("bids", "out", "work"):
        setattr(toy, name, getattr(toy, name).rename(place / name))
    assert toy.run() == 0
    assert set(toy.calls()) <= {"01:sink", "02_ses_a:sink"}
    assert content(toy.out) == toy.before
    assert toy.run() == 0
    assert toy.calls() == []


def test_a_file_that_lies_about_is_no_input(toy, monkeypatch):
    """A word among the inputs may be the name of a file where the program was started."""
    import toy_streams

    from alsflow.workflows import participant

    def init(visit, settings):
        workflow = toy_streams.init_toy_wf(visit, settings)
        workflow.get_node("scale").inputs.word = "note"
        return workflow

    monkeypatch.setitem(participant.STREAMS, "anat", init)
    toy.add("sub-01")
    assert toy.run() == 0
    toy.calls()
    (toy.root / "note").write_text("something")
    assert toy.run() == 0
    assert toy.calls() == []
