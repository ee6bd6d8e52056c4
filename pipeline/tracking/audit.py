"""The audit log of decisions about models, and of reads: a table that only grows, in `audit.db`.

Triggers refuse to change, remove or replace an entry, and each entry holds the hash of the one before, so
that a file edited around the triggers is found. A chain that was rewritten as a whole is not found so:
promotions store the hash of their entry with the model version as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.files import not_writable, now

KINDS = ("promote", "reject", "hold", "wait", "approve", "decline", "rollback", "nothing", "shift", "read")
"""`hold` waits for a person, who answers by `approve` or `decline`; `wait` waits for later scans; `reject` is
the gate's; `nothing` and `shift` ask for no move; `read` is a reader's answer about one scan."""

_FIRST = "0" * 64
"""Hash that precedes the first entry."""
_WAIT_SECONDS = 60
_COLUMNS = (
    "number",
    "time",
    "kind",
    "key",
    "version",
    "over",
    "who",
    "reasons",
    "facts",
    "previous",
    "sha256",
)
_SELECT = "SELECT " + ", ".join(f'"{name}"' for name in _COLUMNS) + " FROM decisions"
_SCHEMA = (
    """CREATE TABLE decisions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL,
    version INTEGER, "over" INTEGER, who TEXT NOT NULL, reasons TEXT NOT NULL, facts TEXT NOT NULL,
    previous TEXT NOT NULL, sha256 TEXT NOT NULL, UNIQUE (kind, key))""",
    """CREATE TRIGGER no_update BEFORE UPDATE ON decisions
    BEGIN SELECT RAISE(ABORT, 'decisions are never changed'); END""",
    """CREATE TRIGGER no_delete BEFORE DELETE ON decisions
    BEGIN SELECT RAISE(ABORT, 'decisions are never removed'); END""",
    # INSERT OR REPLACE removes a row without asking the trigger above.
    """CREATE TRIGGER no_replace BEFORE INSERT ON decisions
    WHEN EXISTS (SELECT 1 FROM decisions WHERE number >= NEW.number OR (kind = NEW.kind AND key = NEW.key))
    BEGIN SELECT RAISE(ABORT, 'decisions are never replaced'); END""",
)
_Row = tuple[Any, ...]
_GUARDS = {"no_update", "no_delete", "no_replace"}


@dataclass(frozen=True)
class Entry:
    """One decision.

    Parameters
    ----------
    number : int
        1, 2, 3 ...
    time : str
        UTC, as ``2026-11-21T15:40:00Z``.
    kind : str
        One of `KINDS`.
    key : str
        What was decided about: the same kind and key is decided once.
    version, over : int or None
        The model version, and the champion at that time.
    facts : dict
        JSON-able.
    previous, sha256 : str
        Hash of the entry before, and of this one with it.
    """

    number: int
    time: str
    kind: str
    key: str
    version: int | None
    over: int | None
    who: str
    reasons: tuple[str, ...]
    facts: dict[str, Any]
    previous: str
    sha256: str


class Audit:
    """The table of decisions in a SQLite file; the file is made with the first entry.

    Examples
    --------
    >>> import tempfile
    >>> audit = Audit(Path(tempfile.mkdtemp()) / "audit.db")
    >>> audit.append("promote", key="a", who="ann", version=2, over=1, reasons=("It is better.",)).number
    1
    >>> audit.append("promote", key="a", who="bob", version=2).who
    'ann'
    >>> audit.last("promote", "rollback").version, audit.last("rollback")
    (2, None)
    >>> audit.verify()
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(  # noqa: PLR0913 - the facts of a decision, by name
        self,
        kind: str,
        *,
        key: str,
        who: str,
        version: int | None = None,
        over: int | None = None,
        reasons: Sequence[str] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Write a decision and return its entry once it is on the disk.

        One of the same kind and key, left by a process that was killed after it, is returned and nothing is
        written.

        Raises
        ------
        InputError
            If the kind is unknown, nobody is named, or the file cannot be written.
        """
        if kind not in KINDS:
            raise InputError(f"The decision is {kind!r}, expected one of {', '.join(KINDS)}")
        who = " ".join(who.split())
        if not who:
            raise InputError("The decision does not name who made it", hint="set TAUCAL_WHO to a name")
        texts = (_text([str(reason) for reason in reasons]), _text(dict(facts or {})))
        with self._transaction("IMMEDIATE") as database:
            if not _has_table(database):
                for statement in _SCHEMA:
                    database.execute(statement)
            same = database.execute(f"{_SELECT} WHERE kind = ? AND key = ?", (kind, key)).fetchone()
            if same:
                return self._entry(same)
            last = database.execute(f"{_SELECT} ORDER BY number DESC LIMIT 1").fetchone()
            number, previous = (last[0] + 1, last[-1]) if last else (1, _FIRST)
            row: _Row = (number, now(), kind, key, version, over, who, *texts, previous)
            row = (*row, _sha256(row))
            database.execute(f"INSERT INTO decisions VALUES ({', '.join('?' * len(row))})", row)
        return self._entry(row)

    def entries(self) -> tuple[Entry, ...]:
        """Return all decisions, the newest last."""
        with self._reading() as database:
            return tuple(self._entry(row) for row in _rows(database))

    def last(self, *kinds: str) -> Entry | None:
        """Return the newest decision of some kinds, or of any."""
        with self._reading() as database:
            rows = [row for row in _rows(database) if not kinds or row[2] in kinds]
            return self._entry(rows[-1]) if rows else None

    def verify(self) -> None:
        """Check that nothing was changed or removed since it was written.

        Raises
        ------
        InputError
            Naming the first entry that was altered or is missing.
        """
        with self._reading() as database:
            rows, written, guards = _rows(database), _ever_written(database), _guards(database)
        previous = _FIRST
        for number, row in enumerate(rows, start=1):
            if row[0] != number:
                raise self._broken(number, "is missing")
            if row[-2] != previous or row[-1] != _sha256(row[:-1]):
                raise self._broken(number, "was altered")
            previous = row[-1]
        if written > len(rows):
            raise self._broken(len(rows) + 1, "is missing")
        if rows and not guards >= _GUARDS:
            raise self._broken(len(rows), "may be followed by others: the table's guards were taken away")

    def _entry(self, row: _Row) -> Entry:
        number, time, kind, key, version, over, who, reasons, facts, previous, sha256 = row
        try:
            lists = tuple(json.loads(reasons)), dict(json.loads(facts))
        except (TypeError, ValueError) as error:
            raise self._broken(number, "was altered") from error
        return Entry(number, time, kind, key, version, over, who, *lists, previous, sha256)

    def _broken(self, number: int, how: str) -> InputError:
        return InputError(
            f"Entry {number} of the audit log {how}",
            where=str(self.path),
            hint="find out who edited it and restore a copy from a backup",
        )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """Yield one consistent view, or None where nothing was ever decided: reading makes no file."""
        if not self.path.exists():
            yield None
            return
        with self._transaction("DEFERRED") as database:
            yield database if _has_table(database) else None

    @contextlib.contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise not_writable(self.path.parent, error) from error
        try:
            connected = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)
            with contextlib.closing(connected) as database:
                # A commit is on the disk, and so is the end of its journal, before anything is done upon it.
                database.execute("PRAGMA synchronous = EXTRA")
                database.execute(f"BEGIN {kind}")
                yield database
                database.execute("COMMIT")  # closing rolls back what fails before
        except sqlite3.Error as error:
            raise InputError(
                f"The audit log cannot be read or written ({error})",
                where=str(self.path),
                hint="free disk space, correct its permissions, or restore a copy from a backup",
            ) from error


def audit_of(output: Path) -> Audit:
    """Return the audit of the study that writes to a folder."""
    return Audit(output / "audit.db")


def _has_table(database: sqlite3.Connection) -> bool:
    found = database.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'decisions'")
    return found.fetchone() is not None


def _rows(database: sqlite3.Connection | None) -> list[_Row]:
    return database.execute(f"{_SELECT} ORDER BY number").fetchall() if database else []


def _ever_written(database: sqlite3.Connection | None) -> int:
    """Return the highest number there was: SQLite remembers it when its row is gone."""
    if not database:
        return 0
    found = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'decisions'").fetchone()
    return int(found[0]) if found else 0


def _guards(database: sqlite3.Connection | None) -> set[str]:
    if not database:
        return set()
    found = database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'decisions'"
    )
    return {name for (name,) in found}


def _sha256(row: _Row) -> str:
    return hashlib.sha256(_text(row).encode()).hexdigest()


def _text(value: Any) -> str:
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """Return what JSON can hold: no NaN, numbers of numpy as Python's, anything else in words."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)
