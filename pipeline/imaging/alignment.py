"""Gauss-Newton alignment of an image to a linear model of itself.

An image is explained as a weighted sum of fixed maps. The weights are solved for at every step (variable
projection), so only the pose is searched: one least-squares solution a step, a handful of steps in all.
With tissue and region maps the target adapts to each scan's own uptake, tau-positive cortex included; with
one map, the mean of the frames, the same few lines realign frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, ndimage

from pipeline.imaging.space import Matrix
from pipeline.scan import Volume

Array = NDArray[np.float64]

_RIDGE = 1e-3
_DAMPING = 1e-4


def generators(kind: str) -> Array:
    """Infinitesimal motions as 4 x 4 matrices: six of a rigid body, or all twelve of an affine map.

    Examples
    --------
    >>> generators("rigid").shape, generators("affine").shape
    ((6, 4, 4), (12, 4, 4))
    """
    if kind == "affine":
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
    """Maps that an image is explained by, at the points where it is compared.

    Parameters
    ----------
    points : ndarray, shape (n, 4)
        Homogeneous millimetres in the space of the maps.
    maps : ndarray, shape (n, m)
    gradients : ndarray, shape (3, n, m)
        Their slopes per millimetre.
    """

    points: Array
    maps: Array
    gradients: Array
    solver: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        normal = self.maps.T @ self.maps
        # A little ridge: maps of neighbouring regions overlap after blurring.
        normal += _RIDGE * np.trace(normal) / len(normal) * np.eye(len(normal))
        object.__setattr__(self, "solver", np.linalg.solve(normal, self.maps.T))


def build_model(maps: Array, affine: Matrix, keep: NDArray[np.bool_]) -> LinearModel:
    """Sample maps, shape (m, x, y, z) on a grid, and their slopes where `keep` is true."""
    places = np.argwhere(keep)
    points = np.column_stack([places, np.ones(len(places))]) @ affine.T
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    slopes = np.array([[g[keep] for g in np.gradient(m, *spacing)] for m in maps])
    return LinearModel(np.asarray(points), maps[:, keep].T.astype(np.float64), np.moveaxis(slopes, 0, -1))


@dataclass(frozen=True, eq=False)
class Fit:
    """A pose and how well the model explains the image there.

    Parameters
    ----------
    matrix : ndarray, shape (4, 4)
        Millimetres of the model to millimetres of the image.
    explained : float
        Share of the image's variance that the model explains, in [0, 1].
    weights : ndarray, shape (m,)
        Of the maps.
    steps : int
        Gauss-Newton steps taken.
    """

    matrix: Matrix
    explained: float
    weights: Array
    steps: int


def align(model: LinearModel, image: Volume, start: Matrix, kind: str, max_steps: int = 15) -> Fit:
    """Move a model onto an image.

    Parameters
    ----------
    model : LinearModel
    image : Volume
        3D.
    start : ndarray, shape (4, 4)
        Millimetres of the model to millimetres of the image, near the truth (some centimetres will do).
    kind : {"rigid", "affine"}
    max_steps : int
        Ends earlier where a step moves no point by more than a fiftieth of a millimetre.

    References
    ----------
    Golub and Pereyra, Separable nonlinear least squares: the variable projection method, Inverse Problems
    2003. The adapting target: Lilja et al., Spatial normalization of 18F-flutemetamol PET images using an
    adaptive principal-component template, J Nucl Med 2019.
    """
    motions = generators(kind)
    to_voxel = np.linalg.inv(image.affine)
    matrix = start.copy()
    steps = 0
    for _ in range(max_steps):
        values = _sample(image, model, to_voxel @ matrix)
        weights = model.solver @ values
        residual = values - model.maps @ weights
        slope = model.gradients @ weights
        columns = np.einsum("in,kij,nj->nk", slope, motions[:, :3], model.points, optimize=True)
        columns -= model.maps @ (model.solver @ columns)
        normal = columns.T @ columns
        if not np.diag(normal).min() > 0:  # nothing left to hold on to: the image is flat or out of view
            break
        normal += _DAMPING * np.diag(np.diag(normal))
        move = linalg.expm(np.tensordot(np.linalg.solve(normal, columns.T @ residual), motions, axes=1))
        matrix = matrix @ np.linalg.inv(move)
        steps += 1
        if np.abs(model.points[::97] @ (move - np.eye(4)).T).max() < 0.02:
            break
    values = _sample(image, model, to_voxel @ matrix)
    weights = model.solver @ values
    residual = values - model.maps @ weights
    spread = float(np.sum((values - values.mean()) ** 2))
    explained = 1.0 - float(residual @ residual) / spread if spread > 0 else 0.0
    return Fit(matrix, explained, weights, steps)


def _sample(image: Volume, model: LinearModel, to_voxel: Matrix) -> Array:
    places = (to_voxel @ model.points.T)[:3]
    values: Array = ndimage.map_coordinates(image.array, places, order=1, output=np.float64)
    return values
