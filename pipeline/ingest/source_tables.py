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


def with_source_tables(scans: Sequence[FoundScan], source: Path, ignored: Counter[str]) -> list[FoundScan]:
    """Give scans without a diagnosis that of a table of the source which has a row of theirs.

    A table counts that has a column of scans or subjects and one of a diagnosis, by their names. A row's day,
    or its days from entry, decide which of several rows is nearest.
    """
    found = list(scans)
    for table in _tables(source) if any(_lacks(scan) for scan in scans) else ():
        try:
            header = list((read_table(table) or [{}])[0])
        except SideFileError:
            ignored[UNREAD] += 1
            continue
        if not (diagnosis_columns(header) and names_scans(header)):
            continue
        try:
            rows = read_rows(LabelSettings(file=table), DIAGNOSIS)[0]
        except SideFileError:
            ignored[UNREAD] += 1
            continue
        places = {n: ScanPlace.found(scan) for n, scan in enumerate(found) if _lacks(scan)}
        matches = RowMatches.of(rows, list(places.values()))
        for n, place in places.items():
            label, _, days = matches.label_of(place, float("inf"))
            if label is not None:
                meaning = diagnosis_in(label)
                found[n] = replace(
                    found[n], stated=label, diagnosis=meaning and meaning[0], days_to_diagnosis=days
                )
    return found


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
