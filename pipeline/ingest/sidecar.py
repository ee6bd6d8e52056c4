"""What a PET-BIDS sidecar means: also with times in ms, odd units and fields that contradict each other."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.errors import RefusedScan
from pipeline.ingest.acquisition import resolution_of
from pipeline.ingest.side_files import SideFileError, number_of, read_json_object
from pipeline.ingest.times import F18_HALF_LIFE_S, suv_factor
from pipeline.ingest.vocabulary import (
    UNRECOGNISED,
    maker_of,
    model_of,
    names_a_tracer,
    series_words,
    squeeze,
    tracer_of,
)
from pipeline.scan import Fact, Frame, Unit

UNREADABLE = "unreadable-sidecar"
"""Rule of a sidecar that is there and cannot be understood."""
FRAMES_IN_DOUBT = "frames_in_doubt"
"""Fact of an image whose sidecar states other frames than it has: they must not be averaged blindly."""
OWN_FACTS = "TaucalFacts"
"""Key under which this program keeps its facts; where it is present they are taken as they are."""

_UNITS: dict[str, tuple[Unit, float]] = {
    "bqml": ("Bq/mL", 1.0), "bqcc": ("Bq/mL", 1.0), "kbqml": ("Bq/mL", 1e3), "mbqml": ("Bq/mL", 1e6),
    "gml": ("SUV", 1.0), "suv": ("SUV", 1.0), "suvbw": ("SUV", 1.0), "suvr": ("SUVR", 1.0),
    "propcnts": ("counts", 1.0), "counts": ("counts", 1.0), "arbitrary": ("counts", 1.0),
    "unitless": ("counts", 1.0),
}  # fmt: skip
_ACTIVITY_BQ = {"bq": 1.0, "kbq": 1e3, "mbq": 1e6, "gbq": 1e9, "uci": 3.7e4, "mci": 3.7e7, "ci": 3.7e10}
_NOT_CORRECTED = re.compile(
    r"none|(no|not|non|un|without)(ac|attn|attenuation)?(correct(ion|ed))?|nac|notapplied|false|off|0"
)
_LONGEST_FRAME_S = 4 * 3600.0
_LONGEST_UPTAKE_S = 24 * 3600.0
_TOLERANCE_S = 1.0
"""Rounded times of frames that follow each other overlap by less."""


@dataclass(frozen=True)
class StatedValues:
    """What was understood of a sidecar.

    Parameters
    ----------
    unit : str
        Of the volume after multiplication by `factor`.
    factor : float
    frames : tuple of Frame
        Empty where the sidecar states none.
    facts : dict
        As `pipeline.ingest.acquisition` lists them.
    """

    unit: Unit
    factor: float
    frames: tuple[Frame, ...]
    facts: dict[str, Fact]


def read_sidecar(path: Path) -> dict[str, Any]:
    """Read a JSON sidecar; an empty mapping where there is none.

    Raises
    ------
    RefusedScan
        ``"unreadable-sidecar"`` where it is there and cannot be read: without it, times and unit are unknown.
    """
    if not path.exists():
        return {}
    try:
        return read_json_object(path)
    except SideFileError as error:
        raise RefusedScan(
            UNREADABLE,
            f"The sidecar cannot be read. {error.problem}",
            hint=error.hint or "correct the JSON file beside the image",
            measured=error.problem,
        ) from error


def understand(stated: Mapping[str, Any], name: str = "", frames: int = 1) -> StatedValues:
    """Return what a sidecar and a file name state about a PET image.

    Parameters
    ----------
    stated : mapping
        The sidecar.
    name : str
        The file name: ``trc-``, ``space-`` and ``desc-suvr`` are read from it, nothing else.
    frames : int
        Of the image.

    Raises
    ------
    RefusedScan
        ``"not-attenuation-corrected"``, ``"injection-after-scan"`` or ``"unreadable-sidecar"``.

    Examples
    --------
    >>> stated = {"FrameTimesStart": [0], "FrameDuration": [1.2e6], "FrameDurationUnits": "ms"}
    >>> understand(stated).frames
    (Frame(start_s=0.0, duration_s=1200.0),)
    """
    unit, factor = _unit(stated, name)
    scale = _seconds_per_unit(stated)
    times, doubt = _frames(stated, scale, frames)
    own = stated.get(OWN_FACTS)
    if isinstance(own, Mapping):
        return StatedValues(unit, factor, times, {str(k): v for k, v in own.items() if _is_fact(v)} | doubt)
    _check_attenuation(stated)
    return StatedValues(unit, factor, times, _facts(stated, name, scale) | doubt)


def _facts(stated: Mapping[str, Any], name: str, scale: float) -> dict[str, Fact]:
    tracer, note = _tracer(stated, name)
    series = _text(stated, "SeriesDescription")
    corrected = stated.get("ImageDecayCorrected")
    weight, dose = _number(stated, "PatientWeight") or _number(stated, "BodyWeight"), _activity(stated)
    return {
        "tracer": tracer,
        "tracer_note": note,
        "radionuclide": _nuclide(stated),
        "manufacturer": maker_of(_text(stated, "Manufacturer")),
        "model": model_of(_text(stated, "ManufacturersModelName")),
        "injected_activity_bq": dose,
        "weight_kg": weight,
        "scan_after_injection_s": _delay(stated, scale),
        "decay_correction": {True: "START", False: "NONE"}.get(corrected)
        if isinstance(corrected, bool)
        else None,
        "attenuation_corrected": True if _text(stated, "AttenuationCorrection") else None,
        "series_description": series_words(series),
        "reconstruction": series_words(_text(stated, "ReconMethodName")),
        "resolution_mm": resolution_of(series),
        "suv_factor": suv_factor(weight, dose, _decay_delay(stated, scale), F18_HALF_LIFE_S),
        "space": "MNI" if "space-mni" in name.lower() else None,
        "synthetic": "synthetic" in json.dumps(dict(stated), default=str).lower() or None,
    }


def _unit(stated: Mapping[str, Any], name: str) -> tuple[Unit, float]:
    if "desc-suvr" in name.lower():
        return "SUVR", 1.0
    return _UNITS.get(squeeze(_text(stated, "Units") or ""), ("counts", 1.0))


def _seconds_per_unit(stated: Mapping[str, Any]) -> float:
    """Return 0.001 where times are in ms: stated so, or durations that no scan can have in seconds."""
    if squeeze(_text(stated, "FrameDurationUnits") or "") in ("ms", "msec", "millisecond", "milliseconds"):
        return 1e-3
    longest = max(_numbers(stated, "FrameDuration"), default=0.0)
    delay = abs((_number(stated, "ScanStart") or 0.0) - (_number(stated, "InjectionStart") or 0.0))
    return 1e-3 if longest > _LONGEST_FRAME_S or delay > 10 * _LONGEST_UPTAKE_S else 1.0


def _frames(
    stated: Mapping[str, Any], scale: float, wanted: int
) -> tuple[tuple[Frame, ...], dict[str, Fact]]:
    """Return the frames, and a fact that refuses the scan where they do not fit the image."""
    starts, durations = _numbers(stated, "FrameTimesStart"), _numbers(stated, "FrameDuration")
    # A frame of no duration was appended by a converter; it has no image.
    pairs = [(s * scale, d * scale) for s, d in zip(starts, durations, strict=False) if d > 0]
    if not pairs or (wanted == 1 and len(pairs) != 1):
        return (), {}  # one image of several frames: their average, over a time that is not stated
    ordered = all(b[0] > a[0] for a, b in pairwise(pairs))
    apart = all(b[0] > a[0] + a[1] - _TOLERANCE_S for a, b in pairwise(pairs))
    if len(pairs) != wanted or not ordered or not apart:
        order = " out of order" if not ordered else "" if apart else " that overlap"
        return (), {FRAMES_IN_DOUBT: f"the sidecar states {len(pairs)} frames{order}, the image has {wanted}"}
    first = pairs[0][0]
    return tuple(Frame(s - first, d) for s, d in pairs), {}


def _delay(stated: Mapping[str, Any], scale: float) -> float | None:
    injection, scan = _number(stated, "InjectionStart"), _number(stated, "ScanStart")
    starts = _numbers(stated, "FrameTimesStart")
    if injection is None or (scan is None and not starts):
        return None
    # Frame times count from the same zero as the injection, whatever ScanStart states.
    begin = max(scan or 0.0, starts[0] if starts else 0.0)
    delay = (begin - injection) * scale
    if delay < 0:
        raise RefusedScan(
            "injection-after-scan",
            f"InjectionStart is {-delay / 60:.1f} min after the start of the scan",
            hint="correct InjectionStart or ScanStart in the sidecar",
            measured=f"{-delay / 60:.1f} min",
        )
    return delay if delay <= _LONGEST_UPTAKE_S else None


def _decay_delay(stated: Mapping[str, Any], scale: float) -> float | None:
    """Return seconds from injection to the time the image is decay corrected to."""
    injection, reference = _number(stated, "InjectionStart"), _number(stated, "ImageDecayCorrectionTime")
    if stated.get("ImageDecayCorrected") is not True or injection is None or reference is None:
        return None
    delay = (reference - injection) * scale
    return delay if 0 <= delay <= _LONGEST_UPTAKE_S else None


def _tracer(stated: Mapping[str, Any], name: str) -> tuple[str | None, str | None]:
    """Return the tracer, by TracerName first, and what contradicts it."""
    label = next((part[4:] for part in name.split("_") if part.startswith("trc-")), None)
    texts = [_text(stated, key) for key in ("TracerName", "TracerLabel", "Radiopharmaceutical")]
    named = [
        t for t in map(tracer_of, [texts[0], label, *texts[1:], _text(stated, "SeriesDescription")]) if t
    ]
    if not named:
        return (UNRECOGNISED if names_a_tracer(texts[0]) else None), None
    others = sorted(set(named) - {named[0]})
    return named[0], f"{named[0]} by its first field, {' and '.join(others)} by another" if others else None


def _nuclide(stated: Mapping[str, Any]) -> str | None:
    text = squeeze(_text(stated, "TracerRadionuclide") or "").upper()
    swapped = text.lstrip("0123456789")
    text = swapped + text[: len(text) - len(swapped)]
    return text if text in ("F18", "C11", "O15", "N13", "GA68", "ZR89") else None


def _activity(stated: Mapping[str, Any]) -> float | None:
    value = _number(stated, "InjectedRadioactivity")
    factor = _ACTIVITY_BQ.get(squeeze(_text(stated, "InjectedRadioactivityUnits") or ""))
    if value is not None and value > 0 and factor:
        return value * factor
    dose = _number(stated, "RadionuclideTotalDose")
    return dose if dose is not None and dose > 1e6 else None


def _check_attenuation(stated: Mapping[str, Any]) -> None:
    given = stated.get("AttenuationCorrection")
    first = given[0] if isinstance(given, list) and len(given) == 1 else given
    value = "false" if first is False else _text({"AttenuationCorrection": first}, "AttenuationCorrection")
    if value is not None and _NOT_CORRECTED.fullmatch(squeeze(value)):
        raise RefusedScan(
            "not-attenuation-corrected",
            f"The image is not corrected for attenuation: AttenuationCorrection is {value}",
            hint="take the attenuation corrected image",
            measured="none",
        )


def _text(stated: Mapping[str, Any], key: str) -> str | None:
    value = stated.get(key)
    if not isinstance(value, str) or value.strip().lower() in ("", "n/a", "na", "unknown"):
        return None
    return value.strip()


def _number(stated: Mapping[str, Any], key: str) -> float | None:
    value = stated.get(key)
    is_text_or_number = isinstance(value, (int, float, str)) and not isinstance(value, bool)
    return number_of(value) if is_text_or_number else None


def _numbers(stated: Mapping[str, Any], key: str) -> list[float]:
    """Return a list of numbers, empty where nothing is stated.

    Raises
    ------
    RefusedScan
        ``"unreadable-sidecar"`` where something else is stated.
    """
    values = stated.get(key)
    if not isinstance(values, Sequence) or isinstance(values, str):
        values = [values]
    if all(_text({key: v}, key) is None if isinstance(v, str) else v is None for v in values):
        return []
    numbers = [_number({key: value}, key) for value in values]
    if any(n is None for n in numbers):
        strange = next(v for v, n in zip(values, numbers, strict=True) if n is None)
        raise RefusedScan(
            UNREADABLE,
            f"{key} holds {json.dumps(strange, default=str)[:40]}, expected numbers",
            hint="correct the JSON file beside the image",
            measured=key,
        )
    return [n for n in numbers if n is not None]


def _is_fact(value: object) -> bool:
    return (
        value is None
        or isinstance(value, (str, bool, int))
        or (isinstance(value, float) and math.isfinite(value))
    )
