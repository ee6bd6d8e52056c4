"""Preprocessing of scans and images for the network: the same code in training and in prediction."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TEMPLATE_SHAPE = (96, 112, 96)
TEMPLATE_SPACING_MM = 2.0


@dataclass(frozen=True)
class Preprocessing:
    """Average pooling to a coarser grid, clipping, and scaling to [0, 1].

    Parameters
    ----------
    spacing_mm : float
        Voxel size the network sees; a whole multiple of `grid_spacing_mm`.
    suvr_max : float
        SUVR that becomes 1; higher values are clipped.
    grid_shape : tuple of int
        Shape of the input volumes; the template grid by default.
    grid_spacing_mm : float
        Their voxel size.

    Raises
    ------
    ValueError
        If the spacing is no whole multiple, does not divide the grid, or `suvr_max` is not positive.

    Examples
    --------
    >>> four_mm = Preprocessing(spacing_mm=4, suvr_max=4)
    >>> four_mm.in_shape
    (48, 56, 48)
    >>> round(float(four_mm(np.full((96, 112, 96), 1.2)).mean()), 3)
    0.3
    """

    spacing_mm: float
    suvr_max: float
    grid_shape: tuple[int, ...] = TEMPLATE_SHAPE
    grid_spacing_mm: float = TEMPLATE_SPACING_MM

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid_shape", tuple(int(n) for n in self.grid_shape))
        ratio = self.spacing_mm / self.grid_spacing_mm
        if ratio < 1 or abs(ratio - round(ratio)) > 1e-6:
            raise ValueError(
                f"spacing_mm is {self.spacing_mm:g}. "
                f"Expected a whole multiple of the grid's {self.grid_spacing_mm:g} mm."
            )
        if any(n % self.factor for n in self.grid_shape):
            raise ValueError(
                f"spacing_mm is {self.spacing_mm:g}, which does not divide the grid {self.grid_shape} into "
                "whole voxels."
            )
        if not self.suvr_max > 0:
            raise ValueError(f"suvr_max is {self.suvr_max}. Expected a positive number.")

    @property
    def spatial_dims(self) -> int:
        """Number of axes the network's convolutions run along: 3."""
        return 3

    @property
    def factor(self) -> int:
        """Grid voxels averaged along each axis."""
        return round(self.spacing_mm / self.grid_spacing_mm)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of what the network sees."""
        return tuple(n // self.factor for n in self.grid_shape)

    def __call__(self, suvr: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Prepare one volume.

        Parameters
        ----------
        suvr : ndarray, shape `grid_shape`
            SUVR on the grid.

        Returns
        -------
        ndarray of float32, shape `in_shape`, in [0, 1]

        Raises
        ------
        ValueError
            If the shape is not `grid_shape` or a value is not finite.
        """
        suvr = np.asarray(suvr)
        if suvr.shape != self.grid_shape:
            raise ValueError(
                f"The volume has shape {suvr.shape}. Expected that of the grid, {self.grid_shape}."
            )
        if not np.isfinite(suvr).all():
            n = int((~np.isfinite(suvr)).sum())
            raise ValueError(f"The volume has {n} voxels that are not finite.")
        f = self.factor
        cells = [part for n in self.in_shape for part in (n, f)]
        pooled = suvr.reshape(cells).mean(axis=tuple(range(1, 2 * suvr.ndim, 2)), dtype=np.float64)
        prepared: NDArray[np.float32] = (np.clip(pooled, 0.0, self.suvr_max) / self.suvr_max).astype(
            np.float32
        )
        return prepared

    def normalise(self, volumes: Tensor) -> Tensor:
        """Return volumes unchanged: they are scaled already."""
        return volumes

    def to_grid(self, coarse: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return a map on the network's grid on the grid of the volumes, each value repeated."""
        for axis in range(coarse.ndim):
            coarse = np.repeat(coarse, self.factor, axis=axis)
        return coarse.astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Preprocessing:
        """Rebuild from `to_dict`."""
        return cls(**settings)


@dataclass(frozen=True)
class ImagePreprocessing:
    """Bytes of 2D images to zero mean and unit variance: ``(x / 255 - mean) / sd``, channel by channel.

    Parameters
    ----------
    in_shape : tuple of int
        Channels, height and width of one image.
    mean, sd : tuple of float, one per channel
        Of the training images, in [0, 1].

    Raises
    ------
    ValueError
        If the shape is not three positive numbers, or `mean` and `sd` are not one finite number per channel,
        `sd` positive.

    Examples
    --------
    >>> grey = ImagePreprocessing((1, 1, 2), mean=(0.5,), sd=(0.25,))
    >>> grey(np.array([[[0, 255]]], dtype=np.uint8)).tolist()
    [[[-2.0, 2.0]]]
    """

    in_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    sd: tuple[float, ...]

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.in_shape)
        object.__setattr__(self, "in_shape", shape)
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"in_shape is {shape}. Expected channels, height and width.")
        for name in ("mean", "sd"):
            values = tuple(float(v) for v in getattr(self, name))
            object.__setattr__(self, name, values)
            if len(values) != shape[0] or not np.isfinite(values).all():
                raise ValueError(
                    f"{name} is {values}. Expected a finite number for each of {shape[0]} channels."
                )
        if min(self.sd) <= 0:
            raise ValueError(f"sd is {self.sd}. Expected positive numbers.")

    @property
    def spatial_dims(self) -> int:
        """Number of axes the network's convolutions run along: 2."""
        return 2

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Prepare one image (C, H, W) or many (N, C, H, W).

        Raises
        ------
        ValueError
            If they are not bytes or do not have the shape `in_shape`.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8:
            raise ValueError(f"Images are {images.dtype}. Expected bytes from 0 to 255 (uint8).")
        if images.ndim not in (3, 4) or images.shape[-3:] != self.in_shape:
            raise ValueError(
                f"Images have shape {images.shape}. Expected (C, H, W) or (N, C, H, W) of {self.in_shape}."
            )
        prepared: NDArray[np.float32] = self.normalise(torch.tensor(images)).numpy()
        return prepared

    def normalise(self, images: Tensor) -> Tensor:
        """Return float32 of bytes, both (..., C, H, W) and on the same device; a batch at a time."""
        mean, sd = (torch.tensor(v, device=images.device).reshape(-1, 1, 1) for v in (self.mean, self.sd))
        return (images.to(torch.float32) / 255 - mean) / sd

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values; ``kind`` distinguishes them from those of volumes."""
        return {"kind": "image", **asdict(self)}

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> ImagePreprocessing:
        """Rebuild from `to_dict`."""
        return cls(**{name: value for name, value in settings.items() if name != "kind"})


AnyPreprocessing = Preprocessing | ImagePreprocessing


def preprocessing_from_dict(settings: dict[str, Any]) -> AnyPreprocessing:
    """Rebuild either kind from its `to_dict`; without a ``kind`` it is that of volumes.

    Examples
    --------
    >>> preprocessing_from_dict({"kind": "image", "in_shape": [1, 8, 8], "mean": [0.5], "sd": [0.2]}).in_shape
    (1, 8, 8)
    """
    kind = ImagePreprocessing if settings.get("kind") == "image" else Preprocessing
    return kind.from_dict(settings)
