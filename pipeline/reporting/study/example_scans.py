"""Which test scans show what reports look like."""

from __future__ import annotations

import numpy as np

from models.classifier import CalibratedClassifier
from pipeline.learning.predictions import Predictions
from pipeline.scan import Cohort, Scan


def example_scans(classifier: CalibratedClassifier, test: Predictions, cohort: Cohort) -> dict[str, Scan]:
    """Choose one clear, one uncertain and one scan to refer among the test scans.

    Clear is the most confident of those reported; uncertain the least confident of those whose prediction
    set holds several classes; to refer the most unusual of the others: a scan with a quality warning first,
    then by distance to the calibration scans.

    Returns
    -------
    dict of str to Scan
        ``"clear"``, ``"uncertain"`` and ``"refer"``.
    """
    probabilities = classifier.calibrator.transform(test.logits)
    by_id = {s.scan_id: s for s in cohort.scans}
    sets = classifier.conformal.sets(probabilities).sum(axis=1)
    distance = classifier.outliers.mahalanobis(test.features)
    good = np.array([by_id[i].facts.get("quality") == "accepted" for i in test.scan_ids])
    usual = good & (distance <= classifier.outliers.mahalanobis_limit)
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    clear = next((i for i in order if sets[i] == 1 and usual[i]), order[0])
    others = [i for i in order[::-1] if i != clear]
    uncertain = next((i for i in others if sets[i] > 1 and usual[i]), others[0])
    refer = max((i for i in others if i != uncertain), key=lambda i: (not good[i], distance[i]))
    chosen = {"clear": clear, "uncertain": uncertain, "refer": refer}
    return {kind: by_id[test.scan_ids[i]] for kind, i in chosen.items()}
