"""Answered scans as MLflow traces: what they hold, who is in them, and how they are found and forgotten."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import pytest

from flows.serving.servers import free_endpoint, running, wait_until_ready
from pipeline import tracking
from pipeline.config import TrackingSettings
from pipeline.errors import InputError
from pipeline.processes import environment
from pipeline.tracking import AnsweredScan

ANSWER = {
    "decision": "refer", "reasons": ["Out of distribution."], "probabilities": {"CN": 0.2, "AD": 0.8},
    "prediction_set": ["CN", "AD"],
}  # fmt: skip


def answered(scan: str = "sub-A_ses-1", version: str = "1", **more) -> AnsweredScan:
    return AnsweredScan("report", scan, "0a1b", version, "run", ANSWER, **more)


@pytest.fixture
def store(tmp_path):
    return tracking.store_of(TrackingSettings(), tmp_path / "study")


def test_a_report_is_a_trace_with_its_answer_and_its_files(store, tmp_path):
    for kind in ("html", "pdf", "json"):
        (tmp_path / f"report.{kind}").write_text(f"the {kind}")
    files = {kind: tmp_path / f"report.{kind}" for kind in ("html", "pdf", "json")}
    with environment({"LOGNAME": "jane.q.doe", "USER": "jane.q.doe"}):
        trace_id = tracking.record_answer(store, answered(files=files))
    trace = store.client().get_trace(trace_id)
    (span,) = trace.data.spans
    assert span.inputs == {"scan": "sub-A_ses-1", "input_digest": "0a1b"}
    assert {name: span.outputs[name] for name in ANSWER} == ANSWER
    assert span.outputs["pdf"].startswith("mlflow-attachment://")
    stored = sorted(path.read_text() for path in (tmp_path / "study").rglob("attachments/*"))
    assert stored == ["the html", "the json", "the pdf"]
    everything = b"".join(path.read_bytes() for path in (tmp_path / "study").rglob("*") if path.is_file())
    for name in (b"jane.q.doe", str(tmp_path / "report.html").encode()):
        assert name not in everything


def test_the_ledger_is_an_experiment_of_its_own_and_lists_the_newest_first(store):
    tracking.log_run(store, tracking.RunRecord("r", "k", {}, {}, {}))
    for number, scan in enumerate(("sub-A_ses-1", "sub-A_ses-2", "sub-B_ses-1"), start=1):
        tracking.record_answer(store, answered(scan, str(number)))
    names = {experiment.name for experiment in store.client().search_experiments()}
    assert names >= {"taucal", "taucal reports"}
    assert [e.scan for e in tracking.answered_scans(store)] == ["sub-B_ses-1", "sub-A_ses-2", "sub-A_ses-1"]
    assert [e.scan for e in tracking.answered_scans(store, version="2")] == ["sub-A_ses-2"]
    assert len(tracking.answered_scans(store, scan="sub-A")) == 2
    assert [e.scan for e in tracking.answered_scans(store, newest=2)] == ["sub-B_ses-1", "sub-A_ses-2"]
    now = datetime.now(UTC)
    assert len(tracking.answered_scans(store, since=now - timedelta(hours=1))) == 3
    assert tracking.answered_scans(store, since=now + timedelta(hours=1)) == []
    assert tracking.answered_scans(store)[0].answer["probabilities"] == {"CN": 0.2, "AD": 0.8}


def test_a_later_diagnosis_is_the_expectation_of_every_answer_about_the_subject(store):
    for scan in ("sub-A_ses-1", "sub-A_ses-2", "sub-B_ses-1"):
        tracking.record_answer(store, answered(scan))
    assert tracking.set_diagnosis(store, "sub-A", "MCI") == 2
    assert tracking.set_diagnosis(store, "sub-A_ses-2", "AD") == 1, "a diagnosis may change"
    found = {entry.scan: entry.diagnosis for entry in tracking.answered_scans(store)}
    assert found == {"sub-A_ses-1": "MCI", "sub-A_ses-2": "AD", "sub-B_ses-1": None}
    trace = store.client().get_trace(tracking.answered_scans(store, scan="sub-A_ses-1")[0].trace_id)
    (expected,) = trace.search_assessments(type="expectation")
    assert (expected.name, expected.value, expected.source.source_id) == ("diagnosis", "MCI", "clinic")
    for unknown in ("sub-C", "sub-A_ses-9"):
        with pytest.raises(InputError, match=rf"{unknown}: No report or prediction .* is recorded"):
            tracking.set_diagnosis(store, unknown, "AD")
    with pytest.raises(InputError, match="no quotes"):
        tracking.set_diagnosis(store, "sub-A' OR 1=1", "AD")


def test_what_is_old_is_forgotten_with_its_files(store, tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("page")
    long_ago = datetime.now(UTC) - timedelta(days=31)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.tracking.ledger.time.time_ns", lambda: int(long_ago.timestamp() * 1e9))
        tracking.record_answer(store, answered(files={"html": tmp_path / "report.html"}))
    tracking.record_answer(store, answered("sub-B_ses-1", files={"html": tmp_path / "report.html"}))
    assert tracking.forget_answers(store, 30) == 1
    assert [entry.scan for entry in tracking.answered_scans(store)] == ["sub-B_ses-1"]
    assert len(list((tmp_path / "study").rglob("attachments/*"))) == 1
    assert tracking.forget_answers(store, 30) == 0


def test_files_that_cannot_be_deleted_stay_in_the_ledger(store, tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("page")
    tracking.record_answer(store, answered(files={"html": tmp_path / "report.html"}))

    def denied(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", denied)
        with pytest.raises(PermissionError, match="Permission denied"):
            tracking.forget_answers(store, -1)
    assert len(tracking.answered_scans(store)) == 1
    assert tracking.forget_answers(store, -1) == 1


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """The store of an MLflow server on loopback that takes and gives the files too."""
    endpoint = free_endpoint("127.0.0.1", 0, "here")
    given = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path / 'server.db'}",
        "MLFLOW_ARTIFACTS_DESTINATION": str(tmp_path / "files"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = ["mlflow", "server", "--host", endpoint.host, "--port", str(endpoint.port), "--workers", "1"]
    with running("MLflow", command, endpoint, tmp_path, given) as server:
        wait_until_ready(server, "/health")
        yield tracking.store_of(TrackingSettings(uri=server.url), tmp_path / "study")


@pytest.mark.slow
@pytest.mark.server
def test_a_remote_server_keeps_the_ledger_and_its_files(remote, tmp_path):
    (tmp_path / "report.html").write_text("page")
    files = {"html": tmp_path / "report.html"}
    for scan in ("sub-A_ses-1", "sub-B_ses-1"):
        tracking.record_answer(remote, answered(scan, files=files, measured={"logits": [1.0]}))
    assert tracking.set_diagnosis(remote, "sub-A", "AD") == 1
    entries = tracking.answered_scans(remote)
    assert [(e.scan, e.diagnosis) for e in entries] == [("sub-B_ses-1", None), ("sub-A_ses-1", "AD")]
    assert entries[0].measured == {"logits": [1.0]}
    assert len(list((tmp_path / "files").rglob("attachments/*"))) == 2
    assert tracking.forget_answers(remote, -1) == 2
    assert list((tmp_path / "files").rglob("attachments/*")) == []


def test_a_new_store_holds_nothing_and_asking_makes_none(store, tmp_path):
    assert tracking.answered_scans(store) == []
    assert tracking.forget_answers(store, 30) == 0
    assert not (tmp_path / "study").exists()
