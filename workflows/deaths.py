"""How a step died: of memory, or of something else; and the words for it.

A step that died of memory deserves a second chance, alone; any other would die again. Both ways of
computing, on this machine and on a cluster, ask here.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

ADVICE = (
    "give this run more memory (--mem, in Slurm --mem of sbatch too), or leave out the visit with "
    "--participant-label"
)
# What says in a traceback, or in what a program has printed, that memory ran out.
SIGNS = re.compile(
    r"^\s*(?:[\w.]*\.)?(?:_Array)?MemoryError\b"  # Python, numpy
    r"|\bbad_alloc\b"  # C++
    r"|\bbad array new length\b"
    r"|Failed to allocate memory for image|MemoryAllocationError"  # ITK
    r"|\[Errno 12\]|Cannot allocate memory"
    r"|^\s*(?:[\w.]*\.)?ProgramKilledError\b"
    r"|^\s*Return code: (?:-9|137)\b"  # Nipype, of a program and of a shell around one
    r"|\boom[-_]kill|\bOut Of Memory\b|\bOUT_OF_MEMORY\b",  # Slurm
    re.MULTILINE,
)
LACK = "for lack of memory, as the system says"
SURE = re.compile("(?<!most often )for lack of memory")  # this machine and Slurm say it so
LOST = 255  # exit code of a worker whose server has died: nobody knows how it ended
LOG_TAIL = 1 << 16  # bytes of what a worker has printed


@dataclass(frozen=True)
class Death:
    """The end of a step without a result.

    Attributes
    ----------
    text : str
        What is known of it; its last line says it in one sentence.
    memory : bool
        Whether it died of memory.
    peak_mb : float
        Most memory that was seen in use; 0 where nobody looked.
    """

    text: str
    memory: bool
    peak_mb: float = 0.0


def of_memory(text: str) -> bool:
    """Whether a traceback, or what a program has printed, says that memory ran out.

    >>> of_memory("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 3 GiB")
    True
    >>> of_memory("ValueError: the person has no MemoryError")
    False
    """
    return SIGNS.search(text) is not None


def death_of_process(
    code: int | None, kills: int = 0, peak_mb: float = 0, said: str = ""
) -> Death:
    """Tell how the process that computed a step has ended.

    Parameters
    ----------
    code : int
        Exit code; minus the signal for a process that was ended by one.
    kills : int
        Processes that the control group has ended for memory meanwhile, see `machine.oom_kills`.
    peak_mb : float
        Most memory that it was seen to use.
    said : str
        The last that it has printed.
    """
    if code == LOST:  # the server is what the system may have ended for memory
        cause, memory = "was lost: the server of the workers was ended by the system", True
    elif code is None or code >= 0:
        cause, memory = f"ended with code {code} and without a result", of_memory(said)
    else:
        known = -code in list(signal.Signals)
        name = signal.Signals(-code).name if known else str(-code)
        # without a count too: there are guards of memory beside the kernel
        memory = code == -signal.SIGKILL or of_memory(said)
        cause = f"was ended by the system (signal {name})"
        if memory:
            cause += f", {LACK}" if kills or of_memory(said) else (
                "; most often memory ran out: give fewer --nprocs or a machine with more"
            )  # fmt: skip
    text = f"WorkerDiedError: The process that computed this step {cause}."
    return Death(text, memory, peak_mb)


def death_by_error(text: str, peak_mb: float = 0) -> Death:
    """Tell whether an exception, given as its traceback, stands for a lack of memory."""
    return Death(text, of_memory(text), peak_mb)


def last_words(death: Death, declared_gb: float, allowed: str) -> str:
    """Text for a step that has died of memory twice, its last line for the person at the keyboard.

    Parameters
    ----------
    death : Death
        The second one.
    declared_gb : float
        Memory that the table of resources expects.
    allowed : str
        What it had, and by which limit: "8.0 GB (--mem)".
    """
    seen = f"{death.peak_mb / 1000:.1f} GB" if death.peak_mb else "not"
    earlier = death.text.rstrip()
    sure = of_memory(earlier) or SURE.search(earlier) is not None
    what = "Memory ran out" if sure else "It was killed (SIGKILL), most often for lack of memory"
    sentence = (
        f"WorkerDiedError: {what}; this was the second time, while nothing else ran (expected "
        f"{declared_gb:.1f} GB, measured {seen} before the end, allowed {allowed}); {ADVICE}."
    )
    return f"{earlier}\n\n{sentence}\n"


def printed_since(log_file: str | Path, start: int) -> str:
    """What workers have added to a log since it had `start` bytes; the end of it if it is long."""
    try:
        with open(log_file, "rb") as handle:
            end = handle.seek(0, 2)
            handle.seek(max(start, end - LOG_TAIL))
            return handle.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
