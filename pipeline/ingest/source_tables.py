"""Tables of diagnoses beside scans, of any cohort: found by the kinds of their columns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.config import LabelSettings
from pipeline.diagnoses import DIAGNOSIS, diagnosis_in
from pipeline.ingest.diagnosis_columns import diagnosis_columns
from pipeline.ingest.folders import is_of_people
from pipeline.ingest.found import FoundScan
from pipeline.ingest.label_table import names_scans, read_rows
from pipeline.ingest.row_matches import RowMatches, ScanPlace
from pipeline.ingest.side_files import SideFileError, read_table

_READ_ELSEWHERE = re.compile(
    r"(DXSUM|ADNIMERGE|PTDEMOG|PHANTOM_TRUTH|UCBERKELEY).*|participants\..*|.*_(scans|sessions)\.tsv|.*dict.*",
    re.IGNORECASE,
)
_LARGEST = 200_000_000
_DEPTHS = ("*", "*/*", "*/*/*")
UNREAD = "tables beside the scans that cannot be read"
NAMELESS = "tables of diagnoses none of whose columns is known as one of scans or people (see cohort.labels)"
OF_OTHERS = "tables of diagnoses no row of which is of a scan here (see cohort.labels)"
UNDATED = "dates of tables of diagnoses that cannot be read"
CONTRADICTED = "scans whose rows in a table of diagnoses contradict each other"


def with_source_tables(scans: Sequence[FoundScan], source: Path, ignored: Counter[str]) -> list[FoundScan]:
    """Give scans without a diagnosis that of a table of the source which has a row of theirs.

    A table counts that has a column of scans or subjects and one of a diagnosis, by their names. A row's day,
    or its days from entry, decide which of several rows is nearest.
    """
    found = list(scans)
    for table in _tables(source) if any(_lacks(scan) for scan in scans) else ():
        try:
            header = list((read_table(table) or [{}])[0])
            if diagnosis_columns(header) and names_scans(header):
                found = _labelled_by(table, found, ignored)
            elif any(map(_IS_DIAGNOSIS.search, diagnosis_columns(header))):
                ignored[NAMELESS] += 1
        except SideFileError:
            ignored[UNREAD] += 1
    return found


def _labelled_by(table: Path, scans: Sequence[FoundScan], ignored: Counter[str]) -> list[FoundScan]:
    """Give scans without a diagnosis that of one table; count why it has none."""
    rows, _, undated = read_rows(LabelSettings(file=table), DIAGNOSIS)
    places = [ScanPlace.found(scan) for scan in scans]
    matches = RowMatches.of(rows, places)
    found, whys = [], Counter[str]()
    for scan, place in zip(scans, places, strict=True):
        label, why, days = matches.label_of(place, float("inf"))
        whys[why] += 1 if why == "absent" else _lacks(scan)
        if label is not None and _lacks(scan):
            meaning = diagnosis_in(label)
            scan = replace(scan, stated=label, diagnosis=meaning and meaning[0], days_to_diagnosis=days)
        found.append(scan)
    counts = {
        UNDATED: undated,
        CONTRADICTED: whys["contradictory"],
        OF_OTHERS: int(bool(rows) and whys["absent"] == len(scans)),
    }
    ignored.update({what: count for what, count in counts.items() if count})
    return found


_IS_DIAGNOSIS = re.compile(r"diagn|(?<![a-z])dx", re.IGNORECASE)
"""A column of status or group alone may be of anything."""


def _lacks(scan: FoundScan) -> bool:
    return scan.diagnosis is None and not scan.stated


def _tables(source: Path) -> list[Path]:
    """Return the text tables of a source that no other reader knows, down to its third level."""
    found = (path for depth in _DEPTHS for end in (".csv", ".tsv") for path in source.glob(depth + end))
    return sorted(
        path
        for path in found
        if not _READ_ELSEWHERE.fullmatch(path.name)
        and all(map(is_of_people, path.relative_to(source).parts))
        and path.is_file()
        and path.stat().st_size <= _LARGEST
    )
