"""The opposite phase-encoding pair and the field map of one real head."""

from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from alsflow.nodes.distortion.pair import field_from_pair


def canonical(path):
    image = nib.as_closest_canonical(nib.load(path))
    return image.get_fdata(dtype=np.float32), image.affine


@pytest.fixture(scope="session")
def xa30(realdata):
    folder = realdata / "sub-xa30"
    if not folder.is_dir():
        pytest.skip("the head with a pair and a field map is not here")
    ap, affine = canonical(folder / "dwi" / "sub-xa30_dir-AP_dwi.nii.gz")
    pa, _ = canonical(folder / "dwi" / "sub-xa30_dir-PA_dwi.nii.gz")
    phase, gre_affine = canonical(folder / "fmap" / "sub-xa30_phasediff.nii.gz")
    magnitude, _ = canonical(folder / "fmap" / "sub-xa30_magnitude1.nii.gz")
    found = field_from_pair(pa[..., 0], ap[..., 0], affine, 1)
    bright = found.corrected_plus > 0.35 * np.percentile(found.corrected_plus, 98)
    brain = ndimage.binary_opening(bright, iterations=3)
    labels, _ = ndimage.label(brain)
    brain = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    return SimpleNamespace(
        pa=pa[..., 0], ap=ap[..., 0], affine=affine, phase=phase, magnitude=magnitude,
        gre_affine=gre_affine, pair=found, brain=brain, readout=0.0475693,
    )  # fmt: skip
