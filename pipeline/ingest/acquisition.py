"""Facts of the acquisition from a PET header, none of which identifies anybody."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from pipeline.errors import RefusedScan
from pipeline.ingest.headers import SeriesHeader, philips_scale, private_text
from pipeline.ingest.planes import acquisition_moment
from pipeline.ingest.radiotracer import check_nuclide, half_life_of, nuclide_in, tracer_in
from pipeline.ingest.stated_kind import attenuation_corrected
from pipeline.ingest.times import (
    F18_HALF_LIFE_S,
    Moment,
    delay_after_injection,
    mean_count_time,
    parse_clock,
    parse_datetime,
    parse_moment,
    suv_factor,
)
from pipeline.ingest.vocabulary import (
    maker_of,
    model_of,
    series_words,
)
from pipeline.scan import Fact, Unit

Injection = tuple[Moment | None, float | None]

_SUV_AGREES = 0.05
_ONE_TIME_S = 60.0
_TWO_TIMES = (
    "Radiopharmaceutical Start Time (0018,1072) and Start DateTime (0018,1078) differ; the latter is used"
)


def acquisition_facts(header: SeriesHeader, moments: Sequence[Moment | None], unit: Unit) -> dict[str, Fact]:
    """Return the facts of a series; what the header does not state is None.

    Parameters
    ----------
    header : SeriesHeader
        Of the image that states most.
    moments : sequence of Moment or None
        When the acquisition of each plane began.
    unit : str
        Of the volume.

    Returns
    -------
    dict
        ``tracer`` (canonical; words of the header; ``"unrecognised"``), ``radionuclide``, ``manufacturer``,
        ``model``, ``injected_activity_bq``, ``weight_kg``, ``scan_after_injection_s``, ``decay_correction``,
        ``attenuation_corrected``, ``series_description``, ``reconstruction``, ``resolution_mm``,
        ``suv_factor``, ``suv_note``, ``half_life_s``, ``slices_declared``, ``synthetic``, ``time_note``,
        ``values_note``.

    Raises
    ------
    RefusedScan
        ``"injection-after-scan"``, or ``"wrong-tracer"`` where the radionuclide is not the tracer's.
    """
    drug = header.item("RadiopharmaceuticalInformationSequence")
    tracer, nuclide = tracer_in(header, drug), nuclide_in(drug)
    check_nuclide(tracer, nuclide)
    half_life = half_life_of(header) or F18_HALF_LIFE_S
    known = [moment for moment in moments if moment is not None]
    start = min(known, key=lambda moment: moment.local, default=None)
    injection, note = _injection(header, drug), None
    if _are_blanked(header, known, injection):
        injection, note = (None, None), "all clocks of the header are the same: taken as blanked"
    delay, assumed = delay_after_injection(start, *injection)
    if injection[0] and injection[1] and not note and abs(injection[0].clock - injection[1]) > _ONE_TIME_S:
        note = "; ".join(filter(None, (_TWO_TIMES, assumed)))
    weight = _positive(header.number("PatientWeight"))
    dose = _in_becquerel(_positive(drug.number("RadionuclideTotalDose")))
    correction = _decay_correction(header)
    reference = _decay_reference_delay(header, correction, start, injection, half_life)
    factor, suv_note = _suv(header, suv_factor(weight, dose, reference, half_life))
    return {
        "tracer": tracer,
        "radionuclide": nuclide,
        "manufacturer": maker_of(header.text("Manufacturer")),
        "model": model_of(header.text("ManufacturerModelName")),
        "injected_activity_bq": dose,
        "weight_kg": weight,
        "scan_after_injection_s": None if delay is None else round(delay, 3),
        "decay_correction": correction,
        "attenuation_corrected": attenuation_corrected(header),
        "series_description": series_words(header.text("SeriesDescription")),
        "reconstruction": series_words(header.text("ReconstructionMethod")),
        "resolution_mm": resolution_of(header.text("SeriesDescription")),
        "suv_factor": factor if unit == "Bq/mL" else None,
        "suv_note": suv_note,
        "half_life_s": half_life_of(header),
        "slices_declared": header.whole("NumberOfSlices"),
        "synthetic": is_synthetic(header) or None,
        "time_note": note or assumed,
        "values_note": _lossy(header),
    }


def _lossy(header: SeriesHeader) -> str | None:
    """Return a warning where values are no longer those of the scanner."""
    if header.syntax not in _LOSSY_SYNTAXES and header.text("LossyImageCompression") != "01":
        return None
    return "the images were compressed with loss (0028,2110): values differ from the scanner's"


_LOSSY_SYNTAXES = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
"""JPEG 2000 may be either, and states it in Lossy Image Compression."""


def _are_blanked(header: SeriesHeader, moments: Sequence[Moment], injection: Injection) -> bool:
    """Return whether all clocks are the same: nobody is injected at the moment that every clock shows."""
    stated = [*moments, *(moment for moment in injection[:1] if moment is not None)]
    times = (header.text(f"{level}Time") for level in ("Study", "Series", "Content"))
    clocks = {*(moment.clock for moment in stated), injection[1], *map(parse_clock, times)}
    return injection != (None, None) and len(clocks - {None}) == 1


def resolution_of(series: str | None) -> float | None:
    """Return the resolution that ADNI's processing brought a series to, mm, or None.

    Examples
    --------
    >>> resolution_of("AV1451 Coreg, Avg, Std Img and Vox Siz, Uniform Resolution")
    8.0
    >>> resolution_of("AV1451_Coreg,_Avg,_Std_Img_and_Vox_Siz,_Uniform_6mm_Res")
    6.0
    >>> resolution_of("PET BRAIN TAU") is None
    True
    """
    text = (series or "").lower().replace("_", " ")
    if "uniform" not in text:
        return None
    if "6mm" in text or "6 mm" in text:
        return 6.0
    return 8.0 if "uniform res" in text or "8mm" in text else None


def _suv(header: SeriesHeader, computed: float | None) -> tuple[float | None, str | None]:
    """Return what turns Bq/mL into SUV, and in what the vendor's own factor contradicts weight and dose."""
    to_suv, to_activity = philips_scale(header, 0x00), philips_scale(header, 0x09)
    if to_suv is None or to_activity is None:
        return computed, None
    own = to_suv / to_activity
    if computed is None:
        return own, None
    off = abs(computed / own - 1)
    note = f"SUV by weight, dose and times is {off:.0%} off the vendor's own factor"
    return computed, note if off > _SUV_AGREES else None


def _injection(header: SeriesHeader, drug: SeriesHeader) -> Injection:
    """Return the moment of injection and the time of day; what a de-identifier blanked is unknown."""
    zone = header.text("TimezoneOffsetFromUTC")
    moment = parse_datetime(drug.text("RadiopharmaceuticalStartDateTime"), zone)
    clock = parse_clock(drug.text("RadiopharmaceuticalStartTime")) or None
    if moment is not None and moment.clock == 0:
        moment = None
    if moment is not None and moment.offset is not None and zone is None and clock is not None:
        # A moment in UTC beside a time of day: they differ by the offset of the scanner's clock.
        shift = (clock - moment.clock + 12 * 3600) % 86400 - 12 * 3600
        if shift % 900 == 0:
            moment = Moment(moment.local + shift, moment.offset + shift)
    return moment, clock


def _decay_reference_delay(
    header: SeriesHeader,
    correction: str | None,
    start: Moment | None,
    injection: Injection,
    half_life: float,
) -> float | None:
    """Return seconds from injection to the time the image is decay corrected to."""
    if correction == "ADMIN":
        return 0.0
    if correction != "START":
        return None
    zone = header.text("TimezoneOffsetFromUTC")
    series = parse_moment(header.text("SeriesDate"), header.text("SeriesTime"), zone)
    # A series written after the scan began, or before the injection, is not the reference.
    if series is not None and start is not None and start.since(series) < 0:
        series = None
    true_start = parse_datetime(private_text(header, 0x0009, "GEMS_PETD_01", 0x0D), zone)
    for moment in (series, true_start, _back_dated(header, half_life), start):
        if moment is not None and moment.clock > 0:
            with suppress(RefusedScan):
                return delay_after_injection(moment, *injection)[0]
    return None


def _back_dated(header: SeriesHeader, half_life: float) -> Moment | None:
    """Siemens: the frame reference time counts from the reference to the mean of the frame's counts."""
    acquired, reference = acquisition_moment(header), header.number("FrameReferenceTime")
    duration = header.number("ActualFrameDuration")
    if acquired is None or acquired.clock == 0 or reference is None or reference <= 0:
        return None
    if not duration or duration <= 0:
        return None
    shift = mean_count_time(duration / 1000.0, half_life) - reference / 1000.0
    return acquired._replace(local=acquired.local + shift)


def _decay_correction(header: SeriesHeader) -> str | None:
    written = header.text("DecayCorrection")
    if written in ("START", "ADMIN", "NONE"):
        return written
    if (header.text("DecayCorrected") or "").upper() == "NO":
        return "NONE"
    return "START" if header.text("DecayCorrectionDateTime") else None


def _positive(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None


def _in_becquerel(dose: float | None) -> float | None:
    """Doses below 10 kBq are megabecquerel: no one is injected with so little."""
    return dose * 1e6 if dose is not None and dose < 1e4 else dose


def is_synthetic(header: SeriesHeader) -> bool:
    """Whether a header says that a series is a computed phantom."""
    keywords = ("SeriesDescription", "ImageComments", "PatientName", "PatientID", "PatientComments")
    return any("SYNTHETIC" in (header.text(k) or "").upper() for k in keywords)
