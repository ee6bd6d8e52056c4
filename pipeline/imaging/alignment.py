"""Gauss-Newton alignment of an image to a linear model of itself.

An image is explained as a weighted sum of fixed maps. The weights are solved for at every step (variable
projection), so only the pose is searched: one least-squares solution a step, a handful of steps in all.
With tissue and region maps the target adapts to each scan's own uptake, tau-positive cortex included; with
one map, the mean of the frames, the same few lines realign frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, ndimage

from pipeline.imaging.space import Matrix
from pipeline.scan import FloatArray, Volume

Motion = Literal["rigid", "affine"]

_RIDGE = 1e-3
_DAMPING = 1e-4
_STILL_MM = 0.02


def generators(motion: Motion) -> Matrix:
    """Return infinitesimal motions as 4 x 4 matrices: six of a rigid body, or all twelve of an affine map.

    Examples
    --------
    >>> generators("rigid").shape, generators("affine").shape
    ((6, 4, 4), (12, 4, 4))
    """
    if motion == "affine":
        basis = np.zeros((12, 4, 4))
        basis[np.arange(12), np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3)] = 1.0
        return basis
    basis = np.zeros((6, 4, 4))
    for axis, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        basis[axis, i, j], basis[axis, j, i] = -1.0, 1.0
        basis[3 + axis, axis, 3] = 1.0
    return basis


@dataclass(frozen=True, eq=False)
class LinearModel:
    """Maps that an image is explained by, at the points where the two are compared.

    Parameters
    ----------
    points : ndarray of float32, shape (n, 4)
        Homogeneous millimetres in the space of the maps.
    maps : ndarray of float32, shape (n, m)
    gradients : ndarray of float32, shape (3, n, m)
        Their slopes per millimetre.
    """

    points: FloatArray
    maps: FloatArray
    gradients: FloatArray
    normal: Matrix = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "normal", (self.maps.T @ self.maps).astype(np.float64))

    def inverse(self, seen: NDArray[np.bool_]) -> Matrix:
        """Inverse normal matrix of the maps over the points that are seen.

        A little ridge is added: maps of neighbouring regions overlap after blurring.
        """
        unseen = self.maps[~seen]
        normal = self.normal - (unseen.T @ unseen).astype(np.float64)
        ridge = _RIDGE * np.trace(self.normal) / len(normal)
        return np.asarray(np.linalg.inv(normal + ridge * np.eye(len(normal))))


def build_model(maps: FloatArray, affine: Matrix, keep: NDArray[np.bool_]) -> LinearModel:
    """Sample maps, shape (m, x, y, z) on a grid, and their slopes where `keep` is true."""
    places, kept = np.argwhere(keep), np.flatnonzero(keep)  # a mask would be searched for each map again
    points = np.column_stack([places, np.ones(len(places))]) @ affine.T
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    of_map = np.empty((len(maps), len(kept)), dtype=np.float32)
    gradients = np.empty((3, len(kept), len(maps)), dtype=np.float32)
    for axis in range(3):
        for one, row in zip(maps, of_map, strict=True):
            row[:] = np.gradient(one, spacing[axis], axis=axis).ravel()[kept]
        gradients[axis] = of_map.T
    values = np.ascontiguousarray(maps.reshape(len(maps), -1).T[kept], dtype=np.float32)
    return LinearModel(points.astype(np.float32), values, gradients)


@dataclass(frozen=True, eq=False)
class Fit:
    """A pose and how well the model explains the image there.

    Parameters
    ----------
    matrix : ndarray, shape (4, 4)
        Millimetres of the model to millimetres of the image.
    explained : float
        Share of the variance of what is seen of the image that the model explains, in [0, 1].
    seen : float
        Share of the model's points that lie in the image's field of view.
    steps : int
        Gauss-Newton steps taken.
    """

    matrix: Matrix
    explained: float
    seen: float
    steps: int


def align(model: LinearModel, image: Volume, start: Matrix, motion: Motion, max_steps: int = 15) -> Fit:
    """Move a model onto an image.

    Parameters
    ----------
    image : Volume
        3D; NaN where nothing is known, as outside the field of view.
    start : ndarray, shape (4, 4)
        Millimetres of the model to millimetres of the image, near the truth (some centimetres will do).
    motion : {"rigid", "affine"}
    max_steps : int
        Ends earlier where a step moves no point by more than a fiftieth of a millimetre.

    References
    ----------
    Golub and Pereyra, Separable nonlinear least squares: the variable projection method, Inverse Problems
    2003. A target that adapts to the scan: Lilja et al., Spatial normalization of 18F-flutemetamol PET images
    using an adaptive principal-component template, J Nucl Med 2019.
    """
    motions = generators(motion)
    to_voxel = np.linalg.inv(image.affine)
    matrix = start.copy()
    steps = 0
    while steps < max_steps:
        move = _step(_explain(model, image, to_voxel @ matrix), motions)
        if move is None:
            break
        matrix = matrix @ np.linalg.inv(move)
        steps += 1
        if np.abs(model.points[::97] @ (move - np.eye(4)).T).max() < _STILL_MM:
            break
    state = _explain(model, image, to_voxel @ matrix)
    return Fit(matrix, state.explained, float(state.seen.mean()), steps)


@dataclass(frozen=True, eq=False)
class _State:
    """The image at the points of the model, explained as well as it can be."""

    model: LinearModel
    values: FloatArray
    seen: NDArray[np.bool_]
    inverse: Matrix
    weights: FloatArray
    residual: FloatArray

    @property
    def explained(self) -> float:
        values = self.values[self.seen].astype(np.float64)
        spread = float(np.sum((values - values.mean()) ** 2)) if len(values) else 0.0
        return 1.0 - float(np.sum(self.residual.astype(np.float64) ** 2)) / spread if spread > 0 else 0.0


def _explain(model: LinearModel, image: Volume, to_voxel: Matrix) -> _State:
    places = to_voxel[:3].astype(np.float32) @ model.points.T
    values = ndimage.map_coordinates(image.array, places, order=1, output=np.float32, cval=np.nan)
    seen = np.isfinite(values)
    values[~seen] = 0
    inverse = model.inverse(seen)
    weights = (inverse @ (model.maps.T @ values)).astype(np.float32)
    return _State(model, values, seen, inverse, weights, np.where(seen, values - model.maps @ weights, 0))


def _step(state: _State, motions: Matrix) -> Matrix | None:
    """Return the small motion of the model that explains the image better; None where nothing holds it."""
    model = state.model
    slope = np.where(state.seen, model.gradients @ state.weights, 0)
    twelve = (slope.T[:, :, None] * model.points[:, None, :]).reshape(len(model.points), 12)
    columns = twelve @ motions[:, :3].reshape(len(motions), 12).T.astype(np.float32)
    # What a motion changes can be made good by other weights in part; only the rest counts.
    shared = (model.maps.T @ columns).astype(np.float64)
    normal = (columns.T @ columns).astype(np.float64) - shared.T @ (state.inverse @ shared)
    if not np.diag(normal).min() > 0:
        return None
    normal += _DAMPING * np.diag(np.diag(normal))
    amounts = np.linalg.solve(normal, (columns.T @ state.residual).astype(np.float64))
    return np.asarray(linalg.expm(np.tensordot(amounts, motions, axes=1)))
