"""What to expect of a classifier on its latest scans, in words."""

from __future__ import annotations

import math

import numpy as np

from models.classifier import CalibratedClassifier
from models.interval import calibrator_draws
from pipeline.evaluation.monitoring.period import PeriodScans
from pipeline.evaluation.monitoring.without_labels import (
    FEWEST_SUBJECTS,
    Unlabelled,
    calibration_z,
    expected_performance,
)
from pipeline.learning.predictions import Predictions
from pipeline.wording import counted

LATEST = 2 * FEWEST_SUBJECTS
"""Of so many subjects the performance is expected: older scans would hide a change."""
_UNUSUAL = 2.0


def performance_sentences(
    classifier: CalibratedClassifier,
    period: PeriodScans,
    predictions: Predictions,
    reference: PeriodScans,
    *,
    seed: int = 0,
) -> tuple[str, ...]:
    """Return what to expect of a classifier without diagnoses, and whether diagnoses that came agree.

    Parameters
    ----------
    period : PeriodScans
        Scans since the classifier was made, the oldest first.
    predictions : Predictions
        Of the same scans; a scan without a diagnosis has the label -1.
    reference : PeriodScans
        Scans from which the classifier did not learn, before it was in use.
    seed : int
        Of the draws.
    """
    rows = period.last_scans()
    latest = rows[-LATEST:]
    stated = period.probabilities
    unlabelled = Unlabelled(
        stated[latest],
        classifier.conformal.sets(stated[latest]),
        period.class_names,
        np.asarray(classifier.prevalence),
        calibrator_draws(
            classifier.refits or (classifier.calibrator,), predictions.logits[latest][np.newaxis]
        ),
    )
    before = reference.out_of_distribution[reference.last_scans()]
    found = expected_performance(unlabelled, period.out_of_distribution[latest], before, seed=seed)
    sentences = found.sentences()
    diagnosed = rows[predictions.labels[rows] >= 0]
    if len(diagnosed):
        z = calibration_z(stated[diagnosed], predictions.labels[diagnosed])
        sentences += () if math.isnan(z) else (_in_words(z, len(diagnosed)),)
    return sentences


def _in_words(z: float, subjects: int) -> str:
    meaning = "as many findings were right as stated, within chance"
    if abs(z) > _UNUSUAL:
        few = "fewer" if z < 0 else "more"
        meaning = f"{few} findings were right than stated, by more than chance explains in 19 of 20 periods"
    return f"Of the {counted(subjects, 'subject')} diagnosed since, {meaning} (z = {z:+.1f})."
