"""ADNI's processing levels, by the names of their series."""

from __future__ import annotations

import re

from pipeline.ingest.acquisition import resolution_of

LEVELS = ("averaged", "standardized", "co-registered dynamic", "original", "uniform 6 mm", "uniform 8 mm")
"""ADNI's processing levels, the one to take first: it is averaged, and its own resolution is not yet lost."""


def level_of(series: str) -> str:
    """Return which of `LEVELS` a series name states.

    Examples
    --------
    >>> level_of("AV1451_Co-registered,_Averaged")
    'averaged'
    >>> level_of("AV1451 Coreg, Avg, Standardized Image and Voxel Size")
    'standardized'
    >>> level_of("AV1451 Coreg, Avg, Std Img and Vox Siz, Uniform 6mm Res")
    'uniform 6 mm'
    """
    name = series.lower().replace("_", " ")
    resolution = resolution_of(name)
    if resolution is not None:
        return f"uniform {resolution:.0f} mm"
    processed = "coreg" in name or "co-reg" in name
    if processed and ("standardized" in name or "std img" in name):
        return "standardized"
    if processed and "av" in re.split(r"[ ,]+", name.replace("averaged", "av").replace("avg", "av")):
        return "averaged"
    return "co-registered dynamic" if processed and "dynamic" in name else "original"
