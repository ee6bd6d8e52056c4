"""From the affine to a person's own shape: a smooth warp of the template onto a PET scan.

The displacement is a sum of cosines of long wavelength under a prior that keeps it smooth. It is fitted to
the model of tissues and regions of the affine, whose weights are solved for at every step (variable
projection): what tau changes is explained by weights before any shape is changed.

References
----------
Ashburner and Friston, Nonlinear spatial normalization using basis functions, Human Brain Mapping 1999.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.atlas import SHAPE, SPACING_MM
from pipeline.imaging.alignment import LinearModel
from pipeline.imaging.head import FINE, region_model
from pipeline.imaging.space import Matrix
from pipeline.scan import FloatArray, Volume

WARP_SETTINGS: dict[str, Any] = {
    "basis": "cosines over the template grid",
    "waves": [12, 14, 12],
    "prior_sd_mm": 3.0,
    "prior_length_mm": 30.0,
    "noise_correlation": 100.0,
    "steps": 6,
    "conjugate_steps": 10,
    "least_volume_ratio": 0.3,
}
_WAVES: tuple[int, int, int] = (12, 14, 12)
_GRID: tuple[int, int, int] = (SHAPE[0] // FINE.factor, SHAPE[1] // FINE.factor, SHAPE[2] // FINE.factor)


@dataclass(frozen=True, eq=False)
class Warp:
    """Where the template's points lie beside the affine.

    Parameters
    ----------
    coefficients : ndarray of float32, shape (3, 12, 14, 12)
        Amounts of cosines, in template millimetres along right, anterior and superior.
    explained : float
        Share of the scan's variance that the tissue model explains under the warp, in [0, 1].
    """

    coefficients: FloatArray
    explained: float

    def displacement_mm(self, factor: int = 1) -> FloatArray:
        """Return template millimetres, shape (3, x, y, z), on the template grid or a coarser one."""
        x, y, z = (_cosines(axis, factor) for axis in range(3))
        along_x = np.tensordot(self.coefficients, x, axes=(1, 1))
        return np.asarray(np.tensordot(np.tensordot(along_x, y, axes=(1, 1)), z, axes=(1, 1)))

    def volume_ratios(self, factor: int = FINE.factor) -> FloatArray:
        """Return the determinant of the Jacobian; positive everywhere where nothing folds."""
        (a, b, c), (d, e, f), (g, h, i) = (
            np.gradient(self.displacement_mm(factor), SPACING_MM * factor, axis=axis) for axis in (1, 2, 3)
        )
        a, e, i = a + 1, e + 1, i + 1
        return np.asarray(a * (e * i - f * h) - d * (b * i - c * h) + g * (b * f - c * e), dtype=np.float32)


def fit_warp(image: Volume, matrix: Matrix) -> Warp:
    """Warp the template onto a prepared image, beside an affine map.

    Parameters
    ----------
    image : Volume
        See `pipeline.imaging.registration.prepare`.
    matrix : ndarray, shape (4, 4)
        Template millimetres to those of the image.

    Returns
    -------
    Warp
        Without folds: steps that would shrink any volume below .3 are shortened. Deterministic.
    """
    model = region_model()
    to_voxel = (np.linalg.inv(image.affine) @ matrix)[:3].astype(np.float32)
    start = to_voxel @ model.points.T
    coefficients: FloatArray = np.zeros((3, *_WAVES), dtype=np.float32)
    for _ in range(WARP_SETTINGS["steps"]):
        move = _sampled(coefficients)
        state = _Explained(model, *_seen(image, start + to_voxel[:, :3] @ move))
        step: FloatArray = _step(state, coefficients)
        # Full steps nearly always; a fold is prevented by going less far.
        for _ in range(6):
            ahead = Warp(coefficients + step, 0.0)
            if float(ahead.volume_ratios().min()) > WARP_SETTINGS["least_volume_ratio"]:
                coefficients = ahead.coefficients
                break
            step = step * np.float32(0.5)
    state = _Explained(model, *_seen(image, start + to_voxel[:, :3] @ _sampled(coefficients)))
    return Warp(coefficients, state.explained)


def _seen(image: Volume, places: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    values = ndimage.map_coordinates(image.array, places, order=1, output=np.float32, cval=np.nan)
    seen = np.isfinite(values)
    values[~seen] = 0
    return values, seen


class _Explained:
    """The image at the displaced points, explained as well as it can be."""

    def __init__(self, model: LinearModel, values: FloatArray, seen: NDArray[np.bool_]) -> None:
        self.model, self.seen = model, seen
        self.inverse = model.inverse(seen).astype(np.float32)
        self.weights = self.inverse @ (model.maps.T @ values)
        self.residual = np.where(seen, model.maps @ self.weights - values, np.float32(0))
        squares = float(self.residual.astype(np.float64) @ self.residual)
        known = values[seen].astype(np.float64)
        spread = float(np.sum((known - known.mean()) ** 2)) if len(known) else 0.0
        self.explained = 1.0 - squares / spread if spread > 0 else 0.0
        self.variance = squares / max(int(seen.sum()), 1)

    def unexplained(self, change: FloatArray) -> FloatArray:
        """Leave of a change of the image what other weights cannot make good."""
        model = self.model
        return change - model.maps @ (self.inverse @ (model.maps.T @ change))


def _step(state: _Explained, coefficients: FloatArray) -> FloatArray:
    """Return the change of coefficients that explains the image better, weighed against the prior."""
    slope = np.where(state.seen, state.model.gradients @ state.weights, np.float32(0))
    # Neighbouring points share their noise, and wider ones what the model lacks: so many count as one.
    noise = np.float32(state.variance * WARP_SETTINGS["noise_correlation"])
    penalty = _precision() * noise

    def curvature(change: FloatArray) -> FloatArray:
        seen = np.einsum("an,an->n", slope, _sampled(change))
        return _gathered(slope * state.unexplained(seen)) + penalty * change

    downhill = _gathered(slope * state.residual) - penalty * coefficients
    scale = np.square(slope).sum(axis=1)[:, None, None, None] + penalty
    return _solved(curvature, downhill, scale, WARP_SETTINGS["conjugate_steps"])


def _solved(
    curvature: Callable[[FloatArray], FloatArray], right: FloatArray, scale: FloatArray, steps: int
) -> FloatArray:
    """Solve a symmetric positive system by conjugate gradients, scaled by its approximate diagonal."""
    found, left = np.zeros_like(right), right.copy()
    scaled = left / scale
    direction, size = scaled, float(np.vdot(left, scaled))
    for _ in range(steps):
        if not size > 0:
            break
        along = curvature(direction)
        length = np.float32(size / float(np.vdot(direction, along)))
        found += length * direction
        left -= length * along
        scaled = left / scale
        before, size = size, float(np.vdot(left, scaled))
        direction = scaled + np.float32(size / before) * direction
    return found


@functools.lru_cache(maxsize=8)
def _cosines(axis: int, factor: int) -> FloatArray:
    """Cosines of variance 1 at the centres of an axis's voxels, shape (voxels, waves)."""
    count = SHAPE[axis] // factor
    places = (np.arange(count) + 0.5) / count
    basis = np.cos(np.pi * places[:, None] * np.arange(_WAVES[axis]))
    basis[:, 1:] *= np.sqrt(2.0)
    return basis.astype(np.float32)


@functools.lru_cache(maxsize=1)
def _precision() -> FloatArray:
    """Inverse prior variance of the coefficients, shape (12, 14, 12): long waves may be large."""
    waves = np.ogrid[tuple(map(slice, _WAVES))]
    per_mm = [np.pi * k / (n * SPACING_MM) for k, n in zip(waves, SHAPE, strict=True)]
    roughness = (1 + sum(np.square(k) for k in per_mm) * WARP_SETTINGS["prior_length_mm"] ** 2) ** 2
    precision = roughness * np.sum(1 / roughness) / WARP_SETTINGS["prior_sd_mm"] ** 2
    return np.asarray(precision, dtype=np.float32)


@functools.lru_cache(maxsize=1)
def _points() -> NDArray[np.intp]:
    """Flat indices of the model's points on the 4 mm grid."""
    voxels = np.rint(np.linalg.inv(FINE.affine) @ region_model().points.T)[:3].astype(np.intp)
    return np.asarray(np.ravel_multi_index(tuple(voxels), _GRID))


def _sampled(coefficients: FloatArray) -> FloatArray:
    """Displacement at the model's points, shape (3, n)."""
    field = Warp(coefficients, 0.0).displacement_mm(FINE.factor)
    return np.asarray(field.reshape(3, -1)[:, _points()])


def _gathered(values: FloatArray) -> FloatArray:
    """Transpose of `_sampled`: from values at the points, shape (3, n), to coefficients."""
    field = np.zeros((3, int(np.prod(_GRID))), dtype=np.float32)
    field[:, _points()] = values
    x, y, z = (_cosines(axis, FINE.factor) for axis in range(3))
    along_z = field.reshape(3, *_GRID) @ z
    along_yz = np.tensordot(along_z, y, axes=(2, 0))
    return np.ascontiguousarray(np.tensordot(along_yz, x, axes=(1, 0)).transpose(0, 3, 2, 1))
