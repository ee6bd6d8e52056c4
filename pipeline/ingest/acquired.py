"""When a series was acquired, and what it shares with others of the same acquisition."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Acquired:
    """When the images of a series were acquired, and what distinguishes their reconstruction.

    Parameters
    ----------
    start_s, end_s : float or None
        By the scanner's clock.
    frames : int
        Different times of the images.
    shared : frozenset of str
        UIDs of study and frame of reference, which reconstructions of one acquisition share.
    corrected : bool or None
        For attenuation.
    derived : bool
        Made from other images.
    method : str
        Of the reconstruction.
    grid : tuple of float
        Rows, columns, pixel spacing and orientation; empty where they are not one and the same.
    places : frozenset of tuple of float
        Positions of the images, LPS+ mm.
    """

    start_s: float | None = None
    end_s: float | None = None
    frames: int = 0
    shared: frozenset[str] = frozenset()
    corrected: bool | None = None
    derived: bool = False
    method: str = ""
    grid: tuple[float, ...] = ()
    places: frozenset[tuple[float, ...]] = frozenset()
