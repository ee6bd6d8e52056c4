"""Frames of one scan that a source holds as series or files of their own."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

from pipeline.ingest.acquired import Acquired
from pipeline.ingest.found import FoundScan

_ROUNDED_S = 1.0
"""Frames that follow each other overlap by less, as their times are rounded."""
_SHARED_PLACES = 0.5
"""Frames of one scan show the same slices, though one may have lost some: then the whole scan is refused."""


def with_joined_frames(scans: Sequence[FoundScan]) -> list[FoundScan]:
    """Join the series of a study that are frames of one dynamic scan, with a note.

    They share person, study, frame of reference, grid, reconstruction and, but for numbers, their name, and
    follow each other in time. Each for itself would be a scan of five minutes, and a visit of many scans.
    """
    groups: dict[Hashable, list[FoundScan]] = defaultdict(list)
    for n, scan in enumerate(scans):
        groups[_common(scan) or n].append(scan)
    return [scan for group in groups.values() for scan in _joined(group)]


def _common(scan: FoundScan) -> Hashable:
    """Return what all frames of a scan share; nothing where it is not known well enough."""
    one = scan.acquired
    doubtful = scan.refused is not None or scan.doubt is not None
    if one is None or None in (one.start_s, one.end_s) or len(one.shared) < 2 or not one.grid or doubtful:
        return None
    name = re.sub(r"\d+", "#", scan.description)
    return (
        scan.subject_label,
        scan.tracer,
        name,
        one.method,
        one.grid,
        one.shared,
        one.corrected,
        one.derived,
    )


def _joined(group: Sequence[FoundScan]) -> list[FoundScan]:
    ordered = sorted(group, key=lambda scan: (_times(scan).start_s or 0.0, scan.identity))
    # A sum over frames overlaps several of them.
    sums = [one for one in ordered if sum(_overlap(one, other) for other in ordered if other is not one) > 1]
    frames = [scan for scan in ordered if scan not in sums]
    alike = all(_same_slices(*pair) for pair in pairwise(frames))
    if len(frames) < 2 or any(_overlap(*pair) for pair in combinations(frames, 2)) or not alike:
        return list(group)
    first, times = frames[0], [_times(scan) for scan in frames]
    whole = replace(
        times[0],
        end_s=times[-1].end_s,
        frames=sum(one.frames for one in times),
        places=frozenset().union(*(one.places for one in times)),
    )
    files = tuple(path for scan in frames for path in scan.files)
    note = f"{len(frames)} series of this study are frames of one scan: joined in order of time"
    return [
        replace(first, files=files, acquired=whole, notes=(*first.notes, note), several_series=True),
        *sums,
    ]


def _times(scan: FoundScan) -> Acquired:
    return scan.acquired or Acquired()


def _overlap(one: FoundScan, other: FoundScan) -> bool:
    (a, b), (c, d) = ((_times(scan).start_s or 0.0, _times(scan).end_s or 0.0) for scan in (one, other))
    return a == c or min(b, d) - max(a, c) > _ROUNDED_S


def _same_slices(one: FoundScan, other: FoundScan) -> bool:
    a, b = _times(one).places, _times(other).places
    return len(a & b) >= _SHARED_PLACES * len(a | b)


def frames_in_files(paths: Sequence[Path]) -> dict[Path, tuple[str, tuple[Path, ...]]]:
    """Return for each image that is a numbered frame the name without its number, and all frames of its scan.

    Examples
    --------
    >>> found = frames_in_files([Path("S1_frame1.nii"), Path("S1_frame2.nii"), Path("S2.nii")])
    >>> {path.name: (stem, len(frames)) for path, (stem, frames) in found.items()}
    {'S1_frame1.nii': ('S1', 2), 'S1_frame2.nii': ('S1', 2)}
    """
    groups: dict[tuple[Path, str, str], dict[int, Path]] = defaultdict(dict)
    for path in paths:
        name = _END.sub("", path.name)
        numbers = list(_FRAME.finditer(name))
        if len(numbers) == 1:
            start, end = numbers[0].span()
            bare = f"{name[:start]}_{name[end:]}".strip("_-. ")
            groups[path.parent, bare, path.name[len(name) :]][int(numbers[0][1])] = path
    found: dict[Path, tuple[str, tuple[Path, ...]]] = {}
    for (_, bare, _), numbered in groups.items():
        if len(numbered) > 1:
            frames = tuple(path for _, path in sorted(numbered.items()))
            found |= dict.fromkeys(frames, (bare, frames))
    return found


_END = re.compile(r"\.nii(\.gz)?$|\.v$|\.ecat$", re.IGNORECASE)
_FRAME = re.compile(r"(?<![a-z])(?:frames?|frm|fr|vol|volume)[\W_]?(\d{1,4})(?![\da-z])", re.IGNORECASE)
"""As scanners, SPM and fslsplit number them."""


def refused_frames(count: int) -> tuple[str, str, str]:
    """Return rule, problem and advice for frames in files of their own: nothing states their times."""
    return (
        "frames-in-files",
        f"{count} files are the frames of one scan, by the numbers in their names, expected one file",
        "Join them into one image of four dimensions in order of time, as with `fslmerge -t`, and state "
        "FrameTimesStart and FrameDuration in its sidecar; or take their average",
    )
