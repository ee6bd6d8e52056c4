"""What a status states is what the files of the study hold; reading it changes none of them."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline import tracking
from pipeline.config import Study
from pipeline.errors import CohortError, InputError
from pipeline.evaluation.monitoring.reads import Read
from pipeline.files import now, write_json
from pipeline.tracking import RunRecord
from pipeline.tracking.reported_scans import reported_scans
from pipeline.tracking.study_status import next_run, status_of

MOMENT = datetime(2026, 11, 29, 16, 0, tzinfo=UTC)  # a Sunday
SCANS = ("sub-A_ses-1", "sub-B_ses-1", "sub-C_ses-1")


@pytest.fixture
def study(tmp_path) -> Study:
    """A study whose dataset has three scans: A is read, B has a report, C has none."""
    made = Study(name="x", output=tmp_path / "out", cohort={"path": tmp_path / "bids"})
    table = made.cohort.path / "derivatives" / "taucal" / "cohort.tsv"
    table.parent.mkdir(parents=True)
    table.write_text("scan_id\tsubject\n" + "".join(f"{scan}\t{scan[4]}\n" for scan in SCANS))
    (table.parent / "ingest_report.tsv").touch()
    for scan in SCANS[:2]:
        write_json(made.output / "reports" / scan / "report.json", {"subject": scan[4], "session": "1"})
    read = Read("AB", "negative", "none", "good", None, "accept").to_dict()
    facts = {**read, "scan": SCANS[0], "trace": "tr-1", "answer": {}, "supersedes": None}
    tracking.audit_of(made.output).append("read", key="r", who="AB", facts=facts)
    return made


def store_of_another(study: Study) -> Study:
    return study.model_copy(update={"tracking": study.tracking.model_copy(update={"experiment": "other"})})


def test_a_study_without_a_run_waits_for_everything(tmp_path):
    study = Study(name="x", output=tmp_path / "out", cohort={"path": tmp_path / "bids"})
    status = status_of(study, MOMENT)
    assert (status.champion, status.serving, status.shift, status.scans) == (None, False, None, None)
    assert status.performance == status.without_report == status.without_read == ()
    assert {run.last for run in status.runs} == {None}
    assert not list(tmp_path.iterdir()), "looking makes no file"


def test_scans_wait_for_a_report_or_a_read(study):
    status = status_of(study, MOMENT)
    assert (status.scans, status.without_report, status.without_read) == (3, SCANS[2:], SCANS[1:2])


def test_a_report_in_a_folder_of_another_name_counts(study):
    write_json(study.output / "reports" / "clear" / "report.json", {"subject": "C", "session": "1"})
    status = status_of(study, MOMENT)
    assert (status.without_report, status.without_read) == ((), SCANS[1:])


def test_a_report_that_was_written_elsewhere_counts_and_a_prediction_does_not(study):
    store = tracking.store_of(study.tracking, study.output)
    elsewhere = tracking.AnsweredScan("report", SCANS[2], "d", "1", "run", {"decision": "answer"})
    tracking.record_answer(store, replace(elsewhere, kind="predict"))
    assert status_of(study, MOMENT).without_report == SCANS[2:]
    tracking.record_answer(store, elsewhere)
    tracking.record_answer(store, elsewhere)
    status = status_of(study, MOMENT)
    assert (status.without_report, status.without_read) == ((), SCANS[1:])
    assert {e.scan for e in tracking.answered_scans(store)} == {SCANS[2]}, "as `taucal reports` lists it"
    other = store_of_another(study)
    assert status_of(other, MOMENT).without_report == SCANS[2:], "another study's experiment in the store"


def test_the_recorded_reports_are_the_same_where_mlflow_itself_is_asked(study, monkeypatch):
    store = tracking.store_of(study.tracking, study.output)
    for scan, kind in zip(SCANS, ("report", "predict", "report"), strict=True):
        tracking.record_answer(store, tracking.AnsweredScan(kind, scan, "d", "1", "run", {}))
    read = reported_scans(store)
    monkeypatch.setattr("pipeline.tracking.reported_scans.file_problem", lambda _store: "of another schema")
    assert reported_scans(store) == read == {SCANS[0], SCANS[2]}
    assert reported_scans(replace(store, experiment="other")) == frozenset()


def test_a_store_whose_reports_cannot_be_read_is_an_error(study):
    store = tracking.store_of(study.tracking, study.output)
    store.client()
    with sqlite3.connect(store.file) as database:
        database.execute("ALTER TABLE trace_tags RENAME TO gone")
    with pytest.raises(InputError, match=r"The recorded reports cannot be read .*trace_tags.*Correct"):
        reported_scans(store)


def test_runs_have_the_time_of_their_files_and_of_their_cron_line(study):
    path = study.output / "week" / "2026-11-22" / "week.json"
    write_json(path, {"champion": 1, "performance": ["As expected."]})
    os.utime(path, (0, 0))
    runs = {run.what: run for run in status_of(study, MOMENT).runs}
    assert (runs["week"].last, runs["week"].next) == ("1970-01-01T00:00:00Z", "2026-11-30T05:30:00Z")
    assert runs["ingest"].last is not None
    assert (runs["shift"].last, runs["retrain"].last, runs["retrain"].next) == (
        None,
        None,
        "2026-12-01T06:00:00Z",
    )
    off = study.model_copy(update={"serve": study.serve.model_copy(update={"week": None})})
    assert {run.what: run.next for run in status_of(off, MOMENT).runs}["week"] is None


def test_nicknames_are_known_and_what_prefect_alone_understands_is_none():
    assert next_run("@daily", MOMENT) == "2026-11-30T00:00:00Z"
    assert next_run("0 0 30 2 *", MOMENT) is None
    assert next_run("whenever", MOMENT) is None


def test_the_champion_has_the_decision_that_made_it(study, small_classifier):
    store = tracking.store_of(study.tracking, study.output)
    run_id = tracking.log_run(store, RunRecord("r", "k", {}, {}, {}))
    version = tracking.register(store, run_id, small_classifier.save(study.output / "c"), {}, "a")
    tracking.promote(store, version)
    champion = status_of(study, MOMENT).champion
    assert (champion.version, champion.who, champion.decision) == (1, None, None)
    audit = tracking.audit_of(study.output)
    entry = audit.append("promote", key="p", who="ann", version=version, reasons=("It passed.",))
    tracking.set_decision(store, version, entry.sha256)
    audit.append("promote", key="q", who="bob", version=version)
    champion = status_of(study, MOMENT).champion
    assert (champion.who, champion.since, champion.reasons) == ("ann", entry.time, ("It passed.",))
    shift = {"answer": "retrain", "scans": 20, "reasons": ["MCI is rarer."], "scan_ids": [], "tests": []}
    write_json(study.output / "shift" / "version-1" / "a.json", shift)
    write_json(study.output / "shift" / "version-2" / "b.json", {**shift, "answer": "nothing"})
    write_json(
        study.output / "week" / "2026-11-22" / "week.json", {"champion": 1, "performance": ["As expected."]}
    )
    status = status_of(study, MOMENT)
    assert (status.shift["answer"], status.shift["scans"], status.performance) == (
        "retrain",
        20,
        ("As expected.",),
    )
    write_json(
        study.output / "week" / "2026-11-29" / "week.json", {"champion": 2, "performance": ["Of another."]}
    )
    assert status_of(study, MOMENT).performance == ()


@pytest.fixture
def first_champion(monkeypatch):
    """Version 1 is the champion, without an entry in the audit log."""
    monkeypatch.setattr("pipeline.tracking.study_status.champion_version", lambda _store: 1)
    monkeypatch.setattr("pipeline.tracking.study_status.decision_of", lambda _store, _version: None)
    monkeypatch.setattr("pipeline.tracking.study_status.registered_ms", lambda _store, _version: 0)


def put_shift(study, name, age, **found):
    path = study.output / "shift" / "version-1" / name
    write_json(path, {"scan_ids": [], "scans": 0, "answer": "nothing", "reasons": [], "tests": [], **found})
    os.utime(path, (1e9 - age, 1e9 - age))


@pytest.mark.usefixtures("first_champion")
def test_an_answer_holds_after_a_check_that_tested_nothing(study):
    put_shift(study, "new.json", 0, reasons=["No scan is new."])
    found = status_of(study, MOMENT).shift
    assert (found["answer"], found["tested"], found["reasons"]) == ("nothing", False, ("No scan is new.",))
    put_shift(study, "old.json", 9, answer="retrain", reasons=["SUVR differs."], tests=[{}], scans=20)
    found = status_of(study, MOMENT).shift
    assert (found["answer"], found["tested"], found["scans"]) == ("retrain", False, 0)
    assert found["reasons"] == ("No scan is new.", "An earlier check found: SUVR differs.")


@pytest.mark.usefixtures("first_champion")
def test_an_answer_of_readers_holds_too(study):
    put_shift(study, "new.json", 0, reasons=["No scan is new."], tests=[{}])
    readers = study.output / "shift" / "version-1" / "readers" / "7.json"
    write_json(readers, {"to": 7, "reads": 12, "p_value": 0.0, "answer": "retrain", "sentence": "9 of 12."})
    found = status_of(study, MOMENT).shift
    assert (found["answer"], found["tested"]) == ("retrain", True)
    assert found["reasons"][-1] == "An earlier check found: 9 of 12."


@pytest.mark.usefixtures("first_champion")
def test_a_result_that_cannot_be_read_is_not_one_that_is_absent(study):
    for path in (Path("shift/version-1/a.json"), Path("week/2026-11-29/week.json")):
        (study.output / path).parent.mkdir(parents=True)
        (study.output / path).write_text("{")
    status = status_of(study, MOMENT)
    assert status.shift["answer"] == "unknown"
    assert status.performance[0].endswith("week.json cannot be read.")


def test_a_table_without_ids_is_an_error(study):
    table = study.cohort.path / "derivatives" / "taucal" / "cohort.tsv"
    table.write_text("subject\nA\n")
    with pytest.raises(
        CohortError, match=r"cohort\.tsv: The table of the dataset cannot be read .*taucal ingest"
    ):
        status_of(study, MOMENT)


@pytest.mark.parametrize(
    ("change", "serving"),
    [({}, True), ({"process": 2**22 + 1}, False), ({"host": "elsewhere"}, None), ({"since": "1970"}, False)],
    ids=["runs", "ended", "another machine", "another process of this number"],
)
def test_serving_is_what_the_lock_file_names(study, change, serving):
    holder = {"process": os.getppid(), "host": socket.gethostname(), "who": "x", "since": now(), **change}
    lock = study.output / ".serve" / "lock"
    lock.parent.mkdir()
    lock.write_text(json.dumps(holder))
    assert status_of(study, MOMENT).serving is serving
