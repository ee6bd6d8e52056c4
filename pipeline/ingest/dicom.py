"""A PET series as DICOM to one `Volume`: Siemens, GE, Philips; single-frame, enhanced, dynamic."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import InputError, RefusedScan
from pipeline.ingest.acquisition import acquisition_facts, half_life_of
from pipeline.ingest.found import files_below
from pipeline.ingest.headers import SeriesHeader, philips_scale
from pipeline.ingest.instances import kind_of, read_file
from pipeline.ingest.people import check_one_person, split_by_person
from pipeline.ingest.planes import Plane, are_equal, planes_of
from pipeline.ingest.stacking import affine_of, array_of, frame_times, stack
from pipeline.ingest.times import mean_count_time, on_one_clock
from pipeline.ingest.vocabulary import known_code
from pipeline.scan import FloatArray, Frame, Unit, Volume

# F-18 loses 0.6 % in a minute. Scanners place a frame's mean by formulae that differ by seconds.
_SAME_REFERENCE_S = 60.0
_UNITS = ("BQML", "GML", "CNTS", "PROPCNTS", "CPS", "PROPCPS", "NONE", "CM2", "PCNT", "STDDEV", "MLML")


def read_series(folder: Path, series_uid: str | None = None) -> Volume:
    """Read the PET series in a folder, as the scanner wrote it.

    Other modalities, reports and text in the folder are left alone; the same image under two names is taken
    once.

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
        ``"two-people"``, ``"overlapping-frames"`` or ``"conflicting-duplicates"``.

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
    files: Iterable[Path], series_uid: str | None = None, skipped: Mapping[str, int] | None = None
) -> Volume:
    """Read the PET series that some files hold; as `read_series`, without a path in any message.

    `skipped` counts what was left alone before, for the message where nothing is found.
    """
    series, ignored = series_of(files, series_uid)
    if not series:
        ignored.update(skipped or {})
        seen = ", ".join(f"{n} {what}" for what, n in sorted(ignored.items())) or "no file"
        raise RefusedScan(
            "empty",
            f"There must be a PET image, got {seen}",
            hint="point at the folder of the series",
            measured=seen,
        )
    if len(series) > 1:
        raise RefusedScan(
            "several-series",
            f"One series must be read at a time, got {len(series)}",
            hint="name its Series Instance UID, or ingest the folder, which reads each",
            measured=f"{len(series)} series",
        )
    return assemble(series[0])


def series_of(
    files: Iterable[Path], series_uid: str | None = None
) -> tuple[list[list[SeriesHeader]], Counter[str]]:
    """Sort files into PET series, each of one person and study; an image under another name is taken once.

    Parameters
    ----------
    files : iterable of Path
    series_uid : str, optional
        Take this series only.

    Returns
    -------
    series : list of list of SeriesHeader
        The images of each series, with pixels.
    ignored : Counter
        What was left alone.

    Raises
    ------
    RefusedScan
        ``"truncated-file"`` or ``"conflicting-duplicates"``.
    """
    series: dict[tuple[str, str], list[SeriesHeader]] = defaultdict(list)
    ignored: Counter[str] = Counter()
    for path in files:
        header = read_file(path, pixels=True)
        kind = "files that are not DICOM" if header is None else kind_of(header)
        if kind or header is None:
            ignored[kind or ""] += 1
            continue
        study, uid = header.text("StudyInstanceUID") or "", header.text("SeriesInstanceUID") or ""
        if series_uid is None or uid == series_uid:
            series[study, uid].append(header)
        else:
            ignored["PET images of other series"] += 1
    parted = [part for members in series.values() for part in split_by_person(members, lambda one: one)]
    return [_without_duplicates(part, ignored) for part in parted], ignored


def _without_duplicates(headers: list[SeriesHeader], ignored: Counter[str]) -> list[SeriesHeader]:
    found: dict[str, SeriesHeader] = {}
    for n, header in enumerate(headers):
        instance = header.text("SOPInstanceUID") or f"nameless {n}"
        first = found.setdefault(instance, header)
        if first is not header:
            if not are_equal(planes_of(first), planes_of(header)):
                raise RefusedScan(
                    "conflicting-duplicates",
                    "Two different images have the same SOP Instance UID (0008,0018)",
                    hint="Export the series again, or remove the images that do not belong to it",
                    measured="2 images of 1 UID",
                )
            ignored["duplicates of an image"] += 1
    return list(found.values())


def assemble(headers: Sequence[SeriesHeader]) -> Volume:
    """Make one volume of the images of one PET series.

    Raises
    ------
    RefusedScan
        As `read_series`.
    """
    header = headers[0].first_frame()
    check_one_person(headers)
    _check_attenuation(headers)
    planes = _on_one_clock([plane for one in headers for plane in planes_of(one)])
    unit, factor = unit_and_factor(header)
    _check_decay(planes)
    frames = stack(planes)
    times = frame_times(frames, half_life_of(header))
    _check_decay_factors(frames, times, half_life_of(header))
    array = array_of(frames)
    if factor != 1.0:
        array *= np.float32(factor)
    moments = (plane.moment for plane in planes if plane.moment is not None)
    start = min(moments, key=lambda moment: moment.local, default=None)
    facts = acquisition_facts(header, start, unit)
    if len(frames) > 1 and not times:
        facts["time_note"] = facts["time_note"] or f"the {len(frames)} frames state no times of their own"
    if (facts["decay_correction"] == "NONE") and len(frames) > 1:
        array = _decay_corrected(array, times, half_life_of(header))
        facts["decay_correction"] = "START"
        facts["decay_corrected_on_reading"] = True
    return Volume(array, affine_of(frames[0]), unit, times, facts)


def _on_one_clock(planes: list[Plane]) -> list[Plane]:
    stated = [plane.moment for plane in planes]
    moments = on_one_clock(stated)
    if moments == stated:
        return planes
    return [replace(plane, moment=moment) for plane, moment in zip(planes, moments, strict=True)]


def stack_images(headers: Sequence[SeriesHeader]) -> Volume:
    """Make one volume of images of any modality, of whose units nothing is known."""
    frames = stack([plane for header in headers for plane in planes_of(header, must_scale=False)])
    return Volume(array_of(frames), affine_of(frames[0]), "counts")


def unit_and_factor(header: SeriesHeader) -> tuple[Unit, float]:
    """Return the unit of a series and what its rescaled values are to be multiplied by.

    Philips counts become Bq/mL by (7053,1009), or else SUV by (7053,1000). Proportional counts stay counts: a
    ratio of regions can be had from them, a quantity cannot.

    Raises
    ------
    RefusedScan
        ``"units-unknown"``.
    """
    units = (header.text("Units") or _mapped_units(header)).upper()
    if units in ("BQML", "BQ/ML", "BQCC"):
        return "Bq/mL", 1.0
    if units in ("GML", "G/ML", "{SUVBW}G/ML", "G/ML{SUVBW}"):
        return "SUV", 1.0
    if units == "PROPCNTS":
        return "counts", 1.0
    if units == "CNTS":
        return _philips(header)
    seen = known_code(units, _UNITS)
    raise RefusedScan(
        "units-unknown",
        f"Units must be BQML, GML or Philips CNTS, got {seen}",
        hint="export the series as BQML",
        measured=seen,
    )


def _mapped_units(header: SeriesHeader) -> str:
    return header.item("RealWorldValueMappingSequence").item("MeasurementUnitsCodeSequence").text(
        "CodeValue"
    ) or (header.item("MeasurementUnitsCodeSequence").text("CodeValue") or "")


def _philips(header: SeriesHeader) -> tuple[Unit, float]:
    scales: tuple[tuple[int, Unit], ...] = ((0x09, "Bq/mL"), (0x00, "SUV"))
    for offset, unit in scales:
        scale = philips_scale(header, offset)
        if scale is not None:
            return unit, scale
    raise RefusedScan(
        "units-unknown",
        "Units must be BQML, got CNTS without a Philips activity scale factor",
        hint="export the series with (7053,1009) or as BQML",
        measured="CNTS",
    )


def _check_attenuation(headers: Sequence[SeriesHeader]) -> None:
    for header in headers:
        first = header.first_frame()
        corrections = first.text("CorrectedImage")
        stated_no = (first.text("AttenuationCorrected") or "").upper() == "NO"
        if stated_no or (corrections is not None and "ATTN" not in corrections.upper().split("\\")):
            raise RefusedScan(
                "not-attenuation-corrected",
                "The scan must be corrected for attenuation, Corrected Image (0028,0051) lacks ATTN",
                hint="take the attenuation corrected series of the study",
                measured="ATTN absent",
            )


def _check_decay(planes: Sequence[Plane]) -> None:
    references = {plane.reference for plane in planes}
    if len(references) > 1:
        kinds = sorted({known_code(r[0], ("START", "ADMIN", "NONE", "YES", "NO")) for r in references})
        raise RefusedScan(
            "decay-reference-differs",
            f"All frames must be decay corrected to one time, got {len(references)} ({', '.join(kinds)})",
            hint="reconstruct the series with one reference",
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
            "All frames must be decay corrected to one time, "
            f"got Decay Factors (0054,1321) that lead to times {apart:.0f} s apart",
            hint="reconstruct the series with one reference",
            measured=f"{apart:.0f} s apart",
        )


def _decay_corrected(array: FloatArray, times: Sequence[Frame], half_life_s: float | None) -> FloatArray:
    """Correct frames to the start of the first one; only known frame times allow it."""
    if not times or not half_life_s:
        raise RefusedScan(
            "decay-reference-differs",
            "Frames without decay correction must tell their times and half-life, got none",
            hint="reconstruct the series with decay correction",
            measured="NONE",
        )
    moments = [frame.start_s + mean_count_time(frame.duration_s, half_life_s) for frame in times]
    factors = np.exp2(np.array(moments) / half_life_s).astype(np.float32)
    corrected: FloatArray = array * factors
    return corrected
