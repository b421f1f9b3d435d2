"""What a step used: its own memory and that of its programs, and nothing of the step before."""

import os
import signal
import subprocess
import sys
import time

import pytest
from waiting import wait_for

from alsflow.interfaces.sealed import sealed
from alsflow.workflows import usage
from alsflow.workflows.cache import stored_record, write_text
from alsflow.workflows.resource_log import COLUMNS, as_table, merged, read_numbers
from alsflow.workflows.usage import Meter, give_back, in_use_mb, programs_below, status_mb

MB = 1_000_000


def hold(seconds):
    """Program that holds 150 MB for a while."""
    return f"b = bytearray(b'x') * {150 * MB}; import time; time.sleep({seconds})"


@pytest.fixture(params=[True, False], ids=["peak set back", "peak looked at"])
def way(request, monkeypatch):
    """Both ways of measuring: where the peak can be set back, and where it cannot."""
    if not request.param:
        monkeypatch.setattr(usage, "_reset_peak", lambda: False)
    return request.param


TWO_STEPS = f"""
import sys, time
from alsflow.workflows import usage
if sys.argv[1] == "looked at":
    usage._reset_peak = lambda: False
with usage.Meter(interval=0.01) as first:
    held = bytearray(b"x") * (200 * {MB})
    time.sleep(0.1)
del held
with usage.Meter(interval=0.01) as second:
    time.sleep(0.05)
print(first.usage.peak_mb, second.usage.peak_mb)
"""


@pytest.mark.parametrize("by", ["set back", "looked at"])
def test_the_peak_is_that_of_the_step_and_not_of_the_one_before(by):
    """In a process of its own: one that holds free memory takes no more from the system."""
    command = [sys.executable, "-c", TWO_STEPS, by]
    first, second = map(float, subprocess.check_output(command, text=True).split())
    assert first > 200
    assert first - second == pytest.approx(200, abs=20)


def test_programs_that_it_starts_count(way):
    with Meter(interval=0.02) as meter:
        others = programs_below(os.getpid())  # servers that other tests have left
        before = status_mb("self", "VmRSS") + sum(status_mb(pid, "VmHWM") for pid in others)
        subprocess.run([sys.executable, "-c", hold(0.5)], check=True)
    assert before + 150 < meter.usage.peak_mb < before + 220


def test_programs_of_programs_are_found():
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold(600)!r}])"
    command = [sys.executable, "-c", nested]
    with subprocess.Popen(command, start_new_session=True) as program:
        try:
            wait_for(lambda: list(programs_below(program.pid)))
            (grandchild,) = programs_below(program.pid)
            wait_for(lambda: in_use_mb(program.pid) >= 150)
            assert in_use_mb(program.pid) > status_mb(grandchild, "VmRSS") > 0
        finally:
            os.killpg(program.pid, signal.SIGKILL)


def test_processor_time_is_that_of_the_step_and_its_programs():
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    with Meter() as meter:
        subprocess.run([sys.executable, "-c", burn], check=True)
    assert 0.25 < meter.usage.cpu_seconds < 2
    with Meter() as idle:
        time.sleep(0.05)
    assert idle.usage.cpu_seconds < 0.1


def test_memory_that_is_free_goes_back_to_the_system():
    floor = give_back(0)
    pieces = [bytes(3000) for _ in range(60_000)]
    kept = pieces[::50]
    del pieces
    held = status_mb("self", "VmRSS")
    assert give_back(held) == held  # nothing to look for
    assert give_back(floor) < held - 100
    assert len(kept) == 1200


# ---------------------------------------------------------------------------- records and tables


def rows_of(folder):
    lines = [line.split("\t") for line in (folder / "resources.tsv").read_text().splitlines()]
    assert lines[0] == list(COLUMNS)
    return {line[0]: dict(zip(COLUMNS, line, strict=True)) for line in lines[1:]}


def test_every_step_leaves_what_it_used_and_runs_add_up(toy):
    toy.add("sub-01")
    toy.add("sub-02")
    assert toy.run("--participant-label", "01") == 0
    record = stored_record(toy.node("01", "load") / "_outputs.json")
    assert 20 < record["peak_mb"] < 2000
    assert record["cpu_seconds"] >= 0
    logs = toy.out / "logs"
    assert {row["n"] for row in rows_of(logs).values()} == {"1"}
    assert toy.run("--participant-label", "02") == 0
    found = rows_of(logs)
    assert {row["n"] for row in found.values()} == {"2"}
    assert {"anat.load", "anat.scale", "anat.sink"} <= set(found)
    assert float(found["anat.load"]["peak_mb_max"]) == pytest.approx(record["peak_mb"], rel=0.2)
    assert float(found["anat.load"]["share_max"]) < 1
    assert "01" not in (logs / "resources.tsv").read_text().replace("0.01", "")
    before = (logs / "resources.json").read_text()
    assert toy.run() == 0  # all from the cache: the records still tell
    assert (logs / "resources.json").read_text() == before


def test_numbers_that_cannot_be_read_are_begun_anew(toy):
    toy.add("sub-01")
    assert toy.run() == 0
    for damaged in ("", "[]", '{"a": {"b": [1, 2]}}', '{"a": 3}'):
        (toy.out / "logs" / "resources.json").write_text(damaged)
        assert read_numbers(toy.out / "logs") == {}
    assert toy.run() == 0
    assert set(rows_of(toy.out / "logs")) == {"anat.load", "anat.scale", "anat.sink"}


def test_the_table_says_median_and_most():
    numbers = {f"sub_{k}": {"anat.load": [k, 2 * k, 100 * k, 500]} for k in (1, 2, 6)}
    header, row = as_table(numbers).splitlines()
    assert dict(zip(header.split("\t"), row.split("\t"), strict=True)) == {
        "step": "anat.load", "n": "3", "seconds_median": "2.0", "seconds_max": "6.0",
        "cpu_seconds_median": "4.0", "peak_mb_median": "200", "peak_mb_max": "600",
        "declared_mb_max": "500", "share_max": "1.20",
    }  # fmt: skip
    newer = merged(numbers, {"sub_1": {"anat.load": [9, 9, 9, 9]}})
    assert newer["sub_1"]["anat.load"] == [9, 9, 9, 9]
    assert newer["sub_2"] == numbers["sub_2"]


def test_records_of_older_runs_that_say_nothing_are_passed_over(toy):
    toy.add("sub-01")
    assert toy.run() == 0
    path = toy.node("01", "load") / "_outputs.json"
    content = stored_record(path)
    write_text(path, sealed({key: content[key] for key in ("files", "seconds")}))
    (toy.out / "logs" / "resources.json").unlink()
    assert toy.run() == 0
    assert set(rows_of(toy.out / "logs")) == {"anat.scale", "anat.sink"}
