"""The same image under another name, the same scan under other UIDs."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from filecmp import cmp
from hashlib import file_digest, sha256
from itertools import combinations
from pathlib import Path

import numpy as np

from pipeline.errors import RefusedScan
from pipeline.ingest.found import FoundScan
from pipeline.ingest.headers import SeriesHeader
from pipeline.ingest.instances import PIXEL_KEYWORDS, read_file
from pipeline.ingest.planes import fill, planes_of
from pipeline.scan import FloatArray

Image = tuple[Path, SeriesHeader]


def without_copies(members: Sequence[Image], ignored: Counter[str]) -> list[Image]:
    """Leave out copies, byte by byte; different images of one UID are left for the reader to refuse."""
    first: dict[str, Path] = {}
    different = []
    for path, header in members:
        instance = header.text("SOPInstanceUID") or str(path)
        if first.setdefault(instance, path) != path and cmp(first[instance], path, shallow=False):
            ignored["duplicates of an image"] += 1
        else:
            different.append((path, header))
    return different


def without_exports(
    scans: Sequence[FoundScan], images: Sequence[Sequence[Image]], ignored: Counter[str]
) -> list[FoundScan]:
    """Leave out exports of a scan that is taken, under whatever UIDs; refuse a scan of two people."""
    ways: tuple[Callable[[Sequence[Image]], Hashable], ...] = (_grid, _middle_pixels, _all_pixels)
    groups = [list(range(len(scans)))]
    for way in ways:  # pixels are read of those only whose grids and scales are alike
        groups = [part for group in groups for part in _alike(group, [way(images[n]) for n in group])]
    pairs = [pair for group in groups for pair in combinations(group, 2)]
    left_out: set[int] = set()
    scans = list(scans)
    for a, b in [*pairs, *_conversions(images)]:
        if left_out & {a, b}:
            continue
        if _directions(images[a]) != _directions(images[b]):
            scans[a], scans[b] = (replace(scans[n], refused=_MIRRORED) for n in (a, b))
            continue
        if scans[a].subject_label != scans[b].subject_label:
            scans[a], scans[b] = (replace(scans[n], doubt=_TWO_OWNERS) for n in (a, b))
        elif scans[a].scan_date != scans[b].scan_date:
            note = "the same images are there with another date"
            scans[b] = replace(scans[b], notes=(*scans[b].notes, note))
        else:
            ignored["copies of a scan that is taken"] += 1
            left_out.add(b)
    return [scan for n, scan in enumerate(scans) if n not in left_out]


def content_of(scan: FoundScan) -> str:
    """Return 64 hex digits that depend on the images of a scan alone, not on how they are packed.

    They are of the pixels at each place and their directions, or of other formats of the unpacked bytes.
    Images of zeros, and what cannot be read, have none.
    """
    try:
        if scan.format != "dicom":
            content: object = sorted(map(_bytes_of, (*scan.files, *scan.sidecars)))
        else:
            headers = [(path, read_file(path)) for path in scan.files]
            images = [(path, header) for path, header in headers if header is not None]
            pixels = _all_pixels(images)
            if pixels is None:
                return ""
            content = (pixels, sorted(_directions(images), key=str))
    except (OSError, EOFError, zlib.error, RefusedScan):
        return ""
    return sha256(repr(content).encode()).hexdigest()


def _bytes_of(path: Path) -> str:
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _conversions(images: Sequence[Sequence[Image]]) -> Iterator[tuple[int, int]]:
    """Yield scans of slices with the enhanced image that they were converted to, or that of the slices."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for n, members in enumerate(images):
        headers = [header for _, header in members]
        planes = sum(header.whole("NumberOfFrames") or 1 for header in headers)
        groups[planes, headers[0].whole("Rows"), headers[0].whole("Columns")].append(n)
    for group in groups.values():
        kinds = {n: images[n][0][1].text("SOPClassUID") for n in group}
        if len(set(kinds.values())) > 1:  # pixels are read of those only whose sizes are alike
            values = {n: _values(images[n]) for n in group}
            for a, b in combinations(group, 2):
                if kinds[a] != kinds[b] and _equal_values(values[a], values[b]):
                    yield a, b


def _values(images: Sequence[Image]) -> list[tuple[tuple[float, ...], FloatArray]]:
    """Return place and values of every plane, in one order; nothing where one cannot be read."""
    found: list[tuple[tuple[float, ...], FloatArray]] = []
    try:
        for path, _ in images:
            header = read_file(path, pixels=True)
            for plane in [] if header is None else planes_of(header):
                values = np.empty(plane.stored.shape, np.float32)
                fill(values, plane)
                clock = plane.acquired or plane.reference_s or plane.order or 0.0
                found.append(((*plane.position.round(2).tolist(), clock), values))
    except RefusedScan:
        return []
    return [(place[:3], values) for place, values in sorted(found, key=lambda one: one[0])]


def _equal_values(
    first: list[tuple[tuple[float, ...], FloatArray]], second: list[tuple[tuple[float, ...], FloatArray]]
) -> bool:
    """Return whether planes agree but for the rounding of another scale; images of zeros are no evidence."""
    peak = max((float(np.fmax.reduce(values, axis=None)) for _, values in first), default=0.0)
    return (
        peak > 0
        and len(first) == len(second)
        and all(
            here == there and np.allclose(a, b, rtol=1e-4, atol=1e-4 * peak, equal_nan=True)
            for (here, a), (there, b) in zip(first, second, strict=True)
        )
    )


def _directions(images: Sequence[Image]) -> set[tuple[float, ...] | None]:
    return {header.first_frame().numbers("ImageOrientationPatient") for _, header in images}


_MIRRORED = (
    "mixed-geometry",
    "The same pixels are in this source with two orientations (0020,0037): left and right may be swapped",
    "Find out which export is right, and leave the other one out",
)
_TWO_OWNERS = (
    "The same images are in this source under two Patient IDs (0010,0020)",
    "Find out whose images these are, and leave the other export out",
)


def _alike(group: Sequence[int], keys: Sequence[Hashable]) -> list[list[int]]:
    parts: dict[Hashable, list[int]] = defaultdict(list)
    for n, key in zip(group, keys, strict=True):
        parts[key].append(n)
    return [part for key, part in parts.items() if key is not None and len(part) > 1]


def _place(image: Image) -> tuple[str, ...]:
    keywords = ("ImagePositionPatient", "RescaleSlope", "Rows", "Columns", "NumberOfFrames")
    return tuple(image[1].text(keyword) or "" for keyword in keywords)


def _grid(images: Sequence[Image]) -> Hashable:
    return tuple(sorted(map(_place, images)))


def _middle_pixels(images: Sequence[Image]) -> Hashable:
    return _digest(sorted(images, key=_place)[len(images) // 2][0])


def _all_pixels(images: Sequence[Image]) -> Hashable:
    """Return the pixels of each place, as stored; None where some cannot be read or all are zero."""
    found = sorted((_place(image), _digest(image[0])) for image in images)
    digests = {digest for _, digest in found}
    return None if "" in digests or digests == {"0"} else tuple(found)


def _digest(path: Path) -> str:
    """Return a digest of the pixel data of a file as stored, ``"0"`` for zeros; empty where there is none."""
    try:
        header = read_file(path, pixels=True)
    except RefusedScan:
        return ""
    values = (header.get(keyword) for keyword in PIXEL_KEYWORDS) if header is not None else ()
    data = next((value for value in values if isinstance(value, bytes)), b"")
    return sha256(data).hexdigest() if any(data) else "0"[: len(data)]
