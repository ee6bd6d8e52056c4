"""What a PET-BIDS sidecar means: also with times in ms, odd units and fields that contradict each other."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import RefusedScan
from pipeline.ingest.acquisition import resolution_of
from pipeline.ingest.kinds import is_projection
from pipeline.ingest.side_files import SideFileError, read_json_object
from pipeline.ingest.sidecar_times import (
    UNREADABLE,
    decay_delay_in,
    delay_in,
    frames_in,
    number_in,
    text_in,
)
from pipeline.ingest.stated_kind import NOT_CORRECTED
from pipeline.ingest.times import F18_HALF_LIFE_S, suv_factor
from pipeline.ingest.vocabulary import (
    UNRECOGNISED,
    known_code,
    maker_of,
    model_of,
    names_a_tracer,
    names_no_attenuation,
    series_words,
    squeeze,
    tracer_of,
)
from pipeline.scan import Fact, Frame, Unit

OWN_FACTS = "TaucalFacts"
"""Key under which this program keeps its facts; where it is present they are taken as they are."""

IMAGE_NAME = "TaucalImageName"
"""Key for the names of file and folder, which state what the sidecar leaves open."""

_UNITS: dict[str, tuple[Unit, float]] = {
    "bqml": ("Bq/mL", 1.0), "bqcc": ("Bq/mL", 1.0), "kbqml": ("Bq/mL", 1e3), "mbqml": ("Bq/mL", 1e6),
    "gml": ("SUV", 1.0), "suv": ("SUV", 1.0), "suvbw": ("SUV", 1.0), "suvr": ("SUVR", 1.0),
    "propcnts": ("counts", 1.0), "counts": ("counts", 1.0), "arbitrary": ("counts", 1.0),
    "unitless": ("counts", 1.0),
}  # fmt: skip
_OF_A_MODEL = {
    **dict.fromkeys(("1cm", "cm1"), "1/cm, as of an attenuation map"),
    **dict.fromkeys(("mlcm3", "mlml"), "mL/cm3, as of a map of distribution volume"),
    **dict.fromkeys(("mlcm3min", "mlmincm3", "mlminml", "mlmlmin", "mlmin100g", "ml100gmin", "mlming"),
                    "mL/min per volume or mass, as of a map of flow or influx"),
    **dict.fromkeys(("umolmin100g", "umol100gmin", "umolminml"), "umol/min, as of a map of metabolic rate"),
    **dict.fromkeys(("1min", "min1"), "1/min, as of a map of rate constants"),
    **dict.fromkeys(("percent", "pct"), "percent"),
}  # fmt: skip
_CORRECTION = ("AttenuationCorrection", "AttenuationCorrectionMethod")
_ACTIVITY_BQ = {"bq": 1.0, "kbq": 1e3, "mbq": 1e6, "gbq": 1e9, "uci": 3.7e4, "mci": 3.7e7, "ci": 3.7e10}


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


def sidecars_beside(image: Path) -> tuple[Path, ...]:
    """Return the JSON files beside an image that are its own, as programs name them; also broken links."""
    stem = re.sub(r"\.nii(\.gz)?$|\.v$|\.ecat$", "", image.name, flags=re.IGNORECASE)
    named = (image.with_name(name) for name in (image.name + ".json", stem + ".JSON", stem + ".json"))
    return tuple(path for path in named if os.path.lexists(path))


def read_sidecar(path: Path) -> dict[str, Any]:
    """Read a JSON sidecar; an empty mapping where there is none.

    Raises
    ------
    RefusedScan
        ``"unreadable-sidecar"`` where it is there and cannot be read: without it, times and unit are unknown.
    """
    if not os.path.lexists(path):
        return {}
    try:
        return read_json_object(path)
    except SideFileError as error:
        problem, hint = f"The sidecar cannot be read. {error.problem}", error.hint
        if path.is_symlink() and not path.exists():
            problem = "The sidecar is a link that leads nowhere"
            hint = "fetch its content, as with `datalad get` or `git annex get`"
        raise RefusedScan(
            UNREADABLE,
            problem,
            hint=hint or "correct the JSON file beside the image",
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
        ``"not-attenuation-corrected"``, ``"injection-after-scan"``, ``"units-unknown"`` or
        ``"unreadable-sidecar"``.

    Examples
    --------
    >>> stated = {"FrameTimesStart": [0], "FrameDuration": [1.2e6], "FrameDurationUnits": "ms"}
    >>> understand(stated).frames
    (Frame(start_s=0.0, duration_s=1200.0),)
    """
    unit, factor = _unit(stated, name)
    times, doubt = frames_in(stated, frames)
    own = stated.get(OWN_FACTS)
    if isinstance(own, Mapping):
        return StatedValues(unit, factor, times, {str(k): v for k, v in own.items() if _is_fact(v)} | doubt)
    _check_kind(stated)
    _check_units(stated)
    _check_attenuation(stated)
    return StatedValues(unit, factor, times, _facts(stated, name) | doubt)


def _check_units(stated: Mapping[str, Any]) -> None:
    """Refuse what is no image of uptake; units that are not known are taken as proportional to it."""
    seen = _OF_A_MODEL.get(squeeze(text_in(stated, "Units") or ""))
    if seen:
        raise RefusedScan(
            "units-unknown",
            f"Units of the sidecar are {seen}",
            hint="take the image of activity, in Bq/mL",
            measured=seen,
        )


def _facts(stated: Mapping[str, Any], name: str) -> dict[str, Fact]:
    tracer, note = _tracer(stated, name)
    series = text_in(stated, "SeriesDescription") or text_in(stated, IMAGE_NAME)
    corrected = stated.get("ImageDecayCorrected")
    weight, dose = number_in(stated, "PatientWeight") or number_in(stated, "BodyWeight"), _activity(stated)
    return {
        "tracer": tracer,
        "tracer_note": note,
        "radionuclide": _nuclide(stated),
        "manufacturer": maker_of(text_in(stated, "Manufacturer")),
        "model": model_of(text_in(stated, "ManufacturersModelName")),
        "injected_activity_bq": dose,
        "weight_kg": weight,
        "scan_after_injection_s": delay_in(stated),
        "decay_correction": {True: "START", False: "NONE"}.get(corrected)
        if isinstance(corrected, bool)
        else None,
        "attenuation_corrected": True if any(text_in(stated, key) for key in _CORRECTION) else None,
        "series_description": series_words(series),
        "reconstruction": series_words(text_in(stated, "ReconMethodName")),
        "resolution_mm": resolution_of(series),
        "suv_factor": suv_factor(weight, dose, decay_delay_in(stated), F18_HALF_LIFE_S),
        "space": "MNI" if "space-mni" in name.lower() else None,
        "synthetic": "synthetic" in json.dumps(dict(stated), default=str).lower() or None,
    }


def _unit(stated: Mapping[str, Any], name: str) -> tuple[Unit, float]:
    if "desc-suvr" in name.lower():
        return "SUVR", 1.0
    return _UNITS.get(squeeze(text_in(stated, "Units") or ""), ("counts", 1.0))


def _tracer(stated: Mapping[str, Any], name: str) -> tuple[str | None, str | None]:
    """Return the tracer, by TracerName first, and what contradicts it."""
    labels = {part[:4]: part[4:] for part in name.split("_") if part.startswith(("trc-", "acq-"))}
    # Before there was trc-, the tracer was written as acq-, as OASIS does.
    label = labels.get("trc-") or labels.get("acq-")
    texts = [text_in(stated, key) for key in ("TracerName", "TracerLabel", "Radiopharmaceutical")]
    titles = [text_in(stated, key) for key in ("SeriesDescription", "ProtocolName", IMAGE_NAME)]
    named = [t for t in map(tracer_of, [texts[0], label, *texts[1:], *titles]) if t]
    if not named:
        return (UNRECOGNISED if names_a_tracer(texts[0]) else None), None
    others = sorted(set(named) - {named[0]})
    return named[0], f"{named[0]} by its first field, {' and '.join(others)} by another" if others else None


def _nuclide(stated: Mapping[str, Any]) -> str | None:
    text = squeeze(text_in(stated, "TracerRadionuclide") or "").upper()
    swapped = text.lstrip("0123456789")
    text = swapped + text[: len(text) - len(swapped)]
    return text if text in ("F18", "C11", "O15", "N13", "GA68", "ZR89") else None


def _activity(stated: Mapping[str, Any]) -> float | None:
    value = number_in(stated, "InjectedRadioactivity")
    factor = _ACTIVITY_BQ.get(squeeze(text_in(stated, "InjectedRadioactivityUnits") or ""))
    if value is not None and value > 0 and factor:
        return value * factor
    dose = number_in(stated, "RadionuclideTotalDose")
    return dose if dose is not None and dose > 1e6 else None


def _check_kind(stated: Mapping[str, Any]) -> None:
    """Refuse an image of another modality, and one that is no volume of slices."""
    modality = (text_in(stated, "Modality") or "PT").upper()
    kinds = stated.get("ImageType")
    if modality not in ("PT", "PET"):
        kind = known_code(modality, ("CT", "MR", "NM", "OT", "SC"))
        raise RefusedScan(
            "not-pet",
            f"The sidecar states Modality {kind}, expected PT",
            hint="leave this image out of the source",
            measured=kind,
        )
    if isinstance(kinds, list) and is_projection(kinds):
        raise RefusedScan(
            "not-pet",
            "The sidecar calls the image a projection or localiser (ImageType)",
            hint="convert the series of slices instead",
            measured="projection",
        )


def _check_attenuation(stated: Mapping[str, Any]) -> None:
    key, known = next(((key, words) for key in _CORRECTION if (words := _words_in(stated, key))), ("", []))
    names = [text_in(stated, key) for key in ("SeriesDescription", IMAGE_NAME)]
    if known and all(NOT_CORRECTED.fullmatch(squeeze(value)) for value in known):
        raise RefusedScan(
            "not-attenuation-corrected",
            f"The image is not corrected for attenuation: {key} is {known[0]}",
            hint="take the attenuation corrected image",
            measured="none",
        )
    if not known and any(map(names_no_attenuation, names)):
        raise RefusedScan(
            "not-attenuation-corrected",
            "The name of the series or file says that attenuation was not corrected, and no sidecar states "
            "that it was",
            hint="take the attenuation corrected image, or state AttenuationCorrection in the sidecar",
            measured="named so",
        )


def _words_in(stated: Mapping[str, Any], key: str) -> list[str]:
    """Return what one entry states, which may be a list; nothing where that is no word."""
    given = stated.get(key)
    listed = given if isinstance(given, list) else [given]
    values = ["false" if one is False else text_in({"": one}, "") for one in listed]
    return [value for value in values if value is not None]


def _is_fact(value: object) -> bool:
    return (
        value is None
        or isinstance(value, (str, bool, int))
        or (isinstance(value, float) and math.isfinite(value))
    )
