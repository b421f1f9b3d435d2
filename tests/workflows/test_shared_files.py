"""Files that tasks of a job array share: process numbers repeat between nodes and containers."""

import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from alsflow.interfaces.pages import write_page
from alsflow.workflows import report
from alsflow.workflows.cache import FileHashes, write_text
from alsflow.workflows.derivatives import prepare_output
from alsflow.workflows.leftovers import sweep
from alsflow.workflows.settings import Settings


def together(monkeypatch, count, work):
    """Run `work` in threads that all have the process number 1 and rename at the same moment."""
    barrier = threading.Barrier(count, timeout=10)
    replace, problems = os.replace, []

    def meet(source, target):
        barrier.wait()
        replace(source, target)

    def one(number):
        try:
            work(number)
        except Exception as error:
            problems.append(error)

    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(os, "replace", meet)
    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return problems


@pytest.mark.parametrize("write", [write_page, write_text])
def test_two_processes_of_one_number_write_one_file(tmp_path, monkeypatch, write):
    path = tmp_path / "index.html"
    assert together(monkeypatch, 2, lambda number: write(path, f"{number}" * 1000)) == []
    assert path.read_text() in ("0" * 1000, "1" * 1000)
    assert [entry.name for entry in tmp_path.iterdir()] == ["index.html"]


def test_two_processes_of_one_number_try_the_output_folder(tmp_path, monkeypatch):
    """The file by which one tries whether it may write is not the other's."""
    settings = Settings(tmp_path / "bids", tmp_path / "out", "participant", tmp_path / "work")
    names = []
    touch = type(tmp_path).touch
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(
        type(tmp_path), "touch", lambda path: (names.append(path.name), touch(path))
    )
    prepare_output(settings)
    prepare_output(settings)
    assert len(set(names)) == len(names)


def test_file_by_which_one_tries_is_swept_away_by_another_run(tmp_path, monkeypatch):
    """A run that sweeps cannot tell it from one that a killed run has left."""
    settings = Settings(tmp_path / "bids", tmp_path / "out", "participant", tmp_path / "work")
    prepare_output(settings)
    touch, swept = type(tmp_path).touch, []

    def touch_and_sweep(path):
        touch(path)
        sweep(settings, [])
        swept.append(not path.exists())

    monkeypatch.setattr(type(tmp_path), "touch", touch_and_sweep)
    prepare_output(settings)
    assert any(swept)


def test_index_is_not_overwritten_with_what_was_true_before(tmp_path, monkeypatch):
    """One run reads the states, another settles a person and writes, the first writes."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "status.tsv").write_text("participant_id\tsession_id\tstream\tstate\treason\n")
    reading, may_go = threading.Event(), threading.Event()
    seen = report.files.read_status

    def slow(path):
        rows = seen(path)
        if threading.current_thread().name == "first":
            reading.set()
            may_go.wait(2)
        return rows

    monkeypatch.setattr(report.files, "read_status", slow)

    monkeypatch.setattr(report, "_methods", lambda *arguments: "")
    monkeypatch.setattr(
        report.pages, "render", lambda templates, name, version, **content: repr(content["rows"])
    )
    settings = Settings(tmp_path / "bids", tmp_path, "participant")

    def write():
        report.write_reports(settings, [], SimpleNamespace(entries=[]))

    first = threading.Thread(target=write, name="first")
    first.start()
    reading.wait()
    with (tmp_path / "status.tsv").open("a") as table:
        table.write("sub-01\tn/a\tanat\tdone\tn/a\n")
    second = threading.Thread(target=write, name="second")
    second.start()
    second.join(0.3)  # it waits for the first, or it is through
    may_go.set()
    first.join()
    second.join()
    assert "sub-01" in (tmp_path / report.INDEX).read_text()


def test_what_twenty_runs_have_hashed_is_kept(tmp_path):
    files = [tmp_path / f"{number}.txt" for number in range(20)]
    start = threading.Barrier(len(files), timeout=10)

    def one(file):
        file.write_text("x")
        hashes = FileHashes(tmp_path / "file_hashes.json")
        hashes.add({str(file): [[1, 2, 3, 4], "md5"]})
        start.wait()
        hashes.save()

    threads = [threading.Thread(target=one, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = json.loads((tmp_path / "file_hashes.json").read_text())
    assert sorted(Path(name).name for name in stored) == sorted(file.name for file in files)
