"""From template to scanner: where the head lies and how it is shaped.

A few rigid starts - level, chin up, chin down, with and without a neck below, and turned over - are tried on
an 8 mm grid with a model of five tissues. The best upright one is refined to an affine map on a 4 mm grid
with a model of tissues and regions, whose weights adapt to the scan (see `pipeline.imaging.alignment`); so is
the best one that is turned over, where the first look leaves any doubt. A smooth warp follows where it
explains the scan better (see `pipeline.imaging.warp`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import ndimage

from pipeline.imaging.alignment import Fit, align
from pipeline.imaging.head import COARSE, FINE, brain_within, five_tissue_model, region_model, template_image
from pipeline.imaging.space import Matrix, coarse_volume, gaussian, smoothing_sigma_mm
from pipeline.imaging.warp import Warp, fit_warp
from pipeline.scan import FloatArray, Volume

SETTINGS: dict[str, Any] = {
    "method": "Gauss-Newton with variable projection",
    "start": "rigid, 8 mm grid, 14 mm resolution, tissues and surroundings to 16 mm, starts x turns",
    "refinement": "affine, 4 mm grid, 8 mm resolution, tissues, regions and surroundings to 12 mm",
    "tilts_deg": [-25.0, 0.0, 25.0],
    "lifts_mm": [0.0, 30.0],
    "start_scale": 0.94,
    "turns": ["about x", "about y", "about z"],
    "steps": [8, 30, 30],
    "histogram_bins": 32,
}
_DOUBT = -0.1
"""Turned-over heads gain -.08 or more at the first look (20 of 20), sound ones -.02 or less, and more than
this in one of five (142 scans)."""
_DOUBTED_FIT = 0.78
"""Scans that were placed right are explained by more, unless skull and scalp are as bright as brain."""
_TURNED_OVER = (np.diag([1.0, -1, -1, 1]), np.diag([-1.0, 1, -1, 1]), np.diag([-1.0, -1, 1, 1]))


@dataclass(frozen=True, eq=False)
class Registration:
    """Where the template lies in the scan.

    Parameters
    ----------
    matrix : ndarray, shape (4, 4)
        Template millimetres to native millimetres, RAS+.
    rigid : ndarray, shape (4, 4)
        The rigid start of it.
    mutual_information : float
        Between scan and template over the brain and 8 mm around it, in nats; larger is better.
    explained : float
        Share of the scan's variance that the tissue model explains, in [0, 1].
    turned_gain : float
        By how much more of the variance the template explains when it is turned over; negative where the
        head is the right way up.
    settings : dict
        Everything that decides the result.
    warp : Warp or None
        What is added to the affine; None where that alone is used.
    """

    matrix: Matrix
    rigid: Matrix
    mutual_information: float
    explained: float
    turned_gain: float
    settings: dict[str, Any] = field(default_factory=lambda: dict(SETTINGS))
    warp: Warp | None = None

    @property
    def scales(self) -> tuple[float, float, float]:
        """Size of the head over size of the template along right, anterior and superior."""
        stretch = np.linalg.norm(self.matrix[:3, :3], axis=0)
        return float(stretch[0]), float(stretch[1]), float(stretch[2])

    @property
    def shear(self) -> float:
        """Largest cosine between two template axes in the scan; 0 where they stay at right angles."""
        axes = self.matrix[:3, :3] / np.linalg.norm(self.matrix[:3, :3], axis=0)
        return float(np.abs(axes.T @ axes - np.eye(3)).max())

    @property
    def rotation_deg(self) -> float:
        """Angle by which the head is turned against the template."""
        u, _, vt = np.linalg.svd(self.matrix[:3, :3])
        return float(np.rad2deg(np.arccos(np.clip((np.trace(u @ vt) - 1) / 2, -1, 1))))


def register(volume: Volume, native_mm: float) -> Registration:
    """Find the affine map from the template into a 3D PET volume of a head.

    Parameters
    ----------
    volume : Volume
        3D, any unit, any orientation of the grid.
    native_mm : float
        Resolution (FWHM) of the volume.

    Returns
    -------
    Registration
        Deterministic: two runs give the same numbers.
    """
    image = prepare(volume, native_mm)
    start, over, turned_gain = _best_start(image)
    found = align(region_model(), image, start, "affine", SETTINGS["steps"][2])
    if found.explained < _DOUBTED_FIT:
        start, found = _from_every_start(image, start, found)
    if turned_gain > _DOUBT:
        other = align(region_model(), image, over, "affine", SETTINGS["steps"][2])
        turned_gain = _score(other) - _score(found)
    return Registration(
        found.matrix, start, mutual_information(image, found.matrix), found.explained, turned_gain
    )


def warped(volume: Volume, native_mm: float, registration: Registration) -> Registration:
    """Add a warp to an affine registration; see `pipeline.imaging.warp.fit_warp`."""
    return replace(registration, warp=fit_warp(prepare(volume, native_mm), registration.matrix))


def stay(volume: Volume, native_mm: float) -> tuple[Registration, float]:
    """Leave a volume where it is, and measure how far from there the best affine fit would put the brain.

    Returns
    -------
    Registration
        The identity.
    float
        Mean distance in millimetres over the brain.
    """
    image = prepare(volume, native_mm)
    identity = np.eye(4)
    found = align(region_model(), image, identity, "affine", SETTINGS["steps"][2])
    here = align(region_model(), image, identity, "affine", max_steps=0)
    points = region_model().points
    off = np.linalg.norm((points @ (found.matrix - identity).T)[:, :3], axis=1).mean()
    seen = mutual_information(image, identity)
    return Registration(identity, identity, seen, here.explained, float("nan")), float(off)


def prepare(volume: Volume, native_mm: float) -> Volume:
    """Coarse, smoothed to the resolution of the model, scaled so that bright tissue is about 1."""
    sigma = smoothing_sigma_mm(native_mm, FINE.resolution_mm)
    coarse = coarse_volume(volume, FINE.spacing_mm, sigma)
    bright = float(np.nanpercentile(coarse.array, 95))
    return coarse.with_array(coarse.array / bright) if bright > 0 else coarse


def _from_every_start(image: Volume, start: Matrix, found: Fit) -> tuple[Matrix, Fit]:
    """Return the best fit of the finer model, and its start, where the coarse one may have led astray.

    Tissues of one brightness each cannot tell strong tau from a head that is tilted further.
    """
    steps = SETTINGS["steps"][2]
    others = [(other, align(region_model(), image, other, "affine", steps)) for other in _upright(image)]
    return max([(start, found), *others], key=lambda tried: _score(tried[1]))


def _upright(image: Volume) -> list[Matrix]:
    """Return the poses to start from with the head the right way up."""
    centre, middle = _centre_mm(image), _middle_mm()
    return [
        _pose(_tilt(tilt), centre + np.array([0.0, 0.0, lift]), middle)
        for tilt in SETTINGS["tilts_deg"]
        for lift in SETTINGS["lifts_mm"]
    ]


def _middle_mm() -> Matrix:
    return _centre_mm(Volume(FINE.bring(template_image()), FINE.affine, "SUVR"))


def _best_start(image: Volume) -> tuple[Matrix, Matrix, float]:
    """Return the best rigid poses, upright and turned over, and how much better the latter explains it."""
    sigma = smoothing_sigma_mm(FINE.resolution_mm, COARSE.resolution_mm)
    smooth = image.with_array(gaussian(image.array, sigma, FINE.spacing_mm))
    centre, middle = _centre_mm(image), _middle_mm()
    turned = [_pose(turn, centre, middle) for turn in _TURNED_OVER]
    first, last, _ = SETTINGS["steps"]
    model = five_tissue_model()

    def settle(starts: list[Matrix]) -> Fit:
        tried = [align(model, smooth, start, "rigid", first) for start in starts]
        best = max(tried, key=_score)
        return align(model, smooth, best.matrix, "rigid", last)

    up, over = settle(_upright(image)), settle(turned)
    return up.matrix, over.matrix, _score(over) - _score(up)


def _score(fit: Fit) -> float:
    """Weigh what is explained by how much is seen: looking away explains nothing."""
    return fit.explained * fit.seen


def _tilt(degrees: float) -> Matrix:
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(4)
    matrix[1:3, 1:3] = [[cosine, -sine], [sine, cosine]]
    return matrix


def _pose(turn: Matrix, place_mm: Matrix, middle_mm: Matrix) -> Matrix:
    """Turn about the template's middle, then put that middle at a place; MNI's brain is larger than most."""
    matrix = turn.copy()
    matrix[:3, :3] *= SETTINGS["start_scale"]
    matrix[:3, 3] = place_mm - matrix[:3, :3] @ middle_mm
    return matrix


def _centre_mm(image: Volume) -> Matrix:
    """Centre of what is brighter than a third of bright tissue."""
    weight = np.nan_to_num(np.maximum(image.array - np.float32(0.3), 0))
    if not weight.any():
        weight = np.ones_like(weight)
    return np.asarray(image.affine[:3, :3] @ np.array(ndimage.center_of_mass(weight)) + image.affine[:3, 3])


def mutual_information(image: Volume, matrix: Matrix) -> float:
    """Return the mutual information of a prepared image and the template under a matrix, in nats.

    Voxels within 8 mm of the brain are counted into 32 x 32 bins from the first to the last percentile.
    """
    where = FINE.bring(brain_within(8.0)) > 0.5
    expected = FINE.bring(template_image())[where]
    voxels = np.linalg.inv(image.affine) @ matrix @ FINE.affine
    places = voxels[:3, :3] @ np.argwhere(where).T + voxels[:3, 3:]
    seen = np.nan_to_num(ndimage.map_coordinates(image.array, places, order=1))
    joint, _, _ = np.histogram2d(_inner(seen), _inner(expected), bins=SETTINGS["histogram_bins"])
    joint /= joint.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    filled = joint > 0
    return float(np.sum(joint[filled] * np.log(joint[filled] / independent[filled])))


def _inner(values: FloatArray) -> FloatArray:
    low, high = np.percentile(values, [1, 99])
    return np.clip(values, low, high)
