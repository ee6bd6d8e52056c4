"""Which training scans are shown beside a scan: a typical tau-negative and a typical tau-positive one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.typical_scans import TypicalScan
from pipeline.atlas import SHAPE, load_atlas
from pipeline.config import TauThresholds
from pipeline.learning.region_table import RegionTable
from pipeline.learning.split_cohort import SplitCohort
from pipeline.scan import Scan

META_ROI_COLUMN = "composite_meta_roi"
_FEWEST = 3
"""Of fewer scans none is typical."""
_AROUND_VOXELS = 4
"""Stored around the brain; skull and scalp are not."""


def choose_typical(
    scans: SplitCohort, regions: RegionTable | None, thresholds: TauThresholds
) -> tuple[TypicalScan, ...]:
    """Choose for each tau status the training scan whose regional SUVR is nearest to the mean of its status.

    Only accepted scans of the training part are looked at, the first one of each subject. A scan is negative
    or positive by its temporal meta-ROI; those in the uncertain zone are neither. Nearest is the root mean
    square difference over the target regions of both sides.

    Returns
    -------
    tuple of TypicalScan
        At most one negative and one positive; none of a status with fewer than 3 subjects, or without a table
        of regions. SUVR is 0 but in the brain and 8 mm around it.
    """
    if regions is None or META_ROI_COLUMN not in regions.table:
        return ()
    training = set(scans.split.train)
    accepted = [
        s
        for s in scans.cohort.scans
        if s.scan_id in training and s.facts.get("quality", "accepted") == "accepted"
    ]
    first = {s.subject: s for s in reversed(accepted) if s.scan_id in regions.table.index}
    found = []
    statuses: tuple[Literal["negative", "positive"], ...] = ("negative", "positive")
    for status in statuses:
        members = list(_of_status(first.values(), regions, thresholds, status))
        nearest = _nearest_to_mean(members, regions) if len(members) >= _FEWEST else None
        suvr = None if nearest is None else _brain_of(nearest)
        if nearest is not None and suvr is not None:
            meta_roi = float(regions.table.loc[nearest.scan_id, META_ROI_COLUMN])
            found.append(TypicalScan(status, suvr, meta_roi, len(members)))
    return tuple(found)


def _of_status(
    scans: Iterable[Scan], regions: RegionTable, thresholds: TauThresholds, status: str
) -> Iterator[Scan]:
    for scan in scans:
        meta_roi = regions.table.loc[scan.scan_id, META_ROI_COLUMN]
        low, high = meta_roi < thresholds.uncertain_from, meta_roi >= thresholds.positive_from
        if (low if status == "negative" else high) and scan.path.is_file():
            yield scan


def _nearest_to_mean(members: list[Scan], regions: RegionTable) -> Scan:
    targets = load_atlas().regions_of("target")
    columns = [c for c in regions.names if c.partition("_")[2] in targets]
    values = regions.table.loc[[s.scan_id for s in members], columns].to_numpy(np.float64)
    return members[int(np.square(values - values.mean(axis=0)).mean(axis=1).argmin())]


def _brain_of(scan: Scan) -> NDArray[np.float32] | None:
    """Return the brain of a scan; None where it is not on the template grid."""
    image: Any = nib.load(scan.path)
    if image.shape != SHAPE:
        return None
    around = ndimage.binary_fill_holes(ndimage.binary_dilation(load_atlas().brain, iterations=_AROUND_VOXELS))
    return np.where(around, np.asarray(image.dataobj, dtype=np.float32), np.float32(0))
