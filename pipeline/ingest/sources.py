"""Find PET scans in a folder of any layout: plain DICOM, the ADNI download tree, BIDS, NIfTI."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from itertools import combinations
from pathlib import Path

from pipeline.errors import InputError
from pipeline.ingest.adni import PTID, read_tables
from pipeline.ingest.adni_tree import find_adni, folder_notes, is_adni, one_level_per_visit
from pipeline.ingest.bids_tree import find_bids, is_bids
from pipeline.ingest.copies import Image, without_copies, without_exports
from pipeline.ingest.found import UNOPENED, Found, FoundScan, NoScans, files_below, unopened_below
from pipeline.ingest.headers import SeriesHeader
from pipeline.ingest.instances import is_dicom, kind_of, kind_of_other, read_file
from pipeline.ingest.labels import with_tables
from pipeline.ingest.nifti_tree import find_nifti
from pipeline.ingest.people import (
    Person,
    alike,
    are_two_people,
    id_and_issuer,
    person_of,
    spelled,
    split_series,
    stated,
)
from pipeline.ingest.times import parse_date
from pipeline.ingest.vocabulary import canonical_tracer, squeeze, tracer_of

__all__ = ["LAYOUTS", "Found", "FoundScan", "find_scans", "recognise"]

LAYOUTS = ("auto", "dicom", "adni", "bids", "nifti")


def find_scans(source: Path, layout: str = "auto", tracer: str | None = None) -> Found:
    """Find every PET scan below a folder, without reading pixels.

    Parameters
    ----------
    source : Path
        A folder of scans.
    layout : {"auto", "dicom", "adni", "bids", "nifti"}
        What the folder is; ``"auto"`` recognises it.
    tracer : str, optional
        Leave alone and count the series of an ADNI download that are named after another tracer.

    Returns
    -------
    Found
        Scans in a fixed order, the layout, and what was left alone, counted.

    Raises
    ------
    InputError
        If the folder is missing, the layout unknown, or a table cannot be read.
    NoScans
        If no PET scan is found.

    Examples
    --------
    >>> find_scans(Path("no/such/folder"))
    Traceback (most recent call last):
    pipeline.errors.InputError: no/such/folder: No such folder. Name the folder that holds the scans.
    """
    if layout not in LAYOUTS:
        raise InputError(f"Unknown layout {layout!r}", hint=f"Use one of {', '.join(LAYOUTS)}")
    if not source.is_dir():
        raise InputError("No such folder", where=str(source), hint="Name the folder that holds the scans")
    ignored: Counter[str] = Counter()
    try:
        chosen = recognise(source) if layout == "auto" else layout
        scans = _FINDERS[chosen](source, ignored)
    except PermissionError as error:
        raise InputError(
            "This user may not read it",
            where=str(error.filename or source),
            hint="correct its permissions, or those of its folder",
        ) from error
    if tracer is not None and chosen == "adni":
        scans = _of_tracer(scans, canonical_tracer(tracer), ignored)
    unopened = unopened_below(source)
    if unopened:
        ignored[UNOPENED] = max(ignored[UNOPENED], len(unopened))
    found = Found(chosen, tuple(_mark_twins(scans)), dict(ignored), unopened)
    if not scans:
        raise NoScans(found, source)
    return found


def _of_tracer(scans: list[FoundScan], wanted: str, ignored: Counter[str]) -> list[FoundScan]:
    named = [(scan, tracer_of(scan.description)) for scan in scans]
    ignored.update(f"{name} series" for _, name in named if name not in (None, wanted))
    return [scan for scan, name in named if name in (None, wanted)]


def recognise(source: Path) -> str:
    """Return the layout of a folder: BIDS by its description, ADNI by its PTIDs, else by its files."""
    if is_bids(source):
        return "bids"
    if is_adni(source):
        return "adni"
    for path in files_below(source, Counter()):
        if is_dicom(path):
            return "dicom"
    return "nifti"


def _find_dicom(source: Path, ignored: Counter[str]) -> list[FoundScan]:
    series: dict[str, list[Image]] = defaultdict(list)
    broken: dict[Path, list[Path]] = defaultdict(list)
    for path in files_below(source, ignored):
        try:
            header = read_file(path)
        except Exception:  # noqa: BLE001 - one bad file hides no other
            broken[path.parent].append(path)
            continue
        kind = kind_of(header) if header is not None else kind_of_other(path)
        if kind or header is None:
            ignored[kind or ""] += 1
            continue
        uid = header.text("SeriesInstanceUID") or str(path.parent)
        series[uid].append((path, header))
    parted = [
        (uid, without_copies(part, ignored))
        for uid, members in series.items()
        for part in split_series(members, lambda image: image[1])
    ]
    several = Counter(uid for uid, _ in parted)
    scans = [_scan_of_series(uid, members, broken, by_study=several[uid] > 1) for uid, members in parted]
    people = [person_of(members[0][1]) for _, members in parted]
    scans = _doubtful(scans, people)
    scans = without_exports(scans, [members for _, members in parted], ignored)
    used = {path for scan in scans for path in scan.files}
    lost = sum(path not in used for paths in broken.values() for path in paths)
    if lost:
        ignored["broken DICOM files"] += lost
    return with_tables(one_level_per_visit(scans, ignored), read_tables(source, ignored))


def _doubtful(scans: list[FoundScan], people: list[Person]) -> list[FoundScan]:
    """Spell each person's label in one way; mark the scans whose label two people share."""
    owners: dict[str, list[_Owned]] = defaultdict(list)
    for scan, person in zip(scans, people, strict=True):
        owners[alike(scan.subject_label)].append((scan, person))
    marked: dict[int, FoundScan] = {}
    for owned in owners.values():
        groups = [owned]
        if _are_people(owned):  # then leading zeros or issuers may distinguish them
            exact: dict[str, list[_Owned]] = defaultdict(list)
            for one in owned:
                exact[spelled(one[0].subject_label)].append(one)
            groups = list(exact.values())
        for group in groups:
            label, doubt, notes = min(s.subject_label for s, _ in group), _doubt(group, groups), _notes(group)
            for s, _ in group:
                marked[id(s)] = replace(s, subject_label=label, doubt=doubt, notes=(*s.notes, *notes))
    return [marked[id(scan)] for scan in scans]


_Owned = tuple[FoundScan, Person]


def _notes(group: list[_Owned]) -> tuple[str, ...]:
    written = {id_and_issuer(scan.subject_label)[1] for scan, _ in group}
    if len(written) < 2:
        return ()
    return ("the Patient ID (0010,0020) is written with and without its issuer; taken as one person",)


def _doubt(group: list[_Owned], groups: list[list[_Owned]]) -> tuple[str, str] | None:
    """Return why it is not known whose scans these are, by themselves or beside those of one ID."""
    if _are_people(group):
        return _SHARED_ID
    if id_and_issuer(group[0][0].subject_label)[1]:
        return None
    issued = [g for g in groups if id_and_issuer(g[0][0].subject_label)[1]]
    return None if all(_are_people([*group, *other]) for other in issued) else _NO_ISSUER


def _are_people(owned: list[_Owned]) -> bool:
    return any(are_two_people(a, b) for a, b in combinations(dict.fromkeys(p for _, p in owned), 2))


_SHARED_ID = (
    "Two people of this source have the same Patient ID (0010,0020), or none and the same name: "
    "name, birth date or sex differ",
    "Give each person an ID of their own, or ingest each site into a dataset of its own",
)
_NO_ISSUER = (
    "Several people of this source have this Patient ID (0010,0020) from different issuers, and these images "
    "do not state the Issuer of Patient ID (0010,0021)",
    "Find out whose images these are, and state the issuer, as in 77^^^HOSPITAL",
)


def _scan_of_series(
    uid: str, members: list[Image], broken: dict[Path, list[Path]], *, by_study: bool
) -> FoundScan:
    """Make one scan of a series; files that break off in their header belong to the series they lie with."""
    header = members[0][1]
    files = [path for path, _ in members]
    for folder in sorted({path.parent for path in files}):
        files += broken.get(folder, [])
    return FoundScan(
        files=tuple(files),
        format="dicom",
        subject_label=_subject_of(files[0], header),
        scan_date=_date_of(header),
        image_id=(header.text("StudyInstanceUID") or "") if by_study else "",
        series_uid=uid,
        age=_age_of(header),
        sex=header.text("PatientSex") if header.text("PatientSex") in ("M", "F", "O") else None,
        site=header.text("InstitutionName"),
        description=header.text("SeriesDescription") or "",
        notes=folder_notes(next(filter(PTID.match, files[0].parts), ""), header),
    )


def _subject_of(path: Path, header: SeriesHeader) -> str:
    in_path = next(filter(PTID.match, path.parts), "")
    written = (header.text(keyword) for keyword in ("PatientID", "PatientName", "StudyInstanceUID"))
    return in_path or next(filter(None, map(stated, written)), path.parent.name)


def _date_of(header: SeriesHeader) -> date | None:
    dates = (parse_date(header.text(key)) for key in ("AcquisitionDate", "SeriesDate", "StudyDate"))
    return next(filter(None, dates), None)


def _age_of(header: SeriesHeader) -> float | None:
    match = re.fullmatch(r"(\d{3})Y", header.text("PatientAge") or "")
    return min(float(match[1]), 89.0) if match and float(match[1]) > 0 else None


def _mark_twins(scans: list[FoundScan]) -> list[FoundScan]:
    """Mark all but the first of scans that would share a session; put them in a fixed order."""
    ordered = sorted(
        scans,
        key=lambda s: (s.subject_label, str(s.scan_date), s.session_label, squeeze(s.image_id), s.identity),
    )
    seen: set[tuple[str, str]] = set()
    marked = []
    for scan in ordered:
        key = (scan.subject_label, str(scan.scan_date or scan.session_label))
        marked.append(replace(scan, twin=key in seen))
        seen.add(key)
    return marked


_FINDERS: dict[str, Callable[[Path, Counter[str]], list[FoundScan]]] = {
    "dicom": _find_dicom,
    "adni": find_adni,
    "bids": find_bids,
    "nifti": find_nifti,
}
