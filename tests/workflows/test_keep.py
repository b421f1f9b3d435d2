"""What goes from the working directory, and how it comes back."""

import gzip
import json
import os
import random
import shutil
import signal
from contextlib import suppress

import pytest
from nipype.pipeline.engine import Node
from toy_graph import Merge, Save, Stop, many, mix, mixed, run, stream, text_of

from alsflow.workflows import keep
from alsflow.workflows.cache import (
    PLACEHOLDER_SIZE,
    FileHashes,
    Removed,
    note_removed,
    read_record,
    removed,
    write_placeholder,
)


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    monkeypatch.setattr(keep, "LARGE", 500)


@pytest.fixture
def passing(monkeypatch):
    """The table of a stream whose first step passes."""
    monkeypatch.setattr(keep, "table", lambda: {"dwi": {"passing": ["first"]}})


@pytest.fixture
def chain(tmp_path):
    """raw -> first -> second -> third -> save, and how to build it with another setting."""
    return Chain(tmp_path)


class Chain:
    def __init__(self, root):
        self.root, self.work = root, root / "work"
        self.raw = root / "raw.txt"
        self.raw.write_text("raw")
        self.out = root / "out"

    def build(self, visit="sub_01_wf", saved="third", fate="", **words):
        outer, inner = stream(visit=visit)
        nodes = {name: mix(name, fate_file=fate) for name in ("first", "second", "third")}
        nodes["first"].inputs.in_files = [str(self.raw)]
        for name, word in words.items():
            nodes[name].inputs.word = word
        save = Node(Save(folder=str(self.out / visit)), name="save")
        inner.connect([
            (nodes["first"], nodes["second"], [("a_file", "in_files")]),
            (nodes["second"], nodes["third"], [("a_file", "in_files")]),
            (nodes[saved], save, [("a_file", "in_files")]),
        ])  # fmt: skip
        return outer

    def path(self, name, file="a_file.txt", visit="sub_01_wf"):
        return self.work / "alsflow_wf" / visit / "dwi_wf" / name / file

    def gone(self, visit="sub_01_wf"):
        folder = self.work / "alsflow_wf" / visit
        return sorted(str(path.relative_to(folder / "dwi_wf")) for path in folder.rglob("*.txt")
                      if removed(path))  # fmt: skip

    def expected(self, **words):
        text = "raw"
        for name in ("first", "second", "third"):
            text = mixed([text], words.get(name, name))["a_file"]
        return text

    def saved(self, visit="sub_01_wf"):
        return text_of(self.out / visit / "save_0.txt")


EVERYTHING = sorted(f"{step}/{file}_file.txt" for step in ("first", "second", "third")
                    for file in "ab")  # fmt: skip


# ---------------------------------------------------------------------------- placeholders


def test_placeholder_counts_as_what_it_stands_for(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x" * 1000)
    md5 = FileHashes().md5(path)
    write_placeholder(path, Removed(md5, 1000))
    assert path.stat().st_size == PLACEHOLDER_SIZE
    assert removed(path) == Removed(md5, 1000)
    assert FileHashes().md5(path) == md5
    os.utime(path, ns=(1, 1))
    (tmp_path / "b.txt").write_bytes(path.read_bytes())  # the working directory may be copied
    assert FileHashes().md5(tmp_path / "b.txt") == md5


@pytest.mark.parametrize("text", ["", "y" * PLACEHOLDER_SIZE, "filled"])
def test_what_is_written_over_a_placeholder_counts_as_itself(tmp_path, text):
    path = tmp_path / "a.txt"
    write_placeholder(path, Removed("0" * 32, 1000))
    hashes = FileHashes()
    assert hashes.md5(path) == "0" * 32
    path.write_text(text)
    assert removed(path) is None
    assert hashes.md5(path) not in (None, "0" * 32)


# ---------------------------------------------------------------------------- what goes


def test_all_removes_nothing(chain):
    run(chain.build(), chain.work, "all")
    assert chain.gone() == []


def test_none_removes_every_large_file_and_a_rerun_computes_nothing(chain):
    run(chain.build(), chain.work, "none")
    assert chain.gone() == EVERYTHING
    assert chain.path("first", "note_file.txt").stat().st_size == 64  # too small to matter
    for choice in ("none", "failed", "all"):
        plugin, listener = run(chain.build(), chain.work, choice)
        assert (plugin.computed, listener.repaired, listener.again) == ([], {}, [])
    assert chain.gone() == EVERYTHING  # nobody needs them: they do not come back by themselves


def test_choice_may_change_between_runs(chain):
    run(chain.build(), chain.work, "all")
    plugin, _ = run(chain.build(), chain.work, "none")
    assert plugin.computed == []
    assert chain.gone() == EVERYTHING


def test_failed_removes_passing_files_of_visits_that_succeeded(chain, passing):
    run(chain.build(), chain.work, "failed")
    assert chain.gone() == ["first/a_file.txt", "first/b_file.txt"]


@pytest.mark.parametrize(("by", "goes"), [("second", True), ("third", False), ("named", False)])
def test_overtaken_file_goes_where_the_next_step_has_one_of_its_own(chain, monkeypatch, by, goes):
    monkeypatch.setattr(keep, "table", lambda: {"dwi": {"overtaken": {"first": by}}})
    outer = chain.build()
    inner = outer.get_node("sub_01_wf").get_node("dwi_wf")
    inner.connect(inner.get_node("first"), "b_file", Node(Merge(1), name="named"), "in1")
    run(outer, chain.work, "failed")
    assert chain.gone() == (["first/a_file.txt", "first/b_file.txt"] if goes else [])


@pytest.mark.parametrize(
    ("choice", "kept"), [("failed", EVERYTHING), ("none", ["second/a_file.txt"])]
)
def test_failed_visit_keeps_what_its_rerun_needs(chain, passing, choice, kept):
    fate = chain.root / "fate.json"
    fate.write_text(json.dumps({"third": "fail"}))
    build = lambda: chain.build(fate=str(fate))  # noqa: E731
    plugin, _ = run(build(), chain.work, choice)
    assert [name for name, _ in plugin.problems] == ["third"]
    made = {path for path in EVERYTHING if not path.startswith("third")}
    assert set(chain.gone()) == made - set(kept)
    fate.unlink()
    plugin, listener = run(build(), chain.work, choice)
    assert (plugin.computed, listener.again) == (["third", "save"], [])
    assert chain.saved() == chain.expected()


def test_file_stays_until_its_last_reader_has_finished(chain):
    """A reader behind a node that merely names the file counts, too."""
    outer, inner = stream()
    first, last = mix("first", in_files=[str(chain.raw)]), mix("last")
    slow = [mix(f"slow{k}") for k in range(3)]
    named = Node(Merge(1), name="named")
    inner.connect([
        (first, named, [("a_file", "in1")]),
        (first, slow[0], [("note_file", "in_files")]),
        (slow[0], slow[1], [("note_file", "in_files")]),
        (slow[1], slow[2], [("note_file", "in_files")]),
        (slow[2], last, [("note_file", "more_files")]),
        (named, last, [("out", "in_files")]),
    ])  # fmt: skip
    plugin, listener = run(outer, chain.work, "none")
    assert plugin.problems == []
    assert listener.again == []
    assert sorted(plugin.computed) == ["first", "last", "named", "slow0", "slow1", "slow2"]
    assert removed(chain.path("first")) is not None


def test_reader_of_another_output_does_not_keep_a_file(chain):
    outer, inner = stream()
    first, second, third = (mix(name) for name in ("first", "second", "third"))
    first.inputs.in_files = [str(chain.raw)]
    inner.connect([
        (first, second, [("a_file", "in_files")]),
        (first, third, [("note_file", "more_files")]),
        (second, third, [("note_file", "in_files")]),
    ])  # fmt: skip
    with pytest.raises(Stop):
        run(outer, chain.work, "none", stop_after=2)
    assert removed(chain.path("first")) is not None


@pytest.mark.parametrize(("choice", "left"), [("all", 3), ("failed", 0), ("none", 0)])
def test_large_files_of_programs_that_are_no_outputs_go(chain, passing, choice, left):
    run(chain.build(), chain.work, choice)
    assert len(list(chain.work.rglob("left.bin"))) == left
    assert len(list(chain.work.rglob("small.bin"))) == 3


def test_copy_of_the_node_goes(chain):
    run(chain.build(), chain.work, "all")
    assert list(chain.work.rglob("_node.pklz")) == []
    assert run(chain.build(), chain.work, "all")[0].computed == []


# ---------------------------------------------------------------------------- what comes back


def test_changed_setting_makes_again_what_it_needs_and_says_so(chain):
    run(chain.build(saved="first"), chain.work, "none")
    (chain.out / "sub_01_wf" / "save_0.txt").unlink()
    run(chain.build(), chain.work, "none")  # now the third is saved
    plugin, listener = run(chain.build(third="other"), chain.work, "none")
    assert plugin.problems == []
    assert sorted(plugin.computed) == ["first", "save", "second", "third"]
    reason = "its output was removed to save space and is needed by sub_01_wf.dwi_wf."
    assert listener.again == [("second", reason + "third"), ("first", reason + "second")]
    assert chain.saved() == chain.expected(third="other")
    assert chain.gone() == EVERYTHING
    plugin, _ = run(chain.build(third="other"), chain.work, "none")
    assert plugin.computed == []


def test_what_the_derivatives_hold_is_taken_from_there(chain):
    run(chain.build(saved="second"), chain.work, "none")
    plugin, listener = run(chain.build(saved="second", third="other"), chain.work, "none")
    assert (plugin.computed, listener.again) == (["third"], [])
    assert chain.gone() == EVERYTHING


@pytest.mark.parametrize("harm", ["changed", "missing", "not gzip", "damaged"])
def test_derivative_that_was_touched_is_not_taken(chain, harm):
    def build(word):
        outer, inner = stream()
        first, second = mix("first", in_files=[str(chain.raw)]), mix("second")
        second.inputs.word = word
        save = Node(Save(folder=str(chain.out)), name="save")
        both = Node(Merge(2), name="both")
        inner.connect([
            (first, both, [("note_file", "in1"), ("a_file", "in2")]),
            (both, save, [("out", "in_files")]),
            (first, second, [("a_file", "in_files")]),
        ])  # fmt: skip
        return outer

    run(build("one"), chain.work, "none")
    plugin, _ = run(build("two"), chain.work, "none")
    assert plugin.computed == ["second"]  # from save_1.txt.gz, unpacked
    keeper, [reader] = plugin.keeper, [node for node in plugin._graph if node.name == "second"]
    assert keeper.makers(reader) == set()
    copy = chain.out / "save_1.txt.gz"
    size = len(text_of(copy))
    if harm == "changed":
        copy.write_bytes(gzip.compress(b"x" * size))
    elif harm == "missing":
        copy.unlink()
    else:
        start = b"x" * 100 if harm == "not gzip" else gzip.compress(b"")[:10] + b"\xff" * 90
        copy.write_bytes(start + size.to_bytes(4, "little"))
    assert [maker.name for maker in keeper.makers(reader)] == ["first"]
    plugin, _ = run(build("three"), chain.work, "none")
    assert {"first", "second"} <= set(plugin.computed)
    assert plugin.problems == []
    [second] = chain.work.rglob("second")
    want = mixed([mixed(["raw"], "first")["a_file"]], "three")["note_file"]
    assert (second / "note_file.txt").read_text() == want


def test_other_content_of_what_is_made_again_reaches_its_readers(chain):
    fate = chain.root / "fate.json"

    def build(word):
        outer, inner = stream()
        first, second, third, fourth = (mix(name) for name in ("first", "second", "third", "x"))
        first.inputs.trait_set(in_files=[str(chain.raw)], fate_file=str(fate))
        third.inputs.word = word
        inner.connect([
            (first, second, [("b_file", "in_files")]),
            (first, third, [("a_file", "in_files")]),
            (second, fourth, [("note_file", "in_files")]),
        ])  # fmt: skip
        return outer

    run(build("one"), chain.work, "none")
    fate.write_text(json.dumps({"first": "drift"}))
    plugin, listener = run(build("two"), chain.work, "none")
    assert sorted(plugin.computed) == ["first", "second", "third", "x"]
    assert ("second", "an input of it was made again and is another") in listener.again
    first = mixed(["raw"], "firstdrift")
    second = mixed([first["b_file"]], "second")
    want = mixed([second["note_file"]], "x")["note_file"]
    assert chain.path("x", "note_file.txt").read_text() == want
    assert run(build("two"), chain.work, "none")[0].computed == []


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_made_again_while_somebody_reads_there(chain, seed):
    """Its folder is emptied first, and small files in it may be being read."""

    def build(word):
        outer, inner = stream()
        first, small, large = (mix(name) for name in ("first", "small", "large"))
        first.inputs.in_files = [str(chain.raw)]
        small.inputs.word = large.inputs.word = word
        inner.connect([
            (first, small, [("note_file", "in_files")]),
            (first, large, [("a_file", "in_files")]),
        ])  # fmt: skip
        return outer

    run(build("one"), chain.work, "none")
    plugin, _ = run(build("two"), chain.work, "none", rng=random.Random(seed), width=3)
    assert plugin.problems == []
    assert sorted(plugin.computed) == ["first", "large", "small"]


def test_failure_to_make_again_stops_only_what_needs_it(chain):
    fate = chain.root / "fate.json"
    run(chain.build(fate=str(fate)), chain.work, "none")
    (chain.out / "sub_01_wf" / "save_0.txt").unlink()
    fate.write_text(json.dumps({"second": "fail"}))
    plugin, _ = run(chain.build(fate=str(fate), third="other"), chain.work, "none")
    assert [name for name, _ in plugin.problems] == ["second"]
    fate.unlink()
    plugin, _ = run(chain.build(fate=str(fate), third="other"), chain.work, "none")
    assert plugin.problems == []
    assert chain.saved() == chain.expected(third="other")


def test_map_node_makes_again_the_elements_that_are_needed(chain):
    for name in "abc":
        (chain.root / name).write_text(name)

    def build(word):
        outer, inner = stream()
        all_of, last = many("all_of", [str(chain.root / name) for name in "abc"]), mix("last")
        last.inputs.word = word
        inner.connect(all_of, "a_file", last, "in_files")
        return outer

    run(build("one"), chain.work, "none")
    assert len(chain.gone()) == 8
    assert run(build("one"), chain.work, "none")[0].computed == []
    plugin, _ = run(build("two"), chain.work, "none")
    assert (plugin.computed, plugin.problems) == (["all_of", "last"], [])
    texts = [mixed([name], "")["a_file"] for name in "abc"]
    assert chain.path("last", "note_file.txt").read_text() == mixed(texts, "two")["note_file"]
    (chain.root / "b").write_text("B")
    plugin, _ = run(build("two"), chain.work, "none")
    texts[1] = mixed(["B"], "")["a_file"]
    assert plugin.problems == []
    assert chain.path("last", "note_file.txt").read_text() == mixed(texts, "two")["note_file"]
    assert run(build("two"), chain.work, "none")[0].computed == []


def test_no_step_reads_a_placeholder(chain, monkeypatch):
    """The last line of defence, in the process that computes."""
    run(chain.build(), chain.work, "none")
    monkeypatch.setattr(keep.Keeper, "lacking", lambda self, node: set())
    (chain.out / "sub_01_wf" / "save_0.txt").unlink()
    plugin, _ = run(chain.build(third="other"), chain.work, "none")
    [(name, text)] = plugin.problems
    assert name == "third"
    assert "was removed to save space" in text


# ---------------------------------------------------------------------------- damages


def test_death_between_record_and_placeholder_leaves_the_file(chain, monkeypatch):
    from alsflow.workflows import cache

    def die(path, was):
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(cache, "write_placeholder", die)
        with pytest.raises(Stop):
            run(chain.build(), chain.work, "none")
    assert chain.gone() == []
    plugin, listener = run(chain.build(), chain.work, "none")
    assert listener.repaired == {}
    assert chain.saved() == chain.expected()
    assert chain.gone() == EVERYTHING


@pytest.mark.parametrize("when", range(1, 16, 2))
def test_killed_at_any_write(chain, when):
    """Records, placeholders and hashes are renamed into their places; before one of them."""
    child = os.fork()
    if child == 0:
        rename, count = os.replace, iter(range(1, 1000))

        def fatal(source, target):
            if next(count) == when:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(source, target)

        os.replace = fatal
        try:
            run(chain.build(), chain.work, "none")
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    plugin, _ = run(chain.build(), chain.work, "none")
    assert plugin.problems == []
    assert chain.saved() == chain.expected()
    assert chain.gone() == EVERYTHING
    assert run(chain.build(), chain.work, "none")[0].computed == []


def test_vanished_placeholder_costs_nothing_while_nobody_needs_it(chain):
    run(chain.build(), chain.work, "none")
    for name in EVERYTHING:
        chain.path(*name.split("/")).unlink()
    plugin, listener = run(chain.build(), chain.work, "none")
    assert (plugin.computed, listener.repaired) == ([], {})
    assert chain.gone() == EVERYTHING
    chain.path("second").unlink()
    (chain.out / "sub_01_wf" / "save_0.txt").unlink()
    plugin, _ = run(chain.build(third="other"), chain.work, "none")
    assert sorted(plugin.computed) == ["first", "save", "second", "third"]
    assert chain.saved() == chain.expected(third="other")


@pytest.mark.parametrize("content", ["", "garbage", "stands for another"])
def test_placeholder_that_was_written_over_is_not_trusted(chain, content):
    run(chain.build(), chain.work, "none")
    if content == "stands for another":
        chain.path("second").write_bytes(chain.path("third").read_bytes())
    else:
        chain.path("second").write_text(content)
    (chain.out / "sub_01_wf" / "save_0.txt").unlink()
    plugin, listener = run(chain.build(), chain.work, "none")
    assert list(listener.repaired) == ["second", "save"]
    assert chain.saved() == chain.expected()
    assert plugin.problems == []


def test_record_of_a_removed_file_reads_as_before(chain):
    run(chain.build(), chain.work, "all")
    outer = chain.build()
    outer.base_dir = str(chain.work)
    node = next(n for n in outer._create_flat_graph() if n.name == "first")
    node.base_dir = str(chain.work)
    before = read_record(node)
    path = str(chain.path("first"))
    size = os.stat(path).st_size
    note_removed(node, path)
    assert before["removed"] == {}
    assert read_record(node) == before | {"removed": {path: size}}


def test_working_directory_may_be_copied_elsewhere(chain):
    """Placeholders and records go along; the derivatives stay where they are."""
    run(chain.build(), chain.work, "none")
    elsewhere = chain.root / "elsewhere"
    shutil.copytree(chain.work, elsewhere)
    shutil.rmtree(chain.work)
    plugin, listener = run(chain.build(), elsewhere, "none")
    assert (plugin.computed, listener.repaired) == ([], {})
    (chain.out / "sub_01_wf" / "save_0.txt").unlink()
    plugin, _ = run(chain.build(), elsewhere, "none")
    assert sorted(plugin.computed) == ["first", "save", "second", "third"]
    assert chain.saved() == chain.expected()


def test_two_runs_on_different_visits_leave_each_other_alone(chain):
    run(chain.build(visit="sub_01_wf"), chain.work, "none")
    run(chain.build(visit="sub_02_wf"), chain.work, "all")
    run(chain.build(visit="sub_01_wf"), chain.work, "none")
    assert chain.gone() == EVERYTHING
    assert chain.gone("sub_02_wf") == []


def test_links_are_left_alone(chain):
    """What a link leads to may be the dataset."""
    big, fate = chain.root / "big.txt", chain.root / "fate.json"
    big.write_text("x" * 5000)
    fate.write_text(json.dumps({"first": f"link {big}"}))
    plugin, _ = run(chain.build(fate=str(fate)), chain.work, "none")
    assert plugin.problems == []
    assert chain.path("first").is_symlink()
    assert big.stat().st_size == 5000


# ---------------------------------------------------------------------------- any graph


class World:
    """A random graph whose settings, inputs and files change at random."""

    def __init__(self, root, seed):
        self.rng = random.Random(seed)
        self.root, self.work, self.out = root, root / "work", root / "out"
        self.count = self.rng.randint(3, 7)
        self.raws = [root / f"raw{k}.txt" for k in range(2)]
        for path in self.raws:
            path.write_text(path.name)
        self.words = [""] * self.count
        self.edges = [
            [(j, self.rng.choice(["a_file", "b_file", "note_file"]), self.rng.random() < 0.3)
             for j in range(k) if self.rng.random() < 0.5]
            for k in range(self.count)
        ]  # fmt: skip
        self.raw_of = [self.rng.randrange(2) for _ in range(self.count)]
        self.saved = sorted(self.rng.sample(range(self.count), 2))

    def build(self):
        outer, inner = stream()
        steps = []
        for k in range(self.count):
            steps.append(mix(f"s{k}", in_files=[str(self.raws[self.raw_of[k]])]))
            steps[k].inputs.word = f"s{k}/{self.words[k]}"
            inner.add_nodes([steps[k]])
            if not self.edges[k]:
                continue
            merge = Node(Merge(len(self.edges[k])), name=f"merge{k}")
            inner.connect(merge, "out", steps[k], "more_files")
            for number, (j, file, named) in enumerate(self.edges[k], 1):
                source, output = steps[j], file
                if named:  # through one more node that only names it
                    source, output = Node(Merge(1), name=f"name{k}_{j}"), "out"
                    inner.connect(steps[j], file, source, "in1")
                inner.connect(source, output, merge, f"in{number}")
        both = Node(Merge(len(self.saved)), name="both")
        save = Node(Save(folder=str(self.out)), name="save")
        for number, k in enumerate(self.saved, 1):
            inner.connect(steps[k], "a_file", both, f"in{number}")
        inner.connect(both, "out", save, "in_files")
        return outer

    def truth(self):
        made = []
        for k in range(self.count):
            texts = [self.raws[self.raw_of[k]].read_text()]
            texts += [made[j][file] for j, file, _ in self.edges[k]]
            made.append(mixed(texts, f"s{k}/{self.words[k]}"))
        return [made[k]["a_file"] for k in self.saved]

    def found(self):
        return [text_of(path) for path in sorted(self.out.glob("*"))]

    def change(self):
        """One thing that may happen between two runs; whether it must not cost anything."""
        kind = self.rng.choice(["nothing", "word", "word", "raw", "harm", "derivative", "saved"])
        files = sorted(self.work.rglob("*_file.txt"))
        if kind == "word":
            self.words[self.rng.randrange(self.count)] = str(self.rng.random())
        elif kind == "raw":
            self.rng.choice(self.raws).write_text(str(self.rng.random()))
        elif kind == "harm" and files:
            path = self.rng.choice(files)
            self.rng.choice([path.unlink, lambda: path.write_text("garbage")])()
        elif kind == "derivative" and self.out.is_dir():
            path = self.rng.choice(sorted(self.out.glob("*")))
            self.rng.choice([path.unlink, lambda: path.write_bytes(b"garbage")])()
        elif kind == "saved":
            self.saved = sorted(self.rng.sample(range(self.count), 2))
        return kind == "nothing"


@pytest.mark.parametrize("seed", range(25))
def test_whatever_is_removed_the_end_is_that_of_a_fresh_run(tmp_path, monkeypatch, seed):
    world = World(tmp_path, seed)
    rng = world.rng
    passing = [f"s{k}" for k in range(world.count) if rng.random() < 0.5]
    monkeypatch.setattr(keep, "table", lambda: {"dwi": {"passing": passing}})
    whole = False  # whether the last run came to its end
    for _ in range(6):
        free = world.change() and whole
        options = {"rng": rng, "width": rng.randint(1, 3)}
        choice = rng.choice(["all", "failed", "none", "none"])
        if rng.random() < 0.3:
            with suppress(Stop):
                run(world.build(), world.work, choice, stop_after=rng.randrange(5), **options)
            whole = False
            continue
        plugin, _ = run(world.build(), world.work, choice, **options)
        assert plugin.problems == []
        assert world.found() == world.truth()
        assert not free or plugin.computed == []
        again, _ = run(world.build(), world.work, "none", **options)
        assert again.computed == []
        whole = True
