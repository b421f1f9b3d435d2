"""Remembered hashes, records of outputs, causes of failures."""

import hashlib
import json
import os
import time
from types import SimpleNamespace

import pytest
from nipype.interfaces.base import File, TraitedSpec, traits

from alsflow.interfaces.sealed import sealed
from alsflow.workflows.cache import (
    RECORD,
    TICK,
    FileHashes,
    output_files,
    read_record,
    stored_record,
    write_text,
)
from alsflow.workflows.manifest import cause_of


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


def settle():
    """Wait until a file just written cannot change within the same tick of the clock."""
    time.sleep(2 * TICK / 1e9)


def test_unchanged_file_is_read_once(tmp_path, monkeypatch):
    from alsflow.workflows import cache

    path = tmp_path / "a"
    path.write_text("one")
    settle()
    reads = []
    real = cache._md5
    monkeypatch.setattr(cache, "_md5", lambda p: reads.append(p) or real(p))
    first = FileHashes(tmp_path / "store.json")
    assert first.md5(path) == first.md5(str(path)) == md5("one")
    first.save()
    assert FileHashes(tmp_path / "store.json").md5(path) == md5("one")
    assert len(reads) == 1


def test_same_size_and_time_but_other_content(tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    status = path.stat()
    hashes = FileHashes()
    hashes.md5(path)
    path.write_text("two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert hashes.md5(path) == md5("two")


def test_two_contents_within_one_tick_of_the_clock(tmp_path):
    """The times of the file say nothing; whoever trusted them would keep the first hash."""
    path = tmp_path / "a"
    hashes = FileHashes()
    for _ in range(200):
        path.write_text("one")
        first = path.stat().st_ctime_ns
        assert hashes.md5(path) == md5("one")
        path.write_text("two")
        assert hashes.md5(path) == md5("two")
        if path.stat().st_ctime_ns == first:
            return
    pytest.skip("the clock of this disk tells all changes apart")


@pytest.mark.parametrize("ahead", [0, 3600])
def test_coarse_and_skewed_clocks_are_not_trusted(tmp_path, monkeypatch, ahead):
    """Whole seconds alone, or a server whose clock is ahead: read again until time has passed."""
    from alsflow.workflows import cache

    path, store = tmp_path / "a", tmp_path / "store.json"
    path.write_text("one")
    second = (int(time.time()) + ahead) * 10**9
    monkeypatch.setattr(cache, "_stamp", lambda path: [3, second, second, 1])
    hashes = FileHashes(store)
    assert hashes.md5(path) == md5("one")
    path.write_text("two")
    assert hashes.md5(path) == md5("two")
    monkeypatch.setattr(time, "time_ns", lambda: second + 3 * 10**9)
    hashes.md5(path), hashes.save()
    path.write_text("one")
    assert FileHashes(store).md5(path) == md5("two")  # an old file is not read again


def test_what_is_no_file_has_no_hash(tmp_path):
    hashes = FileHashes()
    assert hashes.md5(tmp_path / "absent") is None
    assert hashes.md5(tmp_path) is None


def test_two_runs_share_a_store(tmp_path):
    store = tmp_path / "store.json"
    for name in ("a", "b", "gone"):
        (tmp_path / name).write_text(name)
    settle()
    first, second = FileHashes(store), FileHashes(store)
    first.md5(tmp_path / "a"), first.md5(tmp_path / "gone")
    second.md5(tmp_path / "b")
    (tmp_path / "gone").unlink()
    first.save(), second.save()
    assert sorted(json.loads(store.read_text())) == ["a", "b"]  # they move with the store


@pytest.mark.parametrize("content", ["", "{", "[]", '{"PATH": 3}', '{"PATH": []}'])
def test_damaged_store_is_as_good_as_none(tmp_path, content):
    (tmp_path / "a").write_text("x")
    (tmp_path / "store.json").write_text(content.replace("PATH", str(tmp_path / "a")))
    assert FileHashes(tmp_path / "store.json").md5(tmp_path / "a") == md5("x")


def test_text_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


class _Outputs(TraitedSpec):
    one = File(desc="file")
    many = traits.List(File(), desc="files")
    named = traits.Dict(desc="files by name")
    folder = traits.Str(desc="folder")
    number = traits.Float(desc="no file")
    nothing = File(desc="undefined")


def test_record_with_any_other_bit_is_none(tmp_path):
    node = SimpleNamespace(output_dir=lambda: str(tmp_path))
    content = {"files": {"a.nii": "0" * 32, "å.nii": None}, "removed": {"a.nii": 7},
               "seconds": 0.1, "cpu_seconds": 1e-7, "peak_mb": 20}  # fmt: skip
    write_text(tmp_path / RECORD, sealed(content))
    assert stored_record(tmp_path / RECORD) == content
    sound = read_record(node)
    assert set(sound["files"]) == {str(tmp_path / "a.nii"), str(tmp_path / "å.nii")}
    stored = (tmp_path / RECORD).read_bytes()
    for place in range(len(stored)):
        for bit in range(8):
            changed = bytearray(stored)
            changed[place] ^= 1 << bit
            (tmp_path / RECORD).write_bytes(changed)
            # one way to write an escape or a number may be another's: the content counts
            assert read_record(node) in (None, sound)
    for place in range(len(stored)):
        (tmp_path / RECORD).write_bytes(stored[:place])
        assert read_record(node) is None


def test_record_of_an_earlier_version_is_none(tmp_path):
    node = SimpleNamespace(output_dir=lambda: str(tmp_path))
    for content in ({"files": {}, "seconds": 1}, [], None, {"md5": "0", "content": {}}):
        write_text(tmp_path / RECORD, json.dumps(content))
        assert read_record(node) is None


def test_every_output_file_is_found(tmp_path):
    work, outside = tmp_path / "node", tmp_path / "outside"
    for folder in (work / "made", outside):
        folder.mkdir(parents=True)
    paths = [work / "a", work / "b", work / "made" / "c", outside / "d"]
    for path in paths:
        path.write_text("x")
    (outside / "not ours").write_text("x")
    outputs = _Outputs(
        one=str(paths[0]),
        many=[str(paths[1])],
        named={"x": (str(paths[3]), "a", 3)},
        folder=str(work / "made"),
        number=1.0,
    )
    assert output_files(outputs, str(work)) == sorted(map(str, paths))
    outputs.folder = str(outside)  # a folder that the node did not make
    assert str(outside / "not ours") not in output_files(outputs, str(work))


REFUSED = """Traceback (most recent call last):
  File "x.py", line 3, in work
nipype.pipeline.engine.nodes.NodeExecutionError: Exception raised while executing Node load.

Traceback:
\tTraceback (most recent call last):
\t  File "y.py", line 3, in _run
\t    raise BadInputError(
\talsflow.nodes.errors.BadInputError: sub-01_T1w.nii.gz holds NaN;
\tset them to zero: or export again.

"""


@pytest.mark.parametrize(
    ("text", "state", "cause"),
    [
        (REFUSED, "refused", "sub-01_T1w.nii.gz holds NaN; set them to zero: or export again."),
        ("Traceback:\n  x\nValueError: no\n", "failed", "ValueError: no"),
        ("a\nnumpy.linalg.LinAlgError: singular", "failed", "numpy.linalg.LinAlgError: singular"),
        ("x\nalsflow.nodes.errors.MissingProgramError: no spm", "failed", "no spm"),
        ("WorkerDiedError: The process ended.", "failed", "The process ended."),
        ("KeyError: 'BadInputError'", "failed", "KeyError: 'BadInputError'"),
        ("", "failed", "no message"),
    ],
)
def test_cause_is_the_last_word(text, state, cause):
    assert cause_of(text) == (state, cause)


def test_full_disk_names_file_and_free_space(tmp_path):
    text = "x\nOSError: [Errno 28] No space left on device: '/data/x.nii.gz'"
    state, cause = cause_of(text, [tmp_path / "not" / "there"])
    assert state == "failed"
    assert "/data/x.nii.gz" in cause
    assert f"MB free in {tmp_path}" in cause
