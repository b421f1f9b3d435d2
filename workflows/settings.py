"""The settings of one run: frozen, made once by the command line, passed down as keywords."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

AnatEngine = Literal["cat", "cat12", "spm12", "precomputed"]
Normalisation = Literal["greedy", "shooting"]


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
class GroupSettings:
    """Columns of participants.tsv that enter the group models, and their reference level."""

    group: str = "group"
    reference: str = "control"
    site: str = "site"
    covariates: tuple[str, ...] = ("age", "sex")


@dataclass(frozen=True)
class Settings:
    """Everything that one run was asked to do."""

    bids_dir: Path
    output_dir: Path
    analysis_level: Literal["participant", "group"]
    work_dir: Path = Path("work")
    participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ("anat",)
    nprocs: int = 1
    mem_mb: int = 4000
    random_seed: int = 0
    profile: str = "default"
    derivatives: dict[str, Path] = field(default_factory=dict)
    anat: AnatSettings = field(default_factory=AnatSettings)
    group: GroupSettings = field(default_factory=GroupSettings)
