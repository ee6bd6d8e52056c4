"""Planes into one array: order along the slice normal, frames in order of time, affine in RAS+ mm."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RefusedScan
from pipeline.ingest.planes import Plane, fill
from pipeline.ingest.times import F18_HALF_LIFE_S, mean_count_time
from pipeline.scan import FloatArray, Frame

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

# Bed joins shift slices by hundredths of a millimetre; positions closer than this are one.
_SAME_PLACE_MM = 0.01
_UNEVEN = 0.2
# Scanners place a frame's mean by formulae that differ by seconds.
_SAME_TIME_S = 60.0
# Where every frame would be shorter, a program wrote seconds in place of milliseconds.
_SHORTEST_SCAN_S = 5.0


def stack(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Return planes as frames of slices: ``result[frame][slice]``, both in order.

    Raises
    ------
    RefusedScan
        ``"mixed-geometry"`` or ``"missing-slices"``.
    """
    _check_one_grid(planes)
    planes = _each_once(planes)
    normal = np.cross(planes[0].along_row, planes[0].along_column)
    heights = np.array([plane.position @ normal for plane in planes])
    places: list[list[Plane]] = []
    last = -np.inf
    for n in np.argsort(heights, kind="stable"):
        if heights[n] - last > _SAME_PLACE_MM:
            places.append([])
            last = heights[n]
        places[-1].append(planes[n])
    timed = all(plane.moment is not None for plane in planes)
    for place in places:
        place.sort(key=lambda plane: (*_time_of(plane, timed=timed), plane.order or 0))
    _check_complete(places, normal)
    frames = [list(frame) for frame in zip(*places, strict=True)]
    _check_frames([[(*_time_of(p, timed=timed), p.order or 0) for p in frame] for frame in frames])
    return frames


def _each_once(planes: Sequence[Plane]) -> Sequence[Plane]:
    """Leave out copies under other UIDs, if all that lie at one place and time are copies."""
    same: dict[tuple[object, ...], list[Plane]] = defaultdict(list)
    for plane in planes:
        key = (plane.position.tobytes(), plane.acquired, plane.reference_s, plane.slope, plane.intercept)
        same[key].append(plane)
    repeated = [(group[0], other) for group in same.values() for other in group[1:]]
    copies = all(np.array_equal(first.stored, other.stored) for first, other in repeated)
    return [group[0] for group in same.values()] if repeated and copies else planes


def _time_of(plane: Plane, *, timed: bool) -> tuple[float, float]:
    """Return when a plane was acquired; a clock that some planes lack orders none."""
    return (plane.acquired or 0.0) if timed else 0.0, plane.reference_s or 0.0


def _check_one_grid(planes: Sequence[Plane]) -> None:
    first = planes[0]
    for plane in planes:
        seen = None
        if plane.stored.shape != first.stored.shape:
            seen = f"{first.stored.shape} and {plane.stored.shape} pixels"
        elif plane.spacing_mm != first.spacing_mm and not np.allclose(
            plane.spacing_mm, first.spacing_mm, rtol=1e-3
        ):
            seen = f"pixel spacings {first.spacing_mm} and {plane.spacing_mm} mm"
        elif plane.along_row is not first.along_row and (
            min(plane.along_row @ first.along_row, plane.along_column @ first.along_column) < 1 - 1e-5
        ):
            seen = "slices that are not parallel"
        if seen:
            raise _mixed(seen)


def _check_complete(places: list[list[Plane]], normal: NDArray[np.float64]) -> None:
    """Refuse gaps between slices and frames that lack one."""
    if len(places) < 2:
        raise RefusedScan(
            "missing-slices",
            "The series has a single slice",
            hint="Fetch the whole series; where every slice has a Series Instance UID of its own, export "
            "them again as one series",
            measured="1 slice",
        )
    heights = np.array([place[0].position @ normal for place in places])
    gaps = np.diff(heights)
    smallest = float(gaps.min())
    steps = np.maximum(1, np.rint(gaps / smallest))
    spacing = float(np.median(gaps[steps == 1]))
    steps = np.maximum(1, np.rint(gaps / spacing))
    axis = int(np.argmax(np.abs(normal)))
    lacking = [
        places[n][0].position[axis] + normal[axis] * spacing * k
        for n in np.flatnonzero(steps > 1)
        for k in range(1, int(min(steps[n], 1000)))
    ]
    most = max(map(len, places))
    usual = sorted(map(len, places))[len(places) // 2]
    if most > usual and not lacking:
        extra = [f"{place[0].position[axis]:.1f}" for place in places if len(place) > usual]
        raise _mixed(f"more images than elsewhere at {'xyz'[axis]} = {', '.join(extra[:8])} mm")
    lacking += [place[0].position[axis] for place in places if len(place) < most]
    if lacking:
        raise _missing("xyz"[axis], sorted(lacking))
    if np.abs(gaps - spacing).max() > _UNEVEN * spacing:
        raise _mixed(f"slices {gaps.min():.2f} to {gaps.max():.2f} mm apart")
    _check_straight(places, spacing)


def _check_straight(places: list[list[Plane]], spacing: float) -> None:
    positions = np.array([place[0].position for place in places])
    line = np.linspace(positions[0], positions[-1], len(positions))
    astray = float(np.linalg.norm(positions - line, axis=1).max())
    if astray > _UNEVEN * spacing:
        raise _mixed(f"a slice {astray:.2f} mm beside the line of the others")


def _check_frames(frames: Sequence[Sequence[tuple[float, float, int]]]) -> None:
    """Refuse frames that share an image's time, given as time, reference time and order of each plane."""
    if any(a == b for one, next_one in pairwise(frames) for a, b in zip(one, next_one, strict=True)):
        raise _mixed("two images at one place and time")
    times = [[key[:2] for key in frame] for frame in frames]
    if min(map(min, times)) == max(map(max, times)):
        return
    for n, (one, later) in enumerate(pairwise(times)):
        if max(one) >= min(later) and len({*one}) + len({*later}) > 2:
            raise RefusedScan(
                "overlapping-frames",
                f"Frames {n + 1} and {n + 2} hold images of the same time: "
                "some images are there twice, and others are missing",
                hint="Fetch the whole series again, and leave out other reconstructions of it",
                measured=f"frames {n + 1} and {n + 2}",
            )


def array_of(frames: Sequence[Sequence[Plane]]) -> FloatArray:
    """Return values indexed (x, y, z) or (x, y, z, frame), laid out so that x runs fastest as in NIfTI."""
    stacked = np.empty((len(frames), len(frames[0]), *frames[0][0].stored.shape), np.float32)
    for t, slices in enumerate(frames):
        for z, plane in enumerate(slices):
            fill(stacked[t, z], plane)
    array: FloatArray = stacked.transpose(3, 2, 1, 0)
    return array if len(frames) > 1 else array[..., 0]


def check_filled(array: FloatArray) -> None:
    """Refuse slices of one value between others: a program wrote them where it had none.

    Frames before the tracer has come hold little, and may.

    Parameters
    ----------
    array : ndarray, shape (x, y, z) or (x, y, z, frame)

    Raises
    ------
    RefusedScan
        ``"missing-slices"``.
    """
    frames = [array] if array.ndim == 3 else [array[..., t] for t in range(array.shape[3])]
    totals = [float(np.nansum(frame)) for frame in frames] if len(frames) > 1 else [1.0]
    for values in (frame for frame, total in zip(frames, totals, strict=True) if total > 0.5 * max(totals)):
        for axis in range(3):
            others = tuple(n for n in range(3) if n != axis)
            lowest, highest = (np.asarray(f.reduce(values, axis=others)) for f in (np.fmin, np.fmax))
            filled = np.flatnonzero(lowest < highest).tolist()
            lacking = sorted({*range(min(filled), max(filled))} - {*filled}) if filled else []
            if lacking:
                seen = f"{len(lacking)} slices along {'xyz'[axis]}, the first is number {lacking[0] + 1}"
                raise RefusedScan(
                    "missing-slices",
                    f"The image holds one value throughout in {seen}, between others with measurements",
                    hint="Fetch or convert the whole series again",
                    measured=seen,
                )


def affine_of(slices: Sequence[Plane]) -> NDArray[np.float64]:
    """Return the affine of ordered slices: (column, row, slice) index to RAS+ mm, shape (4, 4).

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.
    """
    first, last = slices[0], slices[-1]
    affine = np.eye(4)
    affine[:3, 0] = first.along_row * first.spacing_mm[1]
    affine[:3, 1] = first.along_column * first.spacing_mm[0]
    affine[:3, 2] = (last.position - first.position) / (len(slices) - 1)
    affine[:3, 3] = first.position
    result: NDArray[np.float64] = LPS_TO_RAS @ affine
    return result


def frame_times(
    frames: Sequence[Sequence[Plane]], half_life_s: float | None
) -> tuple[tuple[Frame, ...], str | None]:
    """Return start and duration of each frame, from the first frame's start, and what is doubtful of them.

    Acquisition times are taken where they differ between frames. Else a frame reference time is the moment at
    which the decaying activity equals its mean, so the start lies that much before it. Where nothing states
    the times, there are none.

    Raises
    ------
    RefusedScan
        ``"overlapping-frames"``.
    """
    durations = [max((p.duration_s or 0.0) for p in frame) for frame in frames]
    unknown = f"the {len(frames)} frames state no times of their own" if len(frames) > 1 else None
    if min(durations) <= 0:
        return (), unknown
    half_life = half_life_s or F18_HALF_LIFE_S
    acquired = [min((p.acquired for p in frame if p.acquired is not None), default=None) for frame in frames]
    in_seconds = _are_seconds(durations, _all_known(acquired))
    durations = [duration * 1000.0 if in_seconds else duration for duration in durations]
    middles = [frame[0].reference_s for frame in frames]
    begins = [
        None if middle is None else middle - mean_count_time(duration, half_life)
        for middle, duration in zip(middles, durations, strict=True)
    ]
    stated = [known for known in (_all_known(acquired), _all_known(begins)) if len(set(known)) > 1]
    if len(frames) == 1:
        stated = [[0.0]]
    sound = [[s - starts[0] for s in starts] for starts in stated if _overlap(starts, durations) is None]
    if stated and not sound:
        raise _overlapping(stated[0], durations)
    if not sound:
        return (), unknown
    times = tuple(Frame(round(s, 3), d) for s, d in zip(sound[0], durations, strict=True))
    apart = max(abs(a - b) for a, b in zip(sound[0], sound[-1], strict=True))
    doubt = (
        f"Acquisition Time and Frame Reference Time place frames up to {apart:.0f} s apart; the first is used"
    )
    stated_s = "Actual Frame Duration (0018,1242) is taken as seconds: in ms it would be too short"
    doubts = [stated_s] * in_seconds + [doubt] * (apart > _SAME_TIME_S)
    return times, "; ".join(doubts) or None


def _are_seconds(durations: Sequence[float], starts: Sequence[float]) -> bool:
    """Return whether durations are too short to be, and a thousand times as long would not overlap."""
    known = len(starts) == len(durations) or len(durations) == 1
    fitting = _overlap(starts, [1000 * duration for duration in durations]) is None
    return max(durations) < _SHORTEST_SCAN_S and known and fitting


def _all_known(times: Sequence[float | None]) -> list[float]:
    known = [time for time in times if time is not None]
    return known if len(known) == len(times) else []


def _overlap(starts: Sequence[float], durations: Sequence[float]) -> int | None:
    """Return the first frame that begins before the one before it ends; rounded times are no overlap."""
    pairs = enumerate(zip(pairwise(starts), durations, strict=False))
    return next((n + 1 for n, ((a, b), d) in pairs if b <= a or b < a + d - max(1.0, 0.01 * d)), None)


def _overlapping(starts: Sequence[float], durations: Sequence[float]) -> RefusedScan:
    n = _overlap(starts, durations) or 1
    early = starts[n - 1] + durations[n - 1] - starts[n]
    return RefusedScan(
        "overlapping-frames",
        f"Frame {n + 1} begins {early:.0f} s before frame {n} ends: frames overlap or repeat in time",
        hint="Export the original dynamic series alone, without summed frames",
        measured=f"{early:.0f} s",
    )


def _missing(axis: str, positions: Sequence[float]) -> RefusedScan:
    shown = ", ".join(f"{p:.1f}" for p in positions[:8]) + (" ..." if len(positions) > 8 else "")
    return RefusedScan(
        "missing-slices",
        f"The series is incomplete: {len(positions)} slices are missing at {axis} = {shown} mm",
        hint="Fetch the whole series",
        measured=f"{len(positions)} at {axis} = {shown} mm",
    )


def _mixed(seen: str) -> RefusedScan:
    return RefusedScan(
        "mixed-geometry",
        f"The slices do not share one grid: {seen}",
        hint="Export the original series alone",
        measured=seen,
    )
