"""Put the calibrated classifier together: what it needs to answer, with an interval, and to abstain."""

from __future__ import annotations

import numpy as np

from models.calibrators import CALIBRATORS, Calibrator, build_calibrator
from models.card import Card, ChosenCalibrator, ConfidenceBin, MetricInterval, NamedLoss, PartSizes
from models.classifier import CalibratedClassifier
from models.conformal import ConformalSets
from models.outliers import OutlierDetector
from models.preprocessing import Preprocessing
from pipeline.config import DecisionSettings, Study
from pipeline.errors import InputError
from pipeline.evaluation.classifier.decision import choose_operating_point
from pipeline.evaluation.classifier.results import Results
from pipeline.evaluation.classifier.selection import Selection
from pipeline.learning.ensemble_training import TrainedEnsemble
from pipeline.learning.predictions import Predictions
from pipeline.learning.region_table import RegionTable
from pipeline.learning.split_cohort import SplitCohort
from pipeline.scan import PARTS


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
    calibration : Predictions
        Of the calibration split, by ``trained.network``; the test split is not looked at.
    selection : Selection
        The calibrator to ship.
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
    # The identity has nothing to refit, which is not certainty: refits of one temperature show the spread.
    refitted = selection.chosen if CALIBRATORS[selection.chosen].needs_fitting else "temperature"
    refits = refit_on_subjects(calibration, refitted, draws=settings.refits, seed=seed)
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


def refit_on_subjects(
    predictions: Predictions, calibrator_name: str, *, draws: int, seed: int
) -> list[Calibrator]:
    """Refit a calibrator on bootstrap draws of the calibration subjects.

    The spread of one scan's probability over the refits shows how much it depends on the subjects of the
    calibration split. It does not include the network's own uncertainty.
    """
    subjects = np.unique(predictions.subjects, return_inverse=True)[1]
    rows_of = [np.flatnonzero(subjects == s) for s in range(int(subjects.max()) + 1)]
    generator = np.random.default_rng(seed)
    refits = []
    for _ in range(draws):
        drawn = generator.integers(len(rows_of), size=len(rows_of))
        rows = np.concatenate([rows_of[s] for s in drawn])
        calibrator = build_calibrator(calibrator_name)
        refits.append(calibrator.fit(predictions.logits[rows], predictions.labels[rows]))
    return refits


def card_of(study: Study, scans: SplitCohort, results: Results, regions: RegionTable | None) -> Card:
    """Return the card of the classifier that a study has made from a cohort and tested on it."""
    cohort, volumes, split = scans.cohort, scans.volumes, scans.split
    normal, training = study.cohort.classes[0], set(split.train)
    # One scan a subject: a subject with three visits is not three norms.
    first = {
        s.subject: s.scan_id
        for s in reversed(cohort.scans)
        if s.diagnosis == normal and s.scan_id in training
    }
    metrics = results.row("chosen").metrics
    return Card(
        study=study.name,
        synthetic=cohort.posterior is not None,
        tracer=study.ingest.tracer,
        imaging=study.imaging.model_dump(mode="json"),
        loss=NamedLoss(**study.training.loss.model_dump(mode="json")),
        calibrator=ChosenCalibrator(name=results.chosen, reason=results.reason),
        split=PartSizes(**{part: len(split.part(part)) for part in PARTS}),
        subjects=PartSizes(**{part: len({split.subject_of[i] for i in split.part(part)}) for part in PARTS}),
        class_counts=dict(zip(volumes.class_names, scans.part("train").class_counts, strict=True)),
        metrics={name: MetricInterval(**vars(interval)) for name, interval in metrics.items()},
        coverage=dict(results.coverage),
        likeness=tuple(ConfidenceBin(*counts) for counts in results.likeness),
        norms=() if regions is None else regions.norms(sorted(first.values())),
        data_digest=volumes.digest(),
        split_digest=split.digest(),
    )
