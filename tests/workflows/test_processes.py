"""The driver as a process: killed, interrupted, two at once, disk full."""

import signal
from pathlib import Path

import pytest
from drivers import fill, running_step, start, workers_of
from waiting import SLOW, wait_for


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_driver_that_ends_takes_its_workers_along(toy, how):
    toy.add("sub-01", "wait")
    toy.add("sub-02", "wait")
    driver = start(toy)
    wait_for(running_step(toy))
    workers = workers_of(driver.pid)
    assert workers
    driver.send_signal(how)
    _, message = driver.communicate(timeout=SLOW)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 15)
    if how != signal.SIGKILL:
        assert driver.returncode == 1
        assert "interrupted" in message
        assert "Traceback" not in message
        assert set(toy.status().values()) == {"not-run"}
    (toy.work / "go").touch()
    assert toy.run() == 0
    assert set(toy.status().values()) == {"done"}


def test_two_drivers_on_one_working_directory(toy):
    toy.add("sub-01", "wait"), toy.add("sub-02")
    first = start(toy, "--participant-label", "01")
    wait_for(running_step(toy))
    second = start(toy)
    _, message = second.communicate(timeout=SLOW)
    assert second.returncode == 73
    assert "sub_01" in message
    assert "--work-dir" in message
    other = start(toy, "--participant-label", "02")  # not in each other's way
    assert other.wait(SLOW) == 0
    (toy.work / "go").touch()
    assert first.wait(SLOW) == 0
    first.stderr.close(), other.stderr.close()
    assert toy.status() == {"sub-01": "done", "sub-02": "done"}


def test_full_output_disk(toy, small_disk):
    toy.add("sub-01", "fine" * 20_000), toy.add("sub-02")
    toy.out = small_disk / "out"
    assert toy.run() == 1
    assert toy.status() == {"sub-01": "failed", "sub-02": "done"}
    assert "disk was full" in toy.reasons()["sub-01"]
    assert not list(toy.out.rglob("sub-01*_T1w.txt"))
    fill(small_disk / "filler")
    before = (toy.out / "status.tsv").read_text()
    driver = start(toy)
    _, message = driver.communicate(timeout=SLOW)
    assert driver.returncode == 1
    assert "full" in message
    assert "Traceback" not in message
    assert (toy.out / "status.tsv").read_text() == before  # whole, not half written


def test_full_working_disk(toy, small_disk):
    toy.add("sub-01", "fine" * 20_000)
    toy.work = small_disk / "work"
    assert toy.run() == 1
    assert "disk was full" in toy.reasons()["sub-01"]
    assert not list(toy.out.rglob("sub-01*_T1w.txt"))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_of_workers_and_of_what_they_start_are_bounded(toy, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "64")
    toy.add("sub-01", "threads")
    driver = start(toy, "--omp-nthreads", threads)
    assert driver.wait(SLOW) == 0, driver.stderr.read()
    driver.stderr.close()
    _, *counts = (toy.work / "threads.txt").read_text().split()
    assert counts == [str(threads), str(threads), "1", "1"]
