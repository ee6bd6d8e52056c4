"""One scan from its path to a prediction: what reports, servers and other processes call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.classifier import CalibratedClassifier, Prediction
from pipeline.config import ImagingSettings
from pipeline.errors import InputError, RefusedScan
from pipeline.imaging.process import Normalised, normalise
from pipeline.ingest.bids import read_pet
from pipeline.ingest.convert import read_found
from pipeline.ingest.dicom import read_series
from pipeline.ingest.found import FoundScan
from pipeline.scan import Volume


@dataclass(frozen=True, eq=False)
class Inference:
    """What one scan led to.

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


def read_scan(scan: Path | FoundScan) -> Volume:
    """Read a DICOM folder, a NIfTI file with the sidecar beside it, or a scan that was found.

    Raises
    ------
    InputError
        If there is no such path.
    RefusedScan
        If what is there is no readable PET scan.
    """
    if isinstance(scan, FoundScan):
        return read_found(scan)
    if scan.is_dir():
        return read_series(scan)
    if scan.is_file():
        return read_pet(scan)
    raise InputError(
        "A scan must be a folder of DICOM files or a NIfTI file, got no such path",
        culprit=str(scan),
        mend="mend the path",
    )


def infer(
    classifier: CalibratedClassifier, scan: Path | FoundScan, prevalence: dict[str, float] | None = None
) -> Inference:
    """Read, normalise and classify one scan with the imaging settings the classifier was trained with.

    Parameters
    ----------
    classifier : CalibratedClassifier
        Its card holds the tracer and the imaging settings of training.
    scan : Path or FoundScan
        As in `read_scan`.
    prevalence : dict or None
        The clinic's own class shares; they change what is reported beside the training prevalence.
    """
    volume, normalised = None, None
    try:
        volume = read_scan(scan)
        _check_tracer(volume, str(classifier.card.get("tracer", "AV1451")))
        normalised = normalise(volume, ImagingSettings(**classifier.card.get("imaging", {})))
    except RefusedScan as refusal:
        return Inference(volume, None, None, refusal)
    warnings = tuple(f.message for f in normalised.findings if f.verdict == "warn")
    prediction = classifier.predict(normalised.suvr.array, quality_reasons=warnings, prevalence=prevalence)
    return Inference(volume, normalised, prediction, None)


def _check_tracer(volume: Volume, expected: str) -> None:
    tracer = volume.facts.get("tracer")
    if tracer not in (None, expected):
        raise RefusedScan(
            "wrong-tracer",
            f"The tracer must be {expected}, got {tracer}",
            mend="this classifier was trained on another tracer and says nothing about this scan",
            measured=str(tracer),
        )


def answer(classifier: CalibratedClassifier, path: Path) -> dict[str, Any]:
    """Classify one scan and return what a server sends back: JSON-able, no identifiers."""
    inference = infer(classifier, path)
    if inference.prediction is None:
        refusal = inference.refusal
        return {"decision": "refused", "reasons": [str(refusal)], "rule": getattr(refusal, "rule", None)}
    p = inference.prediction
    return {
        "decision": p.decision,
        "reasons": list(p.reasons),
        "probabilities": dict(zip(p.class_names, p.probabilities, strict=True)),
        "lower": dict(zip(p.class_names, p.lower, strict=True)),
        "upper": dict(zip(p.class_names, p.upper, strict=True)),
        "prediction_set": list(p.prediction_set),
    }
