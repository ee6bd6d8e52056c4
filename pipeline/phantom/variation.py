"""How one person's anatomy differs from the atlas's: smooth warps, ventricles, cortex, fluid, skull.

Everything is drawn from the subject's seed, from age and from the stage of tau, never from the class: given
the stage, an image holds no more about the class than the stage does, and the posterior stays exact.

References
----------
Sizes are those of print where print has them; what is assumed is named so.

- Cortex: thinner by .35 % a year over adult life (Storsve 2014, J Neurosci 34:8488), by about .5 % in
  temporal and prefrontal cortex after 60 (Fjell 2009, J Neurosci 29:15223). With tau it thins where
  Alzheimer's disease thins it (Dickerson 2009, doi 10.1093/cercor/bhn113); by how much at stage 1 is assumed.
- Lateral ventricles: 44 % larger in dementia of the Alzheimer type (George 1983,
  doi 10.1148/radiology.149.2.6622694), growing with age (Carmichael 2007,
  doi 10.1016/j.neurobiolaging.2006.06.016); 3 % a year and a spread of .35 in the logarithm are assumed.
- Fluid over the cortex: its volume grows by 3.0 ml a year (Smith 2020, doi 10.3934/Neuroscience.2020009),
  that is .03 mm over some 900 square centimetres; more in dementia (doi 10.3233/JAD-180732).
- Skull: 6.3 mm on average, 5.3 to 7.5 mm by place (Moreira-Gonzalez 2006,
  doi 10.1097/01.prs.0000209933.78532.a7).
- Warps: a linear map does not align brains (Klein 2009, PMC2747506); sulci vary by several millimetres within
  the Talairach grid (Thompson 1996, J Neurosci 16:4261). The scales are assumed.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from pipeline.atlas import SHAPE, SPACING_MM, load_atlas
from pipeline.phantom.anatomy import tau_rise
from pipeline.phantom.head_layers import HeadLayers, draw_layers

_STEP = 2
"""Warps live on every second voxel of the template grid."""
_WARP_MM = ((30.0, 2.2), (14.0, 1.6), (7.0, 0.8))
"""Smoothness (sigma) and size (standard deviation along each axis) of the parts of a warp, in mm."""
_AGE = 73.0
"""Age in years at which the published regional table is taken to hold."""
_THINNER_A_YEAR, _THINNER_SD = 0.0035, 0.03
_THINNER_WITH_TAU = {"hippocampus": 0.22, "entorhinal": 0.20, "parahippocampal": 0.16, "temporal_pole": 0.14}
_THINNER_ELSEWHERE = 0.11
_VENTRICLE_A_YEAR, _VENTRICLE_SD, _VENTRICLE_WITH_TAU = 0.03, 0.35, float(np.log(1.44))
_VENTRICLE_AT_73 = 0.55
"""Logarithm of a typical person's ventricles over the template's, which shows young adults (assumed)."""
_FLUID_A_YEAR_MM, _FLUID_WITH_TAU_MM, _FLUID_SD_MM = 0.03, 0.8, 0.7
_SQUARINGS = 6
_SOURCE_MM = 6.0


@dataclass(frozen=True, eq=False)
class Variation:
    """One person's anatomy at one visit.

    Parameters
    ----------
    seed : list of int
        Decides the warp, which lasts in a subject.
    ventricles : dict of str to float
        ``"left"`` and ``"right"``: logarithm of the lateral ventricle's volume over the template's.
    thinning : dict of str to float
        Share of its grey matter that each cortical region has lost, by sided name; below 0 it is thicker.
    expected : dict of str to float
        What a typical person of this stage has lost to tau, by sided name: the published table holds for
        people with that loss.
    layers : HeadLayers
        What surrounds the brain.
    """

    seed: list[int]
    ventricles: dict[str, float]
    thinning: dict[str, float]
    expected: dict[str, float]
    layers: HeadLayers


def draw_variation(subject_seed: list[int], age: float, stage: float, asymmetry: float = 0.0) -> Variation:
    """Draw a person's anatomy at an age in years and a stage of tau in [0, 1].

    The warp and the person's own share in ventricles, cortex, fluid and skull last in a subject: they come
    from its seed alone. Sides differ, and the side that tau is ahead on is ahead in thinning as well.
    """
    rng = np.random.default_rng([*subject_seed, 21])
    older = age - _AGE
    common, fluid = rng.standard_normal(), rng.normal(0.0, _FLUID_SD_MM)
    ventricles, thinning, expected = {}, {}, {}
    own = rng.normal(0.0, _THINNER_SD)
    for side, ahead in (("left", 1 + asymmetry), ("right", 1 - asymmetry)):
        person = _VENTRICLE_SD * (0.95 * common + 0.3 * rng.standard_normal())
        grown = _VENTRICLE_A_YEAR * older + _VENTRICLE_WITH_TAU * stage
        ventricles[side] = float(np.clip(_VENTRICLE_AT_73 + person + grown, -0.5, 1.9))
        one_side = own + rng.normal(0.0, _THINNER_SD / 2)
        for name in load_atlas().regions_of("target"):
            with_tau = _THINNER_WITH_TAU.get(name, _THINNER_ELSEWHERE) * float(tau_rise(stage * ahead, 0.35))
            lost = one_side + _THINNER_A_YEAR * older + with_tau
            expected[f"{side}_{name}"] = with_tau
            thinning[f"{side}_{name}"] = float(np.clip(lost, -0.15, 0.40))
    drawn = draw_layers(subject_seed)
    gap = drawn.fluid + fluid + _FLUID_A_YEAR_MM * older + _FLUID_WITH_TAU_MM * stage
    layers = HeadLayers(float(np.clip(gap, 4.0, 10.0)), drawn.skull, drawn.scalp)
    return Variation(subject_seed, ventricles, thinning, expected, layers)


def pull_back(variation: Variation) -> NDArray[np.float32]:
    """Return where each voxel of the person's head comes from: a displacement into the template.

    A stationary velocity field is integrated backwards, so the map has an inverse and nothing folds.

    Returns
    -------
    ndarray of float32, shape (3, 48, 56, 48)
        In mm, on every second voxel of the template grid.
    """
    return exponential(-_velocity(variation))


def push_forward(variation: Variation) -> NDArray[np.float32]:
    """Return where each point of the template lies in the person's head: the inverse of `pull_back`."""
    return exponential(_velocity(variation))


def _velocity(variation: Variation) -> NDArray[np.float32]:
    """Return the stationary velocity in mm that carries the template into the person's head."""
    velocity = _random_velocity(tuple(variation.seed)).copy()
    for side, growth in variation.ventricles.items():
        # Fluid leaves the place where the velocity was laid out: measured on the template, to 8 % in volume.
        velocity += np.float32(growth * (0.72 + 0.24 * abs(growth))) * _ventricle_growth(side)
    return velocity


def exponential(velocity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Integrate a stationary velocity field over unit time by scaling and squaring.

    Parameters
    ----------
    velocity : ndarray of float32, shape (3, x, y, z)
        In mm on the coarse grid.

    Returns
    -------
    ndarray of float32, shape (3, x, y, z)
        Displacement in mm.

    References
    ----------
    Arsigny et al. 2006, doi 10.1007/11866565_113.
    """
    step = _STEP * SPACING_MM
    moved = velocity / np.float32(2**_SQUARINGS)
    grid = np.indices(velocity.shape[1:], dtype=np.float32)
    for _ in range(_SQUARINGS):
        there = grid + moved / np.float32(step)
        moved = moved + np.stack(
            [ndimage.map_coordinates(part, there, order=1, mode="nearest") for part in moved]
        )
    displacement: NDArray[np.float32] = moved.astype(np.float32)
    return displacement


@functools.lru_cache(maxsize=2)
def _random_velocity(seed: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw a smooth velocity of several scales; at these scales left and right are independent."""
    rng = np.random.default_rng([*seed, 22])
    shape = tuple(n // _STEP for n in SHAPE)
    velocity = np.zeros((3, *shape), dtype=np.float32)
    for sigma_mm, size_mm in _WARP_MM:
        sigma = sigma_mm / (_STEP * SPACING_MM)
        for axis in range(3):
            white = rng.standard_normal(shape, dtype=np.float32)
            smooth = ndimage.gaussian_filter(white, sigma, mode="constant", truncate=3.0)
            # The expected size of smoothed noise, not the drawn one: some people differ more than others.
            velocity[axis] += smooth * np.float32(size_mm * (2 * np.sqrt(np.pi) * sigma) ** 1.5)
    return velocity


@functools.cache
def _ventricle_growth(side: str) -> NDArray[np.float32]:
    """Velocity away from one lateral ventricle that makes it grow by a factor e in unit time."""
    atlas = load_atlas()
    x = np.arange(SHAPE[0])[:, None, None]
    ventricle = atlas.mask("lateral_ventricle") & (
        (x < SHAPE[0] // 2) if side == "left" else (x >= SHAPE[0] // 2)
    )
    share = ventricle.reshape(*(v for n in SHAPE for v in (n // _STEP, _STEP))).mean(axis=(1, 3, 5))
    step = _STEP * SPACING_MM
    source = ndimage.gaussian_filter(share, _SOURCE_MM / step)
    # The flow from sources spread over the ventricle: it fades with the square of the distance.
    offsets = np.meshgrid(*(np.arange(-n + 1, n) * step for n in share.shape), indexing="ij", sparse=True)
    squared = sum(o**2 for o in offsets) + step**2
    fade = np.exp(-squared / (2 * 35.0**2)) * step**3 / (4 * np.pi * squared**1.5)
    velocity = np.stack([signal.fftconvolve(source, fade * o, mode="same") for o in offsets])
    divergence = sum(np.gradient(velocity[k], step, axis=k) for k in range(3))
    velocity /= float(np.average(divergence, weights=share))
    growth: NDArray[np.float32] = velocity.astype(np.float32)
    return growth


def on_template_grid(displacement: NDArray[np.float32]) -> NDArray[np.float32]:
    """Interpolate a displacement from the coarse grid to every voxel of the template grid, in voxels.

    Returns
    -------
    ndarray of float32, shape (3, 96, 112, 96)
    """
    index = [np.clip((np.arange(n) - (_STEP - 1) / 2) / _STEP, 0, n // _STEP - 1) for n in SHAPE]
    fine = displacement / np.float32(SPACING_MM)
    for axis, where in enumerate(index, start=1):
        low = np.minimum(where.astype(int), fine.shape[axis] - 2)
        weight = (where - low).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(4)])
        fine = np.take(fine, low, axis) * (1 - weight) + np.take(fine, low + 1, axis) * weight
    return fine
