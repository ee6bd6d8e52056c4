"""Put the calibrated classifier together: what it needs to answer, to doubt and to abstain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.calibrators import CALIBRATORS
from models.classifier import CalibratedClassifier
from models.conformal import ConformalSets
from models.outliers import OutlierDetector
from pipeline.config import DecisionSettings
from pipeline.evaluation.decision import choose_operating_point
from pipeline.evaluation.selection import Selection, refit_on_subjects
from pipeline.learning.prediction import Predictions
from pipeline.learning.trained import TrainedNetwork


def assemble(
    trained: TrainedNetwork,
    calibration: Predictions,
    selection: Selection,
    settings: DecisionSettings,
    card: Mapping[str, Any],
    *,
    seed: int,
) -> CalibratedClassifier:
    """Fit everything but the network on the calibration scans.

    The interval of a scan's probability comes from the shipped calibrator refitted on draws of subjects;
    where that is the identity, from one temperature.

    Parameters
    ----------
    trained : TrainedNetwork
    calibration : Predictions
        Of the calibration split; the test split is not looked at.
    selection : Selection
        The calibrator to ship.
    settings : DecisionSettings
    card : mapping
        JSON-able facts that reports tell about the classifier.
    seed : int
        Of the bootstrap refits.
    """
    probabilities = selection.calibrator.transform(calibration.logits)
    # Identity has nothing to refit, which is no certainty: one temperature tells how far off it may be.
    doubted = selection.chosen if CALIBRATORS[selection.chosen].needs_fitting else "temperature"
    refits = refit_on_subjects(calibration, doubted, draws=settings.refits, seed=seed)
    return CalibratedClassifier(
        preprocessing=trained.preprocessing,
        network=trained.network,
        network_name=trained.name,
        network_options=trained.options,
        calibrator=selection.calibrator,
        refits=tuple(refits),
        conformal=ConformalSets.fit(probabilities, calibration.labels, settings.coverage),
        outliers=OutlierDetector.fit(
            calibration.features,
            calibration.logits,
            calibration.labels,
            settings.ood_quantile,
            subjects=calibration.subjects,
        ),
        class_names=trained.class_names,
        prevalence=tuple(trained.prevalence.tolist()),
        operating_point=choose_operating_point(probabilities, calibration.labels, settings.max_risk),
        card=card,
    )
