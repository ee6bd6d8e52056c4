"""What the gate compares: the challenger, the champion and the baseline on the same test scans."""

from __future__ import annotations

from collections.abc import Sequence

from models.arrays import Floats
from models.classifier import CalibratedClassifier
from pipeline.evaluation.monitoring.champions_luck import ChampionsLead
from pipeline.evaluation.monitoring.gate import Judged
from pipeline.evaluation.monitoring.read_labels import diagnosed
from pipeline.learning.predictions import Predictions
from pipeline.scan import Cohort, Split


def judged_of(
    challenger: CalibratedClassifier, test: Predictions, *, champion: Floats | None, baseline: Floats | None,
    lead: ChampionsLead | None = None,
) -> Judged:  # fmt: skip
    """Return the probabilities of all rivals for the test scans.

    Parameters
    ----------
    test : Predictions
        Of the challenger's network.
    champion, baseline : ndarray, shape (N, K), or None
        Calibrated probabilities of the classifier in use, and of the logistic regression on regional SUVR.
    lead : ChampionsLead, optional
        By what the gate chose the champion.
    """
    probabilities = challenger.calibrator.transform(test.logits)
    return Judged(
        labels=test.labels,
        subjects=test.subjects,
        class_names=test.class_names,
        challenger=probabilities,
        sets=challenger.conformal.sets(probabilities),
        coverage=challenger.conformal.coverage,
        champion=champion,
        baseline=baseline,
        calibration_scans=challenger.conformal.counts,
        lead=lead,
    )


def scans_of_others(cohort: Cohort, splits: Sequence[Split]) -> tuple[str, ...]:
    """Return the scans of subjects from whom no classifier with one of these splits has learned.

    A scan whose label is from reads tests no classifier, and is left out.
    """
    learned = {
        split.subject_of[i]
        for split in splits
        for part in ("train", "validation", "calibration")
        for i in split.part(part)
    }
    return tuple(scan.scan_id for scan in diagnosed(cohort).scans if scan.subject not in learned)
