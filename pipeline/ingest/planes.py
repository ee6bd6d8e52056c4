"""One slice at one time: stored pixels, scaled, with their place and their clock."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RefusedScan
from pipeline.ingest.headers import SeriesHeader, no_geometry
from pipeline.ingest.pixels import padding_of, stored_pixels
from pipeline.ingest.times import Moment, parse_datetime, parse_moment
from pipeline.scan import FloatArray


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice of one frame.

    Parameters
    ----------
    stored : ndarray, shape (rows, columns)
        Pixels as they are in the file.
    slope, intercept : float
        The slice's own, from stored pixels to values.
    position : ndarray, shape (3,)
        Centre of the first pixel, LPS+ mm.
    along_row, along_column : ndarray, shape (3,)
        Directions of increasing column and row index, LPS+.
    spacing_mm : (float, float)
        Between rows, between columns.
    moment : Moment or None
        Start of acquisition.
    reference_s : float or None
        Frame reference time.
    duration_s : float or None
    order : int or None
        Image index, temporal position or instance number: breaks ties of time.
    reference : tuple
        What the values are decay corrected to; one for all planes of a series.
    decay_factor : float or None
        The factor by which the scanner multiplied the plane; None where it is not stated, or 1.
    padding : (float, float) or None
        Lowest and highest stored value that stand for no measurement, where they would not be read as 0.
    """

    stored: NDArray[np.generic]
    slope: float
    intercept: float
    position: NDArray[np.float64]
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    moment: Moment | None
    reference_s: float | None
    duration_s: float | None
    order: int | None
    reference: tuple[str | None, ...]
    decay_factor: float | None
    padding: tuple[float, float] | None

    @property
    def acquired(self) -> float | None:
        """Start of acquisition, seconds since 1970 on the local clock."""
        return None if self.moment is None else self.moment.local


def planes_of(header: SeriesHeader, *, must_scale: bool = True) -> list[Plane]:
    """Return the planes of a single-frame or enhanced multi-frame image.

    Parameters
    ----------
    header : SeriesHeader
        With pixels.
    must_scale : bool
        Refuse an image without a rescale slope, as every PET image has.

    Raises
    ------
    RefusedScan
        ``"truncated-file"``, ``"unreadable-codec"``, ``"no-geometry"`` or ``"units-unknown"``.
    """
    stored = stored_pixels(header)
    frames = header.frames()
    if frames is None:
        if len(stored) != 1:
            raise no_geometry("several frames without functional groups")
        frames = [header]
    if len(frames) != len(stored):
        raise no_geometry(f"{len(frames)} functional groups for {len(stored)} frames")
    return [
        _plane(frame, pixels, must_scale=must_scale) for frame, pixels in zip(frames, stored, strict=True)
    ]


def are_equal(first: list[Plane], second: list[Plane]) -> bool:
    """Return whether two images hold the same pixels, scaled alike, at the same place and time."""
    return len(first) == len(second) and all(
        np.array_equal(a.stored, b.stored)
        and np.array_equal(a.position, b.position)
        and (a.slope, a.intercept, a.acquired, a.reference_s)
        == (b.slope, b.intercept, b.acquired, b.reference_s)
        for a, b in zip(first, second, strict=True)
    )


def fill(values: FloatArray, plane: Plane) -> None:
    """Write the values of a plane, slope and intercept applied, into an array of shape (rows, columns).

    Pixels that stand for no measurement are no number there.

    Raises
    ------
    RefusedScan
        ``"invalid-scale"``.
    """
    try:
        with np.errstate(over="raise"):
            # In double precision first: 32767 times a slope of 7e-5 must not lose its last bits twice.
            scaled = np.multiply(plane.stored, plane.slope, dtype=np.float64)
            scaled += plane.intercept
            if plane.padding is not None:
                low, high = plane.padding
                stored = plane.stored.astype(np.float64)
                scaled[(stored >= low) & (stored <= high)] = np.nan
            values[...] = scaled
    except FloatingPointError as error:
        raise RefusedScan(
            "invalid-scale",
            f"Rescale Slope (0028,1053) {plane.slope:g} makes values that single precision cannot hold",
            hint="Export the series again",
            measured=f"{plane.slope:g}",
        ) from error


def _plane(header: SeriesHeader, stored: NDArray[np.generic], *, must_scale: bool) -> Plane:
    position = header.numbers("ImagePositionPatient")
    directions = header.numbers("ImageOrientationPatient")
    spacing = header.numbers("PixelSpacing")
    if position is None or directions is None or spacing is None:
        raise no_geometry("position, orientation or pixel spacing missing")
    if len(position) != 3 or len(directions) != 6 or len(spacing) != 2 or min(spacing) <= 0:
        raise no_geometry("position, orientation or pixel spacing of the wrong length")
    along_row, along_column = _axes(directions)
    duration = header.number("ActualFrameDuration") or header.number("FrameAcquisitionDuration")
    reference, factor = header.number("FrameReferenceTime"), header.number("DecayFactor")
    slope, intercept = _rescale(header, must_scale=must_scale, empty=not stored.any())
    padding = padding_of(header)
    return Plane(
        stored=stored,
        slope=slope,
        intercept=intercept,
        position=np.array(position),
        along_row=along_row,
        along_column=along_column,
        spacing_mm=(spacing[0], spacing[1]),
        moment=acquisition_moment(header),
        reference_s=None if reference is None else reference / 1000.0,
        duration_s=duration / 1000.0 if duration and duration > 0 else None,
        order=_order(header),
        reference=_decay_reference(header),
        decay_factor=factor if factor and factor > 1 else None,
        padding=None if padding == (0.0, 0.0) and intercept == 0 else padding,
    )


@lru_cache(64)
def _axes(directions: tuple[float, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    along_row, along_column = np.array(directions[:3]), np.array(directions[3:])
    lengths = float(np.linalg.norm(along_row)), float(np.linalg.norm(along_column))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(float(along_row @ along_column))) > 1e-2:
        raise no_geometry("orientation that is not two perpendicular unit vectors")
    return along_row / lengths[0], along_column / lengths[1]


def acquisition_moment(header: SeriesHeader) -> Moment | None:
    """Return when a plane's acquisition began, by the scanner's clock."""
    zone = header.text("TimezoneOffsetFromUTC")
    whole = parse_datetime(header.text("AcquisitionDateTime"), zone)
    day = header.text("AcquisitionDate") or header.text("SeriesDate")
    moment = (
        parse_datetime(header.text("FrameAcquisitionDateTime"), zone)
        or parse_moment(day, header.text("AcquisitionTime"), zone)
        or whole
    )
    # Where the header states no offset, that of the same moment written as one value holds.
    same = moment is not None and whole is not None and moment.offset is None and moment.local == whole.local
    return whole if same else moment


def _order(header: SeriesHeader) -> int | None:
    for keyword in ("TemporalPositionIndex", "TemporalPositionIdentifier", "ImageIndex", "InstanceNumber"):
        value = header.whole(keyword)
        if value is not None:
            return value
    return None


def _decay_reference(header: SeriesHeader) -> tuple[str | None, ...]:
    correction = header.text("DecayCorrection") or header.text("DecayCorrected")
    moment = header.text("DecayCorrectionDateTime")
    if correction == "START" and moment is None:
        day, clock = header.text("SeriesDate"), header.text("SeriesTime")
        moment = str(parse_moment(day, clock) or (day, clock))
    return correction, moment


def _rescale(header: SeriesHeader, *, must_scale: bool, empty: bool) -> tuple[float, float]:
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    if header.text("Units") is None and header.number("RealWorldValueSlope") is not None:
        # An enhanced image states its units with the mapping to real-world values.
        slope, intercept = header.number("RealWorldValueSlope"), header.number("RealWorldValueIntercept")
    if (slope is None and not must_scale) or (slope == 0 and empty):  # of zeros, any slope will do
        slope = 1.0
    if slope is None or slope <= 0:
        seen = "missing or no number" if slope is None else f"{slope:g}"
        raise RefusedScan(
            "units-unknown",
            f"Rescale Slope (0028,1053) is {seen}, expected a positive number",
            hint="Export the series with its rescale values",
            measured=seen,
        )
    return slope, intercept or 0.0
