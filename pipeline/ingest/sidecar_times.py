"""When the frames of a sidecar were taken: times in s, min or ms, clocks, and what contradicts them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pipeline.errors import RefusedScan
from pipeline.ingest.side_files import number_of
from pipeline.ingest.times import parse_clock
from pipeline.ingest.vocabulary import squeeze
from pipeline.scan import Fact, Frame

UNREADABLE = "unreadable-sidecar"
"""Rule of a sidecar that is there and cannot be understood."""
FRAMES_IN_DOUBT = "frames_in_doubt"
"""Fact of an image whose sidecar states other frames than it has: they must not be averaged blindly."""
_LONGEST_FRAME_S = 4 * 3600.0
_LONGEST_UPTAKE_S = 24 * 3600.0
_LONGEST_SCAN_S = 12 * 3600.0
_TOLERANCE_S = 1.0
"""Rounded times of frames that follow each other overlap by less."""
_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
}


def frames_in(stated: Mapping[str, Any], wanted: int) -> tuple[tuple[Frame, ...], dict[str, Fact]]:
    """Return the frames a sidecar states, and a fact that refuses the scan where they do not fit the image.

    Raises
    ------
    RefusedScan
        ``"unreadable-sidecar"`` where something else than numbers, or an unknown unit, is stated.
    """
    starts = _scaled(stated, "FrameTimesStart")
    durations = _scaled(stated, "FrameDuration")
    if wanted > 1 and (whole := _completed(starts, durations, wanted)) is not None:
        frames, doubt = _frames_of(*whole, wanted)
        return frames, doubt or {"time_note": _COMPLETED}
    return _frames_of(starts, durations, wanted)


_COMPLETED = (
    "FrameTimesStart or FrameDuration is not stated for each frame: taken as frames that follow each other"
)


def _completed(
    starts: list[float], durations: list[float], wanted: int
) -> tuple[list[float], list[float]] | None:
    """Return starts and durations where one of the two is stated for every frame, or one duration for all."""
    if len(durations) == 1:
        durations = durations * wanted
        starts = starts if len(starts) == wanted else []
    elif durations and starts:
        return None
    if len(durations) == wanted and not starts:
        starts = [sum(durations[:n]) for n in range(wanted)]
    if len(starts) == wanted and not durations:
        apart = [later - start for start, later in pairwise(starts)]
        durations = [*apart, apart[-1]]
    return (starts, durations) if len(starts) == len(durations) == wanted else None


def _frames_of(
    starts: list[float], durations: list[float], wanted: int
) -> tuple[tuple[Frame, ...], dict[str, Fact]]:
    # A frame of no duration was appended by a converter; it has no image.
    pairs = [(start, duration) for start, duration in zip(starts, durations, strict=False) if duration > 0]
    lasting = sum(duration != 0 for duration in durations)
    uneven = bool(starts and durations) and (lasting > len(pairs) or len(starts) > len(durations))
    uneven = uneven or (wanted > 1 and bool(starts) != bool(durations))
    if not uneven and (not pairs or (wanted == 1 and len(pairs) != 1)):
        return (), {}  # one image of several frames: their average, over a time that is not stated
    ordered = all(b[0] > a[0] for a, b in pairwise(pairs))
    apart = all(b[0] > a[0] + a[1] - _TOLERANCE_S for a, b in pairwise(pairs))
    near = all(b[0] - a[0] <= _LONGEST_SCAN_S for a, b in pairwise(pairs))
    if uneven and wanted > 1:
        seen = f"the sidecar states {len(starts)} starts and {lasting} durations of frames"
        return (), {FRAMES_IN_DOUBT: f"{seen}, the image has {wanted}"}
    if not near:
        return (), {FRAMES_IN_DOUBT: "the sidecar states frames more than 12 h apart, as in mixed units"}
    if len(pairs) != wanted or not ordered or not apart:
        order = " out of order" if not ordered else "" if apart else " that overlap"
        return (), {FRAMES_IN_DOUBT: f"the sidecar states {len(pairs)} frames{order}, the image has {wanted}"}
    first = pairs[0][0]
    return tuple(Frame(start - first, duration) for start, duration in pairs), {}


def delay_in(stated: Mapping[str, Any]) -> float | None:
    """Return the seconds from injection to the first frame; None where they are not stated.

    Raises
    ------
    RefusedScan
        ``"injection-after-scan"`` or ``"unreadable-sidecar"``.
    """
    clocks = [_clock(stated, key) for key in ("InjectionStart", "ScanStart")]
    starts = _scaled(stated, "FrameTimesStart")
    if clocks[0] is not None:
        scan = clocks[1] if clocks[1] is not None else _clock(stated, "TimeZero")
        if scan is None:
            return None
        later = 0.0 if clocks[1] is not None else max(_time(stated, "ScanStart") or 0.0, *starts[:1], 0.0)
        delay = (scan + later - clocks[0]) % 86400.0
        return delay if delay <= _LONGEST_SCAN_S else None
    injection, scan = _time(stated, "InjectionStart"), _time(stated, "ScanStart")
    if injection is None or (scan is None and not starts):
        return None
    # Frame times count from the same zero as the injection, whatever ScanStart states.
    delay = max(scan or 0.0, starts[0] if starts else 0.0) - injection
    if delay < 0:
        raise RefusedScan(
            "injection-after-scan",
            f"InjectionStart is {-delay / 60:.1f} min after the start of the scan",
            hint="correct InjectionStart or ScanStart in the sidecar",
            measured=f"{-delay / 60:.1f} min",
        )
    return delay if delay <= _LONGEST_UPTAKE_S else None


def decay_delay_in(stated: Mapping[str, Any]) -> float | None:
    """Return seconds from injection to the time the image is decay corrected to."""
    injection, reference = _time(stated, "InjectionStart"), _time(stated, "ImageDecayCorrectionTime")
    if stated.get("ImageDecayCorrected") is not True or injection is None or reference is None:
        return None
    delay = reference - injection
    return delay if 0 <= delay <= _LONGEST_UPTAKE_S else None


def _clock(stated: Mapping[str, Any], key: str) -> float | None:
    """Return a time of day that is written with colons, seconds after midnight."""
    text = text_in(stated, key)
    return parse_clock(text) if text and ":" in text else None


def _time(stated: Mapping[str, Any], key: str) -> float | None:
    value = number_in(stated, key)
    return None if value is None else value * _seconds_per_unit(stated, key)


def _scaled(stated: Mapping[str, Any], key: str) -> list[float]:
    return [value * _seconds_per_unit(stated, key) for value in numbers_in(stated, key)]


def _seconds_per_unit(stated: Mapping[str, Any], key: str) -> float:
    """Return the unit of a time: its own, else that of the durations, else ms where s are impossible.

    Raises
    ------
    RefusedScan
        ``"unreadable-sidecar"``.
    """
    for name in (f"{key}Units", "FrameDurationUnits", "FrameTimesStartUnits"):
        unit = squeeze(text_in(stated, name) or "")
        if unit and unit not in _SECONDS:
            raise RefusedScan(
                UNREADABLE,
                f"{name} is no unit of time that is known, expected s, min or ms",
                hint="correct the JSON file beside the image",
                measured=name,
            )
        if unit:
            return _SECONDS[unit]
    longest = max(numbers_in(stated, "FrameDuration"), default=0.0)
    delay = abs((number_in(stated, "ScanStart") or 0.0) - (number_in(stated, "InjectionStart") or 0.0))
    return 1e-3 if longest > _LONGEST_FRAME_S or delay > 10 * _LONGEST_UPTAKE_S else 1.0


def text_in(stated: Mapping[str, Any], key: str) -> str | None:
    """Return a text, None where none is stated or it says that nothing is known."""
    value = stated.get(key)
    if not isinstance(value, str) or value.strip().lower() in ("", "n/a", "na", "unknown"):
        return None
    return value.strip()


def number_in(stated: Mapping[str, Any], key: str) -> float | None:
    """Return a number, also where it is written as text; None where none is stated."""
    value = stated.get(key)
    is_text_or_number = isinstance(value, (int, float, str)) and not isinstance(value, bool)
    return number_of(value) if is_text_or_number else None


def numbers_in(stated: Mapping[str, Any], key: str) -> list[float]:
    """Return a list of numbers, empty where nothing is stated.

    Raises
    ------
    RefusedScan
        ``"unreadable-sidecar"`` where something else is stated.
    """
    values = stated.get(key)
    if not isinstance(values, Sequence) or isinstance(values, str):
        values = [values]
    if all(text_in({key: v}, key) is None if isinstance(v, str) else v is None for v in values):
        return []
    numbers = [number_in({key: value}, key) for value in values]
    if any(n is None for n in numbers):
        other = json.dumps(next(v for v, n in zip(values, numbers, strict=True) if n is None), default=str)
        # What stands in place of a number can be a name or a birth date.
        private = re.search(r"[^\W\da-z_]|\^|\d{4}", other.replace("NaN", ""))
        seen = "a text" if private else other[:40]
        raise RefusedScan(
            UNREADABLE,
            f"{key} holds {seen}, expected numbers",
            hint="correct the JSON file beside the image",
            measured=key,
        )
    return [n for n in numbers if n is not None]
