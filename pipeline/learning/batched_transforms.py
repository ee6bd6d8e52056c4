"""MONAI's random transforms, drawn scan by scan and applied to a whole batch on the GPU where it lies.

Eight cores augment some thirty volumes of 2 mm a second, less than a GPU learns from. Here MONAI draws what
happens to each scan, and all scans of the batch are changed at once, in float32. The result is that of MONAI
up to rounding (MONAI resamples in float64). On a CPU it is no faster, so `augment` of
`pipeline.learning.transforms` is used there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.networks.layers import gaussian_1d
from monai.transforms import (
    Compose,
    RandAffine,
    RandBiasField,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandShiftIntensity,
)
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.learning.transforms import seed_of

_Values = NDArray[np.float32]


def augment_batch(augmentation: Compose | None, volumes: Tensor, drawn_by: Sequence[Sequence[int]]) -> Tensor:
    """Augment each volume of a batch as `augment` does one, with the same draws.

    Parameters
    ----------
    augmentation : Compose or None
        As `pipeline.learning.transforms.build_augmentation` returns it. Not safe to share between threads.
    volumes : Tensor of float32, shape (N, 1, X, Y, Z)
        On any device; unchanged.
    drawn_by : sequence of N sequences of int
        The numbers that `augment` takes for each volume.

    Returns
    -------
    Tensor of float32, shape (N, 1, X, Y, Z)
        On the same device.
    """
    if augmentation is None:
        return volumes
    drawn = [_draw(augmentation, volumes.shape[1:], numbers) for numbers in drawn_by]
    changed = volumes.clone()
    for place, transform in enumerate(augmentation.transforms):
        rows = [row for row, of_scan in enumerate(drawn) if place in of_scan]
        if rows:
            values = torch.from_numpy(np.stack([drawn[row][place] for row in rows])).to(volumes.device)
            changed[rows] = _CHANGES[type(transform)].apply(changed[rows], values)
    return changed


def _draw(augmentation: Compose, shape: Sequence[int], drawn_by: Sequence[int]) -> dict[int, _Values]:
    """Return the values for one scan by the place of the transform, for the transforms that change it."""
    augmentation.set_random_state(seed=seed_of(drawn_by))
    scan = torch.empty(*shape, device="meta")
    drawn = {}
    for place, transform in enumerate(augmentation.transforms):
        transform.randomize(shape[1:] if isinstance(transform, RandBiasField) else scan)
        if transform._do_transform:
            drawn[place] = _CHANGES[type(transform)].drawn(transform)
    return drawn


def _drawn_affine(transform: RandAffine) -> _Values:
    """Return the matrix (3, 4) that takes a place of the result to one of the scan, as `affine_grid` has it.

    MONAI's matrix is in voxels from the centre. Torch measures in half edges of the volume, last axis first.
    """
    grid, shape = transform.rand_affine_grid, transform.spatial_size
    grid(shape, lazy=True)  # draws again, as it does within the transform
    matrix = np.asarray(grid.get_transformation_matrix(), dtype=np.float64)
    half = np.append(np.array(shape) / 2, 1.0)
    scaled = matrix * half / half[:, None]
    return np.asarray(scaled[[2, 1, 0]][:, [2, 1, 0, 3]], dtype=np.float32)


def _resample(volumes: Tensor, matrices: Tensor) -> Tensor:
    grid = nn.functional.affine_grid(matrices, list(volumes.shape), align_corners=False)
    return nn.functional.grid_sample(volumes, grid, align_corners=False)


def _drawn_bias(transform: RandBiasField) -> _Values:
    """Return the coefficients of Legendre polynomials in x, y and z, shape (3, 3, 3)."""
    orders = range(transform.degree + 1)
    places = [p for p in product(orders, repeat=3) if sum(p) <= transform.degree]
    coefficients = np.zeros((len(orders),) * 3, dtype=np.float32)
    coefficients[tuple(zip(*places, strict=True))] = transform._coeff
    return coefficients


def _brighten(volumes: Tensor, coefficients: Tensor) -> Tensor:
    degree = coefficients.shape[1] - 1
    along = [_legendre(size, degree, volumes.device) for size in volumes.shape[2:]]
    field = torch.einsum("nijk,xi,yj,zk->nxyz", coefficients, *along)
    return volumes * field.exp()[:, None]


def _legendre(size: int, degree: int, device: torch.device) -> Tensor:
    values = np.polynomial.legendre.legvander(np.linspace(-1, 1, size), degree)
    return torch.from_numpy(values.astype(np.float32)).to(device)


def _drawn_blur(transform: RandGaussianSmooth) -> _Values:
    """Return the kernels along x, y and z, filled up with zeros to the longest that can be drawn."""
    longest = max(high for _, high in (transform.sigma_x, transform.sigma_y, transform.sigma_z))
    tail = len(gaussian_1d(torch.tensor(longest))) // 2
    kernels = np.zeros((3, 2 * tail + 1), dtype=np.float32)
    for kernel, sigma in zip(kernels, (transform.x, transform.y, transform.z), strict=True):
        drawn = gaussian_1d(torch.tensor(sigma), approx=transform.approx).numpy()
        rest = tail - len(drawn) // 2
        kernel[rest : rest + len(drawn)] = drawn
    return kernels


def _blur(volumes: Tensor, kernels: Tensor) -> Tensor:
    tail = kernels.shape[2] // 2
    for axis in range(3):
        sides = [0, 0] * (2 - axis) + [tail, tail] + [0, 0] * axis
        padded = nn.functional.pad(volumes, sides)
        size = volumes.shape[2 + axis]
        weights = kernels[:, axis, :, None, None, None, None]
        volumes = weights[:, 0] * padded.narrow(2 + axis, 0, size)
        for step in range(1, 2 * tail + 1):
            volumes.addcmul_(weights[:, step], padded.narrow(2 + axis, step, size))
    return volumes


def _drawn_factor(transform: RandScaleIntensity) -> _Values:
    return np.asarray(1 + transform.factor, dtype=np.float32)


def _scale(volumes: Tensor, factors: Tensor) -> Tensor:
    return volumes * factors.view(-1, 1, 1, 1, 1)


def _drawn_offset(transform: RandShiftIntensity) -> _Values:
    return np.asarray(transform._offset, dtype=np.float32)


def _shift(volumes: Tensor, offsets: Tensor) -> Tensor:
    return volumes + offsets.view(-1, 1, 1, 1, 1)


def _drawn_noise(transform: RandGaussianNoise) -> _Values:
    return np.asarray(transform.noise)


class _Change(NamedTuple):
    """How the values of a transform are drawn for one scan, and how those of several are applied to them."""

    drawn: Callable[[Any], _Values]
    apply: Callable[[Tensor, Tensor], Tensor]


_CHANGES: dict[type, _Change] = {
    RandAffine: _Change(_drawn_affine, _resample),
    RandBiasField: _Change(_drawn_bias, _brighten),
    RandGaussianSmooth: _Change(_drawn_blur, _blur),
    RandScaleIntensity: _Change(_drawn_factor, _scale),
    RandShiftIntensity: _Change(_drawn_offset, _shift),
    RandGaussianNoise: _Change(_drawn_noise, torch.add),
}
