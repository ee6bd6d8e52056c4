"""Standardised uptake value ratio: every voxel over the mean of inferior cerebellar grey matter."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.atlas import (
    BRAAK_STAGES,
    META_ROI_DEFINITIONS,
    REFERENCE,
    SPACING_MM,
    Atlas,
    braak_composite,
    load_atlas,
    load_regions,
)
from pipeline.errors import RefusedScan
from pipeline.imaging.head import brain_within
from pipeline.scan import FloatArray

VOXEL_ML = SPACING_MM**3 / 1000.0
KEPT_AROUND_BRAIN_MM = 6.0
COLUMNS = ("region", "side", "suvr", "volume_ml", "kind", "braak")


def to_suvr(image: FloatArray) -> FloatArray:
    """Divide an image on the template grid by the mean of its reference region.

    Parameters
    ----------
    image : ndarray, shape (96, 112, 96)
        Any unit that is proportional to activity.

    Returns
    -------
    ndarray of float32, shape (96, 112, 96)
        The mean over inferior cerebellar grey matter is 1.

    Raises
    ------
    RefusedScan
        Rule ``"no-reference"`` where that mean is not positive.
    """
    mean = float(image[load_atlas().reference].mean(dtype=np.float64))
    if not (np.isfinite(mean) and mean > 0):
        raise RefusedScan(
            "no-reference",
            f"The mean of the reference region is {mean:.4g}, expected a positive value",
            # Where nothing was measured the mean is 0, not below.
            hint="check slope and intercept of the values"
            if mean < 0
            else "check that the cerebellum lies in the field of view",
            measured=f"{mean:.4g}",
        )
    return (image / mean).astype(np.float32)


def keep_brain(image: FloatArray) -> FloatArray:
    """Set all that lies farther than 6 mm from the brain to zero: the face goes, no tissue does."""
    return np.where(brain_within(KEPT_AROUND_BRAIN_MM), image, np.float32(0)).astype(np.float32)


def regional_table(suvr: FloatArray) -> pd.DataFrame:
    """Mean SUVR and volume of every region: left, right and both.

    Parameters
    ----------
    suvr : ndarray, shape (96, 112, 96)

    Returns
    -------
    DataFrame
        Columns ``region``, ``side`` (left, right, both), ``suvr``, ``volume_ml``, ``kind`` and ``braak``.
        ``both`` is weighted by volume, not the mean of the two sides. Midline regions have ``both`` only.
    """
    atlas = load_atlas()
    counts = np.bincount(atlas.labels.ravel(), minlength=len(atlas.names))
    sums = np.bincount(atlas.labels.ravel(), weights=suvr.ravel(), minlength=len(atlas.names))
    about = {r.name: (r.kind, r.braak) for r in load_regions()} | {REFERENCE: ("reference", None)}
    rows = []
    for region, sides in _sides(atlas).items():
        kind, braak = about[region]
        total = {side: (sums[k], counts[k]) for side, k in sides.items()}
        if "both" not in total:
            total["both"] = (sums[list(sides.values())].sum(), counts[list(sides.values())].sum())
        rows += [(region, side, s / n, n * VOXEL_ML, kind, braak) for side, (s, n) in total.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def composites(suvr: FloatArray) -> dict[str, float]:
    """Mean SUVR of composite regions, weighted by volume.

    Returns
    -------
    dict of str to float
        ``meta_roi`` (Mayo's temporal meta-ROI), ``meta_roi_adni`` (without the parahippocampal gyrus),
        ``braak_1_2`` (without the hippocampus), ``braak_3_4`` and ``braak_5_6``.
    """
    return {name: float(suvr[mask].mean(dtype=np.float64)) for name, mask in _composite_masks().items()}


@cache
def _composite_masks() -> dict[str, NDArray[np.bool_]]:
    """Return where each composite is; made once, as every scan needs them."""
    parts = {"meta_roi": META_ROI_DEFINITIONS["Mayo"], "meta_roi_adni": META_ROI_DEFINITIONS["ADNI"]}
    arabic = {"I/II": "1_2", "III/IV": "3_4", "V/VI": "5_6"}
    parts |= {f"braak_{arabic[stage]}": braak_composite(stage) for stage in BRAAK_STAGES}
    atlas = load_atlas()
    return {name: np.any([atlas.mask(r) for r in regions], axis=0) for name, regions in parts.items()}


def _sides(atlas: Atlas) -> dict[str, dict[str, int]]:
    """Region -> side -> label."""
    sides: dict[str, dict[str, int]] = {}
    for label, name in enumerate(atlas.names[1:], start=1):
        side, _, region = name.partition("_")
        if side in ("left", "right"):
            sides.setdefault(region, {})[side] = label
        else:
            sides.setdefault(name, {})["both"] = label
    return sides
