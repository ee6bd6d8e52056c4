"""A PET series as DICOM to one `Volume`: Siemens, GE, Philips; single-frame, enhanced, dynamic."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import InputError, RefusedScan
from pipeline.ingest.acquisition import acquisition_facts
from pipeline.ingest.folders import files_below
from pipeline.ingest.headers import SeriesHeader
from pipeline.ingest.instances import series_of
from pipeline.ingest.people import check_one_person
from pipeline.ingest.planes import Plane, acquisition_moment, planes_of
from pipeline.ingest.radiotracer import check_one_tracer, half_life_of
from pipeline.ingest.stacking import affine_of, array_of, check_filled, frame_times, stack
from pipeline.ingest.stated_kind import check_attenuation, check_person
from pipeline.ingest.times import (
    mean_count_time,
    on_one_clock,
    parse_datetime,
    parse_moment,
    without_clock_change,
)
from pipeline.ingest.units import one_unit_and_factor
from pipeline.ingest.vocabulary import known_code
from pipeline.scan import FloatArray, Frame, Volume
from pipeline.wording import counts_of

# F-18 loses 0.6 % in a minute. Scanners place a frame's mean by formulae that differ by seconds.
_SAME_REFERENCE_S = 60.0


def read_series(folder: Path, series_uid: str | None = None) -> Volume:
    """Read the PET series in a folder, as the scanner wrote it.

    Other modalities, reports and text in the folder are left alone; a copy of an image is taken once.

    Parameters
    ----------
    folder : Path
        Searched with its subfolders.
    series_uid : str, optional
        Which series, where there are several.

    Returns
    -------
    Volume
        float32 indexed (x, y, z) or (x, y, z, frame), where x runs along a DICOM row; unit ``"Bq/mL"``,
        ``"SUV"`` or, for proportional counts, ``"counts"``; `facts` as `pipeline.ingest.acquisition` lists
        them.

    Raises
    ------
    InputError
        If the folder is missing.
    RefusedScan
        With the rule ``"empty"``, ``"several-series"``, ``"missing-slices"``, ``"mixed-geometry"``,
        ``"no-geometry"``, ``"not-attenuation-corrected"``, ``"decay-reference-differs"``,
        ``"injection-after-scan"``, ``"truncated-file"``, ``"unreadable-codec"``, ``"units-unknown"``,
        ``"two-people"``, ``"mixed-studies"``, ``"mixed-tracers"``, ``"overlapping-frames"``,
        ``"conflicting-duplicates"``, ``"not-a-person"``.

    Examples
    --------
    >>> read_series(Path("no/such/folder"))
    Traceback (most recent call last):
    pipeline.errors.InputError: no/such/folder: No such folder. Name the folder of a DICOM series.
    """
    if not folder.is_dir():
        raise InputError("No such folder", where=str(folder), hint="Name the folder of a DICOM series")
    try:
        links: Counter[str] = Counter()
        return read_files(files_below(folder, links), series_uid, links)
    except RefusedScan as refusal:
        raise RefusedScan(
            refusal.rule, refusal.problem, where=str(folder), hint=refusal.hint, measured=refusal.measured
        ) from refusal


def read_files(
    files: Iterable[Path],
    series_uid: str | None = None,
    skipped: Mapping[str, int] | None = None,
    *,
    several_series: bool = False,
) -> Volume:
    """Read the PET series that some files hold; as `read_series`, without a path in any message.

    `skipped` counts what was left alone before, for the message where nothing is found. With
    `several_series`, the series are frames of one scan, as `pipeline.ingest.split_frames` joins them.

    Raises
    ------
    RefusedScan
        If no file is of a PET series, there are several of them, or the series breaks a rule.
    """
    series, ignored = series_of(files, series_uid)
    if not series:
        ignored.update(skipped or {})
        seen = counts_of(ignored) or "no file"
        raise RefusedScan(
            "empty",
            f"No PET image here: found {seen}",
            hint="Name the folder of a PET series",
            measured=seen,
        )
    if several_series:
        return assemble(sorted((one for headers in series for one in headers), key=_began))
    if len(series) > 1:
        raise RefusedScan(
            "several-series",
            f"There are {len(series)} PET series, which differ in person, study or Series Instance UID",
            hint="Name the folder of one of them, or ingest with --layout dicom, which reads each",
            measured=f"{len(series)} series",
        )
    return assemble(series[0])


def _began(header: SeriesHeader) -> float:
    moment = acquisition_moment(header.first_frame())
    return math.inf if moment is None else moment.local


def assemble(headers: Sequence[SeriesHeader]) -> Volume:
    """Make one volume of the images of one PET series.

    Raises
    ------
    RefusedScan
        As `read_series`.
    """
    check_one_person(headers)
    check_one_tracer(headers)
    firsts = [header.first_frame() for header in headers]
    for first in firsts:
        check_attenuation(first)
        check_person(first)
    unit, factor = one_unit_and_factor(firsts)
    header = max(firsts, key=_stated)
    half_life = half_life_of(header)
    planes, note = _on_one_clock(on_one_reference(headers, half_life))
    _check_decay(planes)
    frames = stack(planes)
    _check_frames_are_stated(frames, header)
    times, doubt = frame_times(frames, half_life)
    _check_decay_factors(frames, times, half_life)
    array = array_of(frames)
    check_filled(array)
    if factor != 1.0:
        array *= np.float32(factor)
    facts = acquisition_facts(header, [plane.moment for plane in planes], unit)
    facts["padded_voxels"] = int(np.isnan(array).sum()) if any(plane.padding for plane in planes) else None
    notes = (facts["time_note"], note, doubt, _lacking_frames(header, len(frames)))
    facts["time_note"] = "; ".join(str(one) for one in notes if one) or None
    if facts["decay_correction"] == "NONE" and len(frames) > 1:
        array = _decay_corrected(array, times, half_life)
        facts["decay_correction"] = "START"
        facts["decay_corrected_on_reading"] = True
    return Volume(array, affine_of(frames[0]), unit, times, facts)


def on_one_reference(headers: Sequence[SeriesHeader], half_life_s: float | None) -> list[Plane]:
    """Return the planes of a scan; where its frames are series of their own, decay corrected to one time.

    Each series is corrected to a start of its own: to that of its Series Time (0008,0031), unless its Decay
    Factor (0054,1321) states another.
    """
    planes = [planes_of(header) for header in headers]
    times = [_corrected_to(header, own[0], half_life_s) for header, own in zip(headers, planes, strict=True)]
    known = [time for time in times if time is not None]
    several = len({header.text("SeriesInstanceUID") for header in headers}) > 1
    if not several or not half_life_s or len(known) < len(times):
        return [plane for own in planes for plane in own]
    factors = [math.exp2((time - min(known)) / half_life_s) for time in known]
    return [
        replace(
            plane,
            slope=plane.slope * factor,
            intercept=plane.intercept * factor,
            reference=planes[0][0].reference,
            decay_factor=plane.decay_factor and plane.decay_factor * factor,
        )
        for own, factor in zip(planes, factors, strict=True)
        for plane in own
    ]


def _corrected_to(header: SeriesHeader, plane: Plane, half_life_s: float | None) -> float | None:
    """Return the time that an image is decay corrected to, seconds on the local clock, or None."""
    if plane.reference[0] != "START" or not half_life_s:
        return None
    if plane.decay_factor and plane.duration_s and plane.acquired is not None:
        middle = plane.acquired + mean_count_time(plane.duration_s, half_life_s)
        return middle - half_life_s * math.log2(plane.decay_factor)
    stated = parse_datetime(header.text("DecayCorrectionDateTime"))
    moment = stated or parse_moment(header.text("SeriesDate"), header.text("SeriesTime"))
    return None if moment is None else moment.local


def _on_one_clock(planes: list[Plane]) -> tuple[list[Plane], str | None]:
    stated = [plane.moment for plane in planes]
    on_one = on_one_clock(stated)
    moments = without_clock_change(on_one, [plane.reference_s for plane in planes])
    changed = "the clock changed by an hour between frames: all are on the first one's"
    note = None if moments == on_one else changed
    if moments != stated:
        planes = [replace(plane, moment=moment) for plane, moment in zip(planes, moments, strict=True)]
    return planes, note


def _check_frames_are_stated(frames: Sequence[Sequence[Plane]], header: SeriesHeader) -> None:
    """Refuse images of one place and time, unless the header counts them as frames."""
    times = {(plane.acquired, plane.reference_s) for frame in frames for plane in frame}
    counts = (header.whole("NumberOfTimeSlices"), header.whole("NumberOfTemporalPositions"))
    if len(frames) > 1 and len(times) == 1 and len(frames) not in counts:
        raise RefusedScan(
            "overlapping-frames",
            f"There are {len(frames)} images of each place at the same time, "
            f"and Number of Time Slices (0054,0101) is {counts[0] or 'not stated'}",
            hint="Export one reconstruction alone, each image once; or a dynamic series with its frame times",
            measured=f"{len(frames)} images of each place",
        )


def _lacking_frames(header: SeriesHeader, count: int) -> str | None:
    """Return a note on frames that a dynamic series declares and lacks."""
    declared = header.whole("NumberOfTimeSlices") or 0
    return f"the header declares {declared} frames, {count} are there" if 1 < count < declared else None


def stack_images(headers: Sequence[SeriesHeader]) -> Volume:
    """Make one volume of images of any modality, of whose units nothing is known."""
    frames = stack([plane for header in headers for plane in planes_of(header, must_scale=False)])
    return Volume(array_of(frames), affine_of(frames[0]), "counts")


def _stated(header: SeriesHeader) -> int:
    """Return how much a header states of what some programs write into one image only."""
    drug = header.get("RadiopharmaceuticalInformationSequence")
    return (header.number("PatientWeight") is not None) + 2 * (drug is not None)


def _check_decay(planes: Sequence[Plane]) -> None:
    references = {plane.reference for plane in planes}
    if len(references) > 1:
        kinds = sorted({known_code(r[0], ("START", "ADMIN", "NONE", "YES", "NO")) for r in references})
        raise RefusedScan(
            "decay-reference-differs",
            f"The frames are decay corrected to {len(references)} different times ({', '.join(kinds)})",
            hint="Reconstruct the series with one reference",
            measured=f"{len(references)} references",
        )


def _check_decay_factors(
    frames: Sequence[Sequence[Plane]], times: Sequence[Frame], half_life_s: float | None
) -> None:
    """Refuse frames whose decay factors lead back to different moments, as to each frame's own start."""
    factors = [frame[0].decay_factor for frame in frames]
    if len(frames) < 2 or not times or not half_life_s or None in factors:
        return
    references = [
        time.start_s + mean_count_time(time.duration_s, half_life_s) - half_life_s * math.log2(factor)
        for time, factor in zip(times, factors, strict=True)
        if factor is not None
    ]
    apart = max(references) - min(references)
    if apart > _SAME_REFERENCE_S:
        raise RefusedScan(
            "decay-reference-differs",
            "The frames are decay corrected to different times: "
            f"their Decay Factors (0054,1321) lead to times {apart:.0f} s apart",
            hint="Reconstruct the series with one reference",
            measured=f"{apart:.0f} s apart",
        )


def _decay_corrected(array: FloatArray, times: Sequence[Frame], half_life_s: float | None) -> FloatArray:
    """Correct frames to the start of the first one; only known frame times allow it."""
    if not times or not half_life_s:
        raise RefusedScan(
            "decay-reference-differs",
            "The frames are not decay corrected, and their times or half-life are not stated",
            hint="Reconstruct the series with decay correction",
            measured="NONE",
        )
    moments = [frame.start_s + mean_count_time(frame.duration_s, half_life_s) for frame in times]
    factors = np.exp2(np.array(moments) / half_life_s).astype(np.float32)
    corrected: FloatArray = array * factors
    return corrected
