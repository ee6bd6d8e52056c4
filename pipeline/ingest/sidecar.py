"""What a PET-BIDS sidecar means: also with times in ms, odd units and fields that contradict each other."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.errors import RefusedScan
from pipeline.ingest.acquisition import resolution_of
from pipeline.ingest.times import F18_HALF_LIFE_S, suv_factor
from pipeline.ingest.vocabulary import (
    UNRECOGNISED,
    maker_of,
    model_of,
    series_words,
    squeeze,
    tells_a_tracer,
    tracer_of,
)
from pipeline.scan import Fact, Frame, Unit

OWN_FACTS = "TaucalFacts"
"""Key under which this program keeps its facts; where it is present they are taken as they stand."""

_UNITS: dict[str, tuple[Unit, float]] = {
    "bqml": ("Bq/mL", 1.0), "bqcc": ("Bq/mL", 1.0), "kbqml": ("Bq/mL", 1e3), "mbqml": ("Bq/mL", 1e6),
    "gml": ("SUV", 1.0), "suv": ("SUV", 1.0), "suvbw": ("SUV", 1.0), "suvr": ("SUVR", 1.0),
    "propcnts": ("counts", 1.0), "counts": ("counts", 1.0), "arbitrary": ("counts", 1.0),
    "unitless": ("counts", 1.0),
}  # fmt: skip
_ACTIVITY_BQ = {"bq": 1.0, "kbq": 1e3, "mbq": 1e6, "gbq": 1e9, "uci": 3.7e4, "mci": 3.7e7, "ci": 3.7e10}
_LONGEST_FRAME_S = 4 * 3600.0
_LONGEST_UPTAKE_S = 24 * 3600.0


@dataclass(frozen=True)
class StatedValues:
    """What was understood of a sidecar.

    Parameters
    ----------
    unit : str
        Of the volume after multiplication by `factor`.
    factor : float
    frames : tuple of Frame
        Empty where the sidecar does not tell, or not as many as the image has.
    facts : dict
        As `pipeline.ingest.acquisition` lists them.
    """

    unit: Unit
    factor: float
    frames: tuple[Frame, ...]
    facts: dict[str, Fact]


def read_sidecar(path: Path) -> dict[str, Any]:
    """Read a JSON sidecar; an empty mapping where there is none or it is no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def understand(told: Mapping[str, Any], name: str = "", frames: int = 1) -> StatedValues:
    """Return what a sidecar and a file name say of a PET image.

    Parameters
    ----------
    told : mapping
        The sidecar.
    name : str
        The file name: ``trc-``, ``space-`` and ``desc-suvr`` are read from it, nothing else.
    frames : int
        Of the image.

    Raises
    ------
    RefusedScan
        ``"not-attenuation-corrected"`` or ``"injection-after-scan"``.

    Examples
    --------
    >>> told = {"FrameTimesStart": [0], "FrameDuration": [1.2e6], "FrameDurationUnits": "ms"}
    >>> understand(told).frames
    (Frame(start_s=0.0, duration_s=1200.0),)
    """
    unit, factor = _unit(told, name)
    scale = _seconds_per_unit(told)
    times = _frames(told, scale, frames)
    own = told.get(OWN_FACTS)
    if isinstance(own, Mapping):
        return StatedValues(unit, factor, times, {str(k): v for k, v in own.items() if _is_fact(v)})
    _check_attenuation(told)
    return StatedValues(unit, factor, times, _facts(told, name, scale))


def _facts(told: Mapping[str, Any], name: str, scale: float) -> dict[str, Fact]:
    tracer, note = _tracer(told, name)
    series = _text(told, "SeriesDescription")
    corrected = told.get("ImageDecayCorrected")
    weight, dose = _number(told, "PatientWeight") or _number(told, "BodyWeight"), _activity(told)
    return {
        "tracer": tracer,
        "tracer_note": note,
        "radionuclide": _nuclide(told),
        "manufacturer": maker_of(_text(told, "Manufacturer")),
        "model": model_of(_text(told, "ManufacturersModelName")),
        "injected_activity_bq": dose,
        "weight_kg": weight,
        "scan_after_injection_s": _delay(told, scale),
        "decay_correction": {True: "START", False: "NONE"}.get(corrected)
        if isinstance(corrected, bool)
        else None,
        "attenuation_corrected": True if _text(told, "AttenuationCorrection") else None,
        "series_description": series_words(series),
        "reconstruction": series_words(_text(told, "ReconMethodName")),
        "resolution_mm": resolution_of(series),
        "suv_factor": suv_factor(weight, dose, _decay_delay(told, scale), F18_HALF_LIFE_S),
        "space": "MNI" if "space-mni" in name.lower() else None,
        "synthetic": "synthetic" in json.dumps(dict(told), default=str).lower() or None,
    }


def _unit(told: Mapping[str, Any], name: str) -> tuple[Unit, float]:
    if "desc-suvr" in name.lower():
        return "SUVR", 1.0
    return _UNITS.get(squeeze(_text(told, "Units") or ""), ("counts", 1.0))


def _seconds_per_unit(told: Mapping[str, Any]) -> float:
    """Return 0.001 where times are in ms: said so, or durations that no scan can have in seconds."""
    if squeeze(_text(told, "FrameDurationUnits") or "") in ("ms", "msec", "millisecond", "milliseconds"):
        return 1e-3
    longest = max(_numbers(told, "FrameDuration"), default=0.0)
    delay = abs((_number(told, "ScanStart") or 0.0) - (_number(told, "InjectionStart") or 0.0))
    return 1e-3 if longest > _LONGEST_FRAME_S or delay > 10 * _LONGEST_UPTAKE_S else 1.0


def _frames(told: Mapping[str, Any], scale: float, wanted: int) -> tuple[Frame, ...]:
    starts, durations = _numbers(told, "FrameTimesStart"), _numbers(told, "FrameDuration")
    # A frame of no duration was appended by a converter; it has no image.
    pairs = [(s * scale, d * scale) for s, d in zip(starts, durations, strict=False) if d > 0]
    if len(pairs) != wanted:
        return ()
    first = pairs[0][0]
    ordered = all(b[0] > a[0] for a, b in pairwise(pairs))
    return tuple(Frame(s - first, d) for s, d in pairs) if ordered else ()


def _delay(told: Mapping[str, Any], scale: float) -> float | None:
    injection, scan = _number(told, "InjectionStart"), _number(told, "ScanStart")
    starts = _numbers(told, "FrameTimesStart")
    if injection is None or (scan is None and not starts):
        return None
    # Frame times count from the same zero as the injection, whatever ScanStart says.
    begin = max(scan or 0.0, starts[0] if starts else 0.0)
    delay = (begin - injection) * scale
    if delay < 0:
        raise RefusedScan(
            "injection-after-scan",
            f"The injection must come before the scan, got {-delay / 60:.1f} min after it",
            hint="correct InjectionStart or ScanStart in the sidecar",
            measured=f"{-delay / 60:.1f} min",
        )
    return delay if delay <= _LONGEST_UPTAKE_S else None


def _decay_delay(told: Mapping[str, Any], scale: float) -> float | None:
    """Return seconds from injection to the time the image is decay corrected to."""
    injection, reference = _number(told, "InjectionStart"), _number(told, "ImageDecayCorrectionTime")
    if told.get("ImageDecayCorrected") is not True or injection is None or reference is None:
        return None
    delay = (reference - injection) * scale
    return delay if 0 <= delay <= _LONGEST_UPTAKE_S else None


def _tracer(told: Mapping[str, Any], name: str) -> tuple[str | None, str | None]:
    """Return the tracer, by TracerName first, and what contradicts it."""
    label = next((part[4:] for part in name.split("_") if part.startswith("trc-")), None)
    texts = [_text(told, key) for key in ("TracerName", "TracerLabel", "Radiopharmaceutical")]
    named = [t for t in map(tracer_of, [texts[0], label, *texts[1:], _text(told, "SeriesDescription")]) if t]
    if not named:
        return (UNRECOGNISED if tells_a_tracer(texts[0]) else None), None
    others = sorted(set(named) - {named[0]})
    return named[0], f"{named[0]} by its first field, {' and '.join(others)} by another" if others else None


def _nuclide(told: Mapping[str, Any]) -> str | None:
    text = squeeze(_text(told, "TracerRadionuclide") or "").upper()
    swapped = text.lstrip("0123456789")
    text = swapped + text[: len(text) - len(swapped)]
    return text if text in ("F18", "C11", "O15", "N13", "GA68", "ZR89") else None


def _activity(told: Mapping[str, Any]) -> float | None:
    value = _number(told, "InjectedRadioactivity")
    factor = _ACTIVITY_BQ.get(squeeze(_text(told, "InjectedRadioactivityUnits") or ""))
    if value is not None and value > 0 and factor:
        return value * factor
    dose = _number(told, "RadionuclideTotalDose")
    return dose if dose is not None and dose > 1e6 else None


def _check_attenuation(told: Mapping[str, Any]) -> None:
    said = _text(told, "AttenuationCorrection")
    if said is not None and squeeze(said) in ("none", "no", "nac", "uncorrected", "noac", "false"):
        raise RefusedScan(
            "not-attenuation-corrected",
            "The scan must be corrected for attenuation, AttenuationCorrection says it is not",
            hint="take the attenuation corrected image",
            measured="none",
        )


def _text(told: Mapping[str, Any], key: str) -> str | None:
    value = told.get(key)
    if not isinstance(value, str) or value.strip().lower() in ("", "n/a", "na", "unknown"):
        return None
    return value.strip()


def _number(told: Mapping[str, Any], key: str) -> float | None:
    value = told.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _numbers(told: Mapping[str, Any], key: str) -> list[float]:
    values = told.get(key)
    if not isinstance(values, Sequence) or isinstance(values, str):
        values = [values]
    numbers = [_number({key: value}, key) for value in values]
    return [n for n in numbers if n is not None] if all(n is not None for n in numbers) else []


def _is_fact(value: object) -> bool:
    return (
        value is None
        or isinstance(value, (str, bool, int))
        or (isinstance(value, float) and math.isfinite(value))
    )
