"""The ADNI download tree: ``<PTID>/<Series>/<date_time>/I<image>/`` with DICOM slices or one NIfTI."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from pipeline.ingest.acquisition import resolution_of
from pipeline.ingest.adni import PTID, read_tables
from pipeline.ingest.found import FoundScan, files_below
from pipeline.ingest.headers import SeriesHeader
from pipeline.ingest.instances import NEIGHBOURS, kind_of, read_file
from pipeline.ingest.labels import with_tables
from pipeline.ingest.times import parse_date
from pipeline.ingest.vocabulary import tracer_of

_IMAGE = re.compile(r"^[IS](\d+)$")

LEVELS = ("averaged", "standardized", "co-registered dynamic", "original", "uniform 6 mm", "uniform 8 mm")
"""ADNI's processing levels, the one to take first: it is averaged, and its own resolution is not yet lost."""


def level_of(series: str) -> str:
    """Return which of `LEVELS` a series name states.

    Examples
    --------
    >>> level_of("AV1451_Co-registered,_Averaged")
    'averaged'
    >>> level_of("AV1451 Coreg, Avg, Standardized Image and Voxel Size")
    'standardized'
    >>> level_of("AV1451 Coreg, Avg, Std Img and Vox Siz, Uniform 6mm Res")
    'uniform 6 mm'
    """
    name = series.lower().replace("_", " ")
    resolution = resolution_of(name)
    if resolution is not None:
        return f"uniform {resolution:.0f} mm"
    processed = "coreg" in name or "co-reg" in name
    if processed and ("standardized" in name or "std img" in name):
        return "standardized"
    if processed and "av" in re.split(r"[ ,]+", name.replace("averaged", "av").replace("avg", "av")):
        return "averaged"
    return "co-registered dynamic" if processed and "dynamic" in name else "original"


def is_adni(source: Path) -> bool:
    """Return whether folders named as ADNI subjects stand in a folder or one or two below it."""
    return bool(_subjects(source))


def _subjects(source: Path) -> list[Path]:
    for pattern in ("*", "*/*", "*/*/*"):
        found = sorted(p for p in source.glob(pattern) if PTID.match(p.name) and p.is_dir())
        if found:
            return found
    return []


def find_adni(source: Path, ignored: Counter[str]) -> list[FoundScan]:
    """Find the PET images of an ADNI download; one header is read a series."""
    scans = []
    for subject in _subjects(source):
        folders: dict[Path, list[Path]] = defaultdict(list)
        for path in files_below(subject, ignored):
            folders[path.parent].append(path)
        scans += _joined([s for files in folders.values() for s in _scans_in(subject, files, ignored)])
    return with_tables(
        _warned_of_resolutions(one_level_per_visit(scans, ignored)), read_tables(source, ignored)
    )


def _scans_in(subject: Path, files: list[Path], ignored: Counter[str]) -> list[FoundScan]:
    series, day, number = _facts_of_path(files[0].parent.relative_to(subject).parts)
    niftis = [f for f in files if f.name.lower().endswith((".nii", ".nii.gz"))]
    slices = [f for f in files if f not in niftis and f.suffix.lower() not in _TEXT]
    ignored["files that are no images"] += len(files) - len(niftis) - len(slices)
    if not ignored["files that are no images"]:
        del ignored["files that are no images"]
    if not (niftis or slices):
        return []
    if "early" in re.split(r"[^a-z]+", series.lower()):
        ignored["early-frame series"] += 1
        return []
    name = series.replace("_", " ")
    scan = FoundScan((), "dicom", subject.name, day, number, site=subject.name[:3], description=name)
    scans = [
        replace(scan, files=(f,), format="nifti", image_id=_number_in(f) or number, sidecars=_sidecar(f))
        for f in niftis
        if _is_pet_name(series, ignored)
    ]
    return scans + (_dicom_scan(slices, scan, ignored) if slices else [])


def _joined(scans: Sequence[FoundScan]) -> list[FoundScan]:
    """Join the folders of one series: an export in parts, or twice; the reader takes each image once."""
    series: dict[tuple[object, ...], FoundScan] = {}
    for n, scan in enumerate(scans):
        key = (scan.series_uid, scan.description, scan.scan_date) if scan.series_uid else (n,)
        first = series.setdefault(key, scan)
        if first is not scan:
            series[key] = replace(first, files=first.files + scan.files)
    return list(series.values())


_TEXT = frozenset({".xml", ".csv", ".txt", ".json", ".pdf", ".html"})
_NOT_PET = frozenset(
    {
        "mprage",
        "flair",
        "rsfmri",
        "fmri",
        "dti",
        "pasl",
        "asl",
        "localizer",
        "t2",
        "hippo",
        "calibration",
        "mri",
    }
)


def _is_pet_name(series: str, ignored: Counter[str]) -> bool:
    words = re.split(r"[^a-z0-9]+", series.lower())
    if _NOT_PET.intersection(words):
        ignored["MR series"] += 1
        return False
    return True


def _dicom_scan(slices: list[Path], scan: FoundScan, ignored: Counter[str]) -> list[FoundScan]:
    for path in slices:
        try:
            header = read_file(path)
        except Exception:  # noqa: BLE001 - one bad file hides no other
            continue
        if header is None:
            continue
        kind = kind_of(header)
        if kind in NEIGHBOURS:
            ignored[kind] += 1
            continue
        if kind:
            ignored[kind] += len(slices)
            return []
        uid = header.text("SeriesInstanceUID") or ""
        day = scan.scan_date or parse_date(header.text("AcquisitionDate") or header.text("SeriesDate"))
        notes = folder_notes(scan.subject_label, header)
        return [replace(scan, files=tuple(slices), scan_date=day, series_uid=uid, notes=notes)]
    ignored["files that are not DICOM"] += len(slices)
    return []


def folder_notes(subject: str, header: SeriesHeader) -> tuple[str, ...]:
    """Return a warning where the images in an ADNI subject's folder state another subject's ID."""
    written = header.text("PatientID") or ""
    if not (PTID.match(subject) and PTID.match(written)) or written == subject:
        return ()
    return ("the Patient ID (0010,0020) of the images is not that of their folder; the folder's is taken",)


def _facts_of_path(parts: Sequence[str]) -> tuple[str, date | None, str]:
    """Return series name, day and image number as far as the folders below a subject state them."""
    series = parts[0] if parts else ""
    day = next(filter(None, (parse_date(part) for part in parts[1:])), None)
    number = next((m[1] for m in map(_IMAGE.match, reversed(parts)) if m), "")
    return series, day, number


def _number_in(path: Path) -> str:
    match = re.search(r"_I(\d+)\.", path.name)
    return match[1] if match else ""


def _sidecar(path: Path) -> tuple[Path, ...]:
    beside = path.with_name(re.sub(r"\.nii(\.gz)?$", ".json", path.name))
    return (beside,) if beside.is_file() else ()


def one_level_per_visit(scans: Sequence[FoundScan], ignored: Counter[str]) -> list[FoundScan]:
    """Keep the first of `LEVELS` where one acquisition was downloaded at several."""
    visits: dict[tuple[str, date | None], list[FoundScan]] = defaultdict(list)
    for scan in scans:
        visits[scan.subject_label, scan.scan_date].append(scan)
    chosen = []
    for (_, day), together in visits.items():
        if day is None:
            chosen += together
            continue
        for same_tracer in _by_tracer(together):
            best = min(LEVELS.index(level_of(scan.description)) for scan in same_tracer)
            taken = [scan for scan in same_tracer if LEVELS.index(level_of(scan.description)) == best]
            if len(taken) < len(same_tracer):
                ignored["other processing levels of a scan that is taken"] += len(same_tracer) - len(taken)
            chosen += taken
    return chosen


def _by_tracer(scans: Sequence[FoundScan]) -> list[list[FoundScan]]:
    groups: dict[str, list[FoundScan]] = defaultdict(list)
    for scan in scans:
        groups[tracer_of(scan.description) or ""].append(scan)
    # An original without a tracer in its name belongs to the one tracer of the day that has.
    if "" in groups and len(groups) == 2:
        nameless = groups.pop("")
        next(iter(groups.values())).extend(nameless)
    return list(groups.values())


def _warned_of_resolutions(scans: Sequence[FoundScan]) -> list[FoundScan]:
    found = sorted({r for scan in scans if (r := resolution_of(scan.description)) is not None})
    if len(found) < 2:
        return list(scans)
    note = f"the source mixes resolutions of {' and '.join(f'{r:.0f}' for r in found)} mm"
    return [replace(s, notes=(*s.notes, note)) if resolution_of(s.description) else s for s in scans]
