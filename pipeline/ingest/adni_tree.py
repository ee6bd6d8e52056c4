"""The ADNI download tree: ``<PTID>/<Series>/<date_time>/I<image>/`` with DICOM slices or one NIfTI."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path

from pipeline.ingest.acquisition import resolution_of
from pipeline.ingest.adni import PTID, read_tables
from pipeline.ingest.adni_levels import LEVELS, level_of
from pipeline.ingest.ecat import is_ecat
from pipeline.ingest.folders import files_below
from pipeline.ingest.found import FoundScan
from pipeline.ingest.headers import SeriesHeader
from pipeline.ingest.instances import read_file
from pipeline.ingest.kinds import NEIGHBOURS, is_nifti, kind_of
from pipeline.ingest.labels import with_tables
from pipeline.ingest.radiotracer import tracer_in
from pipeline.ingest.reconstructions import acquired_of, one_per_acquisition
from pipeline.ingest.sidecar import sidecars_beside
from pipeline.ingest.times import parse_date

__all__ = ["LEVELS", "find_adni", "folder_notes", "is_adni", "level_of"]

_IMAGE = re.compile(r"^[IS](\d+)$")


def is_adni(source: Path) -> bool:
    """Return whether folders named as ADNI subjects stand in a folder or one or two below it."""
    return bool(_subjects(source))


def _subjects(source: Path) -> list[Path]:
    for pattern in ("*", "*/*", "*/*/*"):
        found = sorted(p for p in source.glob(pattern) if PTID.match(p.name) and p.is_dir())
        if found:
            return found
    return []


def find_adni(source: Path, ignored: Counter[str], prefer: Sequence[str] = ()) -> list[FoundScan]:
    """Find the PET images of an ADNI download, at any depth; one header is read a series."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in files_below(source, ignored):
        folders[path.parent].append(path)
    scans = []
    for folder, files in sorted(folders.items()):
        parts = folder.relative_to(source).parts
        depth = next((n for n, part in enumerate(parts) if PTID.match(part)), None)
        if depth is not None:
            scans += _scans_in(source.joinpath(*parts[: depth + 1]), files, ignored)
        elif images := [path for path in files if path.suffix.lower() not in _NO_IMAGES]:
            ignored["files outside of the subjects' folders (nnn_S_nnnn)"] += len(images)
    tables = read_tables(source, ignored)
    return with_tables(_warned_of_resolutions(one_per_acquisition(_joined(scans), ignored, prefer)), tables)


def _scans_in(subject: Path, files: list[Path], ignored: Counter[str]) -> list[FoundScan]:
    series, day, number = _facts_of_path(files[0].parent.relative_to(subject).parts)
    niftis = [f for f in files if is_nifti(f) or is_ecat(f)]
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
        replace(
            scan, files=(f,), format="nifti", image_id=_number_in(f) or number, sidecars=sidecars_beside(f)
        )
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


_DRUG = "RadiopharmaceuticalInformationSequence"
_TEXT = frozenset({".xml", ".csv", ".txt", ".json", ".pdf", ".html"})
_NO_IMAGES = _TEXT | {".tsv", ".xlsx", ".xls", ".ods", ".md", ".zip"}
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
    broken = 0
    for path in slices:
        try:
            header = read_file(path)
        except Exception:  # noqa: BLE001 - one bad file hides no other
            broken += 1
            continue
        if header is None:
            continue
        kind = kind_of(header)
        if kind in NEIGHBOURS:
            ignored[kind] += 1
            continue
        if kind:
            pet = _pet_among(slices)
            ignored[kind] += len(slices) if pet is None else 1
            if pet is None:
                return []
            header = pet  # the reader leaves the others alone
        uid = header.text("SeriesInstanceUID") or ""
        day = scan.scan_date or parse_date(header.text("AcquisitionDate") or header.text("SeriesDate"))
        notes = folder_notes(scan.subject_label, header)
        scan = replace(scan, files=tuple(slices), scan_date=day, series_uid=uid, notes=notes)
        return [replace(scan, tracer=tracer_in(header, header.item(_DRUG)), acquired=acquired_of([header]))]
    if broken:  # its folders name it; the reader refuses it with what is wrong
        return [replace(scan, files=tuple(slices))] if _is_pet_name(scan.description, ignored) else []
    ignored["files that are not DICOM"] += len(slices)
    return []


def _pet_among(slices: list[Path]) -> SeriesHeader | None:
    """Return the header of a PET image among some files, where a folder may hold CT and PET."""
    for n in range(_LOOKS):
        with suppress(Exception):  # a broken file hides no other
            header = read_file(slices[(n + 1) * len(slices) // _LOOKS - 1])
            if header is not None and kind_of(header) is None:
                return header
    return None


_LOOKS = 8
"""Files of a folder that are looked at, where the first is no PET."""


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


def _warned_of_resolutions(scans: Sequence[FoundScan]) -> list[FoundScan]:
    found = sorted({r for scan in scans if (r := resolution_of(scan.description)) is not None})
    if len(found) < 2:
        return list(scans)
    note = f"the source mixes resolutions of {' and '.join(f'{r:.0f}' for r in found)} mm"
    return [replace(s, notes=(*s.notes, note)) if resolution_of(s.description) else s for s in scans]
