"""An image with its place in space and its time frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

FloatArray = NDArray[np.float32]
Unit = Literal["Bq/mL", "SUV", "SUVR", "counts"]
Fact = str | float | int | bool | None


@dataclass(frozen=True)
class Frame:
    """One time frame: seconds from the start of the scan, and its length in seconds."""

    start_s: float
    duration_s: float

    def __post_init__(self) -> None:
        if not self.duration_s > 0:
            raise InputError(f"A frame lasts {self.duration_s} s. Expected more than 0")

    @property
    def end_s(self) -> float:
        """Seconds from the start of the scan to the end of the frame."""
        return self.start_s + self.duration_s


@dataclass(frozen=True, eq=False)
class Volume:
    """An image with its place in space and its unit.

    Parameters
    ----------
    array : ndarray of float32, shape (x, y, z) or (x, y, z, frames)
        Voxel values in `unit`. Made read-only.
    affine : ndarray of float64, shape (4, 4)
        Voxel index to RAS+ millimetres.
    unit : {"Bq/mL", "SUV", "SUVR", "counts"}
    frames : tuple of Frame
        One per frame; empty where the source does not state them.
    facts : mapping of str to str, number, bool or None
        What the source states about the acquisition, under the names of `pipeline.ingest`; never identifying.

    Raises
    ------
    InputError
        If a shape, the unit or the affine is not as above.
    """

    array: FloatArray
    affine: NDArray[np.float64]
    unit: Unit
    frames: tuple[Frame, ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        array = np.asarray(self.array, dtype=np.float32)
        affine = np.array(self.affine, dtype=np.float64)
        if array.ndim not in (3, 4):
            raise InputError(f"The volume is {array.ndim}D. Expected 3D or 4D")
        if (
            affine.shape != (4, 4)
            or not np.isfinite(affine).all()
            or abs(np.linalg.det(affine[:3, :3])) < 1e-9
        ):
            raise InputError(f"The affine is {affine.tolist()}. Expected a finite, invertible 4 x 4 matrix")
        if self.unit not in get_args(Unit):
            raise InputError(f"The unit is {self.unit!r}. Expected one of {', '.join(get_args(Unit))}")
        if self.frames and len(self.frames) != (array.shape[3] if array.ndim == 4 else 1):
            raise InputError(
                f"There are times of {len(self.frames)} frames for a volume of shape {array.shape}"
            )
        array = array.view()
        array.flags.writeable = False
        affine.flags.writeable = False
        object.__setattr__(self, "array", array)
        object.__setattr__(self, "affine", affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along each array axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    def with_array(self, array: NDArray[np.floating], *, unit: Unit | None = None) -> Volume:
        """Return the same volume with other voxel values, and another unit where given."""
        return replace(self, array=np.asarray(array, dtype=np.float32), unit=unit or self.unit)
