"""Simulated people on disk."""

from __future__ import annotations

import numpy as np
import pandas as pd
from alsflow.interfaces.images import load
from alsflow.interfaces.template import bundled_atlas, template_file
from alsflow.nodes.simulate.anatomy import Source

# Names of the atlas, without side, that make up each structure of a source.
STRUCTURE_NAMES = {
    "striatum": ("Caudate", "Putamen", "Accumbens_Area"),
    "thalamus": ("Thalamus_Proper",),
    "pallidum": ("Pallidum",),
    "brainstem": ("Brain_Stem", "Ventral_DC"),
    "ventricles": ("Lateral_Ventricle", "Inf_Lat_Vent", "3rd_Ventricle", "4th_Ventricle"),
}


def template_source() -> Source:
    """Tissue maps of the template and the Neuromorphometrics atlas, as simulation wants them."""
    gm, image = load(template_file("gm"))
    wm, _ = load(template_file("wm"))
    head, _ = load(template_file("t1"))
    gm, wm = gm / 255, wm / 255
    csf = np.where(head > 0, np.clip(1 - gm - wm, 0, 1), 0).astype(np.float32)
    atlas_file, table_file = bundled_atlas("neuromorphometrics")
    atlas, atlas_image = load(atlas_file, np.int32)
    table = pd.read_csv(table_file)
    plain = table["name"].str.replace(r"^(Left|Right)_", "", regex=True)
    structures = {
        structure: tuple(int(index) for index in table.loc[plain.isin(names), "index"])
        for structure, names in STRUCTURE_NAMES.items()
    }
    return Source(gm, wm, csf, image.affine, atlas, atlas_image.affine, structures)
