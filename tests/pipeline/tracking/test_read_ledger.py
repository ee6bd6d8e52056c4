"""A read is feedback on the prediction's trace and an entry of the audit log, each once."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from pipeline import tracking
from pipeline.evaluation.monitoring.reads import Read
from pipeline.tracking import AnsweredScan

ANSWER = {"decision": "report", "probabilities": {"CN": 0.2, "AD": 0.8}, "prediction_set": ["AD"]}
READ = Read("AB", "positive", "temporal", "good", "AD", "accept")
SCAN = "sub-A_ses-1"


@pytest.fixture
def desk(read_desk):
    return read_desk()


@pytest.fixture
def store(desk):
    return desk.store


@pytest.fixture
def audit(desk):
    return tracking.audit_of(desk.output)


def entry_in(store) -> tracking.LedgerEntry:
    (entry,) = tracking.answered_scans(store, scan=SCAN)
    return entry


def test_a_read_is_feedback_of_its_reader_and_an_entry_of_the_audit_log(store, audit):
    stored = tracking.record_read(store, audit, entry_in(store), replace(READ, comment="clear"))
    (found,) = entry_in(store).reads
    assert (found.read, found.number, found.read_id) == (stored.read, 1, stored.read_id)
    (entry,) = audit.entries()
    assert (entry.kind, entry.who, entry.version) == ("read", "AB", 3)
    assert entry.reasons == (
        "sub-A_ses-1: AB accepts the model's answer. AB's own read: tau-positive; limited to the temporal "
        "lobe; class AD; quality good.",
    )
    (feedback,) = store.client().get_trace(entry_in(store).trace_id).search_assessments(type="feedback")
    assert (feedback.name, feedback.value, feedback.source.source_type) == ("read", "accept", "HUMAN")
    assert feedback.source.source_id == "AB"
    assert feedback.metadata["taucal.audit_sha256"] == entry.sha256
    assert feedback.rationale.endswith("quality good. clear")
    audit.verify()


def test_free_text_can_be_deleted_so_the_audit_log_holds_its_digest_alone(store, audit):
    text = "as Jane Doe told me"
    tracking.record_read(store, audit, entry_in(store), replace(READ, comment=text))
    (entry,) = audit.entries()
    assert entry.facts["comment_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert text.encode() not in audit.path.read_bytes()
    tracking.forget_answers(store, -1)
    assert len(audit.entries()) == 1
    audit.verify()


def test_a_correction_supersedes_and_both_stay_recorded(store, audit):
    tracking.record_read(store, audit, entry_in(store), READ)
    changed = replace(READ, verdict="reject", reason="borderline")
    tracking.record_read(store, audit, entry_in(store), changed)
    assert [(r.read, r.superseded) for r in entry_in(store).reads] == [(READ, True), (changed, False)]
    assert [e.facts["supersedes"] for e in audit.entries()] == [None, 1]
    tracking.record_read(store, audit, entry_in(store), READ)
    assert [r.superseded for r in entry_in(store).reads] == [True, True, False], "and back again"
    audit.verify()


def test_another_reader_is_a_second_entry(store, audit):
    tracking.record_read(store, audit, entry_in(store), READ)
    tracking.record_read(store, audit, entry_in(store), replace(READ, reader="CD"))
    assert [(r.read.reader, r.superseded) for r in entry_in(store).reads] == [("AB", False), ("CD", False)]


def test_the_same_read_again_changes_nothing(store, audit):
    first = tracking.record_read(store, audit, entry_in(store), READ)
    assert tracking.record_read(store, audit, entry_in(store), READ).read_id == first.read_id
    assert len(audit.entries()) == 1


def test_the_same_read_again_completes_one_that_was_killed_between_audit_log_and_mlflow(
    store, audit, monkeypatch
):
    from mlflow.tracing.client import TracingClient

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TracingClient, "log_assessment", killed)
        with pytest.raises(KeyboardInterrupt):
            tracking.record_read(store, audit, entry_in(store), READ)
    assert (len(audit.entries()), entry_in(store).reads) == (1, ())
    tracking.record_read(store, audit, entry_in(store), READ)
    assert (len(audit.entries()), len(entry_in(store).reads)) == (1, 1)


def test_feedback_of_other_programs_is_no_read(store):
    from mlflow.entities import AssessmentSource, Feedback
    from mlflow.tracing.client import TracingClient

    source = AssessmentSource(source_type="HUMAN", source_id="x")
    for name in ("read", "other"):
        TracingClient(store.uri).log_assessment(
            entry_in(store).trace_id, Feedback(name=name, value=1, source=source)
        )
    assert entry_in(store).reads == ()


def test_a_read_of_a_prediction_without_a_version_number_is_stored(store, audit):
    tracking.record_answer(store, AnsweredScan("predict", "sub-B_ses-1", "0a", "none", "run", ANSWER))
    (entry,) = tracking.answered_scans(store, scan="sub-B")
    tracking.record_read(store, audit, entry, READ)
    assert audit.entries()[0].version is None


def test_the_audit_log_alone_gives_every_read_and_what_was_read(store, audit):
    assert tracking.audited_reads(audit) == ()
    audit.append("nothing", key="a", who="schedule")
    tracking.record_read(store, audit, entry_in(store), replace(READ, comment="clear"))
    changed = replace(READ, verdict="reject", reason="borderline")
    tracking.record_read(store, audit, entry_in(store), changed)
    tracking.forget_answers(store, -1)
    first, last = tracking.audited_reads(audit)
    assert (first.recorded.read, first.recorded.superseded) == (READ, True), "without the free text"
    assert (last.recorded.read, last.recorded.superseded, last.recorded.number) == (changed, False, 3)
    assert (last.scan, last.version) == (SCAN, "3")
    assert last.answer == {
        "decision": "report", "most_likely": "AD", "confidence": 0.837, "prediction_set": ["AD"],
    }  # fmt: skip
