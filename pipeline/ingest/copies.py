"""The same image under another name, the same scan under other UIDs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from filecmp import cmp
from hashlib import sha256
from itertools import combinations
from pathlib import Path

from pipeline.errors import RefusedScan
from pipeline.ingest.found import FoundScan
from pipeline.ingest.headers import SeriesHeader
from pipeline.ingest.instances import PIXEL_KEYWORDS, read_file

Image = tuple[Path, SeriesHeader]


def without_copies(members: Sequence[Image], ignored: Counter[str]) -> list[Image]:
    """Leave out copies, byte by byte; different images of one UID are left for the reader to refuse."""
    first: dict[str, Path] = {}
    kept = []
    for path, header in members:
        instance = header.text("SOPInstanceUID") or str(path)
        if first.setdefault(instance, path) != path and cmp(first[instance], path, shallow=False):
            ignored["duplicates of an image"] += 1
        else:
            kept.append((path, header))
    return kept


def without_exports(
    scans: Sequence[FoundScan], images: Sequence[Sequence[Image]], ignored: Counter[str]
) -> list[FoundScan]:
    """Leave out exports of a scan that is taken, under whatever UIDs; refuse a scan of two people."""
    ways: tuple[Callable[[Sequence[Image]], Hashable], ...] = (_grid, _middle_pixels, _all_pixels)
    groups = [list(range(len(scans)))]
    for way in ways:  # pixels are read of those only whose grids and scales are alike
        groups = [part for group in groups for part in _alike(group, [way(images[n]) for n in group])]
    left_out: set[int] = set()
    scans = list(scans)
    for a, b in (pair for group in groups for pair in combinations(group, 2)):
        if left_out & {a, b}:
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
