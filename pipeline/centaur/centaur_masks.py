"""SUVR in CenTauR's masks, and CenTauRz.

CenTauRz = slope * SUVR + intercept, where SUVR is the mean of a mask over the mean of CenTauR's own
cerebellar grey mask. The equations hold for images that were processed as by their authors; the SUVR of
another pipeline must first be calibrated (`pipeline.centaur.centaur_calibration`). The masks stay with the
user.

Source: Villemagne et al. 2023, doi 10.1002/dad2.12454; masks from gaain.org/centaur-project.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.errors import InputError
from pipeline.scan import FloatArray

REGIONS = ("universal", "mesial_temporal", "meta_temporal", "temporo_parietal", "frontal")
"""The five masks, as files name them; `mask_title` returns what readers see."""
REFERENCE = "reference"
SOURCE = "Villemagne et al. 2023, doi 10.1002/dad2.12454"
"""Of masks and equations, as pages state it."""
_FILES = {
    "universal": "CenTauR",
    "mesial_temporal": "Mesial_CenTauR",
    "meta_temporal": "Meta_CenTauR",
    "temporo_parietal": "TP_CenTauR",
    "frontal": "Frontal_CenTauR",
    REFERENCE: "voi_CerebGry_tau_2mm",
}
_EQUATIONS = {
    "universal": (13.63, -15.85),
    "mesial_temporal": (10.42, -12.11),
    "meta_temporal": (12.95, -15.37),
    "temporo_parietal": (13.75, -15.92),
    "frontal": (11.61, -13.01),
}
"""Slope and intercept for flortaucipir."""
_TITLES = {"meta_temporal": "meta-temporal", "temporo_parietal": "temporoparietal"}
_LEAST_COVERED = 0.95
_ENDINGS = (".nii", ".nii.gz")


def mask_title(name: str) -> str:
    """Return what pages and tables call a mask.

    Examples
    --------
    >>> [mask_title(name) for name in REGIONS]
    ['universal', 'mesial temporal', 'meta-temporal', 'temporoparietal', 'frontal']
    """
    return _TITLES.get(name, name.replace("_", " "))


@dataclass(frozen=True, eq=False)
class CentaurMasks:
    """The masks of the CenTauR project.

    Parameters
    ----------
    points_mm : dict of str to ndarray, shape (n, 3)
        MNI millimetres of each mask's voxels, by the names of `REGIONS` and ``"reference"``.
    digest : str
        Fingerprint of the masks.
    """

    points_mm: dict[str, NDArray[np.float64]]
    digest: str


def read_masks(folder: Path) -> CentaurMasks:
    """Read CenTauR's masks from the user's folder, under the names that the project gave the files.

    Raises
    ------
    InputError
        If the folder or a file is not there, is no mask of zeros and ones, or does not lie in MNI space.
    """
    return _read_masks(folder, tuple(_stamp(_file_of(folder, stem)) for stem in _FILES.values()))


@functools.lru_cache(maxsize=4)
def _read_masks(folder: Path, _stamps: tuple[tuple[int, int], ...]) -> CentaurMasks:
    files = {name: _file_of(folder, stem) for name, stem in _FILES.items()}
    digest = hashlib.sha256()
    points = {}
    for name, path in files.items():
        points[name] = _points(path)
        digest.update(np.round(points[name], 2).tobytes())
    return CentaurMasks(points, digest.hexdigest()[:16])


def _file_of(folder: Path, stem: str) -> Path:
    if not folder.is_dir():
        raise InputError(
            "There is no such folder of CenTauR's masks",
            where=f"imaging.centaur_masks ({folder})",
            hint="unpack CenTauR's masks there; they are free at gaain.org/centaur-project",
        )
    wanted = {(stem + ending).lower() for ending in _ENDINGS}
    found = sorted(path for path in folder.iterdir() if path.name.lower() in wanted)
    if len(found) == 1:
        return found[0]
    seen = ", ".join(path.name for path in found) or "none"
    raise InputError(
        f"The folder of CenTauR's masks needs one file {stem}.nii or {stem}.nii.gz, found {seen}",
        where=str(folder),
        hint="copy the masks there as the CenTauR project names them",
    )


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _points(path: Path) -> NDArray[np.float64]:
    try:
        image = nib.load(path)
        values = np.squeeze(np.asanyarray(image.dataobj))
    except Exception as error:
        raise InputError(
            f"The mask cannot be read as NIfTI ({error})", where=str(path), hint="copy the file again"
        ) from error
    found = np.unique(values[np.isfinite(values)])
    if values.ndim != 3 or found.size != 2 or found[0] != 0 or not np.isfinite(values).all():
        seen = f"{found.size} values in {values.ndim} dimensions"
        raise InputError(
            f"A mask has zeros and one other value in three dimensions, found {seen}",
            where=str(path),
            hint="use the mask as the CenTauR project gives it, not resampled with interpolation",
        )
    points = np.argwhere(values > 0) @ image.affine[:3, :3].T + image.affine[:3, 3]
    middle = points.mean(axis=0)
    if abs(middle[0]) > 15 or not -110 < middle[1] < 60 or not -60 < middle[2] < 60:
        raise InputError(
            f"The mask's centre lies at {', '.join(f'{v:.0f}' for v in middle)} mm, outside MNI space",
            where=str(path),
            hint="use CenTauR's masks in MNI152 space",
        )
    return np.asarray(points, dtype=np.float64)


def centaur_suvr(
    image: FloatArray,
    affine: NDArray[np.float64],
    masks: CentaurMasks,
    inside: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Return the SUVR in each mask relative to CenTauR's reference mask.

    Parameters
    ----------
    image : ndarray, shape (x, y, z)
        Activity or SUVR in MNI space, whatever its reference region was.
    affine : ndarray, shape (4, 4)
        From voxels to millimetres.
    inside : ndarray of bool, optional
        Where the image holds the brain; points of a mask beyond do not count.

    Returns
    -------
    dict of str to float
        By the names of `REGIONS`; NaN where less than 95 % of a mask, or of the reference, is in the image.
    """
    means = {name: _mean(image, affine, points, inside) for name, points in masks.points_mm.items()}
    reference = means[REFERENCE]
    return {name: means[name] / reference if reference > 0 else float("nan") for name in REGIONS}


def _mean(
    image: FloatArray,
    affine: NDArray[np.float64],
    points_mm: NDArray[np.float64],
    inside: NDArray[np.bool_] | None,
) -> float:
    inverse = np.linalg.inv(affine)
    places = inverse[:3, :3] @ points_mm.T + inverse[:3, 3:]
    last = np.array(image.shape)[:, None] - 1
    held = ((places >= 0) & (places <= last)).all(axis=0)
    if inside is not None:
        nearest = np.clip(np.rint(places).astype(int), 0, last)
        held &= inside[tuple(nearest)]
    if held.mean() < _LEAST_COVERED:
        return float("nan")
    values = ndimage.map_coordinates(image, places[:, held], order=1)
    return float(values.mean()) if np.isfinite(values).all() else float("nan")


def centaur_z(suvr: Mapping[str, float]) -> dict[str, float]:
    """Return CenTauRz from SUVR as CenTauR's authors measure it.

    Parameters
    ----------
    suvr : mapping of str to float
        By the names of `REGIONS`.

    Examples
    --------
    >>> {name: round(z, 2) for name, z in centaur_z({"universal": 1.310, "mesial_temporal": 1.162}).items()}
    {'universal': 2.01, 'mesial_temporal': -0.0}
    """
    return {name: _EQUATIONS[name][0] * value + _EQUATIONS[name][1] for name, value in suvr.items()}
