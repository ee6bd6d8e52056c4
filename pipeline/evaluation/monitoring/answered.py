"""Recorded answers of a classifier in use, taken back to what the checks of a period compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from models.arrays import Ints
from models.classifier import CalibratedClassifier
from pipeline.evaluation.monitoring.latest_scans import performance_sentences
from pipeline.evaluation.monitoring.period import PeriodScans
from pipeline.evaluation.monitoring.shift import Shift, check_shift
from pipeline.learning.predictions import Predictions
from pipeline.scan import Split

_LEARNED = ("train", "validation", "calibration")


class RecordedAnswer(Protocol):
    """What is needed of a recorded answer: see `pipeline.tracking.LedgerEntry`."""

    @property
    def time(self) -> str:
        """When it was given."""

    @property
    def scan(self) -> str:
        """Pseudonym of the scan."""

    @property
    def kind(self) -> str:
        """``"report"``, ``"predict"`` or ``"served"``."""

    @property
    def version(self) -> str:
        """Of the registered model."""

    @property
    def answer(self) -> Mapping[str, Any]:
        """See `pipeline.one_scan.Answer`."""

    @property
    def measured(self) -> Mapping[str, Any]:
        """See `pipeline.one_scan.measured_of`."""

    @property
    def diagnosis(self) -> str | None:
        """The one that was stored later."""


def subject_of(entry: RecordedAnswer) -> str:
    """Return the pseudonym of the subject of a recorded scan."""
    return entry.scan.partition("_")[0]


def comparable(entries: Iterable[RecordedAnswer], split: Split) -> tuple[RecordedAnswer, ...]:
    """Return the last answer about each scan, in the order the scans were made, as far as it can be compared.

    Scans of subjects from whom the classifier has learned are left out, those it was tested on, those whose
    subject is not known, as of a served model, and those that were refused or have nothing measured.

    Parameters
    ----------
    split : Split
        Of the scans that the classifier was made from.
    """
    learned = {f"sub-{split.subject_of[i]}" for part in _LEARNED for i in split.part(part)}
    tested = set(split.test)
    last = {entry.scan: entry for entry in sorted(entries, key=lambda entry: entry.time)}
    found = [
        entry
        for entry in last.values()
        if entry.scan.startswith("sub-") and entry.measured.get("logits") is not None
        if subject_of(entry) not in learned and entry.scan not in tested
    ]
    return tuple(sorted(found, key=lambda entry: (entry.scan.rpartition("_ses-")[2], entry.scan)))


@dataclass(frozen=True, eq=False)
class Reference:
    """Scans from which the classifier did not learn, before it was in use, with their true classes."""

    period: PeriodScans
    labels: Ints


def shift_of(
    entries: Sequence[RecordedAnswer],
    reference: Reference,
    classifier: CalibratedClassifier,
    *,
    level: float,
    seed: int,
) -> Shift:
    """Compare recorded answers with the reference, by the regions that all of them have."""
    of_all = set(reference.period.region_names).intersection(*(e.measured["regions"] for e in entries))
    names = tuple(name for name in reference.period.region_names if name in of_all)
    then = reference.period.with_regions(names)
    return check_shift(then, reference.labels, _period(entries, names, classifier), level=level, seed=seed)


def performance_of(
    entries: Sequence[RecordedAnswer], reference: Reference, classifier: CalibratedClassifier, *, seed: int
) -> tuple[str, ...]:
    """Return what to expect of the classifier without diagnoses, and whether those that came agree."""
    classes = classifier.class_names
    labels = [classes.index(e.diagnosis) if e.diagnosis in classes else -1 for e in entries]
    predictions = Predictions(
        tuple(entry.scan for entry in entries),
        tuple(subject_of(entry) for entry in entries),
        _logits(entries, classes),
        np.array(labels, dtype=np.int64),
        np.zeros((len(entries), 0), dtype=np.float32),
        classes,
    )
    period = _period(entries, (), classifier)
    return performance_sentences(classifier, period, predictions, reference.period, seed=seed)


def _logits(entries: Sequence[RecordedAnswer], classes: Sequence[str]) -> Any:
    found = [entry.measured["logits"] for entry in entries]
    return np.array(found, dtype=np.float64).reshape(len(entries), len(classes))


def _period(
    entries: Sequence[RecordedAnswer], regions: tuple[str, ...], classifier: CalibratedClassifier
) -> PeriodScans:
    suvr = [[float(entry.measured["regions"][name]) for name in regions] for entry in entries]
    return PeriodScans(
        subjects=tuple(subject_of(entry) for entry in entries),
        region_names=regions,
        suvr=np.array(suvr, dtype=np.float64).reshape(len(entries), len(regions)),
        class_names=classifier.class_names,
        probabilities=classifier.calibrator.transform(_logits(entries, classifier.class_names)),
        out_of_distribution=np.array([e.measured["out_of_distribution"] for e in entries], dtype=np.bool_),
        scanners=tuple(str(entry.measured["scanner"]) for entry in entries),
    )
