"""A reader's answer: feedback on the trace of a prediction, and an entry of the audit log.

The free text is in MLflow alone, for it may have to be deleted; the audit log, which only grows, holds its
SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.evaluation.monitoring.reads import AnsweredRead, Read, RecordedRead, shown_of
from pipeline.files import fingerprint
from pipeline.tracking.audit import Audit
from pipeline.tracking.store import Store

if TYPE_CHECKING:  # see pipeline.tracking.store
    from mlflow.entities import TraceInfo

    from pipeline.tracking.ledger import LedgerEntry

READ = "read"
"""Name of the feedback, and kind of the entry in the audit log."""
_FACTS, _NUMBER, _SHA256 = "taucal.read", "taucal.audit_number", "taucal.audit_sha256"
_NO_VERDICT = "none yet"
_FIELDS = tuple(field.name for field in fields(Read) if field.name != "comment")


def record_read(store: Store, audit: Audit, entry: LedgerEntry, read: Read) -> RecordedRead:
    """Store a read with a prediction and in the audit log; return it as it is stored.

    An earlier read of the same reader about the same prediction stays recorded, as superseded. The same read
    again changes nothing. The audit log comes first: where the process dies before MLflow has the read, the
    same read again completes it.

    Raises
    ------
    InputError
        If the audit log cannot be written.
    """
    from mlflow.entities import AssessmentSource, Feedback
    from mlflow.tracing.client import TracingClient

    before = _current(entry.reads, read.reader)
    if before is not None and before.read == read:
        return before
    facts = {**read.to_dict(), "scan": entry.scan, "trace": entry.trace_id}
    text = facts.pop("comment")
    facts["comment_sha256"] = hashlib.sha256(text.encode()).hexdigest() if text else None
    facts["supersedes"] = None if before is None else before.number
    facts["answer"] = shown_of(entry.answer)
    written = audit.append(
        READ,
        key=fingerprint(facts),
        who=read.reader,
        version=int(entry.version) if entry.version.isdigit() else None,
        reasons=(f"{entry.scan}: {read.sentence}",),
        facts=facts,
    )
    feedback = Feedback(
        name=READ,
        value=read.verdict or _NO_VERDICT,
        source=AssessmentSource(source_type="HUMAN", source_id=read.reader),
        rationale=" ".join(filter(None, (read.sentence, text))),
        metadata={
            _FACTS: json.dumps(read.to_dict(), ensure_ascii=False),
            _NUMBER: str(written.number),
            _SHA256: written.sha256,
        },
        overrides=None if before is None else before.read_id,
    )
    stored = TracingClient(store.uri).log_assessment(entry.trace_id, feedback)
    return RecordedRead(read, str(stored.assessment_id), entry.trace_id, written.time, written.number)


def reads_in(info: TraceInfo) -> tuple[RecordedRead, ...]:
    """Return the reads of a prediction, the newest last."""
    found = []
    for feedback in info.assessments:
        facts = (feedback.metadata or {}).get(_FACTS)
        if feedback.name != READ or facts is None:  # of another program
            continue
        moment = datetime.fromtimestamp((feedback.create_time_ms or 0) / 1000, UTC)
        found.append(
            RecordedRead(
                Read(**json.loads(facts)),
                str(feedback.assessment_id),
                info.trace_id,
                moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
                int(feedback.metadata[_NUMBER]),
                superseded=feedback.valid is False,
            )
        )
    return tuple(sorted(found, key=lambda r: r.number))


def audited_reads(audit: Audit) -> tuple[AnsweredRead, ...]:
    """Return all reads of the audit log, the newest last; their free text is in MLflow alone.

    The log stays where MLflow forgets old answers, and is read without MLflow.
    """
    entries = [entry for entry in audit.entries() if entry.kind == READ]
    superseded = {entry.facts.get("supersedes") for entry in entries}
    found = []
    for entry in entries:
        read = Read(**{name: entry.facts[name] for name in _FIELDS}, comment="")
        recorded = RecordedRead(
            read, "", entry.facts["trace"], entry.time, entry.number, entry.number in superseded
        )
        version = "" if entry.version is None else str(entry.version)
        found.append(AnsweredRead(entry.facts["scan"], version, entry.facts["answer"], recorded))
    return tuple(found)


def _current(reads: Sequence[RecordedRead], reader: str) -> RecordedRead | None:
    mine = [r for r in reads if r.read.reader == reader and not r.superseded]
    return mine[-1] if mine else None
