"""Which rows of a table are of which scan, by scan, person, session and day."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import PurePath
from typing import Any

from pipeline.ingest.adni import roster_id
from pipeline.ingest.found import FoundScan
from pipeline.ingest.image_names import own_words
from pipeline.ingest.people import alike
from pipeline.ingest.times import parse_date
from pipeline.scan import Scan


@dataclass(frozen=True)
class LabelRow:
    """A row with a label, and what it names."""

    label: str
    scan: str = ""
    subject: str = ""
    session: str = ""
    day: date | None = None
    entry: float | None = None
    """Days from the person's entry into the study, as OASIS counts in place of dates."""
    number: int = field(default=0, compare=False)
    """Of the rows of the table, from 0; two rows that state the same are one."""

    def days_from(self, day: date | None, entry: float | None) -> int | None:
        """Return the days from a scan to the row, None where one of them states no time."""
        if self.day is not None and day is not None:
            return (self.day - day).days
        return round(self.entry - entry) if self.entry is not None and entry is not None else None


@dataclass(frozen=True)
class ScanPlace:
    """What the source and the dataset call a scan, its person, session and day."""

    scan_id: str
    names: frozenset[str]
    subjects: frozenset[str]
    sessions: frozenset[str]
    day: date | None
    entry: float | None = None

    @classmethod
    def found(cls, scan: FoundScan) -> ScanPlace:
        """Return what a source calls a scan that was found in it."""
        entry = {
            "subject": scan.subject_label,
            "session": scan.session_label,
            "date": str(scan.scan_date or ""),
            "series": scan.series_uid or scan.image_id,
            "paths": [str(scan.files[0])],
        }
        return cls.of(Scan(scan.subject_label, scan.session_label, scan.files[0]), entry)

    @classmethod
    def of(cls, scan: Scan, entry: Mapping[str, Any]) -> ScanPlace:
        """Return what source and dataset call a scan, by its entry in the private map."""
        subject = str(entry.get("subject", ""))
        names = {scan.scan_id, str(entry.get("series", "")), *_names_in(entry.get("paths", ()))}
        number = roster_id(subject)
        subjects = {scan.subject, subject, *([str(number)] if number is not None else [])}
        # A name that is taken whole as the subject holds the ID: 1001_tau_pet.
        subjects |= {own_words(subject, of_file=True)} if subject else set()
        sessions = {scan.session, str(entry.get("session", ""))}
        return cls(
            scan.scan_id,
            frozenset(map(_key, names)) - {""},
            frozenset(map(_person, subjects)) - {""},
            frozenset(map(_session, sessions)) - {""},
            parse_date(str(entry.get("date", ""))),
            _entry_in(entry.get("paths", ())),
        )


def names_of(places: Sequence[ScanPlace], role: str) -> frozenset[str]:
    """Return what may name the scans, or for the role ``"subject"`` their people, as `spelt` gives it."""
    return frozenset().union(*(place.names if role == "scan" else place.subjects for place in places))


def spelt(word: str, role: str) -> str:
    """Return a word of a table as names of scans, or of people, are compared."""
    return _key(word) if role == "scan" else _person(word)


def _entry_in(paths: Iterable[str]) -> float | None:
    """Return the days from entry that a path names as OASIS does: ses-d0129, OAS30001_AV1451_d0129."""
    found = {match for path in paths for match in re.findall(r"(?:_|ses-)d(\d{4,5})(?=[_/]|$)", path)}
    return float(found.pop()) if len(found) == 1 else None


def _names_in(paths: Iterable[str]) -> set[str]:
    """Return what may name a scan in its path: every folder and file, and the ends of the path."""
    found: set[str] = set()
    for text in paths:
        parts = PurePath(text).parts[-6:]
        found |= {"/".join(parts[n:]) for n in range(len(parts))} | set(parts)
        bare = re.search(r"(sub-[A-Za-z0-9]+_ses-[A-Za-z0-9]+)_", parts[-1]) if parts else None
        found |= {bare[1]} if bare else set()
    return found


def _key(name: str) -> str:
    """Return a name of a scan without what is not of the name: suffix, the I of ADNI's image numbers."""
    bare = re.sub(
        r"\.(nii|img|hdr|dcm|ima|v|mnc|zip|tar|tgz)?(\.gz)?$", "", name.strip().replace("\\", "/"), flags=re.I
    )
    return re.sub(r"^I(?=\d{3,}$)", "", bare).strip("/").lower()


def _person(label: str) -> str:
    return alike(re.sub(r"^sub-", "", label.strip(), flags=re.IGNORECASE)) if label.strip() else ""


def _session(label: str) -> str:
    bare = re.sub(r"^ses-", "", label.strip(), flags=re.IGNORECASE).lower()
    return re.sub(r"(?<![0-9])0+(?=\d)", "", bare)


@dataclass(frozen=True)
class RowMatches:
    """The rows of a table by what they name."""

    by_scan: Mapping[str, list[LabelRow]]
    by_subject: Mapping[str, list[LabelRow]]
    shared: frozenset[str]

    @classmethod
    def of(cls, rows: Sequence[LabelRow], places: Sequence[ScanPlace]) -> RowMatches:
        """Return the rows by what they name, for the scans at some places."""
        by_scan: dict[str, list[LabelRow]] = defaultdict(list)
        by_subject: dict[str, list[LabelRow]] = defaultdict(list)
        for row in rows:
            by_scan[_key(row.scan)].append(row)
            by_subject[_person(row.subject)].append(row)
        held = Counter(name for place in places for name in place.names)
        # The name of a folder with several scans names none of them.
        return cls(by_scan, by_subject, frozenset(name for name, count in held.items() if count > 1))

    def label_of(self, place: ScanPlace, limit: float) -> tuple[str | None, str, int | None]:
        """Return the label of a scan, ``"labelled"`` or why it has none, and the days to it where known."""
        rows, why, days = self.rows_of(place, limit)
        return rows[0].label if why == "labelled" else None, why, days

    def rows_of(self, place: ScanPlace, limit: float) -> tuple[list[LabelRow], str, int | None]:
        """Return the rows of a scan, ``"labelled"`` or why they give no label, and the days to them."""
        named = [row for name in sorted(place.names - self.shared) for row in self.by_scan.get(name, ())]
        people = [row for one in sorted(place.subjects) for row in self.by_subject.get(one, ())]
        rows = list(dict.fromkeys(named or (row for row in people if not row.scan)))
        if not named and not rows:
            # A table with both columns names scans as this source does not.
            rows = list(dict.fromkeys(people))
        in_session = [row for row in rows if row.session and _session(row.session) in place.sessions]
        rows = in_session or rows
        if not rows:
            return [], "absent", None
        days = {row: apart for row in rows if (apart := row.days_from(place.day, place.entry)) is not None}
        nearest = min(days.values(), key=lambda apart: (abs(apart), -apart)) if days else None
        if nearest is not None and not named:
            if abs(nearest) > limit:
                return [], "too far", nearest
            rows = [row for row in days if days[row] == nearest]
        return rows, "labelled" if len({row.label for row in rows}) == 1 else "contradictory", nearest
