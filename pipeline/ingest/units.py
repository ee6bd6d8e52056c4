"""The unit of a DICOM PET series: Units (0054,1001), or the real-world values of an enhanced image."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import RefusedScan
from pipeline.ingest.headers import SeriesHeader, philips_scale
from pipeline.ingest.vocabulary import known_code, maker_of
from pipeline.scan import Unit

_ACTIVITY = ("BQML", "BQ/ML", "BQCC")
_SUV = ("GML", "G/ML", "{SUVBW}G/ML", "G/ML{SUVBW}")
_PROPORTIONAL = ("PROPCNTS", "PROPCPS", "{PROPCOUNTS}", "{PROPCOUNTS}/S")
_COUNTS = ("CNTS", "{COUNTS}")
_PARAMETRIC = {
    **dict.fromkeys(("1CM", "/CM"), "an attenuation map"),
    **dict.fromkeys(("MLML", "ML/ML"), "a map of distribution volume"),
    **dict.fromkeys(("MLMINML", "ML/MIN/ML", "MLMING", "ML/MIN/G"), "a map of flow or influx"),
    **dict.fromkeys(("MGMINML", "MG/MIN/ML", "UMOLMINML", "UMOL/MIN/ML"), "a map of metabolic rate"),
    **dict.fromkeys(("UMOLML", "UMOL/ML", "MLG", "ML/G"), "a parametric map"),
    **dict.fromkeys(("STDDEV", "{STDDEV}"), "a map of standard deviations"),
    **dict.fromkeys(("PCNT", "%"), "a map in percent"),
}
_OTHERS = ("CPS", "{COUNTS}/S", "NONE", "CM2", "CM2ML", "CM2/ML", "{SUVBSA}CM2/ML")
_KNOWN = (*_ACTIVITY, *_SUV, *_PROPORTIONAL, *_COUNTS, *_PARAMETRIC, *_OTHERS)
"""Defined terms of PS3.3 C.8.9.1.1.3, and the same in UCUM as in context group 84."""


def one_unit_and_factor(headers: Sequence[SeriesHeader]) -> tuple[Unit, float]:
    """Return the unit of a series and what its rescaled values are to be multiplied by.

    Philips counts become Bq/mL by (7053,1009), or else SUV by (7053,1000). Values that are proportional to
    counts stay counts: a ratio of regions can be had from them, a quantity cannot.

    Raises
    ------
    RefusedScan
        ``"units-unknown"``, also where images of the series differ.
    """
    found = sorted(set(map(_unit_and_factor, headers)))
    if len(found) > 1:
        seen = ", ".join(unit if factor == 1 else f"{factor:g} {unit} per count" for unit, factor in found)
        raise RefusedScan(
            "units-unknown",
            f"The images of the series have different units or scale factors: {seen}",
            hint="Export the series with one unit, as BQML",
            measured=seen,
        )
    return found[0]


def _unit_and_factor(header: SeriesHeader) -> tuple[Unit, float]:
    units = (header.text("Units") or _mapped_units(header)).upper()
    if units in _ACTIVITY:
        return "Bq/mL", 1.0
    if units in _SUV:
        return "SUV", 1.0
    if units in _PROPORTIONAL:
        return "counts", 1.0
    if units in _COUNTS:
        return _philips(header, units)
    seen, kind = known_code(units, _KNOWN), _PARAMETRIC.get(units)
    raise RefusedScan(
        "units-unknown",
        f"Units (0054,1001) are {seen}, {f'as of {kind}' if kind else 'not BQML, GML or Philips CNTS'}",
        hint="Take the series of activity of the same study, in BQML"
        if kind
        else "Export the series as BQML",
        measured=seen,
    )


def _mapped_units(header: SeriesHeader) -> str:
    return header.item("RealWorldValueMappingSequence").item("MeasurementUnitsCodeSequence").text(
        "CodeValue"
    ) or (header.item("MeasurementUnitsCodeSequence").text("CodeValue") or "")


def _philips(header: SeriesHeader, units: str) -> tuple[Unit, float]:
    scales: tuple[tuple[int, Unit], ...] = ((0x09, "Bq/mL"), (0x00, "SUV"))
    for offset, unit in scales:
        scale = philips_scale(header, offset)
        if scale is not None:
            return unit, scale
    # No other maker writes Philips' factor: to ask its scanner for one leads nowhere.
    theirs = maker_of(header.text("Manufacturer")) in ("Philips", None)
    raise RefusedScan(
        "units-unknown",
        f"Units (0054,1001) are {units} without a Philips activity scale factor",
        hint="Export the series with (7053,1009), or as BQML" if theirs else "Export the series as BQML",
        measured=units,
    )
