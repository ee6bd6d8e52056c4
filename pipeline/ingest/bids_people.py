"""What the tables of a BIDS dataset state about people, sessions and scans."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.ingest.date_columns import with_iso_dates
from pipeline.ingest.diagnosis_columns import Statement, read_columns, statement_in
from pipeline.ingest.people import alike
from pipeline.ingest.side_files import SideFileError, is_missing, read_json_object, read_table
from pipeline.ingest.sidecar_times import UNREADABLE
from pipeline.ingest.times import parse_date

_BEFORE = re.compile("^sub-", re.IGNORECASE)
_USED = (
    "participant_id",
    "session_id",
    "diagnosis",
    "group",
    "dx",
    "age",
    "sex",
    "gender",
    "species",
    "site",
    "filename",
    "acq_time",
)
_DAYS = ("acq_time", "examination_date", "session_date", "visit_date", "date")
_MONTH = re.compile(r"(?:ses-)?(?:m|month)[_-]?(\d{1,3})", re.IGNORECASE)
_DAYS_PER_MONTH = 30.4375
Row = dict[str, str]


@dataclass(frozen=True)
class BidsTables:
    """The rows of a dataset's tables.

    Parameters
    ----------
    participants : mapping of str to dict
        By subject label.
    levels : mapping
        For each column the words of its codes, of ``participants.json`` and ``sessions.json``.
    """

    source: Path
    participants: Mapping[str, Row]
    levels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Path, ignored: Counter[str]) -> BidsTables:
        """Read the tables of all participants.

        Raises
        ------
        SideFileError
            If the table cannot be read.
        """
        levels = {}
        for name in ("participants.json", "sessions.json"):
            if (source / name).is_file():
                levels.update(_levels(read_json_object(source / name)))
        return cls(source, _participants(source, ignored), levels)

    def row_of(self, subject: str, others: Sequence[str]) -> Row:
        """Return the row of a subject, also where a spreadsheet took leading zeros from its ID.

        Parameters
        ----------
        others : sequence of str
            All subjects of the dataset: an ID that two of them share but for zeros is nobody's.
        """
        if subject in self.participants:
            return self.participants[subject]
        like = [label for label in self.participants if alike(label) == alike(subject)]
        alone = len(like) == 1 and alike(subject) not in map(alike, {*others} - {subject})
        return self.participants[like[0]] if alone else {}

    def sessions_of(self, folder: Path) -> list[Row]:
        """Return the rows of ``sub-*_sessions.tsv`` in the folder of a subject.

        Raises
        ------
        SideFileError
            If a table cannot be read.
        """
        return [row for path in sorted(folder.glob("*_sessions.tsv")) for row in _table(path, "session_id")]

    def statement(self, row: Row, sessions: Sequence[Row], session: str, day: date | None) -> StatedVisit:
        """Return what is stated of a scan: of its own session, else the nearest one, else of the person."""
        own = [one for one in sessions if _same_session(one["session_id"], session)]
        for rows, days in ((own, None), *self._others(sessions, own, session, day)):
            stated = _one([statement_in(one, self.levels) for one in rows])
            if stated.stated or stated.clashes:
                return StatedVisit(stated, self._day_apart(own, day) if days is None else days)
        return StatedVisit(statement_in(row, self.levels))

    def _day_apart(self, own: Sequence[Row], day: date | None) -> int | None:
        known = next(filter(None, map(_day_of, own)), None)
        return (known - day).days if known is not None and day is not None else None

    def _others(
        self, sessions: Sequence[Row], own: Sequence[Row], session: str, day: date | None
    ) -> list[tuple[list[Row], int]]:
        """Return the other sessions, the nearest first, with the days from the scan to each."""
        here = day or next(filter(None, map(_day_of, own)), None)
        months = _MONTH.fullmatch(session)
        found = []
        for one in sessions:
            there, named = _day_of(one), _MONTH.fullmatch(one["session_id"])
            if here is not None and there is not None:
                found.append(([one], (there - here).days))
            elif months and named:
                found.append(([one], round((int(named[1]) - int(months[1])) * _DAYS_PER_MONTH)))
        # Of two as far away the later one, as with ADNI's visits.
        return sorted(found, key=lambda pair: (abs(pair[1]), -pair[1]))

    def reads(self, row: Row, sessions: Sequence[Row], session: str) -> dict[str, str]:
        """Return visual reads and the status of markers, of the session before those of the person."""
        found: dict[str, str] = {}
        own = [one for one in sessions if _same_session(one["session_id"], session)]
        for one in (row, *own):
            cells = {name: self.levels.get(name, {}).get(one[name], one[name]) for name in read_columns(one)}
            found |= {name: text for name, text in cells.items() if not is_missing(text) and len(text) <= 40}
        return found


@dataclass(frozen=True)
class StatedVisit:
    """What a visit states, and the days from the scan to it, None where that is not known."""

    statement: Statement
    days: int | None = None


def _one(stated: Sequence[Statement]) -> Statement:
    """Return what rows of one session state together."""
    known = [one for one in stated if one.stated or one.clashes]
    if len({one.meaning or one.stated for one in known}) > 1:
        return Statement(clashes=True)
    return known[0] if known else Statement()


def _same_session(written: str, session: str) -> bool:
    bare = [re.sub(r"^ses-", "", text.strip(), flags=re.IGNORECASE).lower() for text in (written, session)]
    if bare[0] == bare[1]:
        return bool(bare[0])
    return all(map(_MONTH.fullmatch, bare)) and _month(bare[0]) == _month(bare[1])


def _month(label: str) -> int:
    match = _MONTH.fullmatch(label)
    return int(match[1]) if match else -1


def _day_of(row: Row) -> date | None:
    return next(filter(None, (parse_date(row.get(column)) for column in _DAYS)), None)


def _levels(stated: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the words of each column's codes; of BIDS's newer form, their descriptions."""
    found = {}
    for column, described in stated.items():
        levels = described.get("Levels") if isinstance(described, dict) else None
        if isinstance(levels, dict):
            words = {
                str(code): str(text.get("Description", code) if isinstance(text, dict) else text)
                for code, text in levels.items()
            }
            # A level that is described at length is a word itself: {"CN": "recruited as normal"}.
            found[column.lower()] = {code: text for code, text in words.items() if _is_code(code)}
    return found


def _is_code(text: str) -> bool:
    return bool(re.fullmatch(r"[-+]?\d+(\.0)?", text.strip()))


def _participants(source: Path, ignored: Counter[str]) -> dict[str, Row]:
    """Return the row of each subject; what two rows of one state differently is left empty and counted."""
    people: dict[str, Row] = {}
    for row in _table(_table_file(source), "participant_id"):
        known = people.setdefault(_BEFORE.sub("", row["participant_id"]), dict(row))
        for column, value in row.items():
            if column != "participant_id" and value != known[column]:
                known[column] = ""
                ignored["cells of participants.tsv that another row contradicts"] += 1
    return people


def _table_file(source: Path) -> Path:
    """Return the table of participants, also where a spreadsheet program saved it as CSV."""
    table = source / "participants.tsv"
    if table.exists():
        return table
    for sheet in (table.with_suffix(suffix) for suffix in (".xlsx", ".xls", ".ods")):
        if sheet.exists():
            raise InputError(
                "The table is a spreadsheet, which is not read",
                where=str(sheet),
                hint="save it as participants.tsv beside it",
            )
    return table.with_suffix(".csv")


def _table(path: Path, key: str) -> list[Row]:
    """Read a table of the dataset, its columns in lower case but for those of waves; empty if absent."""
    if not path.exists():
        return []
    rows = [
        {c if c.startswith("AgePET") else c.lower(): "" if v == "n/a" else v for c, v in row.items()}
        for row in read_table(path, [[key]], _USED)
    ]
    for column in _DAYS:
        if rows and column in rows[0]:
            rows = with_iso_dates(rows, column, path)[0]
    return rows


def scan_row(image: Path) -> tuple[Row, date | None, tuple[str, str, str] | None]:
    """Return the row of an image in its session's scans table, its day, and why a table cannot be read.

    A shifted date counts as well.
    """
    try:
        for table in sorted(image.parent.parent.glob("*_scans.tsv")):
            for row in _table(table, "filename"):
                if row["filename"].endswith(image.name):
                    return row, parse_date(row.get("acq_time")), None
    except SideFileError as error:  # of this scan alone: the others go on
        problem = f"The scans.tsv of the session cannot be read. {error.problem}"
        return {}, None, (UNREADABLE, problem, error.hint or "correct this table")
    return {}, None, None
