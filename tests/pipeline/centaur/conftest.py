"""Masks of the test's own making, under the names of CenTauR's."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.atlas import AFFINE, load_atlas
from pipeline.centaur.centaur_masks import _FILES


@pytest.fixture
def mask_folder(tmp_path) -> Path:
    """Six masks on the template grid, each of one or more atlas regions."""
    atlas = load_atlas()
    folder = tmp_path / "masks"
    folder.mkdir()
    cortex = [n for n, name in enumerate(atlas.names) if name.endswith(("middle_temporal", "precuneus"))]
    for k, (name, stem) in enumerate(_FILES.items()):
        where = atlas.reference if name == "reference" else np.isin(atlas.labels, cortex)
        if name == "frontal":  # another shape than the rest, so that a mix-up shows
            where = where & (np.indices(where.shape)[1] > 40)
        nib.save(nib.Nifti1Image(where.astype(np.uint8) * (1 + k % 2), AFFINE), folder / f"{stem}.nii.gz")
    return folder
