"""Clock and decay: DICOM dates and times, the delay from injection to scan, the SUV factor."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import NamedTuple

from pipeline.errors import RefusedScan

F18_HALF_LIFE_S = 6586.2
_DAY_S = 86400.0
_FIRST_YEAR = 1800
_LONGEST_UPTAKE_S = 12 * 3600.0
# A dynamic scan is started by hand about when the tracer is injected, whose time is written to the minute.
_CLOCKS_DIFFER_S = 120.0


def parse_date(text: object) -> date | None:
    """Read a DICOM DA, an ISO date or a US date; None where it is none.

    Examples
    --------
    >>> parse_date("20150312"), parse_date("3/12/2015"), parse_date("-4")
    (datetime.date(2015, 3, 12), datetime.date(2015, 3, 12), None)
    """
    found = str(text or "").strip()
    patterns = (
        (r"(\d{4})(\d{2})(\d{2})(?!\d)", (1, 2, 3)),
        (r"(\d{4})[-./](\d{1,2})[-./](\d{1,2})", (1, 2, 3)),
        (r"(\d{1,2})/(\d{1,2})/(\d{4})", (3, 1, 2)),
    )
    for pattern, (y, m, d) in patterns:
        match = re.match(pattern, found)
        if match:
            try:
                day = date(int(match[y]), int(match[m]), int(match[d]))
            except ValueError:
                return None
            # A year before that stands for "unknown"; a shifted date lies 110 to 120 years back.
            return day if day.year >= _FIRST_YEAR else None
    return None


def parse_clock(text: object) -> float | None:
    """Read a DICOM TM as seconds after midnight; None where it is none.

    Examples
    --------
    >>> parse_clock("112011.50"), parse_clock("11:20:11"), parse_clock("")
    (40811.5, 40811.0, None)
    """
    found = str(text or "").strip()
    # A digit that a spreadsheet dropped would make another hour of the rest: 12000 is 01:20:00.
    match = re.fullmatch(r"(\d{2})(?:(:?)(\d{2})(?:\2(\d{2}(?:\.\d*)?))?)?", found)
    if not match:
        return None
    hours, minutes, seconds = int(match[1]), int(match[3] or 0), float(match[4] or 0)
    if minutes > 59 or seconds >= 61 or (hours > 23 and (hours, minutes, seconds) != (24, 0, 0)):
        return None
    return hours * 3600 + minutes * 60 + seconds


class Moment(NamedTuple):
    """A point in time as a header states it.

    Parameters
    ----------
    local : float
        Seconds since 1970 on the clock of the place.
    offset : float or None
        Of that clock from UTC, in seconds; None where the header does not state it.
    """

    local: float
    offset: float | None = None

    def since(self, earlier: Moment) -> float:
        """Return the seconds between; by UTC where both state an offset, else by the clock on the wall."""
        shift = 0.0 if self.offset is None or earlier.offset is None else self.offset - earlier.offset
        return self.local - earlier.local - shift

    @property
    def clock(self) -> float:
        """Seconds after midnight."""
        return self.local % _DAY_S


def parse_offset(text: object) -> float | None:
    """Read an offset from UTC as in (0008,0201), in seconds; None where it is none.

    Examples
    --------
    >>> parse_offset("+0200"), parse_offset("-05:30"), parse_offset("2")
    (7200.0, -19800.0, None)
    """
    match = re.fullmatch(r"([+-])(\d{2}):?([0-5]\d)", str(text or "").strip())
    if not match:
        return None
    seconds = (int(match[2]) * 3600 + int(match[3]) * 60) * (1.0 if match[1] == "+" else -1.0)
    return seconds if -12 * 3600 <= seconds <= 14 * 3600 else None


@lru_cache(4096)
def parse_moment(day: str | None, clock: str | None, offset: str | None = None) -> Moment | None:
    """Read a date, a time of day and an offset from UTC; None without date or time.

    Examples
    --------
    >>> parse_moment("20190510", "102000", "+0200")
    Moment(local=1557483600.0, offset=7200.0)
    """
    parsed_day, parsed_clock = parse_date(day), parse_clock(clock)
    if parsed_day is None or parsed_clock is None:
        return None
    return Moment(_seconds(parsed_day) + parsed_clock, parse_offset(offset))


@lru_cache(4096)
def parse_datetime(text: str | None, offset: str | None = None) -> Moment | None:
    """Read a DICOM DT; the offset it states itself goes before the header's.

    Examples
    --------
    >>> parse_datetime("20201217083045.000000 ") == parse_moment("20201217", "083045")
    True
    >>> parse_datetime("20190510102000+0200").offset
    7200.0
    """
    match = re.match(r"(\d{8})(\d{2}[\d.:]*)\s*([+-]\d{2}:?\d{2})?", str(text or "").strip())
    return parse_moment(match[1], match[2], match[3] or offset) if match else None


def _seconds(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def on_one_clock(moments: Sequence[Moment | None]) -> list[Moment | None]:
    """Return the acquisition times of one series such that their `local` can be compared.

    Clocks that are all 00:00:00 were blanked and are unknown. Offsets that change, as in the night of summer
    time, are brought to the first one's. Where the date did not change at midnight, it does now.
    """
    known = [moment for moment in moments if moment is not None]
    if not known or all(moment.clock == 0 for moment in known):
        return [None] * len(moments)
    offset = known[0].offset
    if offset is not None and any(m.offset not in (None, offset) for m in known):
        moments = [
            m if m is None or m.offset is None else Moment(m.local - m.offset + offset, offset)
            for m in moments
        ]
        known = [moment for moment in moments if moment is not None]
    clocks = [moment.clock for moment in known]
    one_day = len({moment.local // _DAY_S for moment in known}) == 1
    if one_day and max(clocks) - min(clocks) > _DAY_S / 2:
        moments = [
            m._replace(local=m.local + _DAY_S) if m is not None and m.clock < _DAY_S / 2 else m
            for m in moments
        ]
    return list(moments)


def without_clock_change(
    moments: Sequence[Moment | None], references_s: Sequence[float | None]
) -> list[Moment | None]:
    """Return acquisition times without the hour by which a clock was set between frames.

    The frame reference times show it: they go on as if nothing had happened.

    Parameters
    ----------
    moments : sequence of Moment or None
        Acquisition times on one clock.
    references_s : sequence of float or None
        Frame reference times.
    """
    known = {
        (reference, moment.local)
        for reference, moment in zip(references_s, moments, strict=True)
        if reference is not None and moment is not None
    }
    if None in references_s or None in moments or len(known) != len({reference for reference, _ in known}):
        return list(moments)
    shifts = {reference: local - reference for reference, local in sorted(known)}
    first = next(iter(shifts.values()), 0.0)
    hours = {reference: round((shift - first) / 3600.0) for reference, shift in shifts.items()}
    exact = all(abs(shifts[r] - first - 3600.0 * hour) < 900.0 for r, hour in hours.items())
    if not exact or set(hours.values()) not in ({0, 1}, {0, -1}):
        return list(moments)
    return [
        m if m is None else m._replace(local=m.local - 3600.0 * hours[r or 0.0])
        for m, r in zip(moments, references_s, strict=True)
    ]


def delay_after_injection(
    scan: Moment | None, injection: Moment | None, injection_clock: float | None
) -> tuple[float | None, str | None]:
    """Return seconds from injection to `scan`, and what had to be assumed.

    A date of injection is often a day off or not shifted with the others; the time of day then decides,
    across midnight if need be, as long as less than twelve hours lie between.

    Parameters
    ----------
    scan, injection : Moment or None
    injection_clock : float or None
        Seconds after midnight, used where `injection` is missing.

    Returns
    -------
    delay_s : float or None
        None where a time is missing. Never negative.
    assumption : str or None

    Raises
    ------
    RefusedScan
        With the rule ``"injection-after-scan"``.

    Examples
    --------
    >>> delay_after_injection(Moment(1_000_000.0), Moment(995_200.0), None)
    (4800.0, None)
    """
    if scan is None or (injection is None and injection_clock is None):
        return None, None
    if injection is None:
        direct, how = scan.clock - float(injection_clock or 0.0), "injection before midnight assumed"
        tried: list[tuple[float, str | None]] = [(direct % _DAY_S, how)]
        same_day = True
    else:
        wall = scan.local - injection.local
        direct, how = scan.since(injection), "date of injection ignored"
        tried = [(direct % _DAY_S, how), (wall % _DAY_S, "offsets from UTC ignored")]
        same_day = scan.local // _DAY_S == injection.local // _DAY_S
    if 0 <= direct <= (_DAY_S if same_day else _LONGEST_UPTAKE_S):
        alone = injection is not None and injection.offset is not None and scan.offset is None
        confirmed = injection is None or injection.clock == injection_clock
        doubt = "the injection states an offset from UTC and the scan none: taken as one clock"
        return direct, doubt if alone and not confirmed else None
    for delay, note in tried:
        if delay <= _LONGEST_UPTAKE_S:
            return delay, note
    early = -((direct + _DAY_S / 2) % _DAY_S - _DAY_S / 2)
    if early <= _CLOCKS_DIFFER_S:
        return 0.0, f"the injection is {early:.0f} s after the scan began: taken as its beginning"
    raise RefusedScan(
        "injection-after-scan",
        f"The injection is {early / 60:.1f} min after the scan",
        hint="Correct Radiopharmaceutical Start Time (0018,1072) or the acquisition time",
        measured=f"{early / 60:.1f} min",
    )


def mean_count_time(duration_s: float, half_life_s: float) -> float:
    """Return when, within a frame, the decaying activity equals its mean over the frame.

    Examples
    --------
    >>> round(mean_count_time(300.0, 6586.2), 2)
    149.61
    """
    rate = math.log(2) / half_life_s
    x = rate * duration_s
    return math.log(x / -math.expm1(-x)) / rate if x > 0 else 0.0


def suv_factor(
    weight_kg: float | None, dose_bq: float | None, decay_s: float | None, half_life_s: float
) -> float | None:
    """Return what turns Bq/mL into SUVbw, or None where a part is missing.

    Parameters
    ----------
    decay_s : float or None
        Seconds from the dose measurement to the image's decay reference; 0 for decay corrected to injection.

    References
    ----------
    QIBA FDG-PET/CT profile, vendor-neutral pseudo-code for SUV calculation.

    Examples
    --------
    >>> suv_factor(70.0, 70_000.0, 0.0, 6586.2)
    1.0
    """
    if not weight_kg or not dose_bq or decay_s is None or weight_kg <= 0 or dose_bq <= 0 or decay_s < 0:
        return None
    return weight_kg * 1000.0 / (dose_bq * math.exp2(-decay_s / half_life_s))
