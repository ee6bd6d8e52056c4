"""One slice at one time: stored pixels, scaled, with their place and their clock."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian

from pipeline.errors import RefusedScan
from pipeline.ingest.headers import MALFORMED, Layers
from pipeline.ingest.times import parse_datetime, parse_moment
from pipeline.scan import FloatArray


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice of one frame.

    Parameters
    ----------
    values : ndarray of float32, shape (rows, columns)
        Stored values with the slice's own slope and intercept applied.
    position : ndarray, shape (3,)
        Centre of the first pixel, LPS+ mm.
    along_row, along_column : ndarray, shape (3,)
        Directions of increasing column and row index, LPS+.
    spacing_mm : (float, float)
        Between rows, between columns.
    acquired : float or None
        Start of acquisition, seconds since 1970.
    reference_s : float or None
        Frame reference time.
    duration_s : float or None
    order : int or None
        Image index, temporal position or instance number: breaks ties of time.
    reference : tuple
        What the values are decay corrected to; one for all planes of a series.
    decay_factor : float or None
        What the scanner says it multiplied the plane by; None where it does not, or says 1.
    """

    values: FloatArray
    position: NDArray[np.float64]
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    acquired: float | None
    reference_s: float | None
    duration_s: float | None
    order: int | None
    reference: tuple[str | None, ...]
    decay_factor: float | None


def planes_of(dataset: Dataset, *, must_scale: bool = True) -> Iterator[Plane]:
    """Yield the planes of a single-frame or enhanced multi-frame image.

    Parameters
    ----------
    dataset : Dataset
        With pixels.
    must_scale : bool
        Refuse an image without a rescale slope, as every PET image has.

    Raises
    ------
    RefusedScan
        ``"truncated-file"``, ``"unreadable-codec"``, ``"no-geometry"`` or ``"units-unknown"``.
    """
    whole = Layers((dataset,))
    stored = stored_pixels(dataset)
    per_frame = whole.get("PerFrameFunctionalGroupsSequence")
    if per_frame is None:
        if len(stored) != 1:
            raise _no_geometry("several frames without functional groups")
        yield _plane(whole, stored[0], must_scale=must_scale)
        return
    shared = _items(whole.item("SharedFunctionalGroupsSequence"))
    if len(per_frame) != len(stored):
        raise _no_geometry(f"{len(per_frame)} functional groups for {len(stored)} frames")
    for groups, pixels in zip(per_frame, stored, strict=True):
        yield _plane(Layers((*_items(Layers((groups,))), *shared, dataset)), pixels, must_scale=must_scale)


def layers_of(dataset: Dataset) -> Layers:
    """Return a header with the groups of its first frame in front, where it is a multi-frame image."""
    whole = Layers((dataset,))
    first = _items(whole.item("PerFrameFunctionalGroupsSequence"))
    shared = _items(whole.item("SharedFunctionalGroupsSequence"))
    return Layers((*first, *shared, dataset))


def _items(groups: Layers) -> tuple[Dataset, ...]:
    try:
        elements = [element for dataset in groups.sets for element in dataset if element.VR == "SQ"]
        return tuple(element.value[0] for element in elements if element.value)
    except MALFORMED as error:
        raise _no_geometry("functional groups that cannot be read") from error


def stored_pixels(dataset: Dataset) -> NDArray[np.generic]:
    """Return stored values, shape (frames, rows, columns), before any slope.

    Raises
    ------
    RefusedScan
        ``"truncated-file"`` or ``"unreadable-codec"``.
    """
    layers = Layers((dataset,))
    rows, columns = layers.whole("Rows") or 0, layers.whole("Columns") or 0
    frames = layers.whole("NumberOfFrames") or 1
    if not (0 < rows <= 8192 and 0 < columns <= 8192 and 0 < frames <= 100_000):
        raise _truncated(f"{rows} x {columns} pixels in {frames} frames")
    if (layers.whole("SamplesPerPixel") or 1) != 1:
        raise _unreadable("a colour image")
    syntax = _transfer_syntax(dataset)
    if syntax.is_compressed and not syntax.is_deflated:
        return _decoded(dataset, syntax, (frames, rows, columns))
    return _native(layers, syntax, (frames, rows, columns))


def _transfer_syntax(dataset: Dataset) -> UID:
    syntax = UID(
        str(getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", ImplicitVRLittleEndian))
    )
    if not syntax.is_transfer_syntax:
        raise _unreadable("an unknown transfer syntax")
    return syntax


def _native(layers: Layers, syntax: UID, shape: tuple[int, int, int]) -> NDArray[np.generic]:
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    bits = layers.whole("BitsAllocated") or 16
    integer = f"{'i' if layers.whole('PixelRepresentation') else 'u'}{bits // 8}"
    kinds = {"PixelData": integer, "FloatPixelData": "f4", "DoubleFloatPixelData": "f8"}
    keyword = next((k for k in kinds if isinstance(layers.get(k), bytes)), None)
    if keyword is None:
        raise _truncated("no pixel data")
    if keyword == "PixelData" and bits not in (8, 16, 32):
        raise _unreadable(f"{bits} bits allocated")
    data, dtype = layers.get(keyword), np.dtype(order + kinds[keyword])
    needed = int(np.prod(shape)) * dtype.itemsize
    if len(data) < needed:
        raise _truncated(f"{len(data)} of {needed} bytes")
    stored = np.frombuffer(data, dtype, count=int(np.prod(shape))).reshape(shape)
    return (
        _significant_bits(stored, layers.whole("BitsStored") or bits, bits) if dtype.kind in "iu" else stored
    )


def _significant_bits(stored: NDArray[np.generic], used: int, allocated: int) -> NDArray[np.generic]:
    """Drop what overlays left in the unused high bits; extend the sign where there is one."""
    if not 0 < used < allocated:
        return stored
    native = stored.astype(stored.dtype.newbyteorder("="))
    spare = allocated - used
    result: NDArray[np.generic] = (native << spare) >> spare
    return result


def _decoded(dataset: Dataset, syntax: UID, shape: tuple[int, int, int]) -> NDArray[np.generic]:
    data = Layers((dataset,)).get("PixelData")
    if not isinstance(data, bytes) or not data:
        raise _truncated("no pixel data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            stored = np.asarray(dataset.pixel_array)
        except (*MALFORMED, RuntimeError) as error:
            # The sequence delimiter ends every encapsulated stream that was written to its end.
            raise _unreadable(syntax.name) from error
    if stored.size != int(np.prod(shape)):
        raise _truncated(f"{stored.size} of {int(np.prod(shape))} pixels")
    return stored.reshape(shape)


def _plane(layers: Layers, stored: NDArray[np.generic], *, must_scale: bool) -> Plane:
    position = layers.numbers("ImagePositionPatient")
    directions = layers.numbers("ImageOrientationPatient")
    spacing = layers.numbers("PixelSpacing")
    if position is None or directions is None or spacing is None:
        raise _no_geometry("position, orientation or pixel spacing missing")
    if len(position) != 3 or len(directions) != 6 or len(spacing) != 2 or min(spacing) <= 0:
        raise _no_geometry("position, orientation or pixel spacing of the wrong length")
    along_row, along_column = np.array(directions[:3]), np.array(directions[3:])
    lengths = float(np.linalg.norm(along_row)), float(np.linalg.norm(along_column))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(float(along_row @ along_column))) > 1e-2:
        raise _no_geometry("orientation that is not two perpendicular unit vectors")
    duration = layers.number("ActualFrameDuration") or layers.number("FrameAcquisitionDuration")
    reference, factor = layers.number("FrameReferenceTime"), layers.number("DecayFactor")
    return Plane(
        values=_scaled(layers, stored, must_scale=must_scale),
        position=np.array(position),
        along_row=along_row / lengths[0],
        along_column=along_column / lengths[1],
        spacing_mm=(spacing[0], spacing[1]),
        acquired=acquisition_moment(layers),
        reference_s=None if reference is None else reference / 1000.0,
        duration_s=duration / 1000.0 if duration and duration > 0 else None,
        order=_order(layers),
        reference=_decay_reference(layers),
        decay_factor=factor if factor and factor > 1 else None,
    )


def acquisition_moment(layers: Layers) -> float | None:
    """Return when a plane's acquisition began, seconds since 1970 on the scanner's clock."""
    return (
        parse_datetime(layers.text("FrameAcquisitionDateTime"))
        or parse_moment(
            layers.text("AcquisitionDate") or layers.text("SeriesDate"), layers.text("AcquisitionTime")
        )
        or parse_datetime(layers.text("AcquisitionDateTime"))
    )


def _order(layers: Layers) -> int | None:
    for keyword in ("TemporalPositionIndex", "TemporalPositionIdentifier", "ImageIndex", "InstanceNumber"):
        value = layers.whole(keyword)
        if value is not None:
            return value
    return None


def _decay_reference(layers: Layers) -> tuple[str | None, ...]:
    correction = layers.text("DecayCorrection") or layers.text("DecayCorrected")
    moment = layers.text("DecayCorrectionDateTime")
    if correction == "START" and moment is None:
        moment = f"{layers.text('SeriesDate')} {layers.text('SeriesTime')}"
    return correction, moment


def _scaled(layers: Layers, stored: NDArray[np.generic], *, must_scale: bool) -> FloatArray:
    slope, intercept = layers.number("RescaleSlope"), layers.number("RescaleIntercept") or 0.0
    if layers.text("Units") is None and layers.number("RealWorldValueSlope") is not None:
        # An enhanced image tells its units with the mapping to real-world values.
        slope, intercept = (
            layers.number("RealWorldValueSlope"),
            layers.number("RealWorldValueIntercept") or 0.0,
        )
    if slope is None and not must_scale:
        slope = 1.0
    if slope is None or slope <= 0:
        raise RefusedScan(
            "units-unknown",
            f"Rescale Slope (0028,1053) must be a positive number, got {'none' if slope is None else slope}",
            hint="export the series with its rescale values",
            measured="none" if slope is None else str(slope),
        )
    # In double precision first: 32767 times a slope of 7e-5 must not lose its last bits twice.
    return (stored.astype(np.float64) * slope + intercept).astype(np.float32)


def _truncated(seen: str) -> RefusedScan:
    return RefusedScan(
        "truncated-file",
        f"The pixel data must be whole, got {seen}",
        hint="fetch the series again",
        measured=seen,
    )


def _unreadable(seen: str) -> RefusedScan:
    return RefusedScan(
        "unreadable-codec",
        f"The pixel data must be in a codec that can be read, got {seen}",
        hint="export the series as Explicit VR Little Endian",
        measured=seen,
    )


def _no_geometry(seen: str) -> RefusedScan:
    return RefusedScan(
        "no-geometry",
        f"Every slice must tell its place, got {seen}",
        hint="export the original series",
        measured=seen,
    )
