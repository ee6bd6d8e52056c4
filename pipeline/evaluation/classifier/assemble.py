"""Put the calibrated classifier together: what it needs to answer, to doubt and to abstain."""

from __future__ import annotations

from models.calibrators import CALIBRATORS
from models.classifier import CalibratedClassifier
from models.conformal import ConformalSets
from models.outliers import OutlierDetector
from models.preprocessing import Preprocessing
from pipeline.config import DecisionSettings
from pipeline.errors import InputError
from pipeline.evaluation.classifier.decision import choose_operating_point
from pipeline.evaluation.classifier.selection import Selection, refit_on_subjects
from pipeline.learning.ensemble_training import TrainedEnsemble
from pipeline.learning.predictions import Predictions


def assemble(
    trained: TrainedEnsemble,
    calibration: Predictions,
    selection: Selection,
    settings: DecisionSettings,
    *,
    seed: int,
) -> CalibratedClassifier:
    """Fit everything but the networks on the calibration scans.

    Several networks are averaged before they are calibrated, with one calibrator: networks that are each
    calibrated on their own make an average that is not confident enough. The interval of a scan's probability
    comes from the shipped calibrator refitted on draws of subjects, with every network through each of these;
    where that calibrator is the identity, from one temperature.

    Parameters
    ----------
    trained : TrainedEnsemble
    calibration : Predictions
        Of the calibration split, by ``trained.network``; the test split is not looked at.
    selection : Selection
        The calibrator to ship.
    settings : DecisionSettings
    seed : int
        Of the bootstrap refits.

    Raises
    ------
    InputError
        If the networks are of images, not of scans.

    References
    ----------
    Rahaman & Thiery, Uncertainty Quantification and Deep Ensembles, NeurIPS 2021.
    """
    member = trained.members[0]
    if not isinstance(member.preprocessing, Preprocessing):
        raise InputError(
            "The networks were trained on images; a classifier of scans needs networks of SUVR volumes"
        )
    probabilities = selection.calibrator.transform(calibration.logits)
    # Identity has nothing to refit, which is no certainty: one temperature tells how far off it may be.
    doubted = selection.chosen if CALIBRATORS[selection.chosen].needs_fitting else "temperature"
    refits = refit_on_subjects(calibration, doubted, draws=settings.refits, seed=seed)
    return CalibratedClassifier(
        preprocessing=member.preprocessing,
        network=trained.network,
        network_name=member.name,
        network_options=member.options,
        calibrator=selection.calibrator,
        refits=tuple(refits),
        conformal=ConformalSets.fit(probabilities, calibration.labels, settings.coverage),
        outliers=OutlierDetector.fit(
            calibration.features,
            calibration.logits,
            calibration.labels,
            settings.ood_quantile,
            subjects=calibration.subjects,
            networks=len(trained),
        ),
        class_names=member.class_names,
        prevalence=tuple(trained.prevalence.tolist()),
        operating_point=choose_operating_point(probabilities, calibration.labels, settings.max_risk),
    )
