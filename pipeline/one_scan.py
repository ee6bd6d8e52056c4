"""One scan from its path to a prediction: what reports, servers and other processes call."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from models.classifier import CalibratedClassifier, Prediction
from models.shares import read_shares
from pipeline.config import ImagingSettings
from pipeline.errors import ConfigError, InputError, RefusedScan, TaucalError, sentence, unexpected
from pipeline.imaging.process import Normalised, normalise
from pipeline.ingest.found import FoundScan
from pipeline.ingest.scan_reading import read_scan
from pipeline.scan import Volume, says_synthetic, scanner_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Inference:
    """The results of one scan, as far as it was processed.

    Parameters
    ----------
    volume : Volume or None
        The scan as it was read; None where it could not be.
    normalised : Normalised or None
        SUVR, regions and findings; None where the scan was refused.
    prediction : Prediction or None
        None where the scan was refused.
    refusal : RefusedScan or None
        Why there is no prediction.
    """

    volume: Volume | None
    normalised: Normalised | None
    prediction: Prediction | None
    refusal: RefusedScan | None


class Answer(TypedDict):
    """The prediction of one scan as a server sends it.

    Parameters
    ----------
    decision : {"report", "refer", "refused"}
    reasons : list of str
        Why it is referred or refused, in words.
    rule : str or None
        Machine name of the rule a refused scan broke.
    probabilities : dict of class name to float, or None
        Calibrated, at the prevalence of training; None where refused.
    clinic_probabilities : dict of class name to float, or None
        At the clinic's prevalence, where one is stated.
    lower, upper : dict of class name to float, or None
        The plausible range of what is shown: of the clinic's probabilities where a prevalence is stated.
    prediction_set : list of str or None
        Classes that cannot be ruled out; the most likely of what is shown is one of them.
    most_likely : str or None
        The class of the largest probability shown.
    clinic_prevalence : dict of class name to float, or None
        The stated class shares, where some are stated.
    """

    decision: Literal["report", "refer", "refused"]
    reasons: list[str]
    rule: str | None
    probabilities: dict[str, float] | None
    lower: dict[str, float] | None
    upper: dict[str, float] | None
    prediction_set: list[str] | None
    clinic_probabilities: dict[str, float] | None
    most_likely: str | None
    clinic_prevalence: dict[str, float] | None


def imaging_of(classifier: CalibratedClassifier) -> ImagingSettings:
    """Return the imaging settings that a classifier was trained with."""
    # A classifier from before there was a warp learned from affine scans.
    return ImagingSettings(**{"registration": "affine", **classifier.card.imaging})


def infer(
    classifier: CalibratedClassifier,
    scan: Path | FoundScan,
    prevalence: dict[str, float] | None = None,
    *,
    partial_volume: bool = False,
) -> Inference:
    """Read, normalise and classify one scan with the imaging settings the classifier was trained with.

    Parameters
    ----------
    classifier : CalibratedClassifier
        Its card holds the tracer and the imaging settings of training.
    scan : Path or FoundScan
        As in `pipeline.ingest.scan_reading.read_scan`.
    prevalence : dict or None
        The clinic's own class shares, at which probabilities, set and decision are then reported.
    partial_volume : bool
        Whether a second SUVR of each region is corrected for blur; the prediction does not depend on it.
    """
    volume, normalised = None, None
    try:
        volume = read_scan(scan)
        _check_tracer(volume, classifier.card.tracer)
        settings = imaging_of(classifier).model_copy(update={"partial_volume": partial_volume})
        normalised = normalise(volume, settings)
    except RefusedScan as refusal:
        return Inference(volume, None, None, refusal)
    except TaucalError:
        raise
    except Exception as error:  # noqa: BLE001 - other scans of the call go on
        _log.debug("a scan failed", exc_info=True)
        return Inference(volume, None, None, unexpected(error))
    warnings = tuple(f.message for f in normalised.findings if f.verdict == "warn")
    prediction = classifier.predict(normalised.suvr.array, quality_reasons=warnings, prevalence=prevalence)
    return Inference(volume, normalised, prediction, None)


def _check_tracer(volume: Volume, expected: str) -> None:
    tracer = volume.facts.get("tracer")
    if tracer not in (None, expected):
        raise RefusedScan(
            "wrong-tracer",
            f"The tracer is {tracer}, but the classifier was trained on {expected}",
            hint=f"check that this is the {expected} scan; {tracer} needs a model trained on {tracer}",
            measured=str(tracer),
        )


def check_prevalence(classifier: CalibratedClassifier, prevalence: Mapping[str, float]) -> dict[str, float]:
    """Return a clinic's class shares, which sum to 1, in the order of the classes.

    Raises
    ------
    ConfigError
        If they do not name the classes or do not sum to 1 or 100.
    """
    try:
        return read_shares(prevalence, classifier.class_names)
    except ValueError as error:
        raise ConfigError(str(error), where="--prevalence", hint="name each class once") from error


def answer(
    classifier: CalibratedClassifier, path: Path, prevalence: dict[str, float] | None = None
) -> Answer:
    """Classify one scan and return what a server sends back: JSON-able, without identifiers.

    Parameters
    ----------
    path : Path
        A folder of DICOM files or a NIfTI file; one that is not there is refused as any other.
    prevalence : dict, optional
        The clinic's own class shares.
    """
    return answer_with_measures(classifier, path, prevalence)[0]


def answer_with_measures(
    classifier: CalibratedClassifier, path: Path, prevalence: dict[str, float] | None = None
) -> tuple[Answer, dict[str, Any]]:
    """Return the answer about one scan as `answer` does, and with it what `measured_of` returns."""
    try:
        inference = infer(classifier, path, prevalence)
    except InputError as error:
        return _refused(error, "no-such-scan"), {}
    return answer_of(inference), measured_of(inference)


def measured_of(inference: Inference) -> dict[str, Any]:
    """Return what a later check of many scans compares, JSON-able: regional SUVR, scanner, logits.

    Also whether the scan is a phantom's, which pages mark. Empty where the scan was refused.
    """
    normalised, prediction = inference.normalised, inference.prediction
    if normalised is None or prediction is None:
        return {}
    facts = normalised.suvr.facts
    regions = normalised.region_values()
    return {
        "regions": {name: round(v, 5) for name, v in regions.items() if math.isfinite(v)},
        "scanner": scanner_of(facts),
        "logits": None if prediction.logits is None else list(prediction.logits),
        "out_of_distribution": prediction.out_of_distribution,
        "synthetic": says_synthetic(facts),
    }


def answer_of(inference: Inference) -> Answer:
    """Return what a server sends back about a scan: JSON-able, without identifiers."""
    if inference.refusal is not None:
        return _refused(inference.refusal, inference.refusal.rule)
    p = inference.prediction
    assert p is not None

    def of_class(values: Sequence[float]) -> dict[str, float]:
        return dict(zip(p.class_names, values, strict=True))

    return Answer(
        decision=p.decision,
        reasons=list(p.reasons),
        rule=None,
        probabilities=of_class(p.probabilities),
        lower=of_class(p.lower),
        upper=of_class(p.upper),
        prediction_set=list(p.prediction_set),
        clinic_probabilities=None if p.clinic_probabilities is None else of_class(p.clinic_probabilities),
        most_likely=p.most_likely,
        clinic_prevalence=None if p.clinic_prevalence is None else of_class(p.clinic_prevalence),
    )


def _refused(error: TaucalError, rule: str) -> Answer:
    # Without `where`: names of folders and files can be those of people, and servers keep logs.
    return Answer(
        decision="refused",
        reasons=[" ".join(sentence(text) for text in (error.problem, error.hint) if text)],
        rule=rule,
        probabilities=None,
        lower=None,
        upper=None,
        prediction_set=None,
        clinic_probabilities=None,
        most_likely=None,
        clinic_prevalence=None,
    )
