"""Whatever is killed, full, damaged or done twice: the next run ends with the same bytes."""

import contextlib
import ctypes
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import derivatives
import pytest
import run_toy
from drivers import running_step, start, workers_of
from waiting import SLOW, wait_for

from alsflow.interfaces import whole
from alsflow.workflows import cache, checks, exits, manifest
from alsflow.workflows.settings import Settings

NOBODY = 65534
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2  # of Linux
DELIVERED = "sub-01/anat/sub-01_desc-toy_T1w.txt"


@pytest.fixture
def pages(toy, monkeypatch):
    """The toy with a page per visit, as in its own process."""
    monkeypatch.setattr(
        sys.modules["alsflow.workflows.report"], "write_reports", run_toy.write_reports
    )
    return toy


@pytest.fixture
def done(pages):
    """The toy after a run of two people."""
    pages.add("sub-01"), pages.add("sub-02")
    assert pages.run() == 0
    pages.calls()
    shutil.copytree(pages.out, pages.root / "reference", symlinks=True)
    return pages


def reference(toy):
    """What a clean run of the same people gives, somewhere else."""
    (toy.root / "reference_work").mkdir()
    (toy.root / "reference_work" / "go").touch()  # for steps that wait
    out, work = toy.out, toy.work
    toy.out, toy.work = toy.root / "reference", toy.root / "reference_work"
    assert toy.run() == 0
    toy.out, toy.work = out, work


def is_whole(toy):
    """Nothing half-written, nothing left over, the bytes of the reference."""
    assert derivatives.halves(toy.out) == []
    assert derivatives.differences(toy.root / "reference", toy.out) == []
    return True


# ---------------------------------------------------------------------------- kills


def server_of(pid):
    """The process from which the workers of a driver are forked."""
    [worker, *_] = workers_of(pid)
    return int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("victim", ["node", "idle", "server"])
def test_killed_process_costs_at_most_its_step(pages, victim):
    """One kill, and the run goes on by itself: it has no need to be started again."""
    pages.add("sub-01", "wait"), pages.add("sub-02", "fine")
    driver = start(pages, "--nprocs", 2)
    other = pages.out / DELIVERED.replace("01", "02")
    wait_for(lambda: running_step(pages)() and other.exists())
    wait_for(lambda: len(workers_of(driver.pid)) == 2)
    # until the second worker has nothing to do any more
    wait_for(lambda: sum(_in_a_node(pid, pages) for pid in workers_of(driver.pid)) == 1)
    busy, idle = sorted(workers_of(driver.pid), key=lambda pid: not _in_a_node(pid, pages))
    server = server_of(driver.pid)
    os.kill({"node": busy, "idle": idle, "server": server}[victim], signal.SIGKILL)
    time.sleep(0.2)
    (pages.work / "go").touch()
    _, said = driver.communicate(timeout=SLOW)
    assert driver.returncode == 0, said
    assert "Traceback" not in said
    assert pages.status() == {"sub-01": "done", "sub-02": "done"}
    # a step that ends at the very moment at which its server dies may have been heard
    begun = {"node": (2,), "idle": (1,), "server": (1, 2)}[victim]
    assert pages.calls().count("01:load") in begun
    reference(pages)
    assert is_whole(pages)
    assert pages.run() == 0
    assert pages.calls() == []


def _in_a_node(pid, toy):
    return Path(f"/proc/{pid}/cwd").resolve() != toy.work


def test_step_in_compiled_code_does_not_outlive_its_driver(pages):
    """It would go on for seconds, beside the next run that computes the same step."""
    pages.add("sub-01", "hog")
    driver = start(pages)
    wait_for(running_step(pages))
    time.sleep(0.3)
    workers = workers_of(driver.pid)
    driver.kill()
    driver.communicate()
    wait_for(lambda: not any(_alive(pid) for pid in workers), 15)
    assert not (pages.work / "outlived").exists()


def _alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


PHASES = [
    *("alsflow.workflows.app:prepare_output", "alsflow.workflows.participant:init_participant_wf"),
    *("alsflow.workflows.scheduler:repair", "1", "3", "5", "8", "11", "14", "17", "20"),
]


def test_driver_killed_in_every_phase(pages, monkeypatch):
    """While planning, and before whatever it renames: tables, hashes, pages."""
    pages.add("sub-01"), pages.add("sub-02", "hello")
    reference(pages)
    survived = 0
    for place in PHASES:
        monkeypatch.setenv("DIE_AT", place)
        driver = start(pages, "--nprocs", 1)
        _, said = driver.communicate(timeout=SLOW)
        assert driver.returncode in (-signal.SIGKILL, 0), said
        survived += driver.returncode == 0
        assert derivatives.halves(pages.out, temporary=False) == []
    assert survived < len(PHASES) / 2
    monkeypatch.delenv("DIE_AT")
    assert pages.run() == 0
    assert is_whole(pages)
    assert not list(pages.work.glob(".*.part.*"))


@pytest.fixture
def hearing():
    """SIGHUP as at a terminal, however the tests were started."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGTERM])
def test_signal_during_the_pages(pages, how, hearing):
    """Whatever is being written when a signal comes is whole or not there."""
    pages.add("sub-01")
    real = whole.put

    def put(partial, path):
        if path.suffix == ".html":
            os.kill(os.getpid(), how)
        real(partial, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole, "put", put)
        assert pages.run() == exits.FAILED
    assert derivatives.halves(pages.out) == []
    assert pages.run() == 0
    reference(pages)
    assert is_whole(pages)


def test_closed_terminal_ends_in_a_sentence(pages, hearing):
    pages.add("sub-01", "wait")
    driver = start(pages)
    wait_for(running_step(pages))
    workers = workers_of(driver.pid)
    driver.send_signal(signal.SIGHUP)
    _, said = driver.communicate(timeout=SLOW)
    assert driver.returncode == exits.FAILED
    assert "interrupted" in said
    assert not any(_alive(pid) for pid in workers)
    assert pages.reasons()["sub-01"] == "the run ended before it"
    (pages.work / "go").touch()
    assert pages.run() == 0


def test_nohup_is_respected(pages):
    pages.add("sub-01", "wait")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        driver = start(pages)
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for(running_step(pages))
    driver.send_signal(signal.SIGHUP)
    driver.stderr.close()  # and the terminal goes: nobody hears what is said from here on
    (pages.work / "go").touch()
    assert driver.wait(SLOW) == 0
    assert pages.status() == {"sub-01": "done"}


# ---------------------------------------------------------------------------- damage


def flip(path):
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 3, len(content) * 2 // 3 + 1):
        content[place] ^= 0x15
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def folder(path):
    path.unlink()
    path.mkdir()


def dangling(path):
    path.unlink()
    path.symlink_to("nowhere")


DAMAGES = [flip, truncate, empty, folder, dangling]
STORED = ["result_scale.pklz", "_outputs.json", "_inputs.pklz", "_0x*.json"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_of_the_working_directory(done, damage):
    """All kinds of stored files at once, each in a step of its own or of both people."""
    hashes = done.work / "file_hashes.json"
    time.sleep(0.05)  # what has just been written is not remembered
    assert done.run() == 0
    assert hashes.is_file()
    for person, step in (("01", "load"), ("01", "scale"), ("02", "scale"), ("02", "sink")):
        for pattern in STORED:
            for path in done.node(person, step).glob(pattern.replace("scale", step)):
                if path.is_file():
                    damage(path)
    damage(hashes)
    assert done.run() == 0
    assert is_whole(done)
    done.calls()
    assert done.run() == 0
    assert done.calls() == []


@pytest.mark.parametrize("pattern", STORED)
@pytest.mark.parametrize("damage", [flip, folder])
def test_one_damaged_stored_file(done, damage, pattern):
    [path] = done.node("01", "scale").glob(pattern)
    damage(path)
    assert done.run() == 0
    assert is_whole(done)
    assert "02:scale" not in done.calls()


@pytest.mark.parametrize("key", ["files", "seconds", "cpu_seconds", "peak_mb"])
def test_record_with_another_letter(done, key):
    """JSON as before, and not what was written."""
    record = done.node("01", "scale") / "_outputs.json"
    text = record.read_text()
    assert text.count(f'"{key}"') == 1
    record.write_text(text.replace(f'"{key}"', f'"{key[:-1]}_"'))
    assert done.run() == 0
    assert is_whole(done)
    assert done.calls() == ["01:scale"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_intermediate_and_delivered_files(done, damage):
    damage(done.node("01", "load") / "loaded.txt")
    damage(done.out / DELIVERED)
    assert done.run() == 0
    assert is_whole(done)
    assert done.calls() == ["01:load", "01:sink"]


SHARED = ["status.tsv", "manifest.json", "logs/errors.tsv", "dataset_description.json"]


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_tables_of_the_output_folder(done, damage, name, capfd):
    damage(done.out / name)
    assert done.run("--participant-label", "01") == 0  # sub-02 is another run's
    said = capfd.readouterr().err
    assert "Traceback" not in said
    if damage in (flip, truncate) and name in ("status.tsv", "manifest.json"):
        assert f"{done.out / name} is damaged" in said
        assert said.count("is damaged") == 1
    assert done.run() == 0
    assert is_whole(done)
    assert done.calls() == []


def test_folder_that_holds_something_is_not_removed(done, capfd):
    """Nobody knows what it is; one sentence says that it is in the way."""
    for name in ("status.tsv", DELIVERED):
        (done.out / name).unlink()
        (done.out / name).mkdir()
        (done.out / name / "mine").touch()
    assert done.run() == exits.CANNOT_CREATE
    said = capfd.readouterr().err
    assert f"{done.out / 'status.tsv'} cannot be written" in said
    assert "remove what lies there" in said
    shutil.rmtree(done.out / "status.tsv")
    assert done.run() == exits.FAILED
    assert "not empty" in done.reasons()["sub-01"]
    shutil.rmtree(done.out / DELIVERED)
    assert done.run() == 0
    assert is_whole(done)


def test_leftovers_of_killed_runs_are_swept_away(done):
    """Those of people whom another run may be computing stay."""
    names = ["sub-01/anat/A", "sub-02/anat/B", "status.tsv", "sub-01.html", "sub-02.html",
             "logs/errors.tsv", "logs/crash/sub-01_anat_load.txt"]  # fmt: skip
    (done.out / "logs" / "crash").mkdir(exist_ok=True)
    left = [whole.partial_of(done.out / name) for name in names]
    for path in left:
        path.touch()
    unfinished = done.node("01", "scale") / "_0x00_unfinished.json"
    unfinished.touch()
    mine = done.out / "sub-01" / ".mine"
    mine.touch()
    assert done.run("--participant-label", "01") == 0
    assert [path for path in left if path.exists()] == [left[1], left[4]]
    assert mine.exists()
    mine.unlink()
    assert done.run() == 0
    assert is_whole(done)


def ordinary():
    """Take from root what lets it read and write everything."""
    prctl = ctypes.CDLL(None).prctl
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        prctl(PR_CAPBSET_DROP, capability)


def as_ordinary(toy):
    """Exit code of a run for which permissions count, and whether it spoke in sentences."""
    driver = start(toy, preexec_fn=ordinary if os.geteuid() == 0 else None)
    _, said = driver.communicate(timeout=SLOW)
    return driver.returncode, "Traceback" not in said


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_files_without_permission(done):
    """Files of ours that cannot be read are made again; what cannot be written is said."""
    (done.out / DELIVERED).chmod(0)
    (done.node("02", "load") / "loaded.txt").chmod(0)
    assert as_ordinary(done) == (0, True)
    assert is_whole(done)
    (done.out / DELIVERED).unlink()
    (done.out / DELIVERED).parent.chmod(0o500)
    assert as_ordinary(done) == (exits.FAILED, True)
    assert "Permission denied" in done.reasons()["sub-01"]
    assert done.status()["sub-02"] == "done"
    (done.out / DELIVERED).parent.chmod(0o700)
    done.out.chmod(0o500)
    assert as_ordinary(done) == (exits.CANNOT_CREATE, True)
    done.out.chmod(0o700)
    assert as_ordinary(done) == (0, True)
    assert is_whole(done)


# ---------------------------------------------------------------------------- clocks


@pytest.mark.parametrize("years", [-30, 10])
def test_clocks_that_are_wrong(done, years):
    """Files from the future or the past; only their content counts."""
    when = time.time() + years * 365 * 86400
    for path in [*done.bids.rglob("*"), *done.work.rglob("*"), *done.out.rglob("*")]:
        os.utime(path, (when, when))
    assert done.run() == 0
    assert done.calls() == []
    assert is_whole(done)


# ---------------------------------------------------------------------------- two at once


def test_two_drivers_through_two_spellings_of_one_folder(pages):
    pages.add("sub-01", "wait")
    first = start(pages)
    wait_for(running_step(pages))
    (pages.root / "alias").symlink_to(pages.root)
    aliased = pages.root / "alias" / "nothing" / ".." / "work"
    (pages.root / "nothing").mkdir()
    second = start(pages, "-w", aliased)
    _, said = second.communicate(timeout=SLOW)
    assert second.returncode == exits.CANNOT_CREATE
    assert "sub_01" in said
    (pages.work / "go").touch()
    assert first.wait(SLOW) == 0
    first.stderr.close()


def test_two_working_directories_do_not_deliver_the_same_visit(pages):
    """Nobody could say whose files would lie there in the end."""
    pages.add("sub-01", "wait"), pages.add("sub-02")
    first = start(pages, "--participant-label", "01")
    wait_for(running_step(pages))
    second = start(pages, "-w", pages.root / "other")
    _, said = second.communicate(timeout=SLOW)
    assert second.returncode == exits.CANNOT_CREATE
    assert f"Another run is computing sub_01 into the output folder {pages.out}" in said
    third = start(pages, "-w", pages.root / "other", "--participant-label", "02")
    assert third.wait(SLOW) == 0
    (pages.work / "go").touch()
    assert first.wait(SLOW) == 0
    first.stderr.close(), third.stderr.close()
    assert pages.status() == {"sub-01": "done", "sub-02": "done"}


def test_disk_without_locks(done, monkeypatch, capfd):
    def none(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(cache.fcntl, "flock", none)
    assert done.run() == 0
    said = capfd.readouterr().err
    assert said.count("knows no locks") >= 1
    assert "Traceback" not in said


# ---------------------------------------------------------------------------- disks


def test_output_folder_removed_in_mid_run(pages):
    pages.add("sub-01", "wait"), pages.add("sub-02")
    reference(pages)
    driver = start(pages)
    wait_for(running_step(pages))
    # a step that is still delivering would fail, and its record would make the folder again
    wait_for(lambda: pages.status().get("sub-02") == "done")
    remove_all(pages.out)
    (pages.work / "go").touch()
    _, said = driver.communicate(timeout=SLOW)
    assert driver.returncode == exits.CANNOT_CREATE, said
    assert "removed in mid-run" in said
    assert "Traceback" not in said
    assert pages.run() == 0
    assert is_whole(pages)


def remove_all(folder):
    """Remove a folder in which others are writing."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("number", "words"), [(30, "Read-only file system"), (116, "Stale file handle"), (5, "error")]
)
def test_disk_that_goes_away_in_mid_run(pages, monkeypatch, number, words, capfd):
    """While the driver writes its tables: one sentence, and everything is there the next time."""
    pages.add("sub-01"), pages.add("sub-02")
    reference(pages)
    write, calls = manifest.write_text, []

    def fail(path, text):
        calls.append(path)
        if len(calls) > 8 and path.name == "status.tsv":
            raise OSError(number, os.strerror(number), str(path))
        write(path, text)

    monkeypatch.setattr(manifest, "write_text", fail)
    assert pages.run() == exits.CANNOT_CREATE
    said = capfd.readouterr().err
    assert words in said
    assert "Traceback" not in said
    monkeypatch.setattr(manifest, "write_text", write)
    assert pages.run() == 0
    assert is_whole(pages)


@pytest.mark.parametrize(("name", "filled"), [("out", 200_000), ("work", 140_000)])
def test_full_disk_then_room(pages, small_disk, name, filled):
    """Output or working directory fills up; with room, the next run goes on."""
    pages.add("sub-01", "fine" * 2_000), pages.add("sub-02")
    reference(pages)
    setattr(pages, name, small_disk / name)
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * filled)
    assert pages.run() == exits.FAILED
    assert "disk was full" in pages.reasons()["sub-01"]
    assert derivatives.halves(pages.out) == []
    filler.unlink()
    assert pages.run() == 0
    assert is_whole(pages)


def test_few_open_files_allowed(pages):
    pages.add("sub-01"), pages.add("sub-02")
    reference(pages)

    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (14, 14))

    driver = start(pages, preexec_fn=few)
    _, said = driver.communicate(timeout=SLOW)
    assert driver.returncode == exits.FAILED, said
    assert "ulimit -n" in said
    assert "Traceback" not in said
    assert pages.run() == 0
    assert is_whole(pages)


# ---------------------------------------------------------------------------- delivering


def copy_half(source, target):
    """Copy as a process does that is killed in the middle of it."""
    content = Path(source).read_bytes()
    Path(target).write_bytes(content[: len(content) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def killed(work):
    """Run `work` in a process of its own, in which it is killed."""
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            work()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def sink(kind, folder, version):
    """The sink of a person, or of the group level, on two files of one version."""
    from alsflow.interfaces.derivatives import SaveOutputs
    from alsflow.interfaces.group import Deliver

    sources = folder / version
    sources.mkdir(exist_ok=True)
    names = ("features.tsv", "tests.tsv")
    for name in names:
        (sources / name).write_text(f"{version}\n" * 1000)
    if kind == "group":
        return Deliver(in_files=[str(sources / name) for name in names],
                       out_folder=str(folder / "out"))  # fmt: skip
    save = SaveOutputs(
        keys=["a", "b"], folder=str(folder / "out"), sidecars={"a": {"version": version}},
        targets={"a": "a.tsv", "b": "deep/b.tsv"}, factual=[],
    )  # fmt: skip
    save.inputs.a_file, save.inputs.b_file = (str(sources / name) for name in names)
    return save


@pytest.mark.parametrize("kind", ["person", "group"])
def test_kill_while_files_are_delivered(tmp_path, kind, monkeypatch):
    """Every file is the old or the new one; while they are copied, all are the old ones."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    sink(kind, tmp_path, "old").run()
    old = {path: path.read_bytes() for path in derivatives.files_of(out).values()}
    new = sink(kind, tmp_path, "new")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "copyfile", copy_half)
        assert killed(new.run)
    assert {path: path.read_bytes() for path in old} == old
    assert whole.leftovers(out)
    rename, calls = os.replace, []

    def second(source, target):
        calls.append(target)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", second)
        assert killed(new.run)
    assert derivatives.halves(out, temporary=False) == []
    for path in whole.leftovers(out):
        path.unlink()
    new.run()
    assert all(path.read_bytes() != content for path, content in old.items())
    assert derivatives.halves(out) == []


def test_full_disk_while_delivering_leaves_the_old_files_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sink("person", tmp_path, "old").run()
    old = {path: path.read_bytes() for path in derivatives.files_of(tmp_path / "out").values()}
    new, copy = sink("person", tmp_path, "new"), shutil.copyfile

    def full(source, target):
        if "tests" in str(source):
            raise OSError(28, "No space left on device", str(target))
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        new.run()
    found = derivatives.files_of(tmp_path / "out").values()
    assert {path: path.read_bytes() for path in found} == old


def test_refused_person_leaves_no_older_result(done):
    """Their image was exported again, and cannot be used now."""
    path = done.add("sub-01", "refuse")
    assert done.run() == exits.DATA
    assert not (done.out / DELIVERED).exists()
    assert done.status() == {"sub-01": "refused", "sub-02": "done"}
    path.write_text("fine sub-01")
    assert done.run() == 0
    assert is_whole(done)


def test_withdrawing_takes_every_file_of_a_stream_and_no_other(tmp_path):
    """Of whatever settings and sessions; those of other streams and visits stay."""
    import alsflow
    from alsflow.interfaces.bids import Visit

    # the toy has another module of this name
    file = Path(alsflow.__file__).parent / "workflows" / "outputs.py"
    spec = importlib.util.spec_from_file_location("real_outputs", file)
    outputs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(outputs)
    settings = Settings(tmp_path / "bids", tmp_path, "participant")
    every = {}
    for visit in (Visit("01", "a"), Visit("01", "b"), Visit("011", "a")):
        known = {"folder": visit.folder, "prefix": visit.prefix,
                 "series": f"{visit.prefix}_task-rest"}  # fmt: skip
        for stream, entries in outputs.declared().items():
            for entry in entries.values():
                name = entry["path"].format_map(_Any(known))
                for path in (tmp_path / name, tmp_path / f"{name.partition('.')[0]}.json"):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch()
                    every[path] = (visit.prefix, stream)
    outputs.withdraw(Visit("01", "a"), "func", settings)
    gone = {path for path in every if not path.exists()}
    assert gone == {path for path, whose in every.items() if whose == ("sub-01_ses-a", "func")}
    outputs.withdraw(Visit("01", "a"), "dwi", settings)
    gone = {whose for path, whose in every.items() if not path.exists()}
    assert gone == {("sub-01_ses-a", "func"), ("sub-01_ses-a", "dwi")}


class _Any(dict):
    """Knows every name."""

    def __missing__(self, name):
        return "anything"


# ---------------------------------------------------------------------------- strangers


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_results_of_strangers_are_not_read(done, capfd):
    """Unpickling runs what the pickle says."""
    settings = Settings(done.bids, done.out, "participant", work_dir=done.work)
    os.chown(done.work, NOBODY, NOBODY)
    assert done.run() == 0  # a colleague's folder, into which only they may write
    done.work.chmod(0o777)
    assert done.run() == 0  # the results in it are our own
    os.chown(done.work / "alsflow_wf", NOBODY, NOBODY)
    with pytest.raises(exits.StopRunError, match="somebody else's"):
        checks.check_work_place(settings)
    capfd.readouterr()
    assert done.run() == exits.CANNOT_CREATE
    assert "--work-dir" in capfd.readouterr().err
    os.chown(done.work, 0, 0)
    assert done.run() == 0  # our own folder: whoever opened it to others was we


# ---------------------------------------------------------------------------- other commands


SIMULATE = """
import sys, time
from alsflow import cli_simulate
from alsflow.interfaces import simulate
def slowly(task):
    (task[0] / "started").touch()
    time.sleep(600)
simulate._make_person = slowly
simulate.template_source = simulate.prepare_blueprint = lambda *arguments: None
sys.exit(cli_simulate.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_simulation_that_is_interrupted(tmp_path, how):
    out = tmp_path / "cohort"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SIMULATE, str(out), "--n-als", "1", "--n-controls", "1"]
    for last in (False, True):
        left = set(tmp_path.iterdir())
        driver = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        wait_for(lambda: {path.parent for path in tmp_path.glob(".*/started")} - left)  # noqa: B023
        assert not left & set(tmp_path.iterdir())  # those of the first have been swept away
        driver.send_signal(signal.SIGTERM if last else how)
        _, said = driver.communicate(timeout=SLOW)
        assert "Traceback" not in said
    assert driver.returncode == exits.FAILED
    assert "interrupted; nothing was written" in said
    assert list(tmp_path.iterdir()) == []


def test_fetch_that_is_killed_leaves_no_half_atlas(tmp_path, monkeypatch):
    from alsflow.interfaces import atlas
    from alsflow.nodes.errors import MissingProgramError

    content = {"image": b"image" * 1000, "table": b"table" * 1000}
    sums = {part: {"file": part, "sha256": _sha256(text)} for part, text in content.items()}
    entry = {"source": "fetch", "title": "t", "licence": "l", "citation": "c", **sums}
    monkeypatch.setattr(atlas, "declaration", lambda name, folder=None: entry)
    for part, text in content.items():
        (tmp_path / "copies").mkdir(exist_ok=True)
        (tmp_path / "copies" / part).write_bytes(text)
    here = tmp_path / "here"
    paths = {part: here / part for part in content}
    monkeypatch.setattr(atlas, "atlas_files", lambda name, folder=None: paths)

    def fetch():
        return atlas.fetch_atlas("x", here, [tmp_path / "copies"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "copyfile", copy_half)
        assert killed(fetch)
    with pytest.raises(MissingProgramError):
        atlas.find_atlas("x", here)
    assert fetch() == tuple(paths.values())
    assert {part: path.read_bytes() for part, path in paths.items()} == content


def _sha256(text):
    import hashlib

    return hashlib.sha256(text).hexdigest()


# ---------------------------------------------------------------------------- the helper


def test_the_comparison_can_fail(done):
    """What it allows to differ is little, and what is half-written it sees."""
    copy = done.root / "copy"
    shutil.copytree(done.out, copy)
    (copy / "logs" / "another.log").touch()
    content = json.loads((copy / "dataset_description.json").read_text())
    content["SourceDatasets"] = [{"URL": "elsewhere"}]
    (copy / "dataset_description.json").write_text(json.dumps(content))
    assert derivatives.differences(done.out, copy) == []
    content["BIDSVersion"] = "0"
    (copy / "dataset_description.json").write_text(json.dumps(content))
    flip(copy / DELIVERED)
    (copy / "status.tsv").unlink()
    found = derivatives.differences(done.out, copy)
    assert len(found) == 3
    assert any("only in" in line and "status.tsv" in line for line in found)
    for name, text in [
        ("a.json", "{"),
        ("a.tsv", "a\tb\n1\n"),
        ("b.tsv", "a"),
        ("a.png", "x"),
        ("a.nii.gz", "x"),
        (".0123456789ab.part.c.txt", ""),
        ("a.html", "<html>"),
    ]:
        path = copy / "halves" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        assert len(derivatives.halves(path.parent)) == 1, name
        path.unlink()


# ---------------------------------------------------------------------------- real streams


COARSE = """
skip_bids_validation = true
keep_work = "all"
[anat]
template_voxel = 4.0
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """One simulated head and spectrum, as coarse as they may be."""
    from alsflow import cli_simulate

    folder = tmp_path_factory.mktemp("real")
    command = "--n-als 1 --n-controls 1 --sites 1 --resolution 3 --modalities anat mrs"
    assert cli_simulate.main([str(folder / "bids"), *command.split(), "--mrs-failures", "0"]) == 0
    (folder / "coarse.toml").write_text(COARSE)
    return folder


def real_run(cohort, where, processes):
    """The command itself on one person, standing in another folder each time."""
    where.mkdir(exist_ok=True)
    lcmodel = cohort / "bids" / "derivatives" / "lcmodel"
    command = [sys.executable, "-m", "alsflow", str(cohort / "bids"), str(cohort / "out"),
               "participant", "--participant-label", "01", "-w", str(cohort / "work"),
               "--config-file", str(cohort / "coarse.toml"), "--nprocs", str(processes),
               "--derivatives", f"lcmodel={lcmodel}"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (cohort / "said.txt").open("a") as said:
        return subprocess.Popen(command, stderr=said, cwd=where, env=environment)


@pytest.mark.slow
def test_real_streams_killed_while_they_deliver(cohort):
    """Then everything delivered is lost, and made again from elsewhere: the same bytes."""
    out = cohort / "out"
    driver = real_run(cohort, cohort / "here", 1)
    # the first file is there while the others are being copied
    wait_for(lambda: any(p.is_file() for p in (out / "sub-01").rglob("*")), 600)
    workers = workers_of(driver.pid)
    driver.kill()
    driver.wait()
    wait_for(lambda: not any(_alive(pid) for pid in workers), 15)
    assert derivatives.halves(out, temporary=False) == []
    assert real_run(cohort, cohort / "here", 2).wait(600) == 0
    assert derivatives.halves(out) == []
    first = cohort / "first"
    out.rename(first)
    assert real_run(cohort, cohort / "there", 1).wait(600) == 0
    assert derivatives.differences(first, out) == []
    [image] = (out / "sub-01" / "anat").glob("*_label-GM_desc-modulatedSmooth_vbm.nii.gz")
    flip(image)
    (out / "sub-01.html").write_text("<html>")
    assert real_run(cohort, cohort / "there", 2).wait(600) == 0
    assert derivatives.differences(first, out) == []
