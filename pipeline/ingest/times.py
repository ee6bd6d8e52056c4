"""Clock and decay: DICOM dates and times, the delay from injection to scan, the SUV factor."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime

from pipeline.errors import RefusedScan

F18_HALF_LIFE_S = 6586.2
_DAY_S = 86400.0
_FIRST_YEAR = 1800
_LONGEST_UPTAKE_S = 12 * 3600.0


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
    match = re.fullmatch(r"(\d{2}):?(\d{2})?:?(\d{1,2}(?:\.\d*)?)?", found)
    if not match:
        return None
    hours, minutes, seconds = int(match[1]), int(match[2] or 0), float(match[3] or 0)
    if hours > 23 or minutes > 59 or seconds >= 61:
        return None
    return hours * 3600 + minutes * 60 + seconds


def parse_moment(day: object, clock: object) -> float | None:
    """Read a date and a time of day as seconds since 1970, on the scanner's own clock."""
    parsed_day, parsed_clock = parse_date(day), parse_clock(clock)
    if parsed_day is None or parsed_clock is None:
        return None
    return _seconds(parsed_day) + parsed_clock


def parse_datetime(text: object) -> float | None:
    """Read a DICOM DT as seconds since 1970, on the scanner's own clock; a zone is left out.

    Examples
    --------
    >>> parse_datetime("20201217083045.000000 ") == parse_moment("20201217", "083045")
    True
    """
    found = re.split(r"[+&-]", str(text or "").strip())[0]
    return parse_moment(found[:8], found[8:]) if len(found) >= 10 else None


def _seconds(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def delay_after_injection(
    scan: float | None, injection: float | None, injection_clock: float | None
) -> tuple[float | None, str | None]:
    """Return seconds from injection to `scan`, and what had to be assumed.

    A date of injection is often a day off or not shifted with the others; the time of day then decides,
    across midnight if need be, as long as less than twelve hours lie between.

    Parameters
    ----------
    scan, injection : float or None
        Seconds since 1970.
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
    >>> delay_after_injection(1_000_000.0, 995_200.0, None)
    (4800.0, None)
    """
    if scan is None or (injection is None and injection_clock is None):
        return None, None
    if injection is not None and 0 <= scan - injection <= _DAY_S:
        return scan - injection, None
    clock = injection % _DAY_S if injection is not None else injection_clock
    direct = scan % _DAY_S - float(clock or 0.0)
    if direct >= 0 and injection is None:
        return direct, None
    wrapped = direct % _DAY_S
    if wrapped <= _LONGEST_UPTAKE_S:
        how = "date of injection ignored" if injection is not None else "injection before midnight assumed"
        return wrapped, how
    raise RefusedScan(
        "injection-after-scan",
        f"The injection must come before the scan, got {-direct / 60:.1f} min after it",
        hint="correct Radiopharmaceutical Start Time (0018,1072) or the acquisition time",
        measured=f"{-direct / 60:.1f} min",
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
