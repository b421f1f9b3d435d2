"""A rerun explains itself, rightly and completely."""

import json
import random
import shutil
from dataclasses import fields, replace

import pytest
from inline import execute, init_graph

from alsflow.workflows import keep, why
from alsflow.workflows.cache import removed
from alsflow.workflows.settings import AnatSettings, Settings

# ---------------------------------------------------------------------------- properties


FOLLOWS = ("follows from", "its output was removed to", "an input of it was")


def a_plan(rng, size=8):
    """Random graph, in which each node has at most two predecessors."""
    plan = []
    for number in range(size):
        before = rng.sample(range(number), k=min(number, rng.choice([0, 1, 1, 2])))
        plan.append((before, {"dull": rng.random() < 0.15}))
    return plan


def disturb(rng, plan, files, work):
    """Change something; returns the plan of now."""
    plan = [(before, dict(inputs)) for before, inputs in plan]
    number = rng.randrange(len(plan))
    folder = work / "alsflow_wf" / "sub_01_wf" / "anat_wf" / f"n{number}"
    kind = rng.choice(["file", "file", "setting", "setting", "setting", "output", "lost", "tamper",
                       "result", "folder", "half", "new", "flags"])  # fmt: skip
    if kind == "file":
        roots = [root for root, (before, _) in enumerate(plan) if not before]
        files[rng.choice(roots)].write_text(f"text {rng.random()}")
    elif kind in ("setting", "flags"):
        value = {"setting": {"factor": rng.random()}, "flags": {"flags": {"a": rng.random()}}}
        plan[number][1].update(value[kind])
    elif kind == "new":
        plan.append(([number], {}))
    elif not folder.is_dir() or removed(folder / "out.txt"):
        pass  # nobody tampers with a placeholder
    elif kind == "output":
        (folder / "out.txt").unlink(missing_ok=True)
    elif kind == "lost":
        (folder / f"result_n{number}.pklz").unlink(missing_ok=True)
    elif kind == "tamper":
        (folder / "out.txt").write_text("tampered")
    elif kind == "result":
        (folder / f"result_n{number}.pklz").write_bytes(b"garbage")
    elif kind == "folder":
        shutil.rmtree(folder)
    else:
        for path in folder.glob("_0x*.json"):
            path.rename(path.with_name(f"{path.stem}_unfinished.json"))
        (folder / f"result_n{number}.pklz").unlink(missing_ok=True)
    return plan


def snapshot(folder):
    """Everything about a folder that a look at it must not change."""
    return {
        str(path): (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("choice", ["all", "none"])
@pytest.mark.parametrize("seed", range(10))
def test_what_is_named_runs_and_what_runs_is_named(tmp_path, seed, choice, monkeypatch):
    monkeypatch.setattr(keep, "LARGE", 1)  # with "none", everything goes that nobody waits for
    rng = random.Random(seed)
    plan, work = a_plan(rng), tmp_path / "work"
    files = [tmp_path / f"raw{number}" for number in range(20)]
    for number, path in enumerate(files):
        path.write_text(f"raw {number}")
    history = why.History.read(some_settings(tmp_path))
    work.mkdir()
    for _ in range(5):
        before = snapshot(tmp_path)
        found = execute(init_graph(plan, files), work, history, forecast=True)[0].found
        assert snapshot(tmp_path) == before
        run, reasons = execute(init_graph(plan, files), work, history, keep=choice)
        certain = {node.name for node in found.causes}
        maybe = {node.name for node in {**found.follow, **found.again}}
        ran = set(run.ran)
        assert certain <= ran <= certain | maybe
        assert not certain & maybe
        assert {node.name for node in reasons._texts} == ran
        assert all(reasons._texts.values())
        for node, text in reasons._texts.items():
            own = [part for part in text.split("; ") if not part.startswith(FOLLOWS)]
            assert bool(own) <= (node.name in certain), text
            assert choice == "none" or (node.name in certain) <= bool(own), text
        for group in (found.follow, found.again):
            assert all(causes and causes <= found.causes.keys() for causes in group.values())
        assert choice == "none" or not found.again
        assert why.OTHER not in reasons._texts.values()
        run, reasons = execute(init_graph(plan, files), work, history, keep=choice)
        assert (run.ran, reasons._texts) == ([], {})
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            plan = disturb(rng, plan, files, work)


def some_settings(root, **changes):
    return replace(Settings(root / "bids", root / "out", "participant", root / "work"), **changes)


# ---------------------------------------------------------------------------- words


def test_a_new_setting_has_to_say_whether_results_depend_on_it():
    matter = {entry.name for entry in fields(Settings)} - {*why.NO_MATTER}
    assert matter == {
        "output_dir", "modalities", "force", "random_seed", "derivatives", "anat", "dwi", "func",
        "mrs", "group", "clinical", "analysis",
    }  # fmt: skip
    assert {*why.NO_MATTER} <= {entry.name for entry in fields(Settings)}


@pytest.fixture
def line(tmp_path):
    """Three steps in a row, computed once; gives why each would run and why each ran."""
    raw = tmp_path / "sub-01_T1w.nii.gz"
    raw.write_text("raw")

    def run(changes=None, settings=None, forecast=False):
        plan = [([], {}), ([0], {"factor": 8.0}), ([1], {})]
        for number, inputs in (changes or {}).items():
            plan[number][1].update(inputs)
        history = why.History.read(settings or some_settings(tmp_path))
        files = [raw] * 3
        plugin, reasons = execute(init_graph(plan, files), tmp_path / "work", history, forecast)
        if forecast:
            return why.described(plugin.found)
        return {node.name: text for node, text in reasons._texts.items()}

    (tmp_path / "work").mkdir()
    run.raw, run.folder = raw, tmp_path / "work" / "alsflow_wf" / "sub_01_wf" / "anat_wf"
    assert run() == dict.fromkeys(("n0", "n1", "n2"), why.NEVER)
    return run


def test_a_file_with_other_content_is_named(line):
    line.raw.write_text("other")
    assert line(forecast=True).splitlines() == [
        "sub-01: 1 of 3 steps would run.",
        "  anat n0: input raw_file changed: sub-01_T1w.nii.gz has other content; "
        "and 2 steps after it, if the result differs",
        "1 of 3 steps would run, and up to 2 more as described.",
    ]
    texts = line()
    assert texts["n1"] == "follows from n0: one_file differs"
    assert list(texts) == ["n0", "n1", "n2"]


def test_a_setting_is_named_as_in_the_configuration_file(line, tmp_path):
    settings = some_settings(tmp_path, anat=AnatSettings(smoothing=6.0))
    texts = line({1: {"factor": 6.0}}, settings)
    assert texts["n1"] == "setting anat.smoothing: 8.0 -> 6.0"
    assert list(texts) == ["n1", "n2"]


def test_a_value_that_is_no_setting_is_named_as_an_input(line):
    assert line({1: {"factor": 6.0}})["n1"] == "input factor: 8.0 -> 6.0"


def test_of_two_settings_that_changed_alike_none_is_named(line, tmp_path):
    changed = AnatSettings(smoothing=6.0, template_voxel=6.0)
    before = AnatSettings(template_voxel=8.0)
    why.History.read(some_settings(tmp_path, anat=before)).save([])
    assert line({1: {"factor": 6.0}}, some_settings(tmp_path, anat=changed))["n1"] == (
        "input factor: 8.0 -> 6.0"
    )


def test_only_the_part_of_a_table_that_changed_is_shown(line):
    line({2: {"flags": {"a": 1, "b": [1, 2], "c": True}}})
    assert line({2: {"flags": {"a": 1, "b": [1, 3], "c": True}}}) == {
        "n2": "input flags.b: 2 -> 3"
    }
    assert line({2: {"flags": {"a": 1, "b": [1, 3]}}}) == {
        "n2": "input flags.c is not given any more"
    }


def test_modules_whose_code_changed_are_named(line, monkeypatch):
    from alsflow.interfaces import base

    parts = base.parts_of
    monkeypatch.setattr(base, "version_of", lambda cls: "0123456789abcdef")
    monkeypatch.setattr(base, "parts_of", lambda cls: parts(cls) | {"alsflow.nodes.x": "1"})
    assert line()["n1"] == "the code of the step changed (nodes.x)"


def rename_key(record):
    """One other byte, and JSON as before."""
    content = record.read_text()
    assert content.count('"seconds"') == 1
    record.write_text(content.replace('"seconds"', '"secondr"'))


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (lambda folder: (folder / "out.txt").unlink(), "its output out.txt is missing"),
        (lambda folder: (folder / "out.txt").write_text("x"),
         "its output out.txt was changed since"),
        (lambda folder: (folder / "result_n1.pklz").write_bytes(b"x"),
         "its stored result cannot be read"),
        (lambda folder: (folder / "result_n1.pklz").unlink(), why.LOST),
        (lambda folder: shutil.rmtree(folder), why.NEVER),
        (lambda folder: next(folder.glob("_0x*")).unlink(), why.UNFINISHED),
        (lambda folder: rename_key(folder / "_outputs.json"),
         "the record of its outputs is damaged, or of an earlier version"),
        (lambda folder: (folder / "_outputs.json").unlink(),
         "it failed or was interrupted before its outputs were recorded"),
    ],
)  # fmt: skip
def test_a_result_that_cannot_be_used_says_so(line, harm, text):
    harm(line.folder / "n1")
    assert f"anat n1: {text}" in line(forecast=True)
    assert line() == {"n1": text}


def test_damaged_notes_of_inputs_do_not_mislead(line):
    """Nipype goes by the name of the file alone."""
    for path in line.folder.rglob("_0x*.json"):
        path.write_text("{")
    assert "nothing to run, 3 steps are up to date" in line(forecast=True)
    assert line() == {}
    assert line({1: {"factor": 6.0}})["n1"] == why.OTHER


def test_a_failed_step_did_not_finish(line, tmp_path):
    line.raw.write_text("fail")
    assert list(line()) == ["n0"]
    assert line()["n0"] == why.UNFINISHED


def test_one_history_is_kept_for_many_runs(tmp_path, line):
    settings = [some_settings(tmp_path, random_seed=seed % 60) for seed in range(70)]
    for entry in settings:
        why.History.read(entry).save([])
    content = json.loads((tmp_path / "work" / why.HISTORY).read_text())
    assert len(content["settings"]) == why.MOST_SETTINGS
    assert content["settings"][-1]["random_seed"] == 9
    assert not {*why.NO_MATTER} & {*content["settings"][-1]}


# ---------------------------------------------------------------------------- the command line


def test_a_run_says_why_and_a_dry_run_writes_nothing(toy, capfd):
    toy.add("sub-01"), toy.add("sub-02")
    assert toy.run("--why", "--dry-run") == 0
    shown = capfd.readouterr().out
    assert "sub-01, sub-02: 3 of 3 steps would run." in shown
    assert "never computed" in shown
    assert not toy.work.exists()
    assert not toy.out.exists()

    assert toy.run("--why") == 0
    assert "sub_01 anat load runs: never computed" in capfd.readouterr().err
    assert toy.run("--why") == 0
    assert " runs: " not in capfd.readouterr().err
    toy.calls()

    config = toy.root / "config.toml"
    config.write_text("[anat]\nsmoothing = 6.0\n")
    before = snapshot(toy.root)
    assert toy.run("--why", "--dry-run", "--config-file", config) == 0
    assert snapshot(toy.root) == before
    assert toy.calls() == []
    shown = capfd.readouterr().out
    assert "sub-01, sub-02: 1 of 3 steps would run.\n  anat scale: setting anat.smoothing" in shown
    assert "8.0 -> 6.0; and 1 step after it" in shown

    assert toy.run("--config-file", config) == 0
    assert " runs: " not in capfd.readouterr().err
    text = "".join(path.read_text() for path in (toy.out / "logs").glob("*.log"))
    assert "sub_01_wf.anat_wf.scale runs: setting anat.smoothing: 8.0 -> 6.0" in text
    assert "sub_01_wf.anat_wf.sink runs: follows from scale: in_file differs" in text


def test_a_new_person_is_told_apart_from_the_finished(toy, capfd):
    toy.add("sub-01")
    assert toy.run() == 0
    toy.add("sub-02/ses-a")
    capfd.readouterr()
    assert toy.run("--why", "--dry-run") == 0
    shown = capfd.readouterr().out
    assert "sub-01: nothing to run, 3 steps are up to date." in shown
    assert "sub-02_ses-a: 3 of 3 steps would run." in shown
    assert "3 of 6 steps would run." in shown


def test_another_output_folder_is_named(toy, capfd):
    toy.add("sub-01")
    assert toy.run() == 0
    toy.out = toy.out.rename(toy.root / "elsewhere")
    assert toy.run("--why") == 0
    assert "elsewhere" in capfd.readouterr().err
    assert set(toy.calls()) == {"01:load", "01:scale", "01:sink"}
