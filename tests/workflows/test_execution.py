"""Whatever happens to a step, the run ends, says so, and heals the next time."""

import json
import os
import re

import pytest

ALL = ["load", "scale", "sink"]


def steps(person, *names):
    return sorted(f"{person}:{name}" for name in names or ALL)


def test_second_run_computes_nothing(toy):
    toy.add("sub-01"), toy.add("sub-02/ses-a")
    assert toy.run() == 0
    assert toy.status() == {"sub-01": "done", "sub-02_ses-a": "done"}
    assert toy.calls() == sorted(steps("01") + steps("02_ses_a"))
    assert toy.run() == 0
    assert toy.calls() == []
    assert toy.status() == {"sub-01": "done", "sub-02_ses-a": "done"}


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("crash", "division by zebra"),
        ("kill", "SIGKILL"),
        ("unpicklable", "pickle"),
        ("exit", "3"),
        ("full", "disk was full or a quota used up when /scratch/out.nii.gz was written"),
    ],
)
def test_one_failing_person_leaves_the_others_alone(toy, order, words, capfd):
    bad = toy.add("sub-01", order)
    toy.add("sub-02", "slow"), toy.add("sub-03")
    assert toy.run() == 1
    assert toy.status() == {"sub-01": "failed", "sub-02": "done", "sub-03": "done"}
    reason = toy.reasons()["sub-01"]
    assert words in reason
    assert "sub-01" in reason
    assert "load" in reason
    [entry, *_] = json.loads((toy.out / "manifest.json").read_text())["entries"]
    assert (entry["state"], entry["missing"]) == ("failed", ["toy"])
    rows = (toy.out / "logs" / "errors.tsv").read_text().splitlines()
    person, _, stream, step, cause, details = rows[1].split("\t")
    assert (person, stream, step) == ("sub-01", "anat", "load")
    assert words in cause
    assert (toy.out / details).is_file()
    assert "Traceback" not in capfd.readouterr().err
    assert toy.calls().count("02:load") == 1  # an innocent worker is not disturbed

    bad.write_text("fine now")
    assert toy.run() == 0
    assert toy.calls() == steps("01")
    assert toy.status()["sub-01"] == "done"
    assert not list((toy.out / "logs" / "crash").glob("*"))
    assert len((toy.out / "logs" / "errors.tsv").read_text().splitlines()) == 1


def test_a_killed_step_is_computed_once_more_alone(toy, capfd):
    toy.add("sub-01", "dieonce")
    toy.add("sub-02", "slow")
    assert toy.run() == 0
    assert toy.calls() == sorted([*steps("01"), "01:load", *steps("02")])
    assert "sub_01 anat load is computed once more, alone" in capfd.readouterr().err


def test_the_log_holds_every_line_of_the_driver_and_of_the_workers(toy):
    toy.add("sub-01")
    toy.add("sub-02")
    assert toy.run() == 0
    (log,) = (toy.out / "logs").glob("*.log")
    lines = log.read_text().splitlines()
    assert all(re.match(r" *\d+ ms  (alsflow|nipype)", line) for line in lines)
    for words in ("started in process", "done in", "[Node] Setting-up", "[Node] Finished"):
        assert sum(words in line for line in lines) == 6, words


def test_a_step_that_is_killed_twice_has_failed(toy):
    toy.add("sub-01", "kill")
    assert toy.run() == 1
    assert toy.calls() == ["01:load", "01:load"]


def test_refused_data_end_with_65_and_their_sentence(toy):
    toy.add("sub-01", "refuse")
    toy.add("sub-02")
    assert toy.run() == 65
    assert toy.status() == {"sub-01": "refused", "sub-02": "done"}
    assert "sub-XX_T1w.nii.gz is 2-D; export it again as a 3-D image." in toy.reasons()["sub-01"]


@pytest.mark.parametrize("name", ALL)
def test_deleted_output_is_made_again(toy, name):
    toy.add("sub-01"), toy.add("sub-02")
    toy.run()
    toy.calls()
    result = toy.out / "sub-01" / "anat" / "sub-01_desc-toy_T1w.txt"
    before = result.read_text()
    file = {"load": "loaded.txt", "scale": "scaled.txt"}.get(name)
    (toy.node("01", name) / file if file else result).unlink()
    assert toy.run() == 0
    assert toy.calls() == steps("01", name)  # the others get the same input as before
    assert result.read_text() == before


@pytest.mark.parametrize("name", ALL)
def test_changed_output_is_made_again(toy, name):
    """Same size and same modification time: only the content differs."""
    toy.add("sub-01")
    toy.run()
    toy.calls()
    result = toy.out / "sub-01" / "anat" / "sub-01_desc-toy_T1w.txt"
    file = {"load": "loaded.txt", "scale": "scaled.txt"}.get(name)
    path = toy.node("01", name) / file if file else result
    status, before = path.stat(), path.read_text()
    path.write_text("X" + before[1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert toy.run() == 0
    assert path.read_text() == before
    assert toy.calls() == steps("01", name)


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08\x00garbage", None])
def test_unreadable_result_is_computed_again(toy, content):
    toy.add("sub-01")
    toy.run()
    toy.calls()
    result = toy.node("01", "scale") / "result_scale.pklz"
    if content is None:
        content = result.read_bytes()[:100]
    result.write_bytes(content)
    assert toy.run() == 0
    assert toy.calls() == steps("01", "scale")


def test_changed_input_with_same_size_and_time_is_noticed(toy):
    path = toy.add("sub-01", "fine")
    toy.run()
    toy.calls()
    status = path.stat()
    path.write_text("mine sub-01")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert toy.run() == 0
    assert toy.calls() == steps("01")


def test_changed_setting_reruns_what_depends_on_it(toy):
    toy.add("sub-01")
    config = toy.root / "config.toml"
    assert toy.run() == 0
    toy.calls()
    config.write_text("[anat]\nsmoothing = 6.0\n")
    assert toy.run("--config-file", config) == 0
    assert toy.calls() == steps("01", "scale", "sink")


def test_how_to_run_changes_no_hash(toy, monkeypatch):
    toy.add("sub-01")
    assert toy.run(workers=1) == 0
    toy.calls()
    monkeypatch.chdir(toy.work)
    assert toy.run("--omp-nthreads", 2, "-v", "--mem", "2000", "-w", "../work") == 0
    assert toy.calls() == []


def test_stop_on_first_crash(toy):
    toy.add("sub-01", "crash")
    toy.add("sub-02"), toy.add("sub-03")
    assert toy.run("--stop-on-first-crash", workers=1) == 1
    assert toy.status() == {"sub-01": "failed", "sub-02": "not-run", "sub-03": "not-run"}
    assert toy.calls() == ["01:load"]


def test_a_broken_link_in_the_requirements_stops_only_that_person(toy):
    path = toy.add("sub-01")
    path.unlink()
    path.symlink_to("nowhere")
    toy.add("sub-02").write_text("")
    toy.add("sub-03")
    assert toy.run() == 65
    assert toy.status() == {"sub-01": "refused", "sub-02": "refused", "sub-03": "done"}
    assert "fetch" in toy.reasons()["sub-01"]
    assert "empty" in toy.reasons()["sub-02"]
