"""What quality control measures of a normalised scan, each as one number."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.atlas import AFFINE, SHAPE, SPACING_MM, load_atlas
from pipeline.imaging.head import Mask, brain_within, distance_to_brain_mm, stem_box
from pipeline.imaging.quality import Finding, judge
from pipeline.imaging.registration import Registration
from pipeline.scan import FloatArray

_NOTHING = 0.1
"""SUVR below which a brain voxel holds no data: fluid has about .65."""
_AIR_MM = 30.0
"""Beyond scalp and skull."""
_LEAST_AIR = 500
"""Voxels of 8 mm3; images that are cut to the brain show none."""
_NEAR_CEREBELLUM_MM = 8.0
_USUAL_RATIOS = {"cerebellum": 1.08, "cerebellar-white": 1.08, "pons": 1.06}
"""Of tissues to the reference region in painted scans of 12 IXI people and 12 people of the phantom."""
_PATTERN = ("upper cerebellum", "cerebellar white matter", "pons", "variation", "core", "skewness")
"""Of the reference region: logarithms of tissues over it, of its SD over its mean, of its core over it; and
its skewness."""
_PATTERN_MEAN = (0.067, 0.038, 0.041, -2.205, 0.015, -0.058)
_PATTERN_SD = (0.059, 0.07, 0.086, 0.176, 0.008, 0.313)
_PATTERN_CORRELATION = (
    (1.0, 0.05, 0.07, 0.07, -0.11, -0.2),
    (0.05, 1.0, 0.17, 0.05, 0.19, -0.24),
    (0.07, 0.17, 1.0, -0.14, 0.02, -0.09),
    (0.07, 0.05, -0.14, 1.0, 0.41, -0.14),
    (-0.11, 0.19, 0.02, 0.41, 1.0, -0.33),
    (-0.2, -0.24, -0.09, -0.14, -0.33, 1.0),
)
"""In painted scans of 12 IXI people, 12 people and 16 affine heads of the phantom. Variances are 1.2 times
what was seen; 6 % (assumed) is added to cerebellar white matter and pons, painted alike in everybody."""
_BRIGHT = 1.3
"""Times the median: what is brighter, such as a spot of the meninges, counts as this. Left unlimited, one
spot looks like a wrong region, though it changes SUVR by a few per cent."""


def assess(image: FloatArray, suvr: FloatArray, inside: Mask, registration: Registration) -> list[Finding]:
    """Judge an image on the template grid before smoothing, its SUVR and its registration."""
    atlas = load_atlas()
    whole = [judge_regions(inside), judge_air(suvr, inside)]
    inside = inside & (suvr > _NOTHING)
    typical = float(np.median(suvr[cortex()]))
    negative = float((image[atlas.brain & inside] < 0).mean()) if (atlas.brain & inside).any() else 1.0
    values = {
        "reference-coverage": coverage(inside, atlas.reference),
        "brain-coverage": coverage(inside, atlas.brain),
        "implausible-size": size_ratio(registration),
        "implausible-shear": registration.shear,
        "head-turned": registration.rotation_deg,
        "brain-overlap": brain_overlap(suvr),
        "reference-uniformity": coefficient_of_variation(suvr, atlas.reference),
        "negative-voxels": negative,
        "noise": noise(image),
        "implausible-suvr": max(typical, 1 / typical) if typical > 0 else float("nan"),
    }
    found = [judge(rule, value) for rule, value in values.items()]
    return [*found, *whole, *judge_reference(suvr, atlas.reference)]


def judge_regions(inside: Mask) -> Finding:
    """Judge the region of which most lies outside the field of view: a small share of the brain may be it."""
    atlas = load_atlas()
    sizes = np.bincount(atlas.labels.ravel(), minlength=len(atlas.names))
    outside = np.bincount(atlas.labels[~inside], minlength=len(atlas.names)) / sizes
    outside[0] = 0.0  # no region
    worst = int(np.argmax(outside))
    where = f"most of {atlas.names[worst].replace('_', ' ')}" if outside[worst] > 0 else ""
    return judge("region-coverage", float(outside[worst]), where)


def judge_air(suvr: FloatArray, inside: Mask) -> Finding:
    """Judge the air above the head, which takes up nothing: another level was added to the brain as well.

    A constant that is added changes each ratio: a tenth of the reference region's uptake takes 5 % off an
    SUVR of 2.
    """
    air = _air() & inside
    if np.count_nonzero(air) < _LEAST_AIR:
        return judge("air-level", 0.0, "no air in the field of view")
    level = float(np.median(suvr[air]))
    return judge("air-level", abs(level), f"{level:+.2g} in this scan")


def judge_reference(suvr: FloatArray, reference: Mask) -> list[Finding]:
    """Compare a reference region with tissues that tau hardly changes: elsewhere, they disagree with it.

    They tell tracers apart as well: in amyloid PET the pons is twice as bright as the cerebellum's grey
    matter, in FDG PET it is much darker.
    """
    mean, found = float(suvr[reference].mean(dtype=np.float64)), []
    for tissue, usual in _USUAL_RATIOS.items():
        ratio = float(suvr[_tissues()[tissue]].mean(dtype=np.float64)) / mean if mean > 0 else -1.0
        fold = max(ratio / usual, usual / ratio) if ratio > 0 else float("nan")
        found.append(judge(f"{tissue}-ratio", fold, f"{ratio:.3g} in this scan, {usual:g} usually"))
    return [*found, judge_sides(suvr, reference), judge_pattern(suvr, reference)]


def judge_sides(suvr: FloatArray, reference: Mask) -> Finding:
    """Compare the medians of the reference region's two sides, on which a bright spot has no hold."""
    middle = reference.shape[0] // 2
    left, right = (float(np.median(suvr[half][reference[half]])) for half in (np.s_[:middle], np.s_[middle:]))
    sound = min(left, right) > 0
    ratio = max(left / right, right / left) if sound else float("nan")
    return judge(
        "reference-sides", ratio, f"{'left' if left > right else 'right'} is higher" if sound else ""
    )


def judge_pattern(suvr: FloatArray, reference: Mask) -> Finding:
    """Judge tissues around a reference region, its variation and its shape together.

    Each may be unusual in a sound scan; a reference region elsewhere makes several unusual that do not go
    together. The distance is Mahalanobis's from painted sound scans, in standard deviations. A region that
    varies less than usual is no worse for it.
    """
    away = (reference_pattern(suvr, reference) - _PATTERN_MEAN) / _PATTERN_SD
    away[3] = max(away[3], 0.0)
    distance = float(np.sqrt(away @ np.linalg.solve(np.array(_PATTERN_CORRELATION), away)))
    if not np.isfinite(distance):
        return judge("reference-pattern", float("nan"))
    most = int(np.argmax(np.abs(away)))
    return judge("reference-pattern", distance, f"most by {_PATTERN[most]}, {away[most]:+.1f}")


def reference_pattern(suvr: FloatArray, reference: Mask) -> NDArray[np.float64]:
    """Return what a reference region looks like, shape (6,), in the order of `_PATTERN`; NaN if unknown."""
    values = suvr[reference].astype(np.float64)
    values = np.minimum(values, _BRIGHT * np.median(values))
    core = ndimage.binary_erosion(reference)[reference]
    mean, spread = values.mean(), values.std()
    with np.errstate(all="ignore"):
        tissues = [np.mean(suvr[where], dtype=np.float64) for where in _tissues().values()]
        ratios = np.array([*tissues, spread, values[core].mean()]) / mean
        return np.array([*np.log(ratios), np.mean((values - mean) ** 3) / spread**3])


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
def _tissues() -> dict[str, Mask]:
    """Return where tissues near the reference region are."""
    atlas = load_atlas()
    cerebellum = atlas.reference | atlas.mask("cerebellar_grey")
    near = ndimage.distance_transform_edt(~cerebellum) * SPACING_MM <= _NEAR_CEREBELLUM_MM
    stem = stem_box()
    unnamed = (atlas.labels == 0) & atlas.brain
    return {
        "cerebellum": atlas.mask("cerebellar_grey"),
        "cerebellar-white": near & unnamed & ~stem & (atlas.white > 0.8),
        "pons": stem & unnamed & (atlas.white > 0.6),
    }


@functools.lru_cache(maxsize=1)
def _air() -> Mask:
    """Return what lies beside and above the head, clear of face and neck."""
    height = np.arange(SHAPE[2]) * SPACING_MM + AFFINE[2, 3]
    return np.asarray((distance_to_brain_mm() > _AIR_MM) & (height > 0))


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
