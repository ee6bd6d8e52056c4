"""A PET series as DICOM to one `Volume`: Siemens, GE, Philips; single-frame, enhanced, dynamic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from pipeline.errors import InputError, RefusedScan
from pipeline.ingest.acquisition import acquisition_facts, half_life_of
from pipeline.ingest.headers import Layers, philips_scale, series_of
from pipeline.ingest.planes import Plane, layers_of, planes_of
from pipeline.ingest.stacking import affine_of, frame_times, stack
from pipeline.ingest.times import mean_count_time
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
        ``"injection-after-scan"``, ``"truncated-file"``, ``"unreadable-codec"`` or ``"units-unknown"``.

    Examples
    --------
    >>> read_series(Path("no/such/folder"))
    Traceback (most recent call last):
    pipeline.errors.InputError: A series must be a folder, got none in no/such/folder: check the path
    """
    if not folder.is_dir():
        raise InputError("A series must be a folder, got none", where=str(folder), hint="check the path")
    try:
        return read_files(sorted(p for p in folder.rglob("*") if p.is_file()), series_uid)
    except RefusedScan as refusal:
        raise RefusedScan(
            refusal.rule, refusal.problem, where=str(folder), hint=refusal.hint, measured=refusal.measured
        ) from refusal


def read_files(files: Iterable[Path], series_uid: str | None = None) -> Volume:
    """Read the PET series that some files hold; as `read_series`, without a path in any message."""
    series, ignored = series_of(files, series_uid)
    if not series:
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
    return assemble(next(iter(series.values())))


def assemble(datasets: Sequence[Dataset]) -> Volume:
    """Make one volume of the data sets of one PET series.

    Raises
    ------
    RefusedScan
        As `read_series`.
    """
    header = layers_of(datasets[0])
    _check_attenuation(datasets)
    planes = [plane for dataset in datasets for plane in planes_of(dataset)]
    unit, factor = unit_and_factor(header)
    _check_decay(planes)
    frames = stack(planes)
    times = frame_times(frames, half_life_of(header))
    _check_decay_factors(frames, times, half_life_of(header))
    array = _array(frames)
    if factor != 1.0:
        array *= np.float32(factor)
    start = min((plane.acquired for plane in planes if plane.acquired is not None), default=None)
    facts = acquisition_facts(header, start, unit)
    if (facts["decay_correction"] == "NONE") and len(frames) > 1:
        array = _decay_corrected(array, times, half_life_of(header))
        facts["decay_correction"] = "START"
        facts["decay_corrected_on_reading"] = True
    return Volume(array, affine_of(frames[0]), unit, times, facts)


def stack_images(datasets: Sequence[Dataset]) -> Volume:
    """Make one volume of images of any modality, of whose units nothing is known."""
    frames = stack([plane for dataset in datasets for plane in planes_of(dataset, must_scale=False)])
    return Volume(_array(frames), affine_of(frames[0]), "counts")


def _array(frames: Sequence[Sequence[Plane]]) -> FloatArray:
    """Return values indexed (x, y, z) or (x, y, z, frame), laid out so that x runs fastest as in NIfTI."""
    stacked = np.stack([np.stack([plane.values for plane in slices]) for slices in frames])
    array: FloatArray = stacked.transpose(3, 2, 1, 0)
    return array if len(frames) > 1 else array[..., 0]


def unit_and_factor(header: Layers) -> tuple[Unit, float]:
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


def _mapped_units(header: Layers) -> str:
    return header.item("RealWorldValueMappingSequence").item("MeasurementUnitsCodeSequence").text(
        "CodeValue"
    ) or (header.item("MeasurementUnitsCodeSequence").text("CodeValue") or "")


def _philips(header: Layers) -> tuple[Unit, float]:
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


def _check_attenuation(datasets: Sequence[Dataset]) -> None:
    for dataset in datasets:
        layers = layers_of(dataset)
        corrections = layers.text("CorrectedImage")
        said_no = (layers.text("AttenuationCorrected") or "").upper() == "NO"
        if said_no or (corrections is not None and "ATTN" not in corrections.upper().split("\\")):
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
