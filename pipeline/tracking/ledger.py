"""The ledger of answered scans: one MLflow trace for each, in an experiment of its own.

A trace holds the scan's pseudonym, a digest of what was read, the model's version and what was answered; the
files of its report are its attachments. A later diagnosis is stored as its expectation, a reader's answer as
its feedback. Nothing names a person, a user or a machine; a reader is known by initials.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline.errors import InputError
from pipeline.evaluation.monitoring.reads import RecordedRead
from pipeline.tracking.answer_trace import MEASURED, SUBJECT, VERSION, AnsweredScan, info_of, span_of
from pipeline.tracking.experiment_page import REPORTS
from pipeline.tracking.read_ledger import reads_in
from pipeline.tracking.reported_scans import KIND, SCAN, answers_experiment
from pipeline.tracking.store import Store

if TYPE_CHECKING:  # see pipeline.tracking.store
    from mlflow.entities import Trace

DIAGNOSIS = "diagnosis"
"""Name of the expectation: the class that a later diagnosis gave."""
_PAGE = 200


@dataclass(frozen=True)
class LedgerEntry:
    """An answered scan as it is stored, with the diagnosis and the reads that were stored later."""

    trace_id: str
    time: str
    kind: str
    scan: str
    version: str
    answer: Mapping[str, Any]
    diagnosis: str | None
    measured: Mapping[str, Any] = field(default_factory=dict)
    reads: tuple[RecordedRead, ...] = ()


def record_answer(store: Store, answered: AnsweredScan) -> str:
    """Store an answered scan as a trace; return its id."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.tracing.attachments import Attachment
    from mlflow.tracing.client import TracingClient

    experiment, client = reports_experiment(store), TracingClient(store.uri)
    number, now = uuid.uuid4(), time.time_ns()
    info = info_of(answered, number, now, experiment)
    attached = {kind: Attachment.from_file(path) for kind, path in answered.files.items()}
    files = {kind: attachment.ref(info.trace_id) for kind, attachment in attached.items()}
    span = span_of(answered, number, now, files)
    made = client.start_trace(info)
    if attached:
        folder = get_artifact_repository(made.tags["mlflow.artifactLocation"], tracking_uri=store.uri)
        for attachment in attached.values():
            folder.upload_attachment(attachment.id, attachment.content_bytes)
    client.log_spans(experiment, [span])
    return str(info.trace_id)


def answered_scans(
    store: Store,
    *,
    since: datetime | None = None,
    version: str | None = None,
    scan: str | None = None,
    newest: int | None = None,
) -> list[LedgerEntry]:
    """Return what the ledger holds, the newest first.

    Parameters
    ----------
    since : datetime, optional
        Answered at this time or later.
    version : str, optional
        By this version of the model.
    scan : str, optional
        Pseudonym of a scan, or of a subject: all of its scans.
    newest : int, optional
        No more than so many answers.
    """
    if store.is_new():
        return []
    wanted = []
    if since is not None:
        wanted.append(f"timestamp_ms >= {int(since.timestamp() * 1000)}")
    if version is not None:
        wanted.append(f"tags.`{VERSION}` = '{_plain(version)}'")
    if scan is not None:
        wanted.append(f"tags.`{SCAN if '_' in scan else SUBJECT}` = '{_plain(scan)}'")
    return [_entry(trace) for trace in _search(store, " AND ".join(wanted), newest)]


def set_diagnosis(store: Store, pseudonym: str, diagnosis: str) -> int:
    """Store a later diagnosis with every answer about a scan, or about all scans of a subject.

    Returns
    -------
    int
        How many answers it now belongs to.

    Raises
    ------
    InputError
        If the ledger has no such scan.
    """
    from mlflow.entities import AssessmentSource, Expectation
    from mlflow.tracing.client import TracingClient

    entries = answered_scans(store, scan=pseudonym)
    if not entries:
        raise InputError(
            "No report or prediction of this scan is recorded",
            where=pseudonym,
            hint="give the pseudonym of a scan or subject as `taucal reports` lists it",
        )
    client = TracingClient(store.uri)
    source = AssessmentSource(source_type="HUMAN", source_id="clinic")
    for entry in entries:
        if entry.diagnosis != diagnosis:
            made = Expectation(name=DIAGNOSIS, source=source, value=diagnosis)
            client.log_assessment(entry.trace_id, made)
    return len(entries)


def forget_answers(store: Store, days: int) -> int:
    """Delete what was answered more than so many days ago, with its files; return how many answers.

    Files go first: where they cannot be deleted the error is raised, and the ledger still lists them.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    before = int((datetime.now(UTC) - timedelta(days=days)).timestamp() * 1000)
    if store.is_new():
        return 0
    old = _search(store, f"timestamp_ms < {before}")
    for trace in old:
        place = trace.info.tags.get("mlflow.artifactLocation")
        if place is not None:
            files = get_artifact_repository(place, tracking_uri=store.uri)
            if files.list_artifacts():  # else MLflow calls it an error
                files.delete_artifacts()
    ids = [trace.info.trace_id for trace in old]
    for start in range(0, len(ids), 100):
        store.client().delete_traces(reports_experiment(store), trace_ids=ids[start : start + 100])
    return len(ids)


def reports_experiment(store: Store) -> str:
    """Return the id of the experiment of the answers, made where it is missing."""
    client, name = store.client(), answers_experiment(store)
    if (found := client.get_experiment_by_name(name)) is not None:
        return str(found.experiment_id)
    # Beside the runs; a store that was moved finds the files of both.
    return str(client.create_experiment(name, artifact_location=store.artifacts, tags=REPORTS))


def _search(store: Store, wanted: str, newest: int | None = None) -> list[Trace]:
    client, experiment = store.client(), reports_experiment(store)
    found: list[Trace] = []
    token = None
    while True:
        page = client.search_traces(
            locations=[experiment], filter_string=wanted or None, max_results=_PAGE, page_token=token,
            order_by=["timestamp_ms DESC"],
        )  # fmt: skip
        found += page
        token = page.token
        if not token or (newest is not None and len(found) >= newest):
            return found[:newest]


def _entry(trace: Trace) -> LedgerEntry:
    info = trace.info
    span = next(iter(trace.data.spans), None)
    output = {} if span is None else span.outputs or {}
    measured = {} if span is None else span.get_attribute(MEASURED) or {}
    diagnoses = [a for a in info.assessments if a.name == DIAGNOSIS and a.valid is not False]
    newest = max(diagnoses, key=lambda a: a.create_time_ms or 0, default=None)
    moment = datetime.fromtimestamp(info.request_time / 1000, UTC)
    return LedgerEntry(
        info.trace_id,
        moment.isoformat(timespec="seconds"),
        info.tags.get(KIND, ""),
        info.tags.get(SCAN, ""),
        info.tags.get(VERSION, ""),
        {k: v for k, v in output.items() if not str(v).startswith("mlflow-attachment:")},
        None if newest is None else str(newest.value),
        measured,
        reads_in(info),
    )


def _plain(text: str) -> str:
    """Return a text for a filter of MLflow, which knows no escapes.

    Raises
    ------
    InputError
        If it has a quote.
    """
    if "'" in text or "`" in text:
        raise InputError("A pseudonym or version holds no quotes", where=text)
    return text
