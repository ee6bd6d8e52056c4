"""A table of labels: its rows are matched with scans by the private map of the pseudonyms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from pipeline.config import LabelSettings
from pipeline.diagnoses import DIAGNOSIS, diagnosis_in, text_set
from pipeline.errors import CohortError
from pipeline.ingest.date_columns import with_iso_dates
from pipeline.ingest.diagnosis_columns import diagnosis_columns
from pipeline.ingest.row_matches import LabelRow, RowMatches, ScanPlace, names_of, spelt
from pipeline.ingest.side_files import SideFileError, is_missing, number_of, read_table, row_lines
from pipeline.ingest.source_map import map_beside, read_map
from pipeline.ingest.times import parse_date
from pipeline.ingest.vocabulary import squeeze
from pipeline.scan import STATED, Cohort, Scan

_ROLES = {
    "scan": "scan scanid scanname image imageid imageuid imagedataid file filename path filepath series "
    "seriesid seriesuid seriesinstanceuid loniuid petfile petid petscan bidsid nifti dicom folder",
    "subject": "subject subjectid sub subid participant participantid ptid rid patient patientid person "
    "personid id caseid case oasisid oasissubjectid bid medid subjectlabel record recordid mrn pid pseudonym "
    "medicalrecordnumber patientnumber patientno subjid usubjid subjectnumber subjectcode proband "
    "patientennummer",
    "session": "session sessionid ses sesid visit visitid viscode viscode2 timepoint wave",
    "date": "date scandate petdate examdate examinationdate acqtime acquisitiondate visitdate studydate "
    "diagnosisdate labeldate dxdate readdate assessmentdate day datum untersuchungsdatum",
    "entry": "daystovisit daysfromentry dayssinceentry dayfromentry daysfrombaseline daysconsent",
}
_KNOWN = {role: text_set(names) for role, names in _ROLES.items()}


@dataclass(frozen=True)
class Labelled:
    """A cohort with the labels of a table.

    Parameters
    ----------
    cohort : Cohort
    rows, matched : int
        Rows of the table with a label, and scans that got one.
    notes : tuple of str
        What a person should know, in sentences without a name.
    """

    cohort: Cohort
    rows: int
    matched: int
    notes: tuple[str, ...] = ()


def with_labels(cohort: Cohort, settings: LabelSettings, target: str, key_file: Path, limit: int) -> Labelled:
    """Return a cohort with the labels of a table, where the table has a row of the scan.

    A row is of a scan that its column of scans names; else of the scans of its subject, in its session where
    it states one, and of several with days, of the one nearest to the scan.

    Parameters
    ----------
    cohort : Cohort
        As the dataset's table states it.
    settings : LabelSettings
    target : str
        As `cohort.target`: the label becomes the stated diagnosis, or the column of that name.
    key_file : Path
        Of the dataset; the map beside it knows what the source called its scans. Without a map, a table may
        still name pseudonyms.
    limit : int
        Most days from a scan to the day of a row.

    Raises
    ------
    SideFileError
        If the table cannot be read or lacks a column.
    CohortError
        If no row of the table is of a scan of the dataset.
    """
    rows, columns, unread = read_rows(settings, target)
    path = map_beside(key_file)
    known = read_map(path) if path.exists() else {}
    places = [ScanPlace.of(scan, known.get(scan.scan_id, {})) for scan in cohort.scans]
    found = RowMatches.of(rows, places)
    notes = [f"{unread} dates of {settings.file.name} are no dates and are left out."] if unread else []
    scans: list[Scan] = []
    counts = Counter[str]()
    contradictory: dict[int, list[LabelRow]] = {}
    for scan, place in zip(cohort.scans, places, strict=True):
        own, why, _ = found.rows_of(place, limit)
        counts[why] += 1
        if why == "contradictory":
            contradictory[len(scans)] = own
        scans.append(_labelled(scan, own[0].label, target) if why == "labelled" else scan)
    if contradictory:
        silent = [n for n in contradictory if not _states(scans[n], target)]
        named = {scans[n].scan_id: own for n, own in contradictory.items()}
        notes.append(_contradictions(named, len(silent), len(cohort), target, settings.file))
    for why, sentence in _WHYS.items():
        if counts[why]:
            notes.append(f"{counts[why]} of {len(cohort)} scans {sentence.format(limit=limit)}")
    if counts["absent"] == len(cohort):
        raise _of_nobody(rows, columns, cohort, settings, _hint(settings, target, places, limit))
    if not counts["labelled"]:
        raise CohortError(
            f"No scan has a label of this table. {' '.join(notes).removesuffix('.')}",
            where=str(settings.file),
            hint="correct its rows; ingest.max_days_to_diagnosis is the most days from a scan to its row",
        )
    return Labelled(replace_scans(cohort, scans), len(rows), counts["labelled"], tuple(notes))


_WHYS = {
    "too far": "have no row within {limit} days; what the source states counts.",
    "absent": "have no row in the table; what the source states counts.",
}


def _states(scan: Scan, target: str) -> bool:
    """Return whether the source states the target of a scan."""
    if target == DIAGNOSIS:
        return bool(scan.diagnosis or scan.facts.get(STATED))
    return scan.facts.get(target) is not None


def _contradictions(
    named: Mapping[str, list[LabelRow]], silent: int, scans: int, target: str, table: Path
) -> str:
    """Return the scans whose rows contradict each other, with the lines, and what counts in their place."""
    lines = row_lines(table)
    shown = [
        f"{scan} (lines {' and '.join(str(lines[row.number]) for row in rows)})"
        for scan, rows in list(named.items())[:_SHOWN]
    ]
    have, them = ("has", "it") if len(named) == 1 else ("have", "them")
    more = ", ..." if len(named) > _SHOWN else ""
    source = "What the source states counts."
    if silent == len(named):
        source = f"The source states no {target} of {them} either: without one, {them} is left out."
        source = source if them == "it" else source.replace("them is", "they are")
    elif silent:
        source = f"What the source states counts; it states no {target} of {silent} of them."
    return (
        f"{len(named)} of {scans} scans {have} rows that contradict each other: {', '.join(shown)}{more}. "
        f"{source}"
    )


_SHOWN = 5
"""Most scans of a sentence."""


def _of_nobody(
    rows: Sequence[LabelRow], columns: Mapping[str, str], cohort: Cohort, settings: LabelSettings, hint: str
) -> CohortError:
    """Return the error of a table whose rows are of other people, without a name of one."""
    scan = cohort.scans[0]
    first = f", the first in line {row_lines(settings.file)[rows[0].number]}" if rows else ""
    return CohortError(
        f"None of {len(rows)} rows with a label is of one of {len(cohort)} scans, by the columns "
        f"{', '.join(f'{role}: {name}' for role, name in columns.items())}{first}. A column of `subject` is "
        f"matched with the person's ID in the source and the pseudonym (sub-{scan.subject}), one of `scan` "
        f"with the file, folder or series of a scan and the pseudonym ({scan.scan_id})",
        where=str(settings.file),
        hint=hint,
    )


def _hint(settings: LabelSettings, target: str, places: Sequence[ScanPlace], limit: int) -> str:
    """Return the line that matches most scans by another column, where one does."""
    named = settings.model_dump(mode="json", exclude_none=True)
    best, line = 0, ""
    table = read_table(settings.file)
    for role in ("scan", "subject"):
        names = names_of(places, role)
        for column in table[0] if table else ():
            if not any(spelt(row[column], role) in names for row in table):
                continue
            rows, columns, _ = read_rows(settings.model_copy(update={role: column}), target)
            found = RowMatches.of(rows, places) if columns.get(role) == column else None
            count = sum(found.label_of(place, limit)[1] == "labelled" for place in places) if found else 0
            # A few words may be equal by chance, as an age and the number of a person.
            if count > best and 2 * count >= min(len(rows), len(places)):
                best, line = (
                    count,
                    yaml.safe_dump({**named, role: column}, default_flow_style=True, width=999),
                )
    if best:
        return f"write cohort.labels: {line.strip()}, by which {best} of {len(places)} scans have a label"
    return (
        "name the columns: cohort.labels: {file: ..., scan: COLUMN, subject: COLUMN, date: COLUMN}; "
        "`taucal who` prints what the source calls a scan"
    )


def replace_scans(cohort: Cohort, scans: Sequence[Scan]) -> Cohort:
    """Return a cohort of other scans, with the class names that they need."""
    names = dict.fromkeys([*cohort.class_names, *(s.diagnosis for s in scans if s.diagnosis)])
    return Cohort(tuple(scans), tuple(names))


def _labelled(scan: Scan, label: str, target: str) -> Scan:
    if target != DIAGNOSIS:
        return replace(scan, facts={**scan.facts, target: label})
    meaning = diagnosis_in(label)
    return replace(
        scan, facts={**scan.facts, STATED: label}, diagnosis=meaning[0] if meaning else None, posterior=None
    )


def read_rows(settings: LabelSettings, target: str) -> tuple[list[LabelRow], dict[str, str], int]:
    """Return the rows with a label, the column of each role, and how many dates cannot be read.

    Raises
    ------
    SideFileError
        If the table is missing or cannot be read, or its columns of labels, scans and subjects are not known.
    """
    if not settings.file.is_file():
        raise SideFileError(
            "There is no such file", where=str(settings.file), hint="correct cohort.labels.file"
        )
    table = read_table(settings.file)
    header = list(table[0]) if table else []
    columns = {role: name for role in _KNOWN if (name := _column(settings, role, header))}
    wanted = settings.diagnosis or (None if target == DIAGNOSIS else target)
    labels = [_named(wanted, header, settings.file)] if wanted else diagnosis_columns(header)[:1]
    if not labels or not {"scan", "subject"} & columns.keys():
        lacking = "the label (diagnosis)" if not labels else "scans or subjects (scan, subject)"
        raise SideFileError(
            f"No column of {lacking} is known by its name; it has {', '.join(header[:12]) or 'no row'}",
            where=str(settings.file),
            hint="name the columns: cohort.labels: {file: ..., scan: COLUMN, diagnosis: COLUMN}",
        )
    columns = {role: name for role, name in columns.items() if name != labels[0]}
    unread = 0
    if "date" in columns:
        table, unread = with_iso_dates(table, columns["date"], settings.file)
    rows = []
    for number, row in enumerate(table):
        cells = {role: row.get(name, "") for role, name in columns.items()}
        if not is_missing(row[labels[0]]):
            day, entry = parse_date(cells.pop("date", "")), number_of(cells.pop("entry", ""))
            known = {role: "" if is_missing(text) else text for role, text in cells.items()}
            rows.append(LabelRow(row[labels[0]], day=day, entry=entry, number=number, **known))
    return rows, columns, unread


def names_scans(header: Sequence[str]) -> bool:
    """Return whether a column of a table is one of scans or of people, by its name."""
    return any(squeeze(name) in _KNOWN["scan"] | _KNOWN["subject"] for name in header)


def _column(settings: LabelSettings, role: str, header: Sequence[str]) -> str | None:
    named: str | None = getattr(settings, role, None)
    if named:
        return _named(named, header, settings.file)
    return next((name for name in header if squeeze(name) in _KNOWN[role]), None)


def _named(column: str, header: Sequence[str], path: Path) -> str:
    for same in (str, str.upper, squeeze):
        found = [name for name in header if same(name) == same(column)]
        if found:
            return found[0]
    raise SideFileError(
        f"The table has no column {column}; it has {', '.join(header[:12])}",
        where=str(path),
        hint="correct the name in cohort.labels",
    )
