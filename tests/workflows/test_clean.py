"""``--clean-workdir`` empties a working directory of ours, and nothing else."""

import fcntl
import shutil

import pytest

ALL = ["01:load", "01:scale", "01:sink"]


@pytest.fixture
def finished(toy):
    toy.add("sub-01")
    assert toy.run() == 0
    assert toy.calls() == ALL
    return toy


def everything(toy):
    return sorted(str(path) for path in toy.root.rglob("*"))


def test_everything_is_computed_again(finished):
    toy = finished
    (toy.work / "alsflow_wf" / "sub_99_wf").mkdir()  # of somebody who has left the study
    assert toy.run("--clean-workdir") == 0
    assert toy.calls() == ALL
    assert not (toy.work / "alsflow_wf" / "sub_99_wf").exists()
    assert not list(toy.work.glob(".removed*"))
    assert toy.run() == 0
    assert toy.calls() == []


def test_without_a_working_directory_there_is_nothing_to_empty(finished):
    toy = finished
    shutil.rmtree(toy.work)
    assert toy.run("--clean-workdir") == 0
    assert toy.calls() == ALL


def test_a_dry_run_empties_nothing(finished):
    before = everything(finished)
    assert finished.run("--clean-workdir", "--dry-run") == 0
    assert everything(finished) == before


def test_what_an_interrupted_cleaning_left_goes(finished):
    (finished.work / "alsflow_wf").rename(finished.work / ".removed.1.alsflow_wf")
    assert finished.run("--clean-workdir") == 0
    assert not list(finished.work.glob(".removed*"))


def refused(toy, capfd, words):
    before = everything(toy)
    capfd.readouterr()
    assert toy.run("--clean-workdir") == 73
    text = capfd.readouterr().err
    assert words in text
    assert len(text.strip().splitlines()) == 1
    assert everything(toy) == before


@pytest.mark.parametrize("name", ["thesis.txt", "alsflow_wf.bak/x"])
def test_a_folder_with_something_else_is_refused(finished, capfd, name):
    path = finished.work / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("dear")
    refused(finished, capfd, f"it holds {name.partition('/')[0]}")


def test_a_folder_without_locks_is_refused(finished, capfd):
    shutil.rmtree(finished.work / "locks")
    refused(finished, capfd, "it holds no folder locks")


def test_the_working_directory_of_a_running_run_is_refused(finished, capfd):
    with (finished.work / "locks" / "sub_02.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        refused(finished, capfd, "Another run is computing sub_02")
    assert finished.run("--clean-workdir") == 0


def test_jobs_on_a_cluster_are_waited_for(finished, capfd):
    (finished.work / "jobs").mkdir()
    (finished.work / "jobs" / "active.json").write_text("{}")
    refused(finished, capfd, "Jobs of an earlier run may still be computing")


@pytest.mark.parametrize("name", ["bids", "out"])
def test_a_working_directory_that_holds_our_folders_is_refused(finished, capfd, name):
    toy = finished
    place = toy.work / "alsflow_wf" / name
    setattr(toy, name, getattr(toy, name).rename(place))
    refused(toy, capfd, "holds the dataset" if name == "bids" else "holds the output folder")
