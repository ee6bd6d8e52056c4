"""Where a study stands: its champion, its runs, and the scans that wait; read without MLflow if possible."""

from __future__ import annotations

import csv
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cronsim import CronSim, CronSimError

from pipeline.config import Study
from pipeline.errors import CohortError
from pipeline.evaluation.monitoring.advice import standing_answer
from pipeline.files import read_json
from pipeline.tracking.audit import Audit, Entry, audit_of
from pipeline.tracking.read_ledger import audited_reads
from pipeline.tracking.registry import champion_version, decision_of, registered_ms
from pipeline.tracking.reported_scans import reported_scans
from pipeline.tracking.store import Store, store_of

SCHEDULED = ("ingest", "reports", "shift", "week", "retrain")
"""Keys of section `serve` that hold a cron line."""
_TABLES = Path("derivatives") / "taucal"
_RETRAINED = ("promote", "hold", "wait", "reject", "nothing")
_NICKNAMES = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class ChampionStatus:
    """The model in use.

    Parameters
    ----------
    version : int
    since : str
        When it became champion, UTC, as ``2026-11-21T15:40:00Z``.
    who, decision : str or None
        Who made it champion, and by which decision of the audit log; None where the alias was set without it.
    reasons : tuple of str
    """

    version: int
    since: str
    who: str | None
    decision: str | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class RunStatus:
    """The last result and the next run of what can be scheduled; times are UTC.

    Parameters
    ----------
    what : str
        One of `SCHEDULED`.
    last : str or None
        When its files were last written. A run that failed, or found nothing to do, writes none.
    next : str or None
        None where it is not scheduled.
    """

    what: str
    last: str | None
    next: str | None


@dataclass(frozen=True)
class StudyStatus:
    """Where a study stands.

    Parameters
    ----------
    serving : bool or None
        Whether `taucal serve` runs the schedules on this machine; None where it was started on another.
    shift : dict or None
        Of the newest test for shift of the champion: time, scans, reasons, and whether anything was tested;
        its answer is the strongest of all of this champion's tests, which holds until there is another.
    performance : tuple of str
        What the newest weekly check of the champion expects, and how many answers were right.
    scans : int or None
        In the dataset; None where there is none yet.
    without_report, without_read : tuple of str
        Pseudonyms of scans of the dataset without a report, and of scans with a report that nobody has read;
        reports count wherever they were written.
    """

    study: str
    output: str
    champion: ChampionStatus | None
    serving: bool | None
    runs: tuple[RunStatus, ...]
    shift: dict[str, Any] | None
    performance: tuple[str, ...]
    scans: int | None
    without_report: tuple[str, ...]
    without_read: tuple[str, ...]


def status_of(study: Study, moment: datetime | None = None) -> StudyStatus:
    """Read where a study stands; nothing is written.

    Parameters
    ----------
    moment : datetime, optional
        From which the next runs count; now if not given.

    Raises
    ------
    CohortError
        If the table of the dataset cannot be read.
    InputError
        If the audit log or the store of models cannot be read.
    """
    output, audit = study.output, audit_of(study.output)
    store = store_of(study.tracking, output)
    champion = _champion(store, audit)
    scans = _scans(study.cohort.path / _TABLES / "cohort.tsv") if study.cohort.kind == "bids" else None
    # The ledger knows reports that were written elsewhere; the folder those that the ledger has forgotten.
    reported = reported_scans(store) | set(_reported(output / "reports"))
    read = {found.scan for found in audited_reads(audit)}
    version = None if champion is None else champion.version
    return StudyStatus(
        study=study.name,
        output=str(output),
        champion=champion,
        serving=is_served(output),
        runs=_runs(study, audit, moment or datetime.now(UTC)),
        shift=_shift(output, version),
        performance=_performance(output, version),
        scans=None if scans is None else len(scans),
        without_report=tuple(scan for scan in scans or () if scan not in reported),
        without_read=tuple(sorted(reported - read)),
    )


def _champion(store: Store, audit: Audit) -> ChampionStatus | None:
    version = champion_version(store)
    if version is None:
        return None
    decision = decision_of(store, version)
    made: Entry | None = next((e for e in reversed(audit.entries()) if e.sha256 == decision), None)
    if made is not None:
        return ChampionStatus(version, made.time, made.who, made.kind, made.reasons)
    since = datetime.fromtimestamp((registered_ms(store, version) or 0) / 1000, UTC).strftime(_TIME)
    return ChampionStatus(version, since, None, None, ())


def _runs(study: Study, audit: Audit, moment: datetime) -> tuple[RunStatus, ...]:
    retrained = audit.last(*_RETRAINED)
    output = study.output
    last = {
        "ingest": _newest([study.cohort.path / _TABLES / "ingest_report.tsv"]),
        "reports": _newest(output.glob("reports/*/report.json")),
        "shift": _newest(output.glob("shift/version-*/*.json")),
        "week": _newest(output.glob("week/*/week.json")),
        "retrain": None if retrained is None else retrained.time,
    }
    return tuple(
        RunStatus(what, last[what], next_run(getattr(study.serve, what), moment)) for what in SCHEDULED
    )


def next_run(cron: str | None, moment: datetime) -> str | None:
    """Return when a cron line in UTC is next due; None without a line, or where it is never due.

    Examples
    --------
    >>> next_run("0 2 * * *", datetime(2026, 11, 29, 16, 0, tzinfo=UTC))
    '2026-11-30T02:00:00Z'
    """
    if cron is None:
        return None
    try:
        due = next(CronSim(_NICKNAMES.get(cron, cron), moment), None)
    except CronSimError:
        return None
    return None if due is None else due.strftime(_TIME)


def _newest(paths: Iterable[Path]) -> str | None:
    times = [path.stat().st_mtime for path in paths if path.is_file()]
    return datetime.fromtimestamp(max(times), UTC).strftime(_TIME) if times else None


def _shift(output: Path, version: int | None) -> dict[str, Any] | None:
    folder = output / "shift" / f"version-{version}"
    tests = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
    if not tests:
        return None
    *others, path = tests
    newest = _read(path)
    of_readers = [
        {"answer": test["answer"], "reasons": test.get("reasons") or [test["sentence"]]}
        for test in map(_read, folder.glob("readers/*.json"))
    ]
    answer, reasons = standing_answer(newest, [*of_readers, *map(_read, others)])
    tested = bool(newest.get("tests"))
    return {"time": _newest([path]), "scans": newest.get("scans"), "answer": answer, "reasons": reasons,
        "tested": tested}  # fmt: skip


def _performance(output: Path, version: int | None) -> tuple[str, ...]:
    path = max(output.glob("week/*/week.json"), default=None)
    found = {} if path is None else _read(path)
    same = version is not None and found.get("champion", version) == version
    return tuple(found.get("performance", ())) if same else ()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        found = None
    if isinstance(found, dict):
        return found
    # Shown as such: a result that cannot be read is not the same as a check that never ran.
    problem = (f"{path} cannot be read.",)
    return {"answer": "unknown", "reasons": problem, "performance": problem}


def _scans(table: Path) -> tuple[str, ...] | None:
    """Return the ids of a dataset's scans, read without pandas, whose import takes a second."""
    if not table.is_file():
        return None
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            return tuple(row["scan_id"] for row in csv.DictReader(stream, delimiter="\t"))
    except (OSError, ValueError, KeyError) as error:
        problem = f"The table of the dataset cannot be read ({type(error).__name__}: {error})"
        raise CohortError(
            problem, where=str(table), hint="run `taucal ingest` again, which writes it"
        ) from error


def _reported(folder: Path) -> Iterator[str]:
    for path in folder.glob("*/report.json"):
        name = path.parent.name
        if name.startswith("sub-") and "_ses-" in name:
            yield name
            continue
        found = _read(path)  # a report in a folder that is named otherwise, as an example of the demo
        if "subject" in found and "session" in found:
            yield f"sub-{found['subject']}_ses-{found['session']}"


def is_served(output: Path) -> bool | None:
    """Return whether `taucal serve` runs for the study of a folder; None where another machine started it."""
    try:
        holder = read_json(output / ".serve" / "lock")
        process, host, since = int(holder["process"]), holder["host"], str(holder["since"])
    except (OSError, ValueError, TypeError, KeyError):
        return False
    if host != socket.gethostname():
        return None
    import psutil

    try:
        started = datetime.fromtimestamp(psutil.Process(process).create_time(), UTC)
    except psutil.NoSuchProcess:
        return False
    return started.strftime(_TIME) <= since
