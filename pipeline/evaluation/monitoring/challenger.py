"""What the gate compares: the challenger, the champion and the baseline on the same test scans."""

from __future__ import annotations

import numpy as np

from models.arrays import Floats
from models.classifier import CalibratedClassifier
from pipeline.evaluation.monitoring.gate import Judged
from pipeline.learning.predictions import Predictions


def judged_of(
    challenger: CalibratedClassifier,
    calibration: Predictions,
    test: Predictions,
    *,
    champion: Floats | None,
    baseline: Floats | None,
) -> Judged:
    """Return the probabilities of all rivals for the test scans.

    Parameters
    ----------
    calibration, test : Predictions
        Of the challenger's network.
    champion, baseline : ndarray, shape (N, K), or None
        Calibrated probabilities of the classifier in use, and of the logistic regression on regional SUVR.
    """
    probabilities = challenger.calibrator.transform(test.logits)
    per_class = np.bincount(calibration.labels, minlength=probabilities.shape[1])
    return Judged(
        labels=test.labels,
        subjects=test.subjects,
        class_names=test.class_names,
        challenger=probabilities,
        sets=challenger.conformal.sets(probabilities),
        coverage=challenger.conformal.coverage,
        champion=champion,
        baseline=baseline,
        calibration_scans=tuple(per_class.tolist()),
    )
