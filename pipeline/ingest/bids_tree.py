"""PET images of a BIDS dataset, with the sidecars that apply to each and the columns of participants.tsv."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from pipeline.ingest.bids_people import BidsTables, StatedVisit, scan_row
from pipeline.ingest.diagnosis_columns import statement_in
from pipeline.ingest.folders import files_below
from pipeline.ingest.found import FoundScan
from pipeline.ingest.kinds import NOT_DICOM, is_nifti, kind_of_other, without_other_forms
from pipeline.ingest.reconstructions import choose
from pipeline.ingest.side_files import SideFileError, number_of
from pipeline.ingest.sidecar_times import UNREADABLE
from pipeline.ingest.stated_kind import species_in
from pipeline.ingest.vocabulary import tracer_of

_ENTITY = re.compile(r"([a-zA-Z]+)-([a-zA-Z0-9]+)")


def is_bids(source: Path) -> bool:
    """Return whether a folder is a BIDS dataset, or holds subjects as one does."""
    return (source / "dataset_description.json").is_file() or next(
        source.glob("sub-*/**/pet/*_pet.*"), None
    ) is not None


def find_bids(source: Path, ignored: Counter[str], prefer: Sequence[str] = ()) -> list[FoundScan]:
    """Find the PET images of a BIDS dataset; other images are counted. Derivatives are left alone."""
    paths = without_other_forms(sorted(files_below(source, ignored)), ignored)
    images = [path for path in paths if _is_pet(path, source, ignored)]
    tables = BidsTables.of(source, ignored)
    subjects = list(map(_subject_of, images))
    rows = {subject: tables.row_of(subject, subjects) for subject in dict.fromkeys(subjects)}
    listed_once = cache(_sidecars_in)  # the root has as many entries as there are subjects
    scans = [_scan_of(path, tables, rows[_subject_of(path)], ignored, listed_once) for path in images]
    lacking = sum(not row for row in rows.values())
    if tables.participants and lacking:
        ignored["subjects without a row of their own in participants.tsv"] += lacking
    return _told_apart(_one_per_acquisition(scans, ignored, prefer), source)


def _is_pet(path: Path, source: Path, ignored: Counter[str]) -> bool:
    below, name = path.relative_to(source).parts, path.name.lower()
    if not is_nifti(path):
        other = kind_of_other(path)
        if "_pet." in name and not name.endswith((".json", ".tsv", ".tsv.gz")):
            ignored["files that are not NIfTI" if other == NOT_DICOM else other] += 1
        return False
    if not below[0].lower().startswith("sub-"):
        inside = below[0] in ("derivatives", "sourcedata", "code", "stimuli")
        ignored["images of derivatives and source data" if inside else "images outside of sub- folders"] += 1
        return False
    if not re.search(r"_pet\.nii(\.gz)?$", name):
        ignored["images that are not PET"] += 1
        return False
    return True


def _subject_of(path: Path) -> str:
    """Return the subject by the name of the file, else by its folders."""
    places = (path.name, *(folder.name for folder in path.parents))
    return next((m[1] for m in map(_SUBJECT.match, places) if m), path.name)


_SUBJECT = re.compile(r"sub-([a-zA-Z0-9]+)", re.IGNORECASE)


def _scan_of(
    path: Path,
    tables: BidsTables,
    row: dict[str, str],
    ignored: Counter[str],
    sidecars_in: Callable[[Path], list[Path]],
) -> FoundScan:
    source, own = tables.source, dict(_ENTITY.findall(path.name))
    above = dict(_ENTITY.findall("/".join(path.relative_to(source).parts[:-1])))
    session = own.get("ses") or above.get("ses", "")
    listed, day, unreadable = scan_row(path)
    sessions, broken = _sessions_of(path, tables)
    visit = tables.statement(row, sessions, session, day)
    if (in_scans := statement_in(listed, tables.levels)).stated:
        visit = StatedVisit(in_scans, _whole(listed.get("days_to_diagnosis", "")))
    if visit.statement.stated and visit.statement.meaning is None:
        ignored["diagnoses of participants.tsv that are not understood"] += 1
    if visit.statement.clashes:
        ignored["scans whose columns of the diagnosis contradict each other"] += 1
    parted = any(own.get(key, above.get(key)) != above.get(key, own.get(key)) for key in ("sub", "ses"))
    here = next((one for one in sessions if one["session_id"].removeprefix("ses-") == session), {})
    return FoundScan(
        files=(path,),
        format="bids",
        subject_label=_subject_of(path),
        scan_date=day,
        session_label=session,
        image_id="".join(f"{k}{v}" for k, v in own.items() if k not in ("sub", "ses", "trc")),
        sidecars=sidecars_of(path, source, sidecars_in),
        diagnosis=visit.statement.meaning,
        stated=visit.statement.stated,
        reads=tables.reads(row, sessions, session),
        days_to_diagnosis=visit.days,
        age=_age_of(here, session) or _age_of(listed, session) or _age_of(row, session),
        sex=_sex_of(row, tables.levels),
        site=row.get("site"),
        description="PET",
        doubt=_OF_ANOTHER if parted else None,
        refused=unreadable or broken or species_in(row),
    )


def _one_per_acquisition(
    scans: Sequence[FoundScan], ignored: Counter[str], prefer: Sequence[str]
) -> list[FoundScan]:
    """Leave one image of those that differ in the entity ``rec-`` alone, as BIDS names reconstructions."""
    groups: dict[tuple[object, ...], list[FoundScan]] = defaultdict(list)
    for scan in scans:
        path = scan.files[0]
        groups[path.parent, re.sub(r"_rec-[a-zA-Z0-9]+|\.nii(\.gz)?$", "", path.name)].append(scan)
    chosen: list[FoundScan] = []
    for group in groups.values():
        different = {re.sub(r"\.nii(\.gz)?$", "", scan.files[0].name) for scan in group}
        chosen += [choose(group, ignored, prefer)] if len(different) == len(group) else group
    return chosen


def _sessions_of(image: Path, tables: BidsTables) -> tuple[list[dict[str, str]], tuple[str, str, str] | None]:
    """Return the sessions of the image's subject, and why their table cannot be read."""
    folder = tables.source / image.relative_to(tables.source).parts[0]
    try:
        return tables.sessions_of(folder), None
    except SideFileError as error:  # of this subject alone: the others go on
        problem = f"The sessions.tsv of the subject cannot be read. {error.problem}"
        return [], (UNREADABLE, problem, error.hint or "correct this table")


def _whole(text: str) -> int | None:
    value = number_of(text)
    return int(value) if value is not None and value.is_integer() else None


_OF_ANOTHER = (
    "The name of the file states another subject or session (sub-, ses-) than its folders",
    "Find out whose image it is, and rename the file or move it",
)


def _told_apart(scans: Sequence[FoundScan], source: Path) -> list[FoundScan]:
    """Name images by their path where run and reconstruction are the same, as of two tracers."""
    taken: set[str] = set()
    found = []
    for scan in sorted(scans, key=lambda one: tracer_of(one.files[0].name) != "AV1451"):
        if scan.identity in taken:
            scan = replace(scan, image_id=scan.files[0].relative_to(source).as_posix())
        taken.add(scan.identity)
        found.append(scan)
    return found


def _sidecars_in(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*pet.json") if path.stem.split("_")[-1] == "pet"]


def sidecars_of(
    image: Path, root: Path, listed: Callable[[Path], list[Path]] = _sidecars_in
) -> tuple[Path, ...]:
    """Return the JSON files that apply to an image, from the root down: BIDS's inheritance principle.

    A sidecar applies where each of its entities is in the image's name with the same value.

    Parameters
    ----------
    listed : callable
        Returns the sidecars of PET images in a folder.
    """
    own = dict(_ENTITY.findall(image.name))
    found: list[Path] = []
    places = [root, *(root / p for p in reversed(image.parent.relative_to(root).parents)), image.parent]
    for place in dict.fromkeys(places):
        applying = [p for p in listed(place) if set(_ENTITY.findall(p.name)) <= set(own.items())]
        found += sorted(applying, key=lambda p: len(_ENTITY.findall(p.name)))
    return tuple(found)


def _sex_of(row: Mapping[str, str], levels: Mapping[str, Mapping[str, str]]) -> str | None:
    """Return M or F, in words or by the codes that participants.json explains."""
    for column in ("sex", "gender"):
        written = row.get(column, "")
        word = levels.get(column, {}).get(written, written).strip().lower()
        if found := _SEXES.get(word):
            return found
    return None


_SEXES = {"m": "M", "male": "M", "man": "M", "f": "F", "female": "F", "woman": "F"}


def _age_of(row: Mapping[str, str], session: str) -> float | None:
    wave = re.fullmatch(r"wave(\d)", session)
    text = (row.get(f"AgePETTau_W{wave[1]}") if wave else None) or row.get("age", "")
    age = number_of(text.removesuffix("+"))  # 89+ is how BIDS writes all above
    return min(age, 89.0) if age is not None and 0 < age < 130 else None
