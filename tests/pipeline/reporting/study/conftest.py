"""A study with its results, made once; the tests of its report start from it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from models.calibrators import softmax
from models.interval import RangeFit
from pipeline.config import CalibrationSettings, EvaluationSettings
from pipeline.evaluation.classifier.decision import SetSizes
from pipeline.evaluation.classifier.decision_counts import DecisionCounts
from pipeline.evaluation.classifier.results import evaluate
from pipeline.evaluation.classifier.rivals import Rivals
from pipeline.evaluation.classifier.selection import select_calibrator
from pipeline.learning.predictions import Predictions
from pipeline.reporting.study.study_build import StudySources, build_study_report
from pipeline.reporting.study.study_numbers import StudyReport
from pipeline.scan import PARTS, Cohort, Scan, Split

CLASSES = ("CN", "MCI", "AD")
SHARES = np.array([0.55, 0.33, 0.12])
SIZES = {"train": 60, "validation": 20, "calibration": 40, "test": 45}


DECISIONS = DecisionCounts(
    promised=0.8,
    largest_set=2,
    sets=SetSizes(45, 1.6, 4 / 45),
    answered=38,
    right=29,
    held={"CN": (20, 22), "MCI": (12, 23), "AD": (0, 0)},
    true_sets=SetSizes(45, 1.25, 0.0),
    plausible=RangeFit(1.4, 0.78, 0.91, 0.36, 0.47),
)


@dataclass(frozen=True)
class _Outcome:
    verdict: str
    rule: str = ""
    message: str = ""


def _part(name: str, size: int, rng: np.random.Generator) -> tuple[Predictions, np.ndarray]:
    labels = rng.choice(3, size, p=SHARES)
    evidence = rng.normal(size=(size, 3)) + 1.6 * np.eye(3)[labels]
    posterior = softmax(1.6 * evidence + np.log(SHARES))
    subjects = tuple(f"{name}{i // 2}" for i in range(size))  # two visits each
    ids = tuple(f"sub-{s}_ses-{i % 2}" for i, s in enumerate(subjects))
    features = np.zeros((size, 2), dtype=np.float32)
    return Predictions(ids, subjects, 2 * np.log(posterior), labels, features, CLASSES), posterior


@pytest.fixture(scope="module")
def sources() -> StudySources:
    rng = np.random.default_rng(7)
    parts = {name: _part(name, size, rng) for name, size in SIZES.items()}
    test, posterior = parts["test"]
    calibration = parts["calibration"][0]
    selection = select_calibrator(
        calibration,
        CalibrationSettings(candidates=("identity", "temperature"), method="temperature", folds=4),
        0,
    )
    results = evaluate(
        test, selection, Rivals(SHARES, None, posterior), EvaluationSettings(draws=200), seed=0
    )
    scans = tuple(
        Scan(
            subject,
            scan_id[-1],
            Path("x"),
            diagnosis=CLASSES[label],
            facts={"age": 70.0 + n % 5, "sex": "FM"[n % 2], "site": n % 3},
        )
        for predictions, _ in parts.values()
        for n, (scan_id, subject, label) in enumerate(
            zip(predictions.scan_ids, predictions.subjects, predictions.labels, strict=True)
        )
    )
    refused = [_Outcome("refused", "missing-slices", "3 slices are missing <b>here</b>")] * 3
    return StudySources(
        title="demo",
        run_id="4f1c",
        report_date="2026-11-21",
        results=results.with_decisions(DECISIONS),
        selection=selection,
        test=test,
        probabilities=selection.calibrator.transform(test.logits),
        cohort=Cohort(scans, CLASSES),
        split=Split(
            *(parts[p][0].scan_ids for p in PARTS),
            subject_of={s.scan_id: s.subject for s in scans},
        ),
        history=[{"epoch": e, "loss": 1 / (e + 1), "validation_nll": float("nan")} for e in range(5)],
        posterior=posterior,
        operating_point=0.6,
        outcomes=[*refused, *[_Outcome("accepted")] * len(scans)],
        ignored={"MR": 12},
        versions={"taucal": "0.1.0"},
        synthetic=True,
    )


@pytest.fixture(scope="module")
def report(sources) -> StudyReport:
    return build_study_report(sources)
