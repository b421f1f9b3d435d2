"""Spellings, settings and every exit code of the command line."""

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib

import pytest

from alsflow import cli
from alsflow.workflows import exits
from alsflow.workflows.settings import Settings


def settings_of(*options, **files):
    argv = cli.canonical(["in", "out", "participant", *map(str, options)])
    return cli.make_settings(cli.parser().parse_args(argv))


def snapshot(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(folder.rglob("*"))}


# ---------------------------------------------------------------------------- spellings


@pytest.mark.parametrize(
    "option",
    [
        "--participant-label",
        "--participant_label",
        "--subject-label",
        "--subject_label",
    ],
)
def test_spellings_of_participants(option):
    assert settings_of(option, "sub-01", "02", "01").participant_label == ("01", "02")


@pytest.mark.parametrize("option", ["--session-label", "--session_id", "--session-id"])
def test_spellings_of_sessions(option):
    assert settings_of(option, "ses-a", "b").session_label == ("a", "b")


@pytest.mark.parametrize(
    "option", ["--nprocs", "--nthreads", "--n-cpus", "--n_cpus", "--n_cpus=3"]
)
def test_spellings_of_processes(option):
    assert settings_of(*([option] if "=" in option else [option, 3])).nprocs == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [("16G", 16000), ("16000M", 16000), ("16000", 16000), ("1.5gb", 1500), ("2 GiB", 2000)],
)
def test_memory_is_in_megabytes(text, expected):
    assert settings_of("--mem", text).mem_mb == expected
    assert settings_of("--mem_mb", text).mem_mb == expected


@pytest.mark.parametrize("text", ["sub-01\n02\n\n", "participant_id\tage\nsub-01\t60\n02\t61"])
def test_labels_from_a_file(tmp_path, text):
    file = tmp_path / "people.tsv"
    file.write_text(text)
    assert settings_of("--participant-label", file, "sub-03").participant_label == (
        "01",
        "02",
        "03",
    )


def test_notrack_is_accepted():
    assert isinstance(settings_of("--notrack"), Settings)


@pytest.mark.parametrize("level", ["subject", "dataset"])
def test_other_names_of_levels(level):
    arguments = cli.parser().parse_args(["in", "out", level])
    expected = {"subject": "participant", "dataset": "group"}[level]
    assert cli.make_settings(arguments).analysis_level == expected


# ---------------------------------------------------------------------------- settings


def test_command_line_over_file_over_profile_over_default(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('random_seed = 7\nnprocs = 5\n[anat]\nsubcortical_atlas = "x"\n')
    found = settings_of("--profile", "taiwan", "--config-file", file, "--nprocs", 2)
    assert (found.nprocs, found.random_seed) == (2, 7)
    assert found.anat.subcortical_atlas == "x"
    assert found.profile == "taiwan"
    assert settings_of("--profile", "taiwan").anat.subcortical_atlas == "cobra"
    assert settings_of("--profile", "calsnic").group.covariates == ()
    assert settings_of().group.covariates == ("age", "sex")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[anat]\nsmothing = 6.0", ["anat.smothing", "'smoothing'"]),
        ("nproc = 2", ["nproc", "'nprocs'"]),
        ('[anat]\nengine = "spm"', ["anat.engine", "'spm12'"]),
        ('[anat]\nsmoothing = "wide"', ["anat.smoothing", "a number"]),
        ("nprocs = 0", ["nprocs", "below 1"]),
        ("nprocs = true", ["nprocs", "whole number"]),
        ("nprocs = 1.5", ["nprocs", "whole number"]),
        ("[group]\ncovariates = 3", ["group.covariates"]),
        ("anat = 3", ["[anat]"]),
        ("[anat\n", ["not valid TOML"]),
        ('profile = "tawian"', ["'taiwan'"]),
        ("[bids_filters.t1]\nrun = 1", ["t1", "'t1w'"]),
    ],
)
def test_refused_settings(tmp_path, text, words):
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(exits.StopRunError) as caught:
        settings_of("--config-file", file)
    assert caught.value.code == 64
    for word in words:
        assert word in str(caught.value)


def test_saved_settings_give_the_same_run_again(toy):
    toy.add("sub-01")
    filters = toy.root / "filter.json"
    filters.write_text(json.dumps({"t1w": {"run": None, "acq": ["a", "b"], "ses": "*"}}))
    given = ["--profile", "calsnic", "--bids-filter-file", filters, "--random-seed", 3]
    first = settings_of(*given, "--skip-bids-validation", "-w", toy.work)
    from alsflow.workflows.settings import as_toml

    file = toy.root / "saved.toml"
    file.write_text(as_toml(first))
    assert settings_of("--config-file", file) == first
    assert first.bids_filters == {
        "t1w": {"run": "Query.NONE", "acquisition": ["a", "b"], "session": "Query.ANY"}
    }


def test_run_saves_its_settings_and_describes_itself(toy):
    toy.add("sub-01")
    toy.run("--random-seed", 5)
    [saved] = (toy.out / "logs").glob("participant-*.toml")
    content = tomllib.loads(saved.read_text())
    assert content["random_seed"] == 5
    assert content["anat"]["smoothing"] == 8.0
    description = json.loads((toy.out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "alsflow"
    assert (toy.out / ".bidsignore").is_file()
    assert toy.run("--random-seed", 5) == 0
    assert len(list((toy.out / "logs").glob("participant-*.toml"))) == 1


# ---------------------------------------------------------------------------- speed


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_answers_at_once(option):
    code = (
        "import sys; from alsflow import cli\n"
        f"try: cli.main(['{option}'])\n"
        "finally: print('HEAVY', sorted({m.split('.')[0] for m in sys.modules} & "
        "{'numpy', 'nipype', 'bids', 'pandas', 'rich'}))"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert "HEAVY []" in done.stdout
    assert time.monotonic() - start < 2  # 0.1 s on an idle machine


# ---------------------------------------------------------------------------- exit codes


def test_streams_of_settings_and_of_the_graph_are_the_same():
    from alsflow.workflows import participant, settings

    assert tuple(participant.STREAMS) == tuple(participant.REQUIRES) == settings.STREAMS


def test_usage_is_64(toy, capsys):
    toy.add("sub-01")
    assert toy.run("--no-such-option") == 64
    assert toy.run("--mem", "lots") == 64
    assert toy.run("--modalities", "anatt") == 64
    assert "'anat'" in capsys.readouterr().err
    assert toy.run("--derivatives", "precomputed") == 64
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 64


def test_unknown_level_is_17(toy, capsys):
    toy.add("sub-01")
    assert toy.run(level="participants") == 17
    assert "'participant'" in capsys.readouterr().err


def test_no_dataset_is_16(toy, capsys):
    toy.add("sub-01")
    (toy.bids / "dataset_description.json").unlink()
    assert toy.run(validate=True) == 16
    assert "dataset_description.json" in capsys.readouterr().err
    assert toy.run() == 0  # a warning when validation is skipped
    assert "dataset_description.json" in capsys.readouterr().err
    toy.bids.rename(toy.root / "elsewhere")
    assert toy.run() == 16
    assert not (toy.root / "bids").exists()


def misname(path):
    """A file beside `path` whose name is none of BIDS."""
    path.with_name(path.name.replace("T1w", "T1weighted")).write_bytes(path.read_bytes())


def test_invalid_bids_is_16_only_where_the_run_reads(toy, capsys):
    misname(toy.add("sub-01"))
    assert toy.run(validate=True) == 16
    message = capsys.readouterr().err
    assert "sub-01_T1weighted.nii.gz" in message
    assert "--skip-bids-validation" in message
    assert not toy.out.exists()


def test_valid_bids_passes_the_validator(toy, capsys):
    import nibabel as nib
    import numpy as np

    path = toy.add("sub-01")
    nib.save(nib.Nifti1Image(np.zeros((7, 8, 9), np.int16), np.eye(4)), path)
    misname(toy.add("sub-02"))  # not valid, and not selected
    assert toy.run("--dry-run", "--participant-label", "01", validate=True) == 0
    captured = capsys.readouterr()
    assert "does not" in captured.err
    assert "sub-01_T1w.nii.gz" in captured.out


def test_validator_needs_no_network(toy):
    """In a network name space of its own there is not even a loopback device."""
    alone = ["unshare", "-rn"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"]).returncode:
        pytest.skip("no network name spaces here")
    misname(toy.add("sub-01"))
    code = (
        "import sys; from pathlib import Path; from alsflow.interfaces.bids import validate\n"
        "print(validate(Path(sys.argv[1]), ['01'], ['anat']))"
    )
    command = [*alone, sys.executable, "-c", code, str(toy.bids)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "sub-01_T1weighted.nii.gz" in done.stdout, done.stderr


def test_table_and_folders_that_differ_are_told_and_no_obstacle(toy, capsys):
    import nibabel as nib
    import numpy as np

    path = toy.add("sub-01")
    nib.save(nib.Nifti1Image(np.zeros((7, 8, 9), np.int16), np.eye(4)), path)
    (toy.bids / "participants.tsv").write_text("participant_id\nsub-02\n")
    assert toy.run("--dry-run", validate=True) == 0
    message = capsys.readouterr().err
    assert "does not list sub-01" in message
    assert "lists sub-02" in message


def test_unknown_participant_or_session_is_18(toy, capsys):
    toy.add("sub-01/ses-a")
    assert toy.run("--participant-label", "1") == 18
    assert "did you mean sub-01" in capsys.readouterr().err
    assert toy.run("--session-label", "b") == 18
    assert "ses-a" in capsys.readouterr().err
    assert not toy.out.exists()


def test_missing_t1w_is_66_and_others_still_run(toy):
    toy.add("sub-01")
    toy.add("sub-02").unlink()
    assert toy.run() == 66
    assert toy.status() == {"sub-01": "done", "sub-02": "absent"}
    assert "T1w" in toy.reasons()["sub-02"]
    assert toy.run("--participant-label", "01") == 0  # the other row stays
    assert toy.status() == {"sub-01": "done", "sub-02": "absent"}


def test_two_t1w_runs_are_65_and_the_filter_mends_it(toy):
    toy.add("sub-01", entities="_run-1")
    toy.add("sub-01", entities="_run-02")
    toy.add("sub-02", entities="_run-1")
    assert toy.run() == 65
    reason = toy.reasons()["sub-01"]
    assert "sub-01_run-1_T1w.nii.gz" in reason
    assert "sub-01_run-02_T1w.nii.gz" in reason
    assert "--bids-filter-file" in reason
    filters = toy.root / "filter.json"
    filters.write_text('{"t1w": {"run": 1}, "bold": {"task": "rest"}}')
    assert toy.run("--bids-filter-file", filters) == 0
    assert toy.status() == {"sub-01": "done", "sub-02": "done"}
    filters.write_text('{"t1w": {"run": 2}}')
    assert toy.run("--bids-filter-file", filters) == 66
    assert toy.status() == {"sub-01": "done", "sub-02": "absent"}


def test_filters_that_are_wrong(toy, capsys):
    toy.add("sub-01", entities="_run-1")
    filters = toy.root / "filter.json"
    for content, words in [
        ('{"t1": {}}', "did you mean 't1w'"),
        ('{"t1w": {"aquisition": "x"}}', "did you mean 'acquisition'"),
        ("{", "not valid JSON"),
        ("[]", "one object"),
        ('{"t1w": 3}', "must be an object"),
    ]:
        filters.write_text(content)
        assert toy.run("--bids-filter-file", filters) == 64
        assert words in capsys.readouterr().err
    filters.write_text('{"t1w": {"run": 3}}')
    assert toy.run("--bids-filter-file", filters) == 18
    assert "sub-01_run-1_T1w.nii.gz" in capsys.readouterr().err


def test_verbose_names_selected_and_rejected_files(toy, capsys):
    toy.add("sub-01", entities="_run-1"), toy.add("sub-01", entities="_run-2")
    filters = toy.root / "filter.json"
    filters.write_text('{"t1w": {"run": 1}}')
    toy.run("--bids-filter-file", filters, "-v", "--dry-run")
    lines = capsys.readouterr().err.splitlines()
    selected = [line for line in lines if line.startswith("selected")]
    rejected = [line for line in lines if line.startswith("rejected")]
    assert len(selected) == len(rejected) == 1
    assert "run-1" in selected[0]
    assert "run-2" in rejected[0]
    assert "run = 1" in rejected[0]


def test_output_inside_the_input_is_73(toy, capsys):
    toy.add("sub-01")
    before = snapshot(toy.bids)
    for out in (toy.bids, toy.bids / "out", toy.bids / "derivatives", toy.bids / "sub-01" / "x"):
        toy.out = out
        assert toy.run() == 73
        assert "inside the dataset" in capsys.readouterr().err
    toy.out = toy.root / "out"
    toy.work = toy.bids / "work"
    assert toy.run() == 73
    assert snapshot(toy.bids) == before
    toy.work, toy.out = toy.root / "work", toy.bids / "derivatives" / "alsflow"
    assert toy.run() == 0


def test_output_over_a_raw_dataset_is_73(toy):
    toy.add("sub-01")
    toy.out.mkdir()
    (toy.out / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    assert toy.run() == 73


def test_output_that_cannot_be_written_is_73(toy, capsys):
    """A file where a folder should be: root may write into any folder."""
    toy.add("sub-01")
    toy.out.write_text("in the way")
    assert toy.run() == 73
    assert str(toy.out) in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_output_is_73(toy):
    toy.add("sub-01")
    toy.out.mkdir(mode=0o500)
    assert toy.run() == 73


@pytest.mark.parametrize(("name", "code"), [("out/status.tsv", 73), ("bids/sub-01", 16)])
def test_missing_permission_is_a_sentence(toy, monkeypatch, capsys, name, code):
    from alsflow.workflows.manifest import Manifest

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(toy.root / name))

    monkeypatch.setattr(Manifest, "write", refuse)
    toy.add("sub-01")
    assert toy.run() == code
    assert name in capsys.readouterr().err


def test_dry_run_writes_nothing(toy, capsys):
    toy.add("sub-01")
    toy.add("sub-02").unlink()
    before = snapshot(toy.root)
    assert toy.run("--dry-run") == 66
    assert snapshot(toy.root) == before
    table = capsys.readouterr().out
    assert "will run" in table
    assert "missing" in table
    assert "1 of 2" in table


def test_person_not_in_the_table_is_told(toy, capsys):
    toy.add("sub-01")
    (toy.bids / "participants.tsv").write_text("participant_id\nsub-02\n")
    assert toy.run() == 0
    assert "does not list sub-01" in capsys.readouterr().err


def test_group_without_results_is_66(toy, capsys):
    toy.add("sub-01")
    assert toy.run(level="group") == 66
    assert "participant level" in capsys.readouterr().err


def test_input_is_never_written(toy):
    toy.add("sub-01"), toy.add("sub-02", "crash")
    before = snapshot(toy.bids)
    toy.run()
    assert snapshot(toy.bids) == before


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (["done"], 0),
        (["done", "absent"], 66),
        (["refused", "absent", "done"], 65),
        (["failed", "refused", "absent"], 1),
        (["flagged", "done"], 1),
        (["not-run", "refused"], 1),
        ([], 1),
    ],
)
def test_exit_code_follows_from_the_states_alone(states, code):
    from alsflow.workflows.manifest import exit_code

    assert exit_code(states) == code
