"""``alsflow-simulate``: make a cohort whose truth is known."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence

os.environ.setdefault("NO_ET", "1")  # Nipype asks the network for its latest version without it

from alsflow import __version__
from alsflow.interfaces.simulate import write_cohort
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.simulate.cohort import (
    DEFAULT_EFFECTS,
    DEFAULT_MRS_EFFECTS,
    DEFAULT_NETWORK_EFFECTS,
    DEFAULT_TRACT_EFFECTS,
    Design,
    DiffusionDesign,
    FunctionalDesign,
)
from alsflow.nodes.simulate.spectroscopy import MrsDesign
from alsflow.workflows.signals import ending_politely

EX_USAGE = 64
EX_CANTCREAT = 73
MODALITIES = ("anat", "dwi", "func", "mrs")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


def _effect(text: str) -> tuple[str, float]:
    measure, equals, change = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return measure, float(change)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not MEASURE=CHANGE, such as gmv_precentral_both=-0.12"
        ) from None


def _voxel(text: str) -> tuple[float, float, float]:
    try:
        edges = [float(part) for part in re.split("x", text)]
    except ValueError:
        edges = []
    if len(edges) not in (1, 3):
        raise argparse.ArgumentTypeError(f"{text!r} is not a voxel size such as 1 or 1x1x1.5")
    x, y, z = edges * 3 if len(edges) == 1 else edges
    return x, y, z


def parser() -> argparse.ArgumentParser:
    """Command line of ``alsflow-simulate``."""
    default = ", ".join(f"{name}={change}" for name, change in DEFAULT_EFFECTS.items())
    tracts = ", ".join(f"{name}={change}" for name, change in DEFAULT_TRACT_EFFECTS.items())
    networks = ", ".join(f"{name}={change}" for name, change in DEFAULT_NETWORK_EFFECTS.items())
    ratios = ", ".join(f"{name}={change}" for name, change in DEFAULT_MRS_EFFECTS.items())
    made = _Parser(
        prog="alsflow-simulate",
        description="Write a simulated multi-centre cohort of ALS and controls as a BIDS dataset,"
        " with its truth in derivatives/truth.",
    )
    made.add_argument("out", metavar="OUT", help="folder to make; must not hold anything")
    made.add_argument("--n-als", type=int, default=12, metavar="N", help="people with ALS (12)")
    made.add_argument("--n-controls", type=int, default=12, metavar="N", help="controls (12)")
    made.add_argument("--sites", type=int, default=3, metavar="N", help="scanning sites (3)")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (0)")
    made.add_argument(
        "--effect",
        type=_effect,
        nargs="+",
        action="extend",
        metavar="MEASURE=CHANGE",
        help="mean relative change in people with ALS of a regional grey-matter volume, of the"
        " anisotropy of a tract, of the connectivity of the precentral gyri, or of a ratio of"
        f" metabolites; replaces the default, {default} and, with dwi, {tracts}, with func,"
        f" {networks}, with mrs, {ratios}; MEASURE=0 puts in nothing",
    )
    made.add_argument(
        "--modalities",
        nargs="+",
        choices=MODALITIES,
        default=["anat"],
        help="what is scanned; anat always is (anat)",
    )
    made.add_argument(
        "--dwi-directions", type=int, default=30, metavar="N", help="diffusion directions (30)"
    )
    made.add_argument(
        "--dwi-voxel",
        type=_voxel,
        nargs="+",
        default=[(2.5, 2.5, 2.5)],
        metavar="MM",
        help="voxel size of the diffusion series, as --resolution (2.5)",
    )
    made.add_argument(
        "--func-volumes", type=int, default=192, metavar="N", help="resting-state volumes (192)"
    )
    made.add_argument(
        "--func-tr", type=float, default=2.2, metavar="S", help="their repetition time, s (2.2)"
    )
    made.add_argument(
        "--func-voxel",
        type=_voxel,
        nargs="+",
        default=[(3.5, 3.5, 3.5)],
        metavar="MM",
        help="voxel size of the resting-state series, as --resolution (3.5)",
    )
    made.add_argument(
        "--mrs-failures",
        type=float,
        default=MrsDesign.failures,
        metavar="SHARE",
        help=f"share of the spectra that cannot be used ({MrsDesign.failures:g})",
    )
    made.add_argument(
        "--resolution",
        type=_voxel,
        nargs="+",
        default=[(1.0, 1.0, 1.0)],
        metavar="MM",
        help="voxel size, such as 1 or 1x1x1.5; several are given to the sites in turn (1)",
    )
    made.add_argument("--truth-maps", action="store_true", help="write true tissue maps as well")
    made.add_argument("--n-procs", type=int, default=1, metavar="N", help="processes (1)")
    made.add_argument("--version", action="version", version=f"alsflow {__version__}")
    return made


def _effects(options: argparse.Namespace) -> dict[str, float]:
    """Effects that are asked for, or the default ones of the modalities."""
    tracts = DEFAULT_TRACT_EFFECTS if "dwi" in options.modalities else {}
    networks = DEFAULT_NETWORK_EFFECTS if "func" in options.modalities else {}
    ratios = DEFAULT_MRS_EFFECTS if "mrs" in options.modalities else {}
    return dict(options.effect or DEFAULT_EFFECTS | tracts | networks | ratios)


def _sizes(voxels: Sequence[tuple[float, float, float]]) -> list[str]:
    return ["x".join(f"{edge:g}" for edge in voxel) for voxel in voxels]


def _command(options: argparse.Namespace) -> str:
    """Command that makes the same dataset in a folder called OUT."""
    words = ["alsflow-simulate", "OUT", "--n-als", options.n_als, "--n-controls"]
    words += [options.n_controls, "--sites", options.sites, "--seed", options.seed]
    words += ["--effect", *(f"{name}={change:g}" for name, change in _effects(options).items())]
    words += ["--resolution", *_sizes(options.resolution)]
    further = [name for name in MODALITIES[1:] if name in options.modalities]
    if further:
        words += ["--modalities", "anat", *further]
    if "dwi" in further:
        words += ["--dwi-directions", options.dwi_directions]
        words += ["--dwi-voxel", *_sizes(options.dwi_voxel)]
    if "func" in further:
        words += ["--func-volumes", options.func_volumes, "--func-tr", f"{options.func_tr:g}"]
        words += ["--func-voxel", *_sizes(options.func_voxel)]
    if "mrs" in further:
        words += ["--mrs-failures", f"{options.mrs_failures:g}"]
    words += ["--truth-maps"] if options.truth_maps else []
    return shlex.join(str(word) for word in words)


def requested(options: argparse.Namespace) -> Design:
    """Design that parsed options ask for."""
    dwi = DiffusionDesign(options.dwi_directions, voxels=tuple(options.dwi_voxel))
    func = FunctionalDesign(options.func_volumes, options.func_tr, tuple(options.func_voxel))
    return Design(
        n_patients=options.n_als,
        n_controls=options.n_controls,
        n_sites=options.sites,
        seed=options.seed,
        effects=_effects(options),
        voxels=tuple(options.resolution),
        dwi=dwi if "dwi" in options.modalities else None,
        func=func if "func" in options.modalities else None,
        mrs=MrsDesign(options.mrs_failures) if "mrs" in options.modalities else None,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = parser().parse_args(argv)
    design = requested(options)
    total = design.n_patients + design.n_controls
    try:
        with ending_politely():
            steps = write_cohort(
                options.out, design, _command(options), max(options.n_procs, 1), options.truth_maps
            )
            for count, label in enumerate(steps, start=1):
                print(f"sub-{label} ({count}/{total})", flush=True)
    except BadInputError as error:
        print(f"alsflow-simulate: {error}", file=sys.stderr)
        return EX_USAGE
    except OSError as error:
        print(f"alsflow-simulate: cannot write {options.out}: {error}", file=sys.stderr)
        return EX_CANTCREAT
    except KeyboardInterrupt:
        print("alsflow-simulate: interrupted; nothing was written.", file=sys.stderr)
        return 1
    return 0
