"""From latents to a noise-free SUVR image in template space whose regional means are those of the table.

Published regional SUVR were measured on blurred images. Blurring mixes neighbouring regions linearly, so
the means measured at a resolution are ``M x`` of the intensities ``x`` painted into the compartments; the
intensities to paint are found by solving for them. ``M`` depends on the atlas alone.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.arrays import Floats
from pipeline.atlas import AFFINE, REFERENCE, SHAPE, SPACING_MM, Region, load_atlas, load_regions
from pipeline.phantom.head_layers import HeadLayers, places_mm, surround
from pipeline.phantom.population import Latents

RESOLUTION_MM = 8.0
"""FWHM at which regional means equal the table: the resolution scans are harmonised to."""

_STEEPNESS = 0.07
_SWAPPED_ONSET = {
    "entorhinal": 0.50, "amygdala": 0.52, "hippocampus": 0.52, "parahippocampal": 0.50, "temporal_pole": 0.55,
    "precuneus": 0.20, "inferior_parietal": 0.22, "superior_parietal": 0.25, "isthmus_cingulate": 0.25,
    "posterior_cingulate": 0.28, "lateral_occipital": 0.22, "cuneus": 0.28, "supramarginal": 0.30,
    "lingual": 0.30, "pericalcarine": 0.45,
}  # fmt: skip
"""Onsets of the posterior subtype where they differ: parieto-occipital first, medial temporal late."""

# Variance of the tau-negative deviations: shared by all regions of a scan, and per region: lasting in a
# subject, of one side, and new at every visit (which makes test and retest differ by about 3 %).
_VARIANCE_SHARED, _VARIANCE_REGION, _VARIANCE_SIDE, _VARIANCE_VISIT = 0.25, 0.50, 0.15, 0.10

_FIXED = {"csf": 0.55, "cerebellar_white": 1.05, "brainstem": 1.15}
"""SUVR of compartments that no region of the table describes."""
_MENINGES = 0.75
SPOT_SIGMA_MM = 3.0


@dataclass(frozen=True, eq=False)
class Uptake:
    """What one scan shows, region by region, at `RESOLUTION_MM` relative to inferior cerebellar grey.

    Parameters
    ----------
    background : dict of str to float
        SUVR of every region without tau; sided names as in the atlas.
    tau : dict of str to float
        What tau adds to the target regions.
    meninges : float
        SUVR painted into the meninges.
    spots : ndarray, shape (n, 4)
        Meningeal spots: voxel coordinates of the centre and the SUVR at the centre.
    skull, soft_tissue : float
        SUVR around the brain: assumed, without a published range.
    """

    background: dict[str, float]
    tau: dict[str, float]
    meninges: float
    spots: Floats
    skull: float = 0.40
    soft_tissue: float = 0.30


@dataclass(frozen=True, eq=False)
class Rendering:
    """A noise-free image and what it truly holds.

    Parameters
    ----------
    suvr : ndarray of float32, shape (x, y, z)
        Sharp: before any scanner. The atlas's own anatomy has shape (96, 112, 96).
    regional : dict of str to float
        Mean SUVR of every region at `RESOLUTION_MM`; the reference region has 1.
    affine : ndarray, shape (4, 4)
        Voxel index to RAS+ mm of the head's own space: template space for the atlas's own anatomy.
    labels : ndarray of int16 or None
        Where a person's regions are, on the grid of `suvr`: the person's own labels, or indices into the
        atlas's names; None where the atlas's labels hold.
    own_shape : bool
        Whether the head has its own size and shape already; otherwise the scanner stretches it.
    warp : ndarray of float32 or None
        Displacement in mm from the head to the template, see `variation.pull_back`.
    """

    suvr: NDArray[np.float32]
    regional: dict[str, float]
    affine: Floats = field(default_factory=lambda: AFFINE)
    labels: NDArray[np.int16] | None = None
    own_shape: bool = False
    warp: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Model:
    """Compartments on the template grid and how blurring mixes them.

    Parameters
    ----------
    paint : ndarray of int16, shape (96, 112, 96)
        Which compartment's intensity a voxel's grey part has; 0 is air.
    grey_part : ndarray of float32, shape (96, 112, 96)
        Fraction of `paint` in a voxel; the rest has the intensity of `filler`.
    filler : ndarray of int16, shape (96, 112, 96)
    names : tuple of str
        Compartment names; the first `solved` of them are regions with a mean to match.
    mixing : ndarray, shape (solved, compartments)
        Regional means at `RESOLUTION_MM` per unit intensity of each compartment.
    """

    paint: NDArray[np.int16]
    grey_part: NDArray[np.float32]
    filler: NDArray[np.int16]
    names: tuple[str, ...]
    solved: int
    mixing: Floats


def tau_rise(stage: Floats | float, onset: float) -> Floats:
    """Share of the tau signal that a region with this onset shows; 0 at stage 0.

    Examples
    --------
    >>> float(tau_rise(0.0, 0.16)), round(float(tau_rise(1.0, 0.16)), 3)
    (0.0, 1.0)
    """
    at_zero = 1 / (1 + np.exp(onset / _STEEPNESS))
    rise = 1 / (1 + np.exp(-(np.asarray(stage, dtype=np.float64) - onset) / _STEEPNESS))
    share: Floats = (rise - at_zero) / (1 - at_zero)
    return share


def tau_suvr(region: Region, latents: Latents, side: str) -> float:
    """SUVR that tau adds to one side (``"left"`` or ``"right"``) of a region; 0 where tau never goes."""
    if region.p99 is None or region.onset is None:
        return 0.0
    onset = region.onset if latents.typical else _SWAPPED_ONSET.get(region.name, region.onset)
    own_stage = latents.stage * (1 + latents.asymmetry * (1 if side == "left" else -1))
    height = latents.capacity * min(1.0, 0.45 + 0.55 * latents.stage) * (region.p99 - region.negative_mean)
    return height * float(tau_rise(own_stage, onset))


def draw_uptake(latents: Latents, subject_seed: list[int], scan_seed: list[int]) -> Uptake:
    """Draw the regional SUVR of one scan; what lasts in a subject comes from the subject's seed."""
    lasting, new = np.random.default_rng(subject_seed), np.random.default_rng(scan_seed)
    shared = np.sqrt(_VARIANCE_SHARED) * lasting.standard_normal()
    background: dict[str, float] = {}
    tau: dict[str, float] = {}
    for region in load_regions():
        own = np.sqrt(_VARIANCE_REGION) * lasting.standard_normal()
        for side in ("left", "right"):
            deviation = shared + own + np.sqrt(_VARIANCE_SIDE) * lasting.standard_normal()
            deviation += np.sqrt(_VARIANCE_VISIT) * new.standard_normal()
            name = region.name if region.kind == "background" else f"{side}_{region.name}"
            background[name] = max(region.negative_mean + region.negative_sd * float(deviation), 0.1)
            if region.kind == "target":
                tau[name] = tau_suvr(region, latents, side)
    background[REFERENCE] = 1.0
    return Uptake(background, tau, _MENINGES * float(lasting.lognormal(0.0, 0.25)), _draw_spots(lasting))


def _draw_spots(rng: np.random.Generator) -> Floats:
    """Draw where this subject's meninges bind the tracer, and how much: a few spots a head."""
    model = load_model()
    meninges = np.argwhere(model.filler == model.names.index("meninges"))
    centres = meninges[rng.integers(len(meninges), size=rng.poisson(3))]
    return np.column_stack([centres, rng.uniform(0.8, 2.5, len(centres))]).astype(np.float64)


def draw_glucose_uptake(scan_seed: list[int]) -> Uptake:
    """Draw what FDG would show: grey matter high, white matter low."""
    rng = np.random.default_rng(scan_seed)
    background = {name: 1.25 + 0.06 * float(rng.standard_normal()) for name in load_atlas().names[1:]}
    background |= {REFERENCE: 1.0, "cerebellar_grey": 1.0, "white_matter": 0.7, "lateral_ventricle": 0.4}
    return Uptake(background, {}, meninges=0.5, spots=np.zeros((0, 4)))


def render(uptake: Uptake) -> Rendering:
    """Paint an image whose blurred regional means are those of the uptake.

    The background is solved for all regions together. Tau is then added to target regions only, so that the
    paint of white matter and off-target regions is the same in all classes and they change by spill-over
    alone, as in a scanner.
    """
    model = load_model()
    names = model.names
    paint = intensities(uptake)
    intensity = paint.astype(np.float32)
    suvr: NDArray[np.float32] = intensity[model.filler]
    suvr += model.grey_part * (intensity[model.paint] - suvr)
    means = model.mixing @ paint + _add_spots(suvr, uptake.spots)
    means /= means[names.index(REFERENCE) - 1]
    return Rendering(suvr, {names[k]: float(means[k - 1]) for k in range(1, model.solved + 1)})


def intensities(uptake: Uptake) -> Floats:
    """Return what to paint into the compartments so that their blurred means are those of the uptake.

    Returns
    -------
    ndarray, shape (compartments,)
        SUVR in the order of the model's names, at least 0.
    """
    model = load_model()
    names = model.names
    around = {"meninges": uptake.meninges, "skull": uptake.skull, "soft_tissue": uptake.soft_tissue}
    fixed = {**_FIXED, **around, "air": 0.0}
    paint = np.array([fixed.get(name, 0.0) for name in names])
    regions = np.arange(1, model.solved + 1)
    background = np.array([uptake.background[names[k]] for k in regions])
    paint[regions] = np.linalg.solve(model.mixing[:, regions], background - model.mixing @ paint)
    targets = np.array([k for k in regions if names[k] in uptake.tau], dtype=np.int64)
    if len(targets):
        added = np.array([uptake.tau[names[k]] for k in targets])
        paint[targets] += np.linalg.solve(model.mixing[np.ix_(targets - 1, targets)], added)
    painted: Floats = np.maximum(paint, 0.0)
    return painted


def _add_spots(suvr: NDArray[np.float32], spots: Floats) -> Floats:
    """Add meningeal spots to an image; return what they add to each region's mean at `RESOLUTION_MM`."""
    labels = load_atlas().labels
    regions = len(load_atlas().names) - 1
    added = np.zeros(regions + 1)
    sharp, blur = SPOT_SIGMA_MM / SPACING_MM, RESOLUTION_MM / 2.3548 / SPACING_MM
    wide = np.hypot(sharp, blur)
    for *centre, height in spots:
        box = tuple(slice(max(int(c) - 9, 0), int(c) + 10) for c in centre)
        offsets = np.ogrid[tuple(slice(b.start, min(b.stop, n)) for b, n in zip(box, SHAPE, strict=True))]
        squared = sum((a - c) ** 2 for a, c in zip(offsets, centre, strict=True))
        suvr[box] += (height * np.exp(-squared / (2 * sharp**2))).astype(np.float32)
        blurred = height * (sharp / wide) ** 3 * np.exp(-squared / (2 * wide**2))
        added += np.bincount(labels[box].ravel(), blurred.ravel(), minlength=regions + 1)
    shares: Floats = added[1:] / np.bincount(labels.ravel(), minlength=regions + 1)[1:]
    return shares


@functools.lru_cache(maxsize=1)
def load_model() -> Model:
    """Lay out the compartments and measure how they mix; about a second, once a process."""
    atlas = load_atlas()
    names = ("air", *atlas.names[1:], *_FIXED, "meninges", "skull", "soft_tissue")
    index = {name: k for k, name in enumerate(names)}
    painted = ~np.isin(atlas.labels, [0, index["white_matter"]])
    nearest = ndimage.distance_transform_edt(~painted, return_distances=False, return_indices=True)
    paint = atlas.labels[tuple(nearest)]
    filler = _filler(paint, index)
    whole = painted & np.isin(atlas.labels, [index[n] for n in names if _is_whole(n)])
    part = np.where(whole, 1.0, np.where(atlas.brain & (filler != index["brainstem"]), atlas.grey, 0.0))
    part = part.astype(np.float32)
    solved = len(atlas.names) - 1
    return Model(paint, part, filler, names, solved, _mixing(paint, part, filler, (solved, len(names))))


def _is_whole(name: str) -> bool:
    """Subcortical regions and ventricles fill their voxels; cortex shares them with white matter and CSF."""
    kinds = {r.name: r.kind for r in load_regions()}
    return name == "lateral_ventricle" or kinds.get(name.split("_", 1)[-1]) == "offtarget"


def _filler(paint: NDArray[np.int16], index: dict[str, int]) -> NDArray[np.int16]:
    """Return what fills the part of a voxel that is not grey matter, and all of a voxel outside the brain."""
    atlas = load_atlas()
    x, y, z = places_mm(SHAPE, AFFINE)
    filler = surround(atlas.brain, AFFINE, HeadLayers(), index)
    cerebellar = np.isin(paint, [index[REFERENCE], index["cerebellar_grey"]])
    stem = (np.abs(x) < 22) & (y > -45) & (y < -10) & (z < -14) & (atlas.white > 0.2) & ~(atlas.labels > 0)
    white = np.where(cerebellar, index["cerebellar_white"], index["white_matter"])
    inside = np.where(atlas.white > 1 - atlas.grey - atlas.white, white, index["csf"])
    inside[stem] = index["brainstem"]
    return np.where(atlas.brain, inside, filler).astype(np.int16)


def _mixing(
    paint: NDArray[np.int16], part: NDArray[np.float32], filler: NDArray[np.int16], shape: tuple[int, int]
) -> Floats:
    """Blur each compartment alone and read its mean in every region."""
    labels = load_atlas().labels
    sizes = np.bincount(labels.ravel(), minlength=shape[0] + 1)[1 : shape[0] + 1]
    sigma = RESOLUTION_MM / 2.3548 / SPACING_MM
    margin = int(np.ceil(4 * sigma))
    mixing = np.zeros(shape)
    for compartment in range(1, shape[1]):
        weight = np.where(paint == compartment, part, 0) + np.where(filler == compartment, 1 - part, 0)
        where = np.argwhere(weight)
        low, high = np.maximum(where.min(axis=0) - margin, 0), where.max(axis=0) + margin + 1
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        blurred = ndimage.gaussian_filter(weight[box].astype(np.float32), sigma, mode="constant")
        sums = np.bincount(labels[box].ravel(), blurred.ravel(), minlength=shape[0] + 1)
        mixing[:, compartment] = sums[1 : shape[0] + 1] / sizes
    return mixing
