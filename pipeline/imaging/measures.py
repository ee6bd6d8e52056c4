"""What quality control measures, each as one number."""

from __future__ import annotations

import functools

import numpy as np
from scipy import ndimage

from pipeline.atlas import SPACING_MM, load_atlas
from pipeline.imaging.head import Mask, brain_within
from pipeline.imaging.registration import Registration
from pipeline.scan import FloatArray


def brain_overlap(suvr: FloatArray) -> float:
    """Dice overlap of uptake above half the reference with the template's brain, within 6 mm of the brain.

    The scalp lies farther out and is left aside: its uptake differs between tracers and people.
    """
    near = brain_within(6.0)
    bright = (suvr > 0.5) & near
    brain = load_atlas().brain
    return float(2 * (bright & brain).sum() / (bright.sum() + brain.sum()))


def coverage(inside: Mask, region: Mask) -> float:
    """Share of a region that lies inside the field of view."""
    return float((inside & region).sum() / region.sum())


def coefficient_of_variation(image: FloatArray, where: Mask) -> float:
    """Return standard deviation over mean; NaN where the mean is not positive."""
    values = image[where].astype(np.float64)
    mean = float(values.mean())
    return float(values.std() / mean) if mean > 0 else float("nan")


def noise(image: FloatArray) -> float:
    """Robust standard deviation of what an 8 mm Gaussian takes away in white matter, over the mean there.

    White matter is smooth, so what is fine-grained there is noise.
    """
    where = deep_white_matter()
    rough = (image - ndimage.gaussian_filter(image, 8.0 / 2.355 / SPACING_MM))[where]
    mean = float(image[where].mean())
    spread = 1.4826 * float(np.median(np.abs(rough - np.median(rough))))
    return spread / mean if mean > 0 else float("nan")


def size_ratio(registration: Registration) -> float:
    """Head over template or template over head, whichever is larger, along the worst axis."""
    scales = np.array(registration.scales)
    return float(np.max(np.maximum(scales, 1 / scales)))


@functools.lru_cache(maxsize=1)
def deep_white_matter() -> Mask:
    """White matter away from its edges."""
    deep: Mask = ndimage.binary_erosion(load_atlas().white > 0.8, iterations=1)
    return deep


@functools.lru_cache(maxsize=1)
def cortex() -> Mask:
    """All grey matter in which tau is read."""
    atlas = load_atlas()
    where: Mask = np.any([atlas.mask(r) for r in atlas.regions_of("target")], axis=0)
    return where
