"""The audit: entries stand once written, who edits the file is found out, and processes do not collide."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.tracking.audit import Audit, audit_of


@pytest.fixture
def audit(tmp_path) -> Audit:
    """Four decisions."""
    audit = audit_of(tmp_path)
    audit.append("promote", key="a", who="ann", version=1)
    audit.append("reject", key="b", who="ann", version=2, over=1, reasons=("NLL is worse.", "ECE is worse."))
    audit.append("hold", key="c", who="ann", version=3, over=1, facts={"gate": {"passed": True}})
    audit.append("approve", key="c", who="bob", version=3, over=1)
    return audit


def by_hand(audit: Audit, *statements: str) -> None:
    """Do what somebody with the sqlite3 program can do."""
    with sqlite3.connect(audit.path) as database:
        for statement in statements:
            database.execute(statement)
    database.close()


def without_guards(audit: Audit, *statements: str) -> None:
    with sqlite3.connect(audit.path) as database:
        guards = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    database.close()
    by_hand(audit, *(f"DROP TRIGGER {name}" for name, _ in guards), *statements, *(sql for _, sql in guards))


def test_entries_come_back_as_they_were_written(audit):
    entries = Audit(audit.path).entries()
    assert [(e.number, e.kind, e.version, e.over, e.who) for e in entries] == [
        (1, "promote", 1, None, "ann"),
        (2, "reject", 2, 1, "ann"),
        (3, "hold", 3, 1, "ann"),
        (4, "approve", 3, 1, "bob"),
    ]
    assert entries[1].reasons == ("NLL is worse.", "ECE is worse.")
    assert entries[2].facts == {"gate": {"passed": True}}
    assert entries[1].previous == entries[0].sha256
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", e.time) for e in entries)
    audit.verify()


def test_the_newest_of_some_kinds_is_found(audit):
    assert audit.last().kind == "approve"
    assert audit.last("promote", "hold").number == 3
    assert audit.last("rollback") is None


def test_the_same_decision_is_written_once(audit):
    again = audit.append("reject", key="b", who="eve", version=9)
    assert again == audit.entries()[1]
    assert len(audit.entries()) == 4


def test_reading_makes_no_file_and_nothing_decided_is_well(tmp_path):
    audit = audit_of(tmp_path)
    audit.verify()
    assert audit.entries() == ()
    assert audit.last() is None
    assert not list(tmp_path.iterdir())


def test_facts_of_any_kind_are_kept_as_json(audit):
    facts = {
        "nll": np.float64(0.5),
        "n": np.int64(3),
        "none": float("nan"),
        "p": np.array([0.1, np.inf]),
        4: Path("x"),
    }
    entry = audit.append("shift", key="d", who="ann", facts=facts)
    assert entry.facts == {"nll": 0.5, "n": 3, "none": None, "p": [0.1, None], "4": "x"}
    assert audit.last() == entry
    json.dumps(entry.facts, allow_nan=False)
    audit.verify()


def test_a_decision_needs_a_known_kind_and_a_name(audit):
    with pytest.raises(InputError, match="is 'demote', expected one of promote, "):
        audit.append("demote", key="x", who="ann")
    with pytest.raises(InputError, match="does not name who made it"):
        audit.append("promote", key="x", who=" \n")
    assert len(audit.entries()) == 4


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE decisions SET who = 'eve' WHERE number = 2", "never changed"),
        ("UPDATE OR REPLACE decisions SET number = 1 WHERE number = 2", "never changed"),
        ("DELETE FROM decisions WHERE number = 2", "never removed"),
        ("DELETE FROM decisions", "never removed"),
        ("INSERT OR REPLACE INTO decisions SELECT 2, time, kind, 'z', 9, 9, 'eve', '[]', '{}', '', '' "
         "FROM decisions WHERE number = 1", "never replaced"),
        ("REPLACE INTO decisions SELECT 9, time, 'reject', 'b', 9, 9, 'eve', '[]', '{}', '', '' "
         "FROM decisions WHERE number = 1", "never replaced"),
    ],
)  # fmt: skip
def test_the_file_itself_refuses_changes(audit, statement, told):
    before = audit.entries()
    with pytest.raises(sqlite3.IntegrityError, match=told):
        by_hand(audit, statement)
    assert audit.entries() == before
    audit.verify()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE decisions SET who = 'eve' WHERE number = 2", "Entry 2 of the audit log was altered"),
        ("UPDATE decisions SET version = 9 WHERE number = 1", "Entry 1 of the audit log was altered"),
        ("UPDATE decisions SET reasons = 'no json' WHERE number = 3", "Entry 3 of the audit log was altered"),
        ("UPDATE decisions SET facts = x'00ff' WHERE number = 3", "Entry 3 of the audit log was altered"),
        (
            "UPDATE decisions SET time = '2020-01-01T00:00:00Z' WHERE number = 4",
            "Entry 4 of the audit log was altered",
        ),
        ("DELETE FROM decisions WHERE number = 1", "Entry 1 of the audit log is missing"),
        ("DELETE FROM decisions WHERE number IN (2, 3)", "Entry 2 of the audit log is missing"),
        ("DELETE FROM decisions WHERE number = 4", "Entry 4 of the audit log is missing"),
        ("DELETE FROM decisions", "Entry 1 of the audit log is missing"),
    ],
)
def test_what_was_edited_around_the_guards_is_named(audit, statement, told):
    without_guards(audit, statement)
    with pytest.raises(InputError, match=told):
        audit.verify()


def test_a_forged_entry_and_missing_guards_are_found(audit):
    columns = "time, kind, 'forged', version, over, who, reasons, facts, previous, sha256"
    by_hand(audit, f"INSERT INTO decisions SELECT 5, {columns} FROM decisions WHERE number = 4")
    with pytest.raises(InputError, match="Entry 5 of the audit log was altered"):
        audit.verify()


def test_missing_guards_are_found(audit):
    by_hand(audit, "DROP TRIGGER no_delete")
    with pytest.raises(InputError, match="guards were taken away"):
        audit.verify()


def test_a_file_that_is_no_database_is_told_with_its_mend(tmp_path):
    audit = audit_of(tmp_path)
    audit.path.write_bytes(b"no database" * 100)
    for use in (audit.verify, audit.entries, lambda: audit.append("promote", key="a", who="ann")):
        with pytest.raises(InputError, match=r"cannot be read or written.*from a backup"):
            use()


def append_many(path: Path, name: str) -> None:
    for n in range(25):
        Audit(path).append("shift", key=f"{name}-{n}", who=name)
        Audit(path).append("nothing", key=f"shared-{n}", who=name)


def append_and_die(path: Path) -> None:
    Audit(path).append("promote", key="last words", who="ann", version=7)
    os.kill(os.getpid(), signal.SIGKILL)


def started(function, *arguments, **streams) -> subprocess.Popen:
    """Start a fresh process that calls a function of this file: a fork inherits what other tests started."""
    code = (
        "import runpy, sys\nfrom pathlib import Path\n"
        f"runpy.run_path({__file__!r})[{function.__name__!r}](Path(sys.argv[1]), *sys.argv[2:])"
    )
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], **streams)


def run(*targets) -> list[int | None]:
    return [process.wait(600) for process in [started(*target) for target in targets]]


def test_two_processes_append_at_once_from_the_first_entry_on(tmp_path):
    path = tmp_path / "audit.db"
    assert run((append_many, path, "ann"), (append_many, path, "bob")) == [0, 0]
    entries = Audit(path).entries()
    assert [e.number for e in entries] == list(range(1, 76))
    assert len({(e.kind, e.key) for e in entries}) == 75
    Audit(path).verify()


def test_an_entry_outlives_its_writer(audit):
    assert run((append_and_die, audit.path)) == [-signal.SIGKILL]
    assert audit.last().version == 7
    audit.verify()


def test_a_write_that_was_cut_off_leaves_the_entries_before(audit):
    """A killed process holding a transaction: its lock is gone, its half entry too."""
    with started(begin_and_wait, audit.path, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    assert len(audit.entries()) == 4
    assert audit.append("rollback", key="e", who="ann", version=1, over=3).number == 5
    audit.verify()


def begin_and_wait(path: Path) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA cache_size = 1")  # spills to the file before the commit
    database.execute("BEGIN IMMEDIATE")
    row = database.execute("SELECT * FROM decisions WHERE number = 4").fetchone()
    for n in range(5, 60):
        database.execute(
            f"INSERT INTO decisions VALUES ({', '.join('?' * 11)})", (n, *row[1:3], str(n), *row[4:])
        )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    signal.pause()
