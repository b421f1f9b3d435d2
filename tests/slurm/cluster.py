"""A real Slurm cluster on one machine: two nodes, no systemd, no control groups, no database.

    apt-get install -y --no-install-recommends slurm-wlm slurm-client slurmctld slurmd munge
    python tests/slurm/cluster.py          # until Ctrl-C; prints the SLURM_CONF to use

Ports, keys and files are its own, so that several clusters can live at one time. The daemons are
children of the process that starts them and end with it, whatever ends it; what its jobs have left
is ended by `Cluster.stop`, or by the next start if there was no `stop`. Nothing else is touched.
Memory is booked but not enforced (that needs control groups).
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflows" / "helpers"))
from waiting import SLOW, wait_for  # noqa: E402 - also where this is run by hand

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol", "setpriv")
PREFIX = "alsflow-slurm-"
OWNER, PIDS = "owner.json", "pids.json"
CONF = """\
ClusterName=alsflow
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0,defer_batch
DependencyParameters=kill_invalid_depend
ReturnToService=2
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldTimeout=60
SlurmdTimeout=60
MessageTimeout=5
MinJobAge={min_job_age}
MaxArraySize=2001
InactiveLimit=0
KillWait=2
DefMemPerCPU=100
SlurmdParameters=config_overrides
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=ALL MaxTime=5 State=UP
"""


def missing() -> str:
    """Why no cluster can be started here; empty if one can."""
    absent = [name for name in PROGRAMS if _program(name) is None]
    if absent:
        return f"Slurm is not installed here: no {', '.join(absent)}"
    return "" if os.geteuid() == 0 else "only root may start a cluster"


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


class Cluster:
    """A cluster of nodes ``c1``, ``c2`` ... with a partition ``all``, and ``short`` (5 minutes).

    Parameters
    ----------
    nodes : int
        Number of nodes.
    cpus : int
        Processors of each; only booked.
    memory_mb : int
        Memory of each, MB; only booked.
    min_job_age : int
        Seconds for which Slurm remembers an ended job, at least 2.
    """

    def __init__(
        self, nodes: int = 2, cpus: int = 4, memory_mb: int = 16000, min_job_age: int = 36000
    ):
        self.names = [f"c{index + 1}" for index in range(nodes)]
        self._cpus, self._memory, self._age = cpus, memory_mb, min_job_age
        self._daemons: dict[str, subprocess.Popen] = {}

    # -- start and end

    def start(self) -> Cluster:
        """Start everything; returns when all nodes are idle."""
        end_orphans()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.conf = self.folder / "slurm.conf"
        self.folder.chmod(0o755)
        owner = {"pid": os.getpid(), "born": _born(os.getpid())}
        (self.folder / OWNER).write_text(json.dumps(owner))
        atexit.register(self.stop)
        try:
            self._write_conf()
            self._start_munge()
            self.start_controller("-c")
            for name in self.names:
                self.start_node(name)
            wait_for(lambda: self.node_states().count("idle") == len(self.names),
                     problem="the nodes do not become idle")  # fmt: skip
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End what was started, and the processes of its jobs."""
        atexit.unregister(self.stop)
        if self.folder.exists():
            for name in reversed([*self._daemons]):
                self._end(name)
            _end_jobs(self.conf)
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start_controller(self, *options: str) -> None:
        """Start the controller; ``-c`` forgets all jobs."""
        self._start("slurmctld", "slurmctld", "-D", "-f", str(self.conf), *options)
        wait_for(self.answers, problem="the controller does not answer")

    def stop_controller(self) -> None:
        """End the controller; jobs go on."""
        self._end("slurmctld")

    def start_node(self, name: str) -> None:
        """Start the daemon of a node."""
        (self.folder / f"spool.{name}").mkdir(exist_ok=True)
        self._start(name, "slurmd", "-D", "-N", name, "-f", str(self.conf))

    def stop_node(self, name: str) -> None:
        """End the daemon of a node; its jobs go on."""
        self._end(name)

    def drain(self, *names: str) -> None:
        """Let no new job start on nodes."""
        for name in names or self.names:
            self.command("scontrol", "update", f"nodename={name}", "state=drain", "reason=test")

    def resume(self, *names: str) -> None:
        """Let jobs start again on nodes."""
        for name in names or self.names:
            self.command("scontrol", "update", f"nodename={name}", "state=resume")

    def end_time(self, job: str) -> None:
        """Let the time of a running job be over."""

        def is_taken() -> bool:  # not in the second in which the job has started
            with suppress(RuntimeError):
                self.command("scontrol", "update", f"jobid={job}", "EndTime=now")
                return True
            return False

        wait_for(is_taken, problem="Slurm does not take the end of the job")

    # -- questions

    @property
    def environment(self) -> dict[str, str]:
        """Environment in which Slurm's programs talk to this cluster."""
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    def command(self, *command: str, check: bool = True) -> str:
        """Standard output of a program that talks to this cluster."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True,
                              timeout=SLOW)  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def answers(self) -> bool:
        """Whether the controller does."""
        return "UP" in self.command("scontrol", "ping", check=False).partition("\n")[0]

    def node_states(self) -> list[str]:
        """State of each node."""
        return self.command("sinfo", "-h", "-p", "all", "-N", "-o", "%T", check=False).split()

    def jobs(self) -> list[tuple[str, str, str]]:
        """Number, name and state of every job that is not forgotten, in order of submission."""
        text = self.command("squeue", "-h", "-r", "-t", "all", "-o", "%i|%j|%T", "-S", "i")
        return [tuple(line.split("|")) for line in text.splitlines()]  # type: ignore[misc]

    def running(self) -> list[str]:
        """Numbers of the jobs that are pending or running."""
        text = self.command("squeue", "-h", "-r", "-o", "%i")
        return text.split()

    def clear(self) -> None:
        """Cancel every job and wait until none is left in the queue."""
        for number in self.running():
            self.command("scancel", number, check=False)
        wait_for(lambda: not self.running(), problem="jobs do not end")

    def processes(self, job: str) -> list[int]:
        """Processes of a job, the oldest first."""
        wanted = (f"SLURM_JOB_ID={job}", f"SLURM_CONF={self.conf}")
        return sorted(pid for pid in _pids() if set(wanted) <= set(_environment(pid)))

    # -- daemons

    def _write_conf(self) -> None:
        (self.folder / "state").mkdir(mode=0o700)
        ports = free_ports(len(self.names) + 1)
        host = socket.gethostname().partition(".")[0]
        lines = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
            f"CPUs={self._cpus} RealMemory={self._memory} State=UNKNOWN"
            for name, port in zip(self.names, ports[1:], strict=True)
        ]
        text = CONF.format(host=host, folder=self.folder, ports=ports, min_job_age=self._age,
                           nodes="\n".join(lines))  # fmt: skip
        self.conf.write_text(text)

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        folder.mkdir(mode=0o755)
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        self._start("munged", "munged", "--foreground", "--force", "--num-threads=2",
                    f"--key-file={key}", f"--socket={folder}/socket",
                    f"--pid-file={folder}/pid", f"--log-file={folder}/log",
                    f"--seed-file={folder}/seed")  # fmt: skip
        wait_for((folder / "socket").exists, problem="munge does not start")

    def _start(self, name: str, program: str, *arguments: str) -> None:
        """Start a daemon that ends with this process."""
        command = ["setpriv", "--pdeathsig", "TERM", str(_program(program)), *arguments]
        with (self.folder / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out,
                                                   stderr=out, env=self.environment)  # fmt: skip
        pids = {key: [d.pid, _born(d.pid)] for key, d in self._daemons.items()}
        (self.folder / PIDS).write_text(json.dumps(pids))

    def _end(self, name: str) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is None:
            return
        daemon.terminate()
        try:
            daemon.wait(5)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def free_ports(number: int) -> list[int]:
    """Find ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    for entry in sockets:
        entry.bind(("127.0.0.1", 0))
    ports = [entry.getsockname()[1] for entry in sockets]
    for entry in sockets:
        entry.close()
    return ports


# ---------------------------------------------------------------------------- processes


def end_orphans() -> None:
    """End what is left of clusters whose owner is gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError, ValueError, KeyError):
            owner = json.loads((folder / OWNER).read_text())
            if _born(owner["pid"]) == owner["born"]:
                continue
            for pid, born in json.loads((folder / PIDS).read_text()).values():
                if _born(pid) == born:
                    os.kill(pid, signal.SIGKILL)
            _end_jobs(folder / "slurm.conf")
            shutil.rmtree(folder, ignore_errors=True)


def _end_jobs(conf: Path) -> None:
    """End the processes that jobs of the cluster of `conf` have left."""
    for pid in _pids():
        environment = _environment(pid)
        of_job = any(entry.startswith("SLURM_JOB_ID=") for entry in environment)
        if (of_job and f"SLURM_CONF={conf}" in environment) or _holds_files_of(pid, conf.parent):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _holds_files_of(pid: int, folder: Path) -> bool:
    """Whether a process has files of `folder` open, as the attendants of jobs have."""
    for entry in (Path("/proc") / str(pid) / "fd").glob("*"):
        with suppress(OSError):
            if os.readlink(entry).startswith(f"{folder}{os.sep}"):
                return True
    return False


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _environment(pid: int) -> Sequence[str]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ()


def _born(pid: int) -> str:
    """When a process was started, in the system's ticks; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


if __name__ == "__main__":
    with Cluster() as _cluster:
        print(f"export SLURM_CONF={_cluster.conf}", flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()
