"""Stored pixels of an image, as they are in the file: before any slope."""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID, ExplicitVRBigEndian

from pipeline.errors import RefusedScan
from pipeline.ingest.headers import MALFORMED, SeriesHeader


def stored_pixels(header: SeriesHeader) -> NDArray[np.generic]:
    """Return stored values, shape (frames, rows, columns), before any slope.

    Raises
    ------
    RefusedScan
        ``"truncated-file"`` or ``"unreadable-codec"``.
    """
    rows, columns = header.whole("Rows") or 0, header.whole("Columns") or 0
    frames = header.whole("NumberOfFrames") or 1
    if not (0 < rows <= 8192 and 0 < columns <= 8192 and 0 < frames <= 100_000):
        raise _truncated(f"{rows} x {columns} pixels in {frames} frames")
    if (header.whole("SamplesPerPixel") or 1) != 1:
        raise _unreadable("a colour image")
    syntax = UID(header.syntax)
    if not syntax.is_transfer_syntax:
        raise _unreadable("an unknown transfer syntax")
    if syntax.is_compressed and not syntax.is_deflated:
        return _decoded(header, syntax, (frames, rows, columns))
    return _native(header, syntax, (frames, rows, columns))


_PADDING = (
    ("PixelPaddingValue", "PixelPaddingRangeLimit"),
    ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
)


def padding_of(header: SeriesHeader) -> tuple[float, float] | None:
    """Return the lowest and highest stored value that stand for no measurement, or None where none does.

    References
    ----------
    DICOM PS3.3 C.7.5.1.1.2: from the padding value to the limit of its range, whichever is larger.
    """
    for keyword, limit in _PADDING:
        value = header.number(keyword)
        if value is not None:
            other = header.number(limit)
            first, last = (_as_stored(header, v) for v in (value, value if other is None else other))
            return min(first, last), max(first, last)
    return None


def _as_stored(header: SeriesHeader, value: float) -> float:
    """Return a padding value with the sign of the pixels: implicit VR does not state which it has.

    Examples
    --------
    >>> from pydicom.dataset import Dataset
    >>> signed = Dataset()
    >>> signed.PixelRepresentation, signed.BitsAllocated = 1, 16
    >>> _as_stored(SeriesHeader.of(signed), 32768.0)
    -32768.0
    """
    bits = header.whole("BitsAllocated") or 16
    if header.whole("PixelRepresentation") and value >= 1 << (bits - 1):
        return value - (1 << bits)
    return value


def _native(header: SeriesHeader, syntax: UID, shape: tuple[int, int, int]) -> NDArray[np.generic]:
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    bits = header.whole("BitsAllocated") or 16
    integer = f"{'i' if header.whole('PixelRepresentation') else 'u'}{bits // 8}"
    kinds = {"PixelData": integer, "FloatPixelData": "f4", "DoubleFloatPixelData": "f8"}
    keyword, data = next(((k, d) for k in kinds if isinstance(d := header.get(k), bytes)), ("", b""))
    if not keyword:
        raise _truncated("no pixel data")
    if keyword == "PixelData" and bits not in (8, 16, 32):
        raise _unreadable(f"{bits} bits allocated")
    dtype, count = np.dtype(order + kinds[keyword]), math.prod(shape)
    if len(data) < count * dtype.itemsize:
        raise _truncated(f"{len(data)} of {count * dtype.itemsize} bytes")
    stored = np.frombuffer(data, dtype, count=count).reshape(shape)
    return (
        _significant_bits(stored, header.whole("BitsStored") or bits, bits) if dtype.kind in "iu" else stored
    )


def _significant_bits(stored: NDArray[np.generic], used: int, allocated: int) -> NDArray[np.generic]:
    """Drop what overlays left in the unused high bits; extend the sign where there is one."""
    if not 0 < used < allocated:
        return stored
    native = stored.astype(stored.dtype.newbyteorder("="))
    spare = allocated - used
    result: NDArray[np.generic] = (native << spare) >> spare
    return result


def _decoded(header: SeriesHeader, syntax: UID, shape: tuple[int, int, int]) -> NDArray[np.generic]:
    if header.image is None or not isinstance(header.get("PixelData"), bytes):
        raise _truncated("no pixel data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            stored = np.asarray(header.image.pixel_array)
        except (*MALFORMED, RuntimeError) as error:
            # The sequence delimiter ends every encapsulated stream that was written to its end.
            raise _unreadable(syntax.name) from error
    if stored.size != math.prod(shape):
        raise _truncated(f"{stored.size} of {math.prod(shape)} pixels")
    return stored.reshape(shape)


def _truncated(seen: str) -> RefusedScan:
    return RefusedScan(
        "truncated-file",
        f"The pixel data is incomplete: {seen}",
        hint="Fetch the series again",
        measured=seen,
    )


def _unreadable(seen: str) -> RefusedScan:
    return RefusedScan(
        "unreadable-codec",
        f"The pixel data cannot be decoded: {seen}",
        hint="Export the series as Explicit VR Little Endian",
        measured=seen,
    )
