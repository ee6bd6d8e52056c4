"""Retraining on a cohort that grows: what is called for, and what the gate says."""

from __future__ import annotations

from dataclasses import replace

import clinics
import pytest
from clinics import Clinic

from flows.ingestion.ingest_tables import COHORT_TABLE
from flows.retrain import retrain_study
from flows.retraining.approval import HumanAnswer, answer
from flows.retraining.champion import Champion
from flows.retraining.promotion import retraining_lock
from flows.retraining.shift_check import check_shift, compare_new_scans
from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.config import CalibrationSettings, ImbalanceSettings, Study
from pipeline.errors import ConfigError, InputError, LeakageError
from pipeline.evaluation.monitoring.shift import Shift
from pipeline.files import read_json
from pipeline.scan import Split
from pipeline.tracking.audit import audit_of

pytestmark = [pytest.mark.slow, pytest.mark.server]


@pytest.fixture
def clinic(tmp_path) -> Clinic:
    made = Clinic(tmp_path / "bids")
    (made.bids / COHORT_TABLE).parent.mkdir(parents=True)
    made.add(72)
    return made


WIDE = {"negative_log_likelihood": 5, "classwise_ece": 1, "balanced_accuracy": 1, "draws": 100}
NARROW = {"negative_log_likelihood": 0, "classwise_ece": 0, "balanced_accuracy": 0, "draws": 100}


def study_of(clinic: Clinic, *, epochs: int = 12, **retraining: object) -> Study:
    return clinics.study_of(clinic, epochs=epochs, retrain={"gate": WIDE, **retraining})


def versions(study: Study) -> tuple[int | None, int | None]:
    store = tracking.store_of(study.tracking, study.output)
    return tuple(tracking.champion_version(store, alias) for alias in ("champion", "previous"))


def kinds(study: Study) -> list[str]:
    return [entry.kind for entry in audit_of(study.output).entries()]


def test_a_clinic_over_time(clinic):
    study = study_of(clinic)
    first = retrain_study(study, "test")
    assert (first.action, first.outcome, first.version) == ("first", "promoted", 1), first.reasons

    again = retrain_study(study, "test")
    assert (again.action, again.outcome, again.version) == ("nothing", "unchanged", 1), again.reasons
    assert retrain_study(study, "test") == again
    assert kinds(study) == ["promote", "nothing"], "the same decision is written once"

    store = tracking.store_of(study.tracking, study.output)
    before = Champion.of(study, store)
    clinic.add(40)
    grown = retrain_study(study, "test")
    assert (grown.action, grown.outcome, grown.version) == ("retrain", "promoted", 2), grown.reasons
    assert any("40 labelled scans" in reason for reason in grown.reasons)
    assert versions(study) == (2, 1)
    after = Champion.of(study, store)
    assert set(before.split.test) < set(after.split.test)
    assert grown.verdict.passed

    clinic.add(30)
    strict = study_of(clinic, gate=NARROW, growth=0.1, epochs=1, wait_months=0)
    worse = retrain_study(strict, "test")
    assert (worse.action, worse.outcome, worse.version) == ("retrain", "rejected", 2), worse.reasons
    assert versions(study) == (2, 1)
    assert retrain_study(strict, "test") == worse
    assert kinds(study) == ["promote", "nothing", "promote", "reject"]

    held = retrain_study(study_of(clinic, growth=0.1, require_approval=True), "test")
    assert (held.outcome, held.version) == ("held", 2), held.reasons
    assert answer(store, study.output, HumanAnswer(approved=True, name="Dr. A")).version == held.challenger
    assert versions(study) == (held.challenger, 2)
    approved = audit_of(study.output).last("approve")
    assert approved.who == "Dr. A"
    audit_of(study.output).verify()


NEVER_SURE = {"negative_log_likelihood": 0, "classwise_ece": 1, "balanced_accuracy": 1, "draws": 100}


def test_an_undecided_challenger_is_scored_on_later_scans_until_it_is_too_old(clinic):
    study = study_of(clinic, growth=0.3)
    retrain_study(study, "test", "2026-01-01T00:00:00Z")
    clinic.add(30)
    # So small a chance of error is spent that neither outcome is shown.
    sure = NEVER_SURE | {"level": 0.999999, "waiting": 1e-7}
    study = study_of(clinic, growth=0.3, gate=sure, wait_months=2)
    first = retrain_study(study, "test", "2026-02-01T00:00:00Z")
    assert (first.action, first.outcome, first.version, first.challenger) == ("retrain", "undecided", 1, 2)
    assert retrain_study(study, "test", "2026-02-01T00:00:00Z").to_dict() == first.to_dict() | {"shift": None}
    assert kinds(study) == ["promote", "wait"], "without later scans there is no look"

    clinic.add(24)
    second = retrain_study(study, "test", "2026-03-01T00:00:00Z")
    assert (second.outcome, second.challenger) == ("undecided", 2), second.reasons
    entry = audit_of(study.output).last("wait")
    (before, _), (after, _) = entry.facts["looks"]
    assert after == before + 24, "no new subject was learned from, wherever a split would have put it"

    wide = study_of(clinic, growth=0.3, gate=WIDE, wait_months=2)
    decided = retrain_study(wide, "test", "2026-03-02T00:00:00Z")
    assert decided.outcome == "undecided", "scans that were looked at decide nothing new"
    late = retrain_study(study, "test", "2026-04-15T00:00:00Z")
    assert (late.outcome, late.version, late.challenger) == ("rejected", 1, 2)
    assert "It has waited for 2.4 months" in late.reasons[-1]
    assert kinds(study) == ["promote", "wait", "wait", "reject"]
    audit_of(study.output).verify()


def test_later_scans_promote_an_undecided_challenger(clinic):
    study = study_of(clinic, growth=0.3)
    retrain_study(study, "test")
    clinic.add(30)
    sure = NEVER_SURE | {"level": 0.999999, "waiting": 1e-7}
    waits = retrain_study(study_of(clinic, growth=0.3, gate=sure), "test")
    assert waits.outcome == "undecided", waits.reasons
    clinic.add(10)
    promoted = retrain_study(study_of(clinic, growth=0.3, gate=WIDE), "test")
    assert (promoted.outcome, promoted.version) == ("promoted", 2), promoted.reasons
    assert versions(study) == (2, 1)
    assert kinds(study) == ["promote", "wait", "promote"]


def test_a_scanner_that_biases_calls_for_retraining_until_another_champion_comes(clinic):
    study = study_of(clinic, growth=None)
    retrain_study(study, "test")
    clinic.add(5, shifted=0.5)
    few = check_shift(study)
    assert (few.answer, few.scans) == ("nothing", 5)
    assert "Not tested" in few.reasons[0]
    clinic.add(15, shifted=0.5, model="PET-2")
    found = check_shift(study)
    assert (found.answer, found.scans) == ("retrain", 20), found.reasons
    assert check_shift(study) == found
    clinic.add(2)
    later = check_shift(study)
    assert (later.answer, later.tested, later.scans) == ("retrain", False, 2)
    assert later.reasons[1].removeprefix("An earlier check found: ") == found.reasons[0]
    # What a weekly look has found is not forgotten by the monthly retraining, which finds no scan new.
    done = retrain_study(study, "test")
    assert (done.action, done.outcome) == ("retrain", "promoted"), done.reasons
    assert (check_shift(study).answer, check_shift(study).tested) == ("nothing", False)


def test_a_cross_fitted_champion_is_recalibrated_on_new_scans_alone(clinic, monkeypatch):
    def shifted(*given: object) -> Shift:
        return replace(compare_new_scans(*given), answer="recalibrate")

    study = study_of(clinic, growth=None, epochs=1)
    study = study.model_copy(update={"calibration": CalibrationSettings(folds=2)})
    first = retrain_study(study, "test")
    before = Champion.of(study, tracking.store_of(study.tracking, study.output))
    assert before.split.cross_fitted
    clinic.add(40)
    monkeypatch.setattr("flows.retraining.plan.compare_new_scans", shifted)
    done = retrain_study(study, "test")
    assert (first.version, done.action, done.challenger) == (1, "recalibrate", 2), done.reasons
    bundles = [CalibratedClassifier.load(path) for path in study.output.rglob("rounds/*/classifier")]
    (champion,) = (b for b in bundles if b.card.scheme == "cross_fit")
    (recalibrated,) = (b for b in bundles if b.card.scheme == "split")
    for mine, theirs in zip(recalibrated.network.body, champion.network.body, strict=True):
        for weights, as_before in zip(mine.parameters(), theirs.parameters(), strict=True):
            assert weights.equal(as_before)
    assert recalibrated.card.split.train == len(before.split.train) == champion.card.split.train
    new = {scan.scan_id for scan in clinic.scans[72:]}
    splits = [Split.from_dict(read_json(path)) for path in study.output.rglob("rounds/*/split.json")]
    calibration = {i for split in splits for i in split.calibration}
    assert calibration
    assert calibration <= new


def test_a_champion_made_from_new_test_subjects_is_refused_by_their_names(clinic):
    study = study_of(clinic)
    retrain_study(study, "test")
    champion = Champion.of(study, tracking.store_of(study.tracking, study.output))
    seen = champion.split.train[:2]
    other = Split((), (), (), seen, {i: champion.split.subject_of[i] for i in seen})
    with pytest.raises(
        LeakageError, match=rf"{other.subject_of[seen[0]]}.*train part of the champion, version 1,"
    ):
        champion.check_never_saw(other)


def test_what_cannot_be_retrained_is_refused_before_work(clinic):
    study = study_of(clinic).model_copy(update={"imbalance": ImbalanceSettings(ratio=20)})
    with pytest.raises(ConfigError, match=r"imbalance\.ratio: 20"):
        retrain_study(study, "test")
    study = study_of(clinic)
    with (
        retraining_lock(study.output, wait=False),
        pytest.raises(InputError, match="locked the study's champion"),
    ):
        retrain_study(study, "test")
