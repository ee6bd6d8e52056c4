"""A small picture of each scan under the template's outline, to check by eye where the brain lies."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipeline.atlas import AFFINE, SPACING_MM, load_atlas
from pipeline.files import written_whole
from pipeline.scan import FloatArray

PLANES_MM = {"axial": (2, 6.0), "coronal": (1, -60.0), "sagittal": (0, 24.0)}
"""Through ventricles, cerebellum and temporal lobe: axis and MNI millimetres."""
_BRIGHTEST_SUVR = 2.5
_SHADES = 40
"""Enough to judge a fit; a thousand pictures stay below ten megabytes."""
_BRAIN, _REFERENCE = (0, 190, 220), (255, 140, 0)


def outline_picture(suvr: FloatArray) -> bytes:
    """Draw three slices with the outlines of the template's brain and reference region, as PNG.

    Parameters
    ----------
    suvr : ndarray, shape (96, 112, 96)
        Brought to the template by affine and warp, so that a wrong fit shows as uptake beyond the outline.
        White is 0, black is 2.5 and more. Radiological convention; the sagittal slice looks to the left.
    """
    dark = np.clip(suvr / _BRIGHTEST_SUVR, 0, 1) * (_SHADES - 1)
    panels = []
    for (axis, millimetres), lines in zip(PLANES_MM.values(), _lines(), strict=True):
        panel = _turned(dark, axis, millimetres).astype(np.uint8)
        panels.append(np.where(lines > 0, lines, panel))
    height = max(panel.shape[0] for panel in panels)
    rows = [np.pad(panel, ((0, height - panel.shape[0]), (0, 2))) for panel in panels]
    picture = Image.fromarray(np.hstack(rows).astype(np.uint8), mode="P")
    greys = [shade for k in range(_SHADES) for shade in [255 - round(k * 255 / (_SHADES - 1))] * 3]
    picture.putpalette([*greys, *_BRAIN, *_REFERENCE])
    written = io.BytesIO()
    picture.save(written, "PNG", optimize=True)
    return written.getvalue()


@functools.lru_cache(maxsize=1)
def _lines() -> tuple[NDArray[np.uint8], ...]:
    """Palette numbers of the outlines in each panel, 0 elsewhere."""
    atlas, found = load_atlas(), []
    for axis, millimetres in PLANES_MM.values():
        lines = np.zeros(_turned(atlas.brain, axis, millimetres).shape, dtype=np.uint8)
        for number, mask in ((_SHADES, atlas.brain), (_SHADES + 1, atlas.reference)):
            part = _turned(mask, axis, millimetres)
            lines[part & ~ndimage.binary_erosion(part)] = number
        found.append(lines)
    return tuple(found)


def _turned(volume: NDArray[Any], axis: int, millimetres: float) -> NDArray[Any]:
    """Return a slice with its top first; the patient's right on the left of axial and coronal ones."""
    place = round((millimetres - AFFINE[axis, 3]) / SPACING_MM)
    turned: NDArray[Any] = np.take(volume, place, axis=axis).T[::-1, ::-1]
    return turned


def outline_path(image: Path) -> Path:
    """Return where the picture of a normalised scan lies: beside it."""
    return image.with_name(image.name.replace("_desc-suvr_pet.nii.gz", "_desc-outline_pet.png"))


def write_outline(suvr: FloatArray, image: Path) -> Path:
    """Write the picture of a normalised scan beside its image."""
    with written_whole(outline_path(image)) as beside:
        beside.write_bytes(outline_picture(suvr))
    return outline_path(image)
