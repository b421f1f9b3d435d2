"""What every step needs: memory, minutes and processes, from ``data/resources.toml``.

How many steps run at one time and what a cluster is asked for follow from this; a result never
does, and neither does the hash of a step.

``python -m alsflow.workflows.resources`` prints docs/resources.md.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

from nipype.pipeline.engine import Workflow

from alsflow.interfaces.bids import Visit
from alsflow.interfaces.func_plan import choose_runs
from alsflow.interfaces.images import open_image
from alsflow.nodes.errors import BadInputError
from alsflow.workflows.names import step_of
from alsflow.workflows.settings import Settings

Sizes = Mapping[str, float]
BASE = "base"  # what is needed whatever the input
MB_PER_GB = 1000


@dataclass(frozen=True)
class Need:
    """What one step needs.

    Attributes
    ----------
    memory_gb : float
        Most memory that its process, and programs that it starts, hold at one time.
    minutes : float
        How long it takes on one processor of a server.
    processes : int
        Processors that it keeps busy.
    threads : bool
        Its library starts threads as it likes, and has to be held to these processors.
    """

    memory_gb: float
    minutes: float
    processes: int = 1
    threads: bool = False


@dataclass(frozen=True)
class Row:
    """One row of the table: shares by what they grow with, at the sizes of `reference`."""

    memory: Mapping[str, float]
    minutes: Mapping[str, float]
    threads: bool = False

    def need(self, sizes: Sizes, threads: int = 1) -> Need:
        """Need at `sizes`, which are relative: 1 is the size of the table, also where unknown."""
        return Need(
            round(_sum(self.memory, sizes), 3),
            round(_sum(self.minutes, sizes), 3),
            max(1, threads) if self.threads else 1,
            self.threads,
        )


def _sum(shares: Mapping[str, float], sizes: Sizes) -> float:
    return sum(share * sizes.get(name, 1.0) for name, share in shares.items())


@cache
def table() -> dict[str, Any]:
    """Content of the table."""
    text = (files("alsflow.workflows") / "data" / "resources.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def rows() -> dict[str, Row]:
    """Row of every step that has one of its own."""
    return {step: Row(**row) for step, row in table()["step"].items()}


@cache
def light() -> Row:
    """Row of all other steps."""
    entry = table()["light"]
    return Row(entry["memory"], entry["minutes"])


def row_of(step: str) -> Row:
    """Row of a step, by its name as `step_of` gives it."""
    return rows().get(step, light())


def expected(node: Any) -> Need:
    """What a node needs: as `apply` has found, else as the table says for inputs of its sizes."""
    found = getattr(node, "need", None)
    return found if isinstance(found, Need) else row_of(step_of(node.fullname)).need({})


def apply(workflow: Workflow, sizes: Sizes, threads: int = 1) -> None:
    """Declare memory and processes of every node of a stream, or of the group level.

    Parameters
    ----------
    workflow : Workflow
        As its builder gives it; the hashes of its nodes stay what they are.
    sizes : mapping
        As `sizes_of` gives them.
    threads : int
        Threads of one process.
    """
    for name in workflow.list_node_names():
        node = workflow.get_node(name)
        node.need = row_of(step_of(f"{workflow.name}.{name}")).need(sizes, threads)
        node._mem_gb, node._n_procs = node.need.memory_gb, node.need.processes


def sizes_of(visit: Visit, settings: Settings) -> dict[str, float]:
    """Sizes of the images of a visit over those of the table; what cannot be read is left out.

    Only headers are read, and nothing that they hold can stop a run: the step that reads the
    image itself refuses it in words.
    """
    found = {
        "t1w": _values(visit.files.get("t1w", ())),
        "dwi": _values(visit.files.get("dwi", ())),
        "bold": _values(_bold(visit, settings)),
    }
    known = table()["sizes"]
    sizes = {name: size / prod(known[name]["shape"]) for name, size in found.items() if size}
    return sizes | _grids(settings)


def _grids(settings: Settings) -> dict[str, float]:
    """Sizes of the grids in template space."""
    edges = {
        "template": settings.anat.template_voxel,
        "map_template": settings.func.template_voxel,
    }
    known = table()["sizes"]
    return {name: (known[name]["voxel"] / edge) ** 3 for name, edge in edges.items()}


def group_sizes(visits: int) -> dict[str, float]:
    """Sizes for the group level of so many visits."""
    return {"people": visits / table()["sizes"]["people"]["count"]}


def _bold(visit: Visit, settings: Settings) -> Sequence[Path]:
    """Functional runs that are taken; all of them where nobody can tell."""
    series = visit.files.get("bold", ())
    with suppress(BadInputError):
        return choose_runs(series, settings.func.task)[0]
    return series


def _values(paths: Sequence[Path]) -> int:
    """Voxels x volumes of some images together; 0 where one cannot be read."""
    try:
        return sum(prod(open_image(path).shape) for path in paths)
    except Exception:  # whatever is wrong with the file, it is said where the file is needed
        return 0


# ---------------------------------------------------------------------------- the page


def page() -> str:
    """Page on memory, time and threads, with the table in it."""
    text = (files("alsflow.workflows") / "data" / "resources.md").read_text(encoding="utf-8")
    parts = {
        "{sizes}": _as_table(("Grows with", "Size in the table", "What it is"), _size_rows()),
        "{table}": _as_table(
            ("Step", "GB", "of it base", "grows with", "min", ""), map(_step_row, rows().items())
        ),
        "{light_count}": str(len(table()["light"]["steps"])),
        "{light_memory}": f"{light().need({}).memory_gb:.2f}",
        "{light_minutes}": f"{light().need({}).minutes:.2f}",
    }
    for name, value in parts.items():
        text = text.replace(name, value)
    return text


def _size_rows() -> Iterator[tuple[str, ...]]:
    for name, known in table()["sizes"].items():
        shape = " x ".join(map(str, known.get("shape", ())))
        size = shape or (f"{known['voxel']:g} mm" if "voxel" in known else str(known["count"]))
        yield f"`{name}`", size, known["about"]


def _step_row(entry: tuple[str, Row]) -> tuple[str, ...]:
    step, row = entry
    need = row.need({})
    grows = sorted({*row.memory, *row.minutes} - {BASE})
    return (
        f"`{step}`",
        f"{need.memory_gb:.2f}",
        f"{row.memory.get(BASE, 0):.2f}",
        ", ".join(grows),
        f"{need.minutes:.2f}",
        "threads" if row.threads else "",
    )


def _as_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Table as Markdown has it."""
    every = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(line)} |".replace("  |", " |") for line in every)


if __name__ == "__main__":
    sys.stdout.write(page())
