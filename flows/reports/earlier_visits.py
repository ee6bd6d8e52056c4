"""Earlier scans of the person of a report: what was measured on them, and what the same model gives them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime

from models.classifier import CalibratedClassifier
from models.prediction import Prediction
from pipeline.errors import TaucalError
from pipeline.imaging.process import Normalised, read_derivative
from pipeline.reporting.scan.scan_numbers import Visit
from pipeline.scan import Cohort, Scan

_DAYS_A_MONTH = 30.44


def visits_until(
    label: tuple[str, str],
    normalised: Normalised,
    cohort: Cohort,
    predicted: tuple[CalibratedClassifier, Prediction],
    prevalence: Mapping[str, float] | None = None,
) -> tuple[Visit, ...]:
    """Return the visits of a person up to this one, the first first.

    Parameters
    ----------
    label : tuple of str
        Subject and session of this scan; a session begins with its shifted date.
    normalised : Normalised
        This scan.
    cohort : Cohort
        Holds the earlier scans, with their ``meta_roi``.
    predicted : tuple of CalibratedClassifier and Prediction
        The prediction of this scan, and what made it: it predicts the earlier scans too.
    prevalence : mapping of str to float, optional
        At which this scan was predicted.
    """
    (subject, session), (classifier, prediction) = label, predicted
    now = _day_of(session)
    if now is None:
        return ()
    own = sorted((s for s in cohort.scans if s.subject == subject), key=lambda s: s.session)
    # Not those of the same day: the scan itself may be in the cohort, under a session without its number.
    dated = [
        (day, s, s.facts.get("meta_roi"))
        for s in own
        if (day := _day_of(s.session)) is not None and day < now
    ]
    known = [(day, s, float(suvr)) for day, s, suvr in dated if isinstance(suvr, float)]
    first = known[0][0] if known else now
    visits = []
    for number, (day, scan, suvr) in enumerate(known, start=1):
        visit = Visit(label=f"visit {number}", months=(day - first).days / _DAYS_A_MONTH, meta_roi=suvr)
        found = _predicted(classifier, scan, prevalence)
        visits.append(visit if found is None else _with_probability(visit, found, prediction.most_likely))
    months = (now - first).days / _DAYS_A_MONTH
    this = Visit(label=f"visit {len(visits) + 1}", months=months, meta_roi=normalised.composites["meta_roi"])
    return (*visits, _with_probability(this, prediction, prediction.most_likely))


def derivative_of(scan: Scan) -> Normalised:
    """Read the SUVR derivative of a scan of the cohort."""
    return read_derivative(scan.path.parent, scan.path.name.split("_space-")[0])


def _predicted(
    classifier: CalibratedClassifier, scan: Scan, prevalence: Mapping[str, float] | None
) -> Prediction | None:
    """Return the prediction of an earlier scan; None where its derivative cannot be read any more."""
    try:
        return classifier.predict(derivative_of(scan).suvr.array, prevalence=prevalence)
    except (TaucalError, OSError):
        return None


def _with_probability(visit: Visit, p: Prediction, name: str) -> Visit:
    k = p.class_names.index(name)
    return visit.model_copy(update={"probability": p.shown[k], "lower": p.lower[k], "upper": p.upper[k]})


def _day_of(session: str) -> date | None:
    """Return the shifted date a session label starts with; None where it is no date."""
    try:
        return datetime.strptime(session[:8], "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None
