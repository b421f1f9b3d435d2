"""The settings of one run: frozen, made once by the command line, passed down as keywords.

They come from four places, each overriding the one before: the defaults below, a profile, a
configuration file (TOML, the field names below as keys) and the command line.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from alsflow.nodes.func.seeds import DEFAULT_SEEDS

AnatEngine = Literal["cat", "cat12", "spm12", "precomputed"]
Normalisation = Literal["greedy", "shooting"]
Level = Literal["participant", "group"]
Drift = Literal["auto", "linear", "quadratic", "none"]
Eddy = Literal["linear", "quadratic", "none"]
Distortion = Literal["auto", "none"]
TensorFit = Literal["WLS", "OLS", "RESTORE"]
DummyScans = int | Literal["auto"]
Dedupe = Literal["error", "exact"]
Check = Literal["bvecs"]  # what --force goes on in spite of
Plugin = Literal["workers", "slurm"]  # processes of this machine, or jobs of a cluster
KeepWork = Literal["all", "failed", "none"]
Runtime = Literal["apptainer", "singularity", "podman", "docker"]
GroupAfter = Literal["any", "ok"]

# What --modalities may name, in the order in which they build on each other.
STREAMS = ("anat", "mrs", "dwi", "func")
PROFILES = Path(__file__).parent / "data" / "profiles"


@dataclass(frozen=True)
class AnatSettings:
    """How the T1-weighted image is processed."""

    engine: AnatEngine = "cat"
    denoise: bool = True
    normalisation: Normalisation = "greedy"
    template_voxel: float = 1.5  # mm
    smoothing: float = 8.0  # mm, full width at half maximum
    cortical_atlas: str = "neuromorphometrics"
    subcortical_atlas: str = "auto"  # cobra when it has been fetched, else the cortical atlas


@dataclass(frozen=True)
class DwiSettings:
    """How diffusion series are processed."""

    denoise: bool = True
    unring: bool = True
    drift: Drift = "auto"  # as far as the b=0 volumes can show it
    motion: bool = True
    eddy: Eddy = "linear"
    replace_outliers: bool = True
    distortion: Distortion = "auto"  # from an opposite pair, else from a field map
    fit: TensorFit = "WLS"
    b_max: float = 1500.0  # s/mm2, of the tensor
    tract_atlas: str = "auto"  # hcp842 when it has been fetched, else juelich
    min_coverage: float = 0.7  # share of a tract below which its measures are n/a
    max_csf: float = 0.2  # share of a voxel above which it is left out of the means


@dataclass(frozen=True)
class FuncSettings:
    """How functional series are processed."""

    task: tuple[str, ...] = ()  # none named: resting runs, or the only task that there is
    dummy_scans: DummyScans = 4  # first volumes left out; "auto": until the signal is steady
    slice_timing: bool = True
    distortion: Distortion = "auto"  # from an opposite pair, else from a field map
    denoising: str = "motion24+acompcor"  # a preset, or the path of one
    censor_fd: float = 0.0  # mm; volumes that moved more are left out; 0: none
    seeds: tuple[dict[str, Any], ...] = DEFAULT_SEEDS
    threshold: float = 0.25  # correlation from which a voxel counts as connected
    alff_band: tuple[float, ...] = (0.01, 0.08)  # Hz
    template_voxel: float = 2.0  # mm
    smoothing: float = 8.0  # mm, full width at half maximum, in template space


@dataclass(frozen=True)
class MrsSettings:
    """How fits of spectra are found, judged and quantified."""

    sd_percent: int = 15  # CRLB above which a metabolite does not count, %
    snr: float = 3.0  # S/N below which a spectrum does not count; 0: no limit
    fwhm_ppm: float = 0.1  # line width above which a spectrum does not count; 0: no limit
    water: str = "fsl-mrs"  # constants of tissue water
    metabolites: str = "fsl-mrs"  # relaxation times of metabolites
    mapping: str = ""  # TSV that says which result of LCModel is whose
    basis: str = ""  # basis set, with which LCModel is run where there is no result


@dataclass(frozen=True)
class GroupSettings:
    """How the people of a study are told apart, and what the models adjust for."""

    group: str = "group"
    case: str = ""  # group compared with the reference; where there are two, the other one
    reference: str = "control"
    site: str = "site"
    covariates: tuple[str, ...] = ("age", "sex")
    participants: str = ""  # table of the people; by default participants.tsv of the dataset
    columns: dict[str, str] = field(default_factory=dict)  # our names to those in the tables
    dedupe: Dedupe = "error"  # "exact": rows that agree cell for cell count once


@dataclass(frozen=True)
class SlurmSettings:
    """How jobs are given to a Slurm cluster, one per step or one per person."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    sbatch: tuple[str, ...] = ()  # more options of sbatch, one per entry: "--exclude=node7"
    modules: tuple[str, ...] = ()  # loaded before anything else
    setup: tuple[str, ...] = ()  # lines of shell before the program
    container: str = ""  # image in which jobs run; none: the environment of the driver
    runtime: Runtime = "apptainer"
    binds: tuple[str, ...] = ()  # further folders that the container must see
    # jobs per step (--plugin slurm)
    max_jobs: int = 100  # in the queue at one time
    group_minutes: float = 5.0  # steps that take less share a job with others of their person
    time_factor: float = 3.0  # time asked for, over the time expected
    poll: float = 15.0  # s between two questions to the queue
    lag: float = 60.0  # s that a file may take to be seen from another machine
    # one task per person (alsflow-slurm)
    array_tasks: int = 20  # that run at one time; 0: no limit
    array_cpus: int = 4
    array_mem: str = "16G"
    array_time: str = "12:00:00"
    group_after: GroupAfter = "any"  # group level after any end of the people, or success alone


@dataclass(frozen=True)
class Settings:
    """Everything that one run was asked to do."""

    bids_dir: Path
    output_dir: Path
    analysis_level: Level
    work_dir: Path = Path("work")
    participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()  # none named: every stream that the dataset has images for
    force: tuple[Check, ...] = ()
    bids_filters: dict[str, dict[str, Any]] = field(default_factory=dict)
    nprocs: int = 1
    omp_nthreads: int = 1  # threads of one process; 0 stands for processors left over
    mem_mb: int = 4000
    random_seed: int = 0
    profile: str = "default"
    skip_bids_validation: bool = False
    # of a run on a part of a study, from the run that was planned for all (alsflow-slurm)
    checked_by: str = ""  # validator that has passed the dataset already
    streams_found: tuple[str, ...] = ()  # streams that somebody of the study has images for
    stop_on_first_crash: bool = False
    plugin: Plugin = "workers"
    keep_work: KeepWork = "failed"  # of what visits large intermediate files are kept
    derivatives: dict[str, Path] = field(default_factory=dict)
    anat: AnatSettings = field(default_factory=AnatSettings)
    dwi: DwiSettings = field(default_factory=DwiSettings)
    func: FuncSettings = field(default_factory=FuncSettings)
    mrs: MrsSettings = field(default_factory=MrsSettings)
    group: GroupSettings = field(default_factory=GroupSettings)
    clinical: dict[str, Any] = field(default_factory=dict)  # see nodes.clinical.options
    analysis: tuple[dict[str, Any], ...] = ()  # see nodes.stats.plan
    slurm: SlurmSettings = field(default_factory=SlurmSettings)


class SettingsError(ValueError):
    """A setting that does not exist or a value that it cannot take."""


def profile_names() -> list[str]:
    """Names of the profiles that come with the program."""
    return sorted(path.stem for path in PROFILES.glob("*.toml"))


def megabytes(text: str) -> int:
    """Memory in MB.

    >>> megabytes("16G"), megabytes("16000M"), megabytes("16000"), megabytes("1.5GB")
    (16000, 16000, 16000, 1500)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MGT]?)I?B?\s*", text.upper())
    if match is None:
        raise SettingsError(f"{text!r} is no size; write 16G, 16000M or 16000 (MB).")
    return round(float(match[1]) * {"": 1, "M": 1, "G": 1000, "T": 1_000_000}[match[2]])


def read_toml(path: Path) -> dict[str, Any]:
    """Content of a configuration file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from None


def read_profile(name: str) -> dict[str, Any]:
    """Read a profile that comes with the program."""
    if name not in profile_names():
        hint = nearest(name, profile_names())
        raise SettingsError(
            f"There is no profile {name!r}{hint}; profiles are {', '.join(profile_names())}."
        )
    content = read_toml(PROFILES / f"{name}.toml")
    content.pop("description", None)
    return content


def nearest(word: str, known: list[str]) -> str:
    """Make a hint to add to a message about an unknown word, or nothing."""
    match = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else ""


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """One nested dictionary from many; the later layer wins, table by table.

    >>> merge({"anat": {"denoise": True, "smoothing": 8.0}}, {"anat": {"smoothing": 6.0}})
    {'anat': {'denoise': True, 'smoothing': 6.0}}
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = merged.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            merged[key] = merge(old or {}, value) if both else value
    return merged


def build(cls: type, values: Mapping[str, Any], where: str = "") -> Any:
    """Make an instance of the settings class `cls`; every key and every type is checked.

    Parameters
    ----------
    cls : type
        One of the dataclasses of this module.
    values : mapping
        Field names and values as TOML gives them.
    where : str
        Prefix of the names in messages, such as ``anat.``.
    """
    hints = get_type_hints(cls)
    known = [entry.name for entry in fields(cls)]
    for key in values:
        if key not in known:
            raise SettingsError(
                f"There is no setting {where + key!r}{nearest(key, known)}; "
                f"{'settings of ' + where.rstrip('.') if where else 'settings'} are "
                f"{', '.join(known)}."
            )
    return cls(**{key: _convert(value, hints[key], where + key) for key, value in values.items()})


def _convert(value: Any, hint: Any, name: str) -> Any:
    """`value` as the type `hint`, or an error that names the setting."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise SettingsError(f"{name} is a table: write [{name}] above its settings.")
        return build(hint, value, where=f"{name}.")  # type: ignore[arg-type]
    if origin is Literal:
        if value not in arguments:
            known = ", ".join(map(str, arguments))
            hint_text = nearest(str(value), [str(a) for a in arguments])
            raise SettingsError(f"{name} = {value!r} is not one of {known}{hint_text}.")
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(entry, arguments[0], name) for entry in value)
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _convert(entry, arguments[1], f"{name}.{key}")
                for key, entry in value.items()}  # fmt: skip
    if origin in (Union, UnionType):
        return _either(value, arguments, name)
    return _plain(value, hint, name)


def _either(value: Any, hints: tuple[Any, ...], name: str) -> Any:
    """`value` as the first of several types that takes it."""
    problems = []
    for hint in hints:
        try:
            return _convert(value, hint, name)
        except SettingsError as error:
            problems.append(str(error).removesuffix("."))
    raise SettingsError(f"{problems[0]}, and {problems[1]}.")


def _plain(value: Any, hint: Any, name: str) -> Any:
    """Check a single value; whole numbers stand for real ones, and text for paths."""
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, bool):
        pass
    elif isinstance(hint, type) and isinstance(value, hint):
        return value
    wanted = {"Path": "a path", "float": "a number", "int": "a whole number", "str": "text",
              "bool": "true or false"}  # fmt: skip
    kind = wanted.get(getattr(hint, "__name__", ""), "a list" if get_origin(hint) else str(hint))
    raise SettingsError(f"{name} = {value!r} is not {kind}.")


def check(settings: Settings) -> None:
    """Refuse numbers that no run can use."""
    func, most = settings.func, math.inf
    limits = {
        "nprocs": (settings.nprocs, 1, most),
        "omp_nthreads": (settings.omp_nthreads, 0, most),
        "mem_mb": (settings.mem_mb, 100, most),
        "random_seed": (settings.random_seed, 0, most),
        "anat.template_voxel": (settings.anat.template_voxel, 0.5, most),
        "anat.smoothing": (settings.anat.smoothing, 0, most),
        "dwi.b_max": (settings.dwi.b_max, 500, most),
        "dwi.min_coverage": (settings.dwi.min_coverage, 0, most),
        "dwi.max_csf": (settings.dwi.max_csf, 0, most),
        "func.dummy_scans": (0 if func.dummy_scans == "auto" else func.dummy_scans, 0, most),
        "func.censor_fd": (func.censor_fd, 0, most),
        "func.threshold": (func.threshold, 0, 1),
        "func.template_voxel": (func.template_voxel, 0.5, 8),
        "func.smoothing": (func.smoothing, 0, 30),
        "slurm.max_jobs": (settings.slurm.max_jobs, 1, most),
        "slurm.group_minutes": (settings.slurm.group_minutes, 0, most),
        "slurm.time_factor": (settings.slurm.time_factor, 1, most),
        "slurm.poll": (settings.slurm.poll, 0.1, most),
        "slurm.lag": (settings.slurm.lag, 0, most),
        "slurm.array_tasks": (settings.slurm.array_tasks, 0, most),
        "slurm.array_cpus": (settings.slurm.array_cpus, 1, most),
        "mrs.sd_percent": (settings.mrs.sd_percent, 1, 998),
        "mrs.snr": (settings.mrs.snr, 0, most),
        "mrs.fwhm_ppm": (settings.mrs.fwhm_ppm, 0, most),
    }
    for name, (value, least, highest) in limits.items():
        if not value >= least:
            raise SettingsError(f"{name} = {value} is below {least}.")
        if value > highest:
            raise SettingsError(f"{name} = {value} is above {highest}.")
    band = func.alff_band
    if len(band) != 2 or not 0 <= band[0] < band[1]:
        raise SettingsError(
            f"func.alff_band = {list(band)} is no band: write its lower and its upper frequency, "
            "Hz, such as [0.01, 0.08]."
        )


def as_toml(settings: Settings) -> str:
    """Write the settings as a configuration file that gives the same run again."""
    import tomli_w

    return tomli_w.dumps(_plainer(asdict(settings)))


def _plainer(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plainer(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list | tuple):
        return [_plainer(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
