"""DICOM files to headers: what is DICOM, what is a PET image, and a fast walk over what scanners write."""

from __future__ import annotations

import struct
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from pipeline.errors import RefusedScan
from pipeline.ingest.folders import DICOM_SUFFIXES
from pipeline.ingest.found import no_permission
from pipeline.ingest.headers import MALFORMED, Encoded, SeriesHeader, encodings_of, meta_of
from pipeline.ingest.kinds import DIRECTORY_CLASS, PET_CLASSES, kind_of, kind_of_other
from pipeline.ingest.people import split_series
from pipeline.ingest.planes import are_equal, planes_of

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

_UNDEFINED = _NEVER = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_MAGIC, _META = b"DICM", b"\x02\x00\x00\x00"
_SOP_CLASS, _SYNTAX, _BITS, _PIXELS = 0x00080016, 0x00020010, 0x00280100, 0x7FE00008
_IMPLICIT = struct.Struct("<HHL").unpack_from
_EXPLICIT = struct.Struct("<HH2sH").unpack_from
_LENGTH = struct.Struct("<L").unpack_from
_VRS = {str(vr).encode(): (str(vr), vr in EXPLICIT_VR_LENGTH_32) for vr in VR if len(vr) == 2}

# Headers of PET are a few kilobytes; pixels lie behind them.
_HEAD_BYTES = 1 << 16


class _UnusualError(ValueError):
    """What the fast walk leaves to pydicom."""


def is_dicom(path: Path) -> bool:
    """Return whether a file starts as a DICOM file does, with its preamble or without."""
    try:
        with path.open("rb") as stream:
            head = stream.read(132)
    except OSError:
        return False
    return starts_as_dicom(head)


def starts_as_dicom(head: bytes) -> bool:
    """Return whether the first 132 bytes of a file are those of DICOM."""
    return _MAGIC in (head[:4], head[128:132]) or _META in (head[:4], head[128:132]) or _is_bare(head)


def _is_bare(head: bytes) -> bool:
    """Return whether a data set without file meta starts: an element of group 8, of known kind or short."""
    if len(head) < 8 or head[:2] not in (b"\x08\x00", b"\x00\x08"):
        return False
    little = head[:2] == b"\x08\x00"
    element, length = struct.unpack("<HL" if little else ">HL", head[2:8])
    return element <= 0x0070 and (head[4:6] in _VRS or (little and length <= _HEAD_BYTES))


def _as_part_10(data: bytes) -> bytes:
    """Put in the preamble and the prefix that some programs leave out before the file meta."""
    if data[:4] == _MAGIC:
        return bytes(128) + data
    if data[:4] == _META:
        return bytes(128) + _MAGIC + data
    if data[128:132] == _META and not _is_bare(data):
        return data[:128] + _MAGIC + data[128:]
    return data


def read_file(path: Path, *, pixels: bool = False) -> SeriesHeader | None:
    """Read the header of one DICOM file; None where it is none.

    Parameters
    ----------
    pixels : bool
        Read pixel data as well.

    Raises
    ------
    RefusedScan
        ``"truncated-file"`` where it starts as DICOM and breaks off, or is named as a slice and is empty;
        ``"no-permission"`` or ``"vanished"`` where the system does not let it be read.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(-1 if pixels else _HEAD_BYTES)
            if not starts_as_dicom(data):
                _refuse_lost(path, data)
                return None
            try:
                return _walked(_as_part_10(data), pixels=pixels)
            except (_UnusualError, struct.error, RecursionError):
                return _read_by_pydicom(_as_part_10(data + stream.read()), pixels=pixels)
    except PermissionError as error:
        raise no_permission() from error
    except OSError as error:
        raise RefusedScan(
            "vanished",
            f"A file of the scan cannot be read ({type(error).__name__})",
            hint="see whether its disk or network drive is there, then ingest again",
        ) from error


def _refuse_lost(path: Path, data: bytes) -> None:
    suffix = path.suffix.lower()
    numbered = not suffix.strip(".0123456789") and any(c.isdigit() for c in path.name)
    # Within the prefix a file breaks off too.
    if (suffix in DICOM_SUFFIXES or numbered) and not any(data if len(data) >= 132 else data[:128]):
        raise _breaks_off("is empty" if not data else "holds zeros")


def _read_by_pydicom(data: bytes, *, pixels: bool) -> SeriesHeader:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = pydicom.dcmread(BytesIO(data), force=True, stop_before_pixels=not pixels)
        except MALFORMED as error:
            raise _breaks_off() from error
    # Where a compressed stream breaks off, pydicom gives up without a word and returns nothing of the file.
    media = meta_of(found).text("MediaStorageSOPClassUID")
    if media != DIRECTORY_CLASS and (not found or (media is not None and "SOPClassUID" not in found)):
        raise _breaks_off()
    # A cut is not always an error to pydicom; a header that is cut could pass for another person's.
    needed = PIXEL_KEYWORDS if pixels else ("BitsAllocated", *PIXEL_KEYWORDS)
    header = SeriesHeader.of(found)
    if header.text("SOPClassUID") in PET_CLASSES and not any(keyword in found for keyword in needed):
        raise _breaks_off()
    return header


def _breaks_off(seen: str = "breaks off") -> RefusedScan:
    problem = f"A DICOM file is incomplete: it {seen}"
    return RefusedScan("truncated-file", problem, hint="Fetch the series again", measured=seen)


def _walked(data: bytes, *, pixels: bool) -> SeriesHeader:
    """Return the header of a file in native little endian, sequences skipped: three times pydicom's pace."""
    if data[128:132] != b"DICM":
        raise _UnusualError
    meta: dict[int, Encoded] = {}
    start = _walk(data, 132, meta, implicit=False, stop=0x00030000)
    syntax = (meta[_SYNTAX].value or b"").decode("ascii", "replace").strip(" \0") if _SYNTAX in meta else ""
    if syntax not in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        raise _UnusualError
    found: dict[int, Encoded] = {}
    implicit = syntax == ImplicitVRLittleEndian
    at = _walk(data, start, found, implicit=implicit, stop=_NEVER if pixels else _PIXELS)
    if (not pixels and len(data) >= _HEAD_BYTES and at + 8 > len(data)) or _SOP_CLASS not in found:
        raise _UnusualError
    if _BITS not in found or (pixels and max(found) < _PIXELS):
        raise _UnusualError  # cut between two elements, or no image
    return SeriesHeader((found,), syntax, encodings_of(found))


def _walk(data: bytes, at: int, found: dict[int, Encoded], *, implicit: bool, stop: int = _NEVER) -> int:
    """Collect the elements from a place on; return where an item, `stop` or the data ends."""
    next_element = _implicit_element if implicit else _explicit_element
    last, end = -1, len(data)
    while at + 8 <= end:
        tag, vr, length, begin = next_element(data, at)
        if tag == _ITEM_END:
            return begin
        if tag >= stop:
            return at
        if length == _UNDEFINED:
            if tag >= _PIXELS or vr not in (None, "SQ"):
                raise _UnusualError
            at = _after_items(data, begin, implicit=implicit)
            vr, length = "SQ", at - 8 - begin
        else:
            at = begin + length
        if vr == "" or tag <= last or at > end:
            raise _UnusualError
        last = tag
        found[tag] = Encoded(vr, data[begin : begin + length] if length else None, implicit)
    return at


def _implicit_element(data: bytes, at: int) -> tuple[int, str | None, int, int]:
    group, element, length = _IMPLICIT(data, at)
    return group << 16 | element, None, length, at + 8


def _explicit_element(data: bytes, at: int) -> tuple[int, str | None, int, int]:
    group, element, code, length = _EXPLICIT(data, at)
    tag = group << 16 | element
    vr, wide = _VRS.get(code, ("", False))
    return (tag, vr, _LENGTH(data, at + 8)[0], at + 12) if wide else (tag, vr, length, at + 8)


def _after_items(data: bytes, at: int, *, implicit: bool) -> int:
    """Return where a sequence of undefined length ends."""
    while True:
        tag, _, length, at = _implicit_element(data, at)
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise _UnusualError
        at = _walk(data, at, {}, implicit=implicit) if length == _UNDEFINED else at + length


def series_of(
    files: Iterable[Path], series_uid: str | None = None
) -> tuple[list[list[SeriesHeader]], Counter[str]]:
    """Sort files into PET series, each of one person and study; an image under another name is taken once.

    Parameters
    ----------
    files : iterable of Path
    series_uid : str, optional
        Take this series only.

    Returns
    -------
    series : list of list of SeriesHeader
        The images of each series, with pixels.
    ignored : Counter
        What was left alone.

    Raises
    ------
    RefusedScan
        ``"truncated-file"`` or ``"conflicting-duplicates"``.
    """
    series: dict[str, list[SeriesHeader]] = defaultdict(list)
    ignored: Counter[str] = Counter()
    for path in files:
        header = read_file(path, pixels=True)
        kind = kind_of_other(path) if header is None else kind_of(header)
        if kind or header is None:
            ignored[kind or ""] += 1
            continue
        uid = header.text("SeriesInstanceUID") or ""
        if series_uid is None or uid == series_uid:
            series[uid].append(header)
        else:
            ignored["PET images of other series"] += 1
    parted = (part for members in series.values() for part in split_series(members, lambda one: one))
    return [_without_duplicates(part, ignored) for part in parted], ignored


def _without_duplicates(headers: list[SeriesHeader], ignored: Counter[str]) -> list[SeriesHeader]:
    found: dict[str, SeriesHeader] = {}
    for n, header in enumerate(headers):
        instance = header.text("SOPInstanceUID") or f"nameless {n}"
        first = found.setdefault(instance, header)
        if first is not header:
            if not are_equal(planes_of(first), planes_of(header)):
                raise RefusedScan(
                    "conflicting-duplicates",
                    "Two different images have the same SOP Instance UID (0008,0018)",
                    hint="Export the series again, or remove the images that do not belong to it",
                    measured="2 images of 1 UID",
                )
            ignored["duplicates of an image"] += 1
    return list(found.values())
