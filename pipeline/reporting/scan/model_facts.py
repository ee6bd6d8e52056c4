"""What the report of a scan states about its classifier, from the classifier's card."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING

from models.card import Card
from models.names import CALIBRATOR_TITLES
from pipeline.reporting.page.facts import Named, listed
from pipeline.reporting.scan.scan_numbers import Likeness, MetricRow, ModelFacts, SetCount
from pipeline.reporting.scan.tau_status import TypicalTau

if TYPE_CHECKING:
    from models.classifier import CalibratedClassifier

FEW_SCANS = 20
"""With fewer calibration scans of a class, its threshold rests more on the scans of all classes."""


def model_facts(classifier: CalibratedClassifier, version: str) -> ModelFacts:
    """Return what a classifier was trained and tested on, and its metrics on the test scans."""
    card = classifier.card
    kind = f"{'synthetic ' if card.synthetic else ''}{card.tracer} scans"
    names = [name for name in classifier.class_names if name in card.class_counts]
    counts = ", ".join(f"{card.class_counts[name]} {name}" for name in names)
    trained = f"{kind} ({counts})" if counts else kind
    return ModelFacts(
        name="taucal",
        version=version,
        target=_in_words(card.target),
        trained_on=_counted(card.split.train, trained, card.subjects.train, "subjects"),
        tested_on=_counted(card.split.test, kind, card.subjects.test, "other subjects"),
        where_it_fails=(*ModelFacts.model_fields["where_it_fails"].default, *_few_scans(classifier)),
        metrics=tuple(
            MetricRow(name=name, value=m.value, low=m.low, high=m.high, noise=card.noise.get(name))
            for name, m in card.metrics.items()
        ),
        level=card.level,
        typical_scans=tuple(
            TypicalTau(status=t.status, meta_roi=t.meta_roi, among=t.among, synthetic=card.synthetic)
            for t in classifier.typical_scans
        ),
        versions=tuple(Named(label=k, value=v) for k, v in model_versions(classifier, version).items()),
    )


def _in_words(target: str) -> str:
    """Return the name of a target as a reader expects it: ``amyloid_status`` is a column."""
    return target.replace("_", " ").strip()


def _counted(scans: int | None, kind: str, subjects: int | None, people: str) -> str:
    """Return how many scans of how many people there were, as far as the card of an older version has it."""
    number = f"{kind} (their number is not stored)" if scans is None else f"{scans} {kind}"
    return number if subjects is None else f"{number} of {subjects} {people}"


def _few_scans(classifier: CalibratedClassifier) -> tuple[str, ...]:
    """Name the classes whose prediction sets rest on few scans."""
    counts = zip(classifier.class_names, classifier.conformal.counts, strict=True)
    few = [f"{n} of {name}" for name, n in counts if n < FEW_SCANS]
    if not few:
        return ()
    why = "their prediction sets can be wider than needed"
    return (f"Classes with few calibration scans ({listed(few)}): {why}.",)


def model_versions(classifier: CalibratedClassifier, version: str) -> dict[str, str]:
    """Return versions and hashes of what a classifier was made from."""
    card = classifier.card
    return {
        "taucal": metadata.version("taucal"),
        "model version": version,
        "network": classifier.network_title,
        "loss": card.loss.name,
        "calibrator": CALIBRATOR_TITLES.get(card.calibrator.name, card.calibrator.name),
        "data digest": card.data_digest,
        "split digest": card.split_digest,
    }


def likeness_at(card: Card, confidence: float) -> Likeness | None:
    """Return how often the classifier was right on test scans of similar confidence, where that is known."""
    found = card.bin_of(confidence)
    return found and Likeness(low=found.low, high=found.high, count=found.scans, right=found.right)


def set_counts(card: Card, class_names: Sequence[str]) -> tuple[SetCount, ...]:
    """Return how often prediction sets held the class of the test scans, in the order of the classes."""
    found = [(name, *card.coverage[name]) for name in class_names if name in card.coverage]
    return tuple(SetCount(name=name, held=held, scans=scans) for name, held, scans in found)
