"""The text of batch scripts: the shell and sbatch see whatever is in a path or a name whole."""

import subprocess
import sys

import pytest

from alsflow.workflows.settings import SettingsError, SlurmSettings
from alsflow.workflows.slurm.script import (
    JobNeed,
    batch_script,
    check_options,
    in_container,
    plain_path,
)

NASTY = "a b'c\"d$HOME`x`;e"


def lines_of(slurm=None, need=None, command=("true",)):
    return batch_script(command, slurm or SlurmSettings(), need or JobNeed("n", "/l")).splitlines()


def test_everything_of_the_settings_is_there():
    slurm = SlurmSettings(partition="long", account="my-org", qos="high", sbatch=("--exclude=n7",))
    need = JobNeed("sub-01", "/logs/%j", 3, 2500, 90, array="1-9%2", dependency="afterok:7",
                   options=("--no-requeue",))  # fmt: skip
    directives = [line for line in lines_of(slurm, need) if line.startswith("#SBATCH")]
    assert [line.removeprefix("#SBATCH ") for line in directives] == [
        "--job-name=sub-01", "--output=/logs/%j", "--open-mode=append", "--partition=long",
        "--account=my-org", "--qos=high", "--nodes=1", "--ntasks=1", "--cpus-per-task=3",
        "--mem=2500M", "--time=90", "--array=1-9%2", "--dependency=afterok:7", "--no-requeue",
        "--exclude=n7",
    ]  # fmt: skip


def test_what_is_not_set_is_not_said():
    text = "\n".join(lines_of())
    for word in ("partition", "account", "qos", "time", "array", "module"):
        assert f"--{word}" not in text


def test_command_and_environment_reach_the_program_whole(tmp_path):
    show = "import os,sys; print(repr([sys.argv[1:], os.environ['X'], os.environ['NO_ET']]))"
    need = JobNeed("n", "/l", environment={"X": NASTY})
    script = tmp_path / "a.sh"
    script.write_text(batch_script([sys.executable, "-c", show, NASTY], SlurmSettings(), need))
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == repr([[NASTY], NASTY, "1"]) + "\n"


def test_setup_lines_run_first_and_must_succeed(tmp_path):
    script = tmp_path / "a.sh"
    slurm = SlurmSettings(setup=("x=5", "if true; then", "  export Y=$x", "fi"))
    script.write_text(batch_script(["printenv", "Y"], slurm, JobNeed("n", "/l")))
    assert subprocess.run(["bash", str(script)], capture_output=True).stdout == b"5\n"
    script.write_text(batch_script(["echo", "ran"], SlurmSettings(setup=("false",)),
                                   JobNeed("n", "/l")))  # fmt: skip
    done = subprocess.run(["bash", str(script)], capture_output=True)
    assert done.returncode
    assert done.stdout == b""


def test_missing_module_ends_the_job(tmp_path):
    script = tmp_path / "a.sh"
    slurm = SlurmSettings(modules=("python/3.11", "no such"))
    script.write_text(
        'module() { echo "$@"; return 1; }\n'
        + batch_script(["echo", "ran"], slurm, JobNeed("n", "/l"))
    )
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == "load python/3.11 no such\n"
    assert "a module is missing" in done.stderr


@pytest.mark.parametrize(
    "option",
    [
        "--array=1-2",
        "--arr=1-2",
        "-a 1-2",
        "-a1-2",
        "--wrap=x",
        "-J x",
        "--wait",
        "--output=/x",
        "-o/x",
    ],
)
def test_options_that_would_lose_the_jobs(option):
    with pytest.raises(SettingsError, match="sets this option itself"):
        check_options([option])


@pytest.mark.parametrize("option", ["partition=x", "", "x"])
def test_what_is_no_option(option):
    with pytest.raises(SettingsError, match="no option of sbatch"):
        check_options([option])


def test_options_of_the_user():
    slurm = SlurmSettings(sbatch=("--comment=two words", "-x n1", "--account=my-org"))
    assert lines_of(slurm)[-5:-2] == [
        "#SBATCH --comment='two words'", "#SBATCH -x n1", "#SBATCH --account=my-org",
    ]  # fmt: skip
    with pytest.raises(SettingsError, match="line break"):
        lines_of(SlurmSettings(account="a\nb"))


def test_no_container_changes_nothing():
    assert in_container(["x", "y"], SlurmSettings(), ["/a"]) == ["x", "y"]


def test_containers(tmp_path):
    slurm = SlurmSettings(container="/images/als flow.sif", binds=("/scratch", "/a:/b:ro"))
    words = in_container(["python", "-m", "x"], slurm, ["/out", "/out"], ["/bids", "/out"],
                         {"NO_ET": "1"})  # fmt: skip
    assert words == [
        "apptainer", "exec", "--cleanenv", "--bind", "/out:/out", "--bind", "/bids:/bids:ro",
        "--bind", "/scratch", "--bind", "/a:/b:ro", "--env", "NO_ET=1", "/images/als flow.sif",
        "python", "-m", "x",
    ]  # fmt: skip
    slurm = SlurmSettings(container="alsflow:1", runtime="podman", binds=("/scratch",))
    assert in_container(["python", "-m", "x"], slurm, ["/out"]) == [
        "podman", "run", "--rm", "--network", "none", "--user", "0:0", "--volume", "/out:/out",
        "--volume", "/scratch:/scratch", "--entrypoint", "python", "alsflow:1", "-m", "x",
    ]  # fmt: skip


def test_places_that_a_container_would_cut_in_two():
    with pytest.raises(SettingsError, match="rename it"):
        in_container(["x"], SlurmSettings(container="i"), [], ["/data/a:b"])


def test_signs_of_slurm_in_a_path():
    assert plain_path("/a%j/b") == "/a%%j/b"


@pytest.mark.parametrize("runtime", ["apptainer", "podman"])
def test_output_inside_the_dataset_is_not_hidden_by_it(runtime):
    """Binds are mounted in their order: the folder outside comes first."""
    slurm = SlurmSettings(container="image", runtime=runtime)
    words = in_container(["x"], slurm, ["/bids/derivatives/out"], ["/bids"])
    places = [word for word in words if word.startswith("/")]
    assert places == ["/bids:/bids:ro", "/bids/derivatives/out:/bids/derivatives/out"]
