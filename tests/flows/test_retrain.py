"""Retraining on a cohort that grows: what is called for, and what the gate says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from flows.ingestion.ingest_tables import COHORT_TABLE, REGION_TABLE
from flows.retrain import retrain
from flows.retraining.champion import Champion
from flows.retraining.promotion import approve, retraining_lock
from flows.retraining.shift_check import check_shift
from models.preprocessing import TEMPLATE_SHAPE
from pipeline import tracking
from pipeline.config import ImbalanceSettings, Study
from pipeline.errors import ConfigError, InputError, LeakageError
from pipeline.scan import Cohort, Scan, Split
from pipeline.tracking.audit import audit_of

pytestmark = [pytest.mark.slow, pytest.mark.server]

CLASSES = ("CN", "AD")
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


@dataclass
class Clinic:
    """A dataset as ingest leaves it, without the ingest: scans can be added."""

    bids: Path
    scans: list[Scan] = field(default_factory=list)
    regions: list[dict[str, float | str]] = field(default_factory=list)

    def add(self, subjects: int, *, shifted: float = 0.0, model: str = "PET-1") -> None:
        """Add a scan of so many new subjects; `shifted` is added to the SUVR of the whole brain."""
        for number in range(len(self.scans), len(self.scans) + subjects):
            rng = np.random.default_rng(number)
            label = number % 2
            volume = np.full(TEMPLATE_SHAPE, 1.0 + shifted, dtype=np.float32)
            volume[30:60, 30:60, 30:60] += 0.6 * label + 0.35 * rng.standard_normal()
            path = self.bids / f"sub-{number:03d}_suvr.nii"
            nib.save(nib.Nifti1Image(volume, AFFINE), path)
            facts = {"manufacturer": "ACME", "model": model, "quality": "accepted"}
            scan = Scan(f"{number:03d}", f"2020{1 + number // 28:02d}{1 + number % 28:02d}", path,
                        diagnosis=CLASSES[label], facts=facts)  # fmt: skip
            self.scans.append(scan)
            # The table's regions tell nothing of the class: what is learned must come from the volume.
            drawn = dict(zip(("left_a", "right_a", "left_b"), 1 + 0.05 * rng.standard_normal(3), strict=True))
            self.regions.append(
                {"scan_id": scan.scan_id, **{name: value + shifted for name, value in drawn.items()}}
            )
        Cohort(tuple(self.scans), CLASSES).write_tsv(self.bids / COHORT_TABLE)
        pd.DataFrame(self.regions).to_csv(self.bids / REGION_TABLE, sep="\t", index=False)


@pytest.fixture
def clinic(tmp_path) -> Clinic:
    made = Clinic(tmp_path / "bids")
    (made.bids / COHORT_TABLE).parent.mkdir(parents=True)
    made.add(72)
    return made


WIDE = {"negative_log_likelihood": 5, "classwise_ece": 1, "balanced_accuracy": 1, "draws": 100}
NARROW = {"negative_log_likelihood": 0, "classwise_ece": 0, "balanced_accuracy": 0, "draws": 100}


def study_of(clinic: Clinic, *, epochs: int = 12, **retraining: object) -> Study:
    return Study(
        name="clinic",
        output=clinic.bids.parent / "study",
        cohort={"path": clinic.bids, "classes": CLASSES},
        split={"validation": 0.1, "calibration": 0.3, "test": 0.3},
        preprocessing={"spacing_mm": 8},
        augmentation={"probability": 0},
        network={"options": {"width": 4}},
        training={"epochs": epochs, "learning_rate": 0.01, "batch_size": 16},
        evaluation={"draws": 50},
        decision={"coverage": 0.8},
        retrain={"gate": WIDE, **retraining},
    )


def versions(study: Study) -> tuple[int | None, int | None]:
    store = tracking.store_of(study.tracking, study.output)
    return tuple(tracking.champion_version(store, alias) for alias in ("champion", "previous"))


def kinds(study: Study) -> list[str]:
    return [entry.kind for entry in audit_of(study.output).entries()]


def test_a_clinic_over_time(clinic):
    study = study_of(clinic)
    first = retrain(study, "test")
    assert (first.action, first.outcome, first.version) == ("first", "promoted", 1), first.reasons

    again = retrain(study, "test")
    assert (again.action, again.outcome, again.version) == ("nothing", "kept", 1), again.reasons
    assert retrain(study, "test") == again
    assert kinds(study) == ["promote", "nothing"], "the same decision is written once"

    store = tracking.store_of(study.tracking, study.output)
    before = Champion.of(study, store)
    clinic.add(40)
    grown = retrain(study, "test")
    assert (grown.action, grown.outcome, grown.version) == ("retrain", "promoted", 2), grown.reasons
    assert any("40 labelled scans" in reason for reason in grown.reasons)
    assert versions(study) == (2, 1)
    after = Champion.of(study, store)
    assert set(before.split.test) < set(after.split.test)
    assert grown.verdict.passed

    clinic.add(30)
    strict = study_of(clinic, gate=NARROW, growth=0.1, epochs=1)
    worse = retrain(strict, "test")
    assert (worse.action, worse.outcome, worse.version) == ("retrain", "rejected", 2), worse.reasons
    assert versions(study) == (2, 1)
    assert retrain(strict, "test") == worse
    assert kinds(study) == ["promote", "nothing", "promote", "reject"]

    held = retrain(study_of(clinic, growth=0.1, require_approval=True), "test")
    assert (held.outcome, held.version) == ("held", 2), held.reasons
    assert approve(store, study.output, "Dr. A") == held.challenger
    assert versions(study) == (held.challenger, 2)
    approved = audit_of(study.output).last("approve")
    assert approved.who == "Dr. A"
    audit_of(study.output).verify()


def test_a_scanner_that_biases_calls_for_retraining_until_another_champion_comes(clinic):
    study = study_of(clinic, growth=None)
    retrain(study, "test")
    clinic.add(5, shifted=0.5)
    few = check_shift(study)
    assert (few.answer, few.scans) == ("nothing", 5)
    assert "Not tested" in few.reasons[0]
    clinic.add(15, shifted=0.5, model="PET-2")
    found = check_shift(study)
    assert (found.answer, found.scans) == ("retrain", 20), found.reasons
    assert check_shift(study) == found
    # What a weekly look has found is not forgotten by the monthly retraining, which finds no scan new.
    done = retrain(study, "test")
    assert (done.action, done.outcome) == ("retrain", "promoted"), done.reasons
    assert check_shift(study).answer == "nothing"


def test_a_champion_made_from_new_test_subjects_is_refused_by_their_names(clinic):
    study = study_of(clinic)
    retrain(study, "test")
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
        retrain(study, "test")
    study = study_of(clinic)
    with (
        retraining_lock(study.output, wait=False),
        pytest.raises(InputError, match="locked the study's champion"),
    ):
        retrain(study, "test")
