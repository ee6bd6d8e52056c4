"""Which row of UC Berkeley's table is of which scan of a dataset, by person and day."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.files import written_whole
from pipeline.ingest.berkeley import BerkeleyRow, BerkeleyTable, are, roster_number
from pipeline.ingest.source_map import map_beside, read_map
from pipeline.ingest.times import parse_date
from pipeline.scan import Scan


@dataclass(frozen=True)
class BerkeleyMatch:
    """The rows of scans of a dataset.

    Parameters
    ----------
    suvr : mapping
        By scan, SUVR by the dataset's columns.
    unmatched : mapping of str to str
        By scan, why it has no row.
    rows_without_scan : int
        Rows of people or days that the dataset does not have.
    """

    suvr: Mapping[str, Mapping[str, float]]
    unmatched: Mapping[str, str]
    rows_without_scan: int

    def sentences(self, table: BerkeleyTable) -> list[str]:
        """Return what was not compared, of the table and of the dataset, counted by reason."""
        left = [f"{are(count, 'row')} left out: {why}." for why, count in table.reasons.items()]
        if self.rows_without_scan:
            left.append(f"{are(self.rows_without_scan, 'row')} of scans that the dataset does not have.")
        why = Counter(re.sub(r"the nearest is .*", "", text).rstrip(", ") for text in self.unmatched.values())
        return left + [f"{are(count, 'scan')} not compared: {text}." for text, count in why.items()]


def write_unmatched(found: BerkeleyMatch, path: Path) -> Path:
    """Write the pseudonym of each scan that has no row, and why."""
    with written_whole(path) as beside:
        lines = ["scan_id\treason", *(f"{scan}\t{why}" for scan, why in found.unmatched.items())]
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def match_berkeley(
    table: BerkeleyTable, scans: Sequence[Scan], key_file: Path, most_days: int = 7
) -> BerkeleyMatch:
    """Match the rows of a table with scans, by person and day.

    Parameters
    ----------
    table : BerkeleyTable
    scans : sequence of Scan
    key_file : Path
        Of the dataset: the map beside it knows the ADNI number and the true date of a scan.
    most_days : int
        Most days between a scan and its row.

    Raises
    ------
    InputError
        If there is no such map.
    """
    known = read_map(map_beside(key_file))
    people: dict[int, list[tuple[BerkeleyRow, str]]] = defaultdict(list)
    for row, why in (*((row, "") for row in table.rows), *table.excluded):
        people[row.person].append((row, why))
    nearest: dict[BerkeleyRow, tuple[int, list[str]]] = {}
    unmatched: dict[str, str] = {}
    for scan in scans:
        entry = known.get(scan.scan_id, {})
        mine, why, apart = _row_of(people, entry, most_days)
        if mine is None:
            unmatched[scan.scan_id] = why
        elif mine not in nearest or apart < nearest[mine][0]:
            unmatched |= dict.fromkeys(nearest.get(mine, (0, []))[1], "another scan is nearer to its row")
            nearest[mine] = (apart, [scan.scan_id])
        elif apart == nearest[mine][0]:
            nearest[mine][1].append(scan.scan_id)
        else:
            unmatched[scan.scan_id] = "another scan is nearer to its row"
    suvr = {}
    for row, (_, names) in nearest.items():
        if len(names) == 1:
            suvr[names[0]] = row.suvr
        else:
            unmatched |= dict.fromkeys(names, f"{len(names)} scans are as near to one row")
    return BerkeleyMatch(suvr, dict(sorted(unmatched.items())), len(table.rows) - len(nearest))


def _row_of(
    people: Mapping[int, list[tuple[BerkeleyRow, str]]], entry: Mapping[str, object], most_days: int
) -> tuple[BerkeleyRow | None, str, int]:
    """Return the row of a scan and the days to it, or why there is none."""
    person, day = roster_number(str(entry.get("subject", ""))), parse_date(str(entry.get("date", "")))
    if person is None:
        return None, "its subject has no ADNI number in the private map", 0
    if day is None:
        return None, "its date is not known", 0
    days = [(abs((row.day - day).days), row, why) for row, why in people.get(person, ())]
    least = min((apart for apart, _, why in days if not why), default=most_days + 1)
    if least <= most_days:
        found = [row for apart, row, why in days if apart == least and not why]
        return (found[0], "", least) if len(found) == 1 else (None, "rows as near to it disagree", least)
    excluded = next((why for apart, _, why in days if why and apart <= most_days), "")
    if excluded:
        return None, f"its row is left out: {excluded}", 0
    if days:
        nearest = min(apart for apart, _, _ in days)
        return None, f"no row within {most_days} days, the nearest is {nearest} days away", 0
    return None, "no row of this person", 0
