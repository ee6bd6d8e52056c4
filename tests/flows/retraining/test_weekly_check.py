"""The weekly check reads the ledger alone: what it counts, compares, shows and sends."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import clinics
import nibabel as nib
import numpy as np
import pytest
from clinics import Clinic

from flows.ingestion.ingest_tables import COHORT_TABLE
from flows.retrain import retrain_study
from flows.retraining.champion import Champion
from flows.retraining.weekly_check import check_week
from pipeline import tracking
from pipeline.config import Study
from pipeline.scan import Scan, scanner_of
from pipeline.tracking import AnsweredScan

pytestmark = [pytest.mark.slow, pytest.mark.server]
NOW = datetime(2026, 3, 9, 5, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Clinic, Study]:
    clinic = Clinic(tmp_path_factory.mktemp("clinic") / "bids")
    (clinic.bids / COHORT_TABLE).parent.mkdir(parents=True)
    clinic.add(72)
    study = clinics.study_of(clinic, epochs=6, calibration={"scheme": "split"}, retrain={"growth": None})
    assert retrain_study(study, "test").version == 1
    return clinic, study


@pytest.fixture
def clock(monkeypatch):
    """Answers are given, and the check is made, when a test says so."""
    moment = [NOW]
    monkeypatch.setattr(tracking.ledger.time, "time_ns", lambda: int(moment[0].timestamp() * 1e9))
    return moment


def answer_scans(clinic: Clinic, study: Study, scans: list[Scan]) -> None:
    """Record what the champion answers about scans, as a nightly report does."""
    store = tracking.store_of(study.tracking, study.output)
    classifier = Champion.of(study, store).classifier
    regions = {row["scan_id"]: row for row in clinic.regions}
    for scan in scans:
        found = classifier.predict(np.asanyarray(nib.load(scan.path).dataobj))
        measured = {
            "regions": {k: v for k, v in regions[scan.scan_id].items() if k != "scan_id"},
            "scanner": scanner_of(scan.facts), "logits": list(found.logits),
            "out_of_distribution": found.out_of_distribution,
        }  # fmt: skip
        answer = {
            "decision": found.decision, "reasons": list(found.reasons),
            "probabilities": dict(zip(found.class_names, found.probabilities, strict=True)),
        }  # fmt: skip
        answered = AnsweredScan("report", scan.scan_id, "0", "1", "run", answer, measured=measured)
        tracking.record_answer(store, answered)


def test_weeks_of_a_clinic(made, clock, monkeypatch):
    """One story: nothing, too few, a week as before, the same again, a new scanner that biases."""
    clinic, study = made
    sent = []
    notice = "flows.retraining.weekly_check.send_notice"
    monkeypatch.setattr(notice, lambda _, event, facts: sent.append((event, dict(facts))))
    empty = check_week(study, clock[0]).report
    assert (empty.scans, empty.champion, empty.answer, empty.performance) == (0, 1, "nothing", ())

    answer_scans(clinic, study, clinic.scans[:3])
    learned = check_week(study, clock[0]).report
    assert learned.scans == 3
    assert len(learned.reasons) == 1
    assert re.match(
        "No recorded answer can be compared: .*from whose scans the champion learned", learned.reasons[0]
    )

    clock[0] += timedelta(days=7, minutes=1)
    clinic.add(4)
    answer_scans(clinic, study, clinic.scans[72:])
    few = check_week(study, clock[0]).report
    assert few.scans == 4, "those of last week are not of this one"
    assert "Not tested: the period has 4 subjects" in few.reasons[0]
    assert "there are 4 subjects, and it needs 30" in few.performance[0]

    clock[0] += timedelta(days=7, minutes=1)
    clinic.add(30)
    answer_scans(clinic, study, clinic.scans[76:])
    answer_scans(clinic, study, clinic.scans[76:77])
    for scan in clinic.scans[76:106]:
        tracking.set_diagnosis(tracking.store_of(study.tracking, study.output), scan.scan_id, scan.diagnosis)
    done = check_week(study, clock[0])
    assert (done.report.scans, done.report.subjects, done.report.diagnoses) == (30, 30, 30)
    assert (done.report.answer, done.report.compared) == ("nothing", 34), (
        "the few of last week are among them"
    )
    assert done.report.performance[0].startswith("Expected of 34 subjects before their diagnoses are known")
    assert done.report.performance[1].startswith("Of the 30 subjects diagnosed since")
    assert check_week(study, clock[0]).report == done.report, "the same day gives the same page"
    page = done.page.read_text()
    for shown in ("30 scans of 30 subjects", "No action is needed", "Expected of 34 subjects", "scanner"):
        assert shown in page
    assert str(clinic.bids) not in page

    clock[0] += timedelta(days=7, minutes=1)
    clinic.add(15, shifted=0.5, model="PET-2")
    answer_scans(clinic, study, clinic.scans[106:])
    shifted = check_week(study, clock[0]).report
    assert (shifted.answer, shifted.compared) == ("retrain", 15), shifted.reasons
    assert [event for event, _ in sent] == ["week"] * 6
    assert sent[-1][1]["advice"] == "retrain"
    assert str(clinic.bids.parent) not in json.dumps(sent)
    assert sorted(p.name for p in (study.output / "week").iterdir()) == [
        "2026-03-09", "2026-03-16", "2026-03-23", "2026-03-30",
    ]  # fmt: skip


def test_a_study_without_a_champion_has_a_page_that_says_so(tmp_path):
    study = Study(name="new", output=tmp_path / "out", cohort={"path": tmp_path / "bids"})
    found = check_week(study, NOW)
    assert found.report.reasons == ("There is no champion yet.",)
    assert "0 scans of 0 subjects" in found.page.read_text()
