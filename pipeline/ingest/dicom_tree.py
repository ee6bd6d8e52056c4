"""PET series of a folder of DICOM files, and whose each one is by the headers."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from itertools import combinations
from pathlib import Path

from pipeline.ingest.adni import PTID, read_tables
from pipeline.ingest.adni_tree import folder_notes
from pipeline.ingest.copies import Image, without_copies, without_exports
from pipeline.ingest.folders import files_below
from pipeline.ingest.found import FoundScan
from pipeline.ingest.headers import SeriesHeader
from pipeline.ingest.kinds import kind_of, kind_of_other
from pipeline.ingest.known_headers import read_known
from pipeline.ingest.labels import with_tables
from pipeline.ingest.people import (
    BLANK_DAYS,
    WITH_AND_WITHOUT_ISSUER,
    YEARS_APART,
    alike,
    are_two_people,
    id_and_issuer,
    person_of,
    spelled,
    split_series,
    stated,
    with_issuer,
)
from pipeline.ingest.radiotracer import tracer_in
from pipeline.ingest.reconstructions import acquired_of, one_per_acquisition
from pipeline.ingest.split_frames import with_joined_frames
from pipeline.ingest.times import parse_date
from pipeline.ingest.vocabulary import names_early_frames


def find_dicom(source: Path, ignored: Counter[str], prefer: Sequence[str] = ()) -> list[FoundScan]:
    """Find the PET series below a folder of DICOM files, in any arrangement."""
    series, broken = _images_below(source, ignored)
    parted = [
        (uid, without_copies(part, ignored))
        for uid, members in series.items()
        for part in split_series(members, lambda image: image[1])
    ]
    several = Counter(uid for uid, _ in parted)
    series_in = Counter(folder for _, members in parted for folder in {path.parent for path, _ in members})
    scans = []
    for uid, members in parted:
        lacking = [f for f in broken if series_in[f] == 1 or not _is_complete(members)]
        lost = {folder: broken[folder] for folder in lacking}
        scans.append(_scan_of_series(uid, members, lost, by_study=several[uid] > 1))
    scans = _doubtful(scans)
    scans = without_exports(scans, [members for _, members in parted], ignored)
    used = {path for scan in scans for path in scan.files}
    unused = sum(path not in used for paths in broken.values() for path in paths)
    if unused:
        ignored["broken DICOM files"] += unused
    late = [scan for scan in scans if not names_early_frames(scan.description)]
    if len(late) < len(scans):
        ignored["early-frame series"] += len(scans) - len(late)
    late = one_per_acquisition(with_joined_frames(late), ignored, prefer)
    return with_tables(late, read_tables(source, ignored))


def _images_below(
    source: Path, ignored: Counter[str]
) -> tuple[dict[str, list[Image]], dict[Path, list[Path]]]:
    """Return the PET images by series, and broken files by folder; count what is neither."""
    series: dict[str, list[Image]] = defaultdict(list)
    broken: dict[Path, list[Path]] = defaultdict(list)
    for path in files_below(source, ignored):
        try:
            header = read_known(path)
        except Exception:  # noqa: BLE001 - one bad file hides no other
            broken[path.parent].append(path)
            continue
        kind = kind_of(header) if header is not None else kind_of_other(path)
        if kind or header is None:
            ignored[kind or ""] += 1
            continue
        uid = header.text("SeriesInstanceUID") or str(path.parent)
        series[uid].append((path, header))
    return series, broken


def _is_complete(members: Sequence[Image]) -> bool:
    """Return whether all images are there that a series states: a broken file beside it is another's."""
    headers = [header for _, header in members]
    slices, frames = headers[0].whole("NumberOfSlices"), headers[0].whole("NumberOfTimeSlices") or 1
    images = {header.text("SOPInstanceUID") for header in headers}
    return slices is not None and len(images) == slices * frames


def _doubtful(scans: Sequence[FoundScan]) -> list[FoundScan]:
    """Spell each person's label in one way; mark the scans whose label two people share."""
    owners: dict[str, list[FoundScan]] = defaultdict(list)
    for scan in scans:
        owners[alike(scan.subject_label)].append(scan)
    found = []
    for owned in owners.values():
        groups = [owned]
        if _are_people(owned):  # then leading zeros or issuers may distinguish them
            exact: dict[str, list[FoundScan]] = defaultdict(list)
            for scan in _with_issuers(owned):
                exact[spelled(scan.subject_label)].append(scan)
            groups = list(exact.values())
        for group in groups:
            label, doubt, notes = min(s.subject_label for s in group), _doubt(group, groups), _notes(group)
            found += [replace(s, subject_label=label, doubt=doubt, notes=(*s.notes, *notes)) for s in group]
    order = {scan.files: n for n, scan in enumerate(scans)}
    return sorted(found, key=lambda scan: order[scan.files])


def _with_issuers(owned: Sequence[FoundScan]) -> list[FoundScan]:
    """Write the issuer (0010,0021) into labels where several gave one number."""
    issuers = {scan.person.issuer for scan in owned if scan.person} - {""}
    if len(issuers) < 2:
        return list(owned)
    return [
        replace(scan, subject_label=with_issuer(scan.subject_label, scan.person.issuer))
        if scan.person and scan.person.issuer
        else scan
        for scan in owned
    ]


def _notes(group: Sequence[FoundScan]) -> tuple[str, ...]:
    written = {scan.person.issuer for scan in group if scan.person}
    return (WITH_AND_WITHOUT_ISSUER,) if len(written) > 1 and "" in written else ()


def _doubt(group: Sequence[FoundScan], groups: Sequence[Sequence[FoundScan]]) -> tuple[str, str] | None:
    """Return why it is not known whose scans these are, by themselves or beside those of one ID."""
    if _are_people(group):
        return _SHARED_ID
    if id_and_issuer(group[0].subject_label)[1]:
        return None
    issued = [g for g in groups if id_and_issuer(g[0].subject_label)[1]]
    return None if all(_are_people([*group, *other]) for other in issued) else _NO_ISSUER


def _are_people(owned: Sequence[FoundScan]) -> bool:
    people = dict.fromkeys(scan.person for scan in owned if scan.person)
    if any(are_two_people(a, b) for a, b in combinations(people, 2)):
        return True
    # A de-identifier may leave one ID, name and sex for everybody: not one age.
    aged = {(s.age, s.scan_date) for s in owned if s.age is not None and s.scan_date is not None}
    births = [day.toordinal() / 365.25 - age for age, day in aged if age is not None and day is not None]
    return bool(births) and max(births) - min(births) > YEARS_APART


_SHARED_ID = (
    "Two people of this source have the same Patient ID (0010,0020), or none and the same name: "
    "name, birth date, age or sex differ",
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
    drug = header.item("RadiopharmaceuticalInformationSequence")
    label, notes = _subject_of(members[0][0], header)
    files = [path for path, _ in members]
    for folder in sorted({path.parent for path in files}):
        files += broken.get(folder, [])
    return FoundScan(
        files=tuple(files),
        format="dicom",
        subject_label=label,
        scan_date=_date_of(header),
        image_id=(header.text("StudyInstanceUID") or "") if by_study else "",
        series_uid=uid,
        age=_age_of(header),
        sex=header.text("PatientSex") if header.text("PatientSex") in ("M", "F", "O") else None,
        site=header.text("InstitutionName"),
        description=header.text("SeriesDescription") or "",
        tracer=tracer_in(header, drug),
        person=person_of(header),
        acquired=acquired_of([header for _, header in members]),
        notes=(*folder_notes(next(filter(PTID.match, files[0].parts), ""), header), *notes),
    )


def _subject_of(path: Path, header: SeriesHeader) -> tuple[str, tuple[str, ...]]:
    """Return the subject's label, and what to know where no ID of a person could be taken."""
    in_path = next(filter(PTID.match, path.parts), "")
    written = (header.text(keyword) for keyword in ("PatientID", "PatientName"))
    named = in_path or next(filter(None, map(stated, written)), "")
    if named:
        return named, ()
    return stated(header.text("StudyInstanceUID")) or path.parent.name, (_NOBODY,)


_NOBODY = (
    "neither Patient ID (0010,0020) nor name identify the person: each study is taken as a person of its own"
)


def _date_of(header: SeriesHeader) -> date | None:
    dates = (parse_date(header.text(key)) for key in ("AcquisitionDate", "SeriesDate", "StudyDate"))
    return next((day for day in dates if day is not None and str(day) not in BLANK_DAYS), None)


def _age_of(header: SeriesHeader) -> float | None:
    """Return the age in years as stated, else by birth date and day of the scan; 89 is 89 or older."""
    match = re.fullmatch(r"(\d{1,3})([DWMY]?)", header.text("PatientAge") or "")
    if match and float(match[1]) > 0:
        return min(round(float(match[1]) / _PER_YEAR[match[2]], 2), 89.0)
    born, day = parse_date(header.text("PatientBirthDate")), _date_of(header)
    if born is None or day is None or str(born) in BLANK_DAYS:
        return None
    years = day.year - born.year - ((day.month, day.day) < (born.month, born.day))
    return min(float(years), 89.0) if 0 < years < _OLDEST else None


_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0, "": 1.0}
_OLDEST = 115
"""More is a date of birth that a de-identifier made up."""
