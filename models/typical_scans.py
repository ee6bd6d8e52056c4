"""Scans of the training cohort that are shown beside a scan, stored with the classifier."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_PREFIX = "typical_scan_"
_STEPS = 64
"""An SUVR is stored in steps of 1/64, up to almost 4: finer than a picture shows."""


@dataclass(frozen=True, eq=False)
class TypicalScan:
    """A scan whose regional SUVR is nearest to the mean of the training scans of its tau status.

    Parameters
    ----------
    status : {"negative", "positive"}
    suvr : ndarray, shape (X, Y, Z)
        On the template grid.
    meta_roi : float
        SUVR of its temporal meta-ROI.
    among : int
        Training scans of this status, one a subject, from which it was chosen.

    Examples
    --------
    >>> scan = TypicalScan("negative", np.full((96, 112, 96), 1.25), 1.17, 12)
    >>> [stored] = typical_scans_in(arrays_of([scan]))
    >>> stored.status, stored.meta_roi, stored.among, float(stored.suvr.max())
    ('negative', 1.17, 12, 1.25)
    """

    status: Literal["negative", "positive"]
    suvr: NDArray[np.floating]
    meta_roi: float
    among: int


def arrays_of(scans: Iterable[TypicalScan]) -> dict[str, NDArray[np.generic]]:
    """Return scans as arrays that a bundle stores."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for scan in scans:
        steps = np.clip(np.rint(np.nan_to_num(scan.suvr) * _STEPS), 0, 255)
        arrays[_PREFIX + scan.status] = steps.astype(np.uint8)
        arrays[f"{_PREFIX}{scan.status}_facts"] = np.array([scan.meta_roi, scan.among], dtype=np.float64)
    return arrays


def typical_scans_in(arrays: dict[str, NDArray[np.float64]]) -> tuple[TypicalScan, ...]:
    """Return what `arrays_of` stored, the negative scan first; none in a bundle of an older version."""
    found = []
    statuses: tuple[Literal["negative", "positive"], ...] = ("negative", "positive")
    for status in statuses:
        if _PREFIX + status in arrays:
            meta_roi, among = arrays[f"{_PREFIX}{status}_facts"]
            suvr = arrays[_PREFIX + status].astype(np.float32) / _STEPS
            found.append(TypicalScan(status, suvr, float(meta_roi), int(among)))
    return tuple(found)
