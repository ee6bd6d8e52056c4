"""Put the calibrated classifier together: what it needs to answer, with an interval, and to abstain."""

from __future__ import annotations

from models.arrays import Floats
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
    calibrated: tuple[Selection, Floats],
    settings: DecisionSettings,
    outliers: OutlierDetector | None = None,
) -> CalibratedClassifier:
    """Fit everything but the networks on the calibration scans.

    Several networks are averaged before they are calibrated, with one calibrator: networks that are each
    calibrated on their own make an average that is not confident enough. The plausible range of a scan's
    probability comes from the draws of the calibrator and the networks.

    Parameters
    ----------
    calibration : Predictions
        Of scans that the networks did not learn from; the test part is not looked at.
    calibrated : tuple of Selection and ndarray, shape (N, K)
        The calibrator to ship, and the probabilities of the calibration scans by calibrators fitted without
        their subjects: prediction sets and operating point come from these, so that no scan judges itself.
    outliers : OutlierDetector, optional
        Of cross-fitted networks; else it is fitted on the features of the calibration scans.

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
    selection, probabilities = calibrated
    if outliers is None:
        outliers = OutlierDetector.fit(
            calibration.features,
            calibration.logits,
            calibration.labels,
            settings.ood_quantile,
            subjects=calibration.subjects,
            networks=len(trained),
        )
    return CalibratedClassifier(
        preprocessing=member.preprocessing,
        network=trained.network,
        network_name=member.name,
        network_options=member.options,
        calibrator=selection.calibrator,
        refits=(),
        conformal=ConformalSets.fit(probabilities, calibration.labels, settings.coverage),
        outliers=outliers,
        class_names=member.class_names,
        prevalence=tuple(trained.prevalence.tolist()),
        operating_point=choose_operating_point(
            probabilities, calibration.labels, settings.max_risk, certainty=settings.certainty
        ),
        largest_set=settings.set_limit(len(member.class_names)),
        range_factor=settings.range_factor,
        ood_quantile=settings.ood_quantile,
    )


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
    shipped = results.row("chosen")
    return Card(
        study=study.name,
        target=study.cohort.target,
        scheme="cross_fit" if split.cross_fitted else "split",
        synthetic=cohort.posterior is not None,
        tracer=study.ingest.tracer,
        imaging=study.imaging.processing(),
        loss=NamedLoss(**study.training.loss.model_dump(mode="json")),
        calibrator=ChosenCalibrator(name=results.chosen, reason=results.reason),
        split=PartSizes(**{part: len(split.part(part)) for part in PARTS}),
        subjects=PartSizes(**{part: len({split.subject_of[i] for i in split.part(part)}) for part in PARTS}),
        class_counts=dict(zip(volumes.class_names, scans.part("train").class_counts, strict=True)),
        metrics={name: MetricInterval(**vars(interval)) for name, interval in shipped.metrics.items()},
        noise=dict(shipped.noise),
        level=results.level,
        coverage=dict(results.coverage),
        likeness=tuple(ConfidenceBin(*counts) for counts in results.likeness),
        norms=() if regions is None else regions.norms(sorted(first.values())),
        data_digest=volumes.digest(),
        split_digest=split.digest(),
    )
