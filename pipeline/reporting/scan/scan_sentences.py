"""The sentences of a scan's report, each made from the figures that stand on the same page."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.reporting.page.facts import held_too_rarely, listed, percent
from pipeline.reporting.scan.scan_numbers import ClassProbability, ScanReport


def headline(classes: Sequence[ClassProbability]) -> str:
    """Return the finding: the most likely class with its probability, and the others of the set."""
    first = max(classes, key=lambda c: c.shown)
    others = [c.name for c in classes if c.in_set and c is not first]
    where = "" if first.clinic_probability is None else " at your clinic's prevalence"
    found = f"Most like {first.name} ({percent(first.shown)}{where}, {first.range_text})"
    return f"{found}. The scan may also be {listed(others, 'or')}." if others else found


def set_sentence(report: ScanReport) -> str:
    """Return what the prediction set of a reported scan decides."""
    if len(report.prediction_set) == 1:
        return "No other class is in the prediction set."
    several = listed(report.prediction_set, "or")
    return f"The prediction set is {several}: the model does not decide between them."


def tested_sentence(report: ScanReport) -> str:
    """Return how often such sets held the true class in tests, beside what they were made for."""
    made_for = f"hold it in {percent(report.coverage or 0)} of the scans of each class"
    counted = [t for t in report.tested_sets if t.scans]
    if not counted:
        return f"How often such sets hold the true class was not tested. They are made to {made_for}."
    held = ", ".join(f"{t.held} of {t.scans} {t.name}" for t in counted)
    text = f"In tests these sets held the true class of {held} scans. "
    short = [t.name for t in counted if held_too_rarely(t.held, t.scans, report.coverage or 0)]
    text += (
        f"They were made to {made_for}: for {listed(short)} they did not."
        if short
        else f"They are made to {made_for}."
    )
    tested = {t.name for t in counted}
    untested = [c.name for c in report.classes if c.name not in tested]
    return f"{text} No test scan was of {listed(untested, 'or')}." if untested else text


def own_thresholds_sentence(report: ScanReport) -> str:
    """Explain a set that holds a class less likely than one outside it; empty where there is none."""
    least = min((c.shown for c in report.classes if c.in_set), default=1.0)
    outside = [c.name for c in report.classes if not c.in_set and c.shown > least]
    if not outside:
        return ""
    are = (
        "is outside the set although it is" if len(outside) == 1 else "are outside the set although they are"
    )
    return f"{listed(outside)} {are} more likely than a class inside: each class has a threshold of its own."


def likeness_sentence(report: ScanReport) -> str:
    """Return how often such an answer was right in tests, which were made at the prevalence of training."""
    if report.likeness is None:
        return ""
    if not report.clinic:
        return report.likeness.sentence
    trained = max(report.classes, key=lambda c: c.probability)
    return (
        f"Tests were made at the prevalence of training, where the highest probability of this scan is "
        f"{percent(trained.probability)} ({trained.name}). {report.likeness.sentence}"
    )


def unlike_tests_sentence(report: ScanReport) -> str:
    """Limit what tests show where the scan is out of distribution; empty where it is not."""
    if not any(d.beyond for d in report.distances):
        return ""
    return "This scan is unlike the test scans: what was counted on them may not hold for it."


def range_covers(report: ScanReport) -> str:
    """Return what the plausible range of a probability covers."""
    networks = report.uncertainty.networks if report.uncertainty else 1
    if report.range_factor is None:  # a classifier of an older version
        over = "It runs from the 5th to the 95th percentile over calibrations with other subjects"
        if networks > 1:
            over += (
                f" and over the {networks} networks. Single networks differ more than their average varies"
            )
        return f"{over}."
    sources = "how uncertain the calibration is"
    if networks > 1:
        sources = f"how much the {networks} networks of the model disagree and {sources}"
    scaled = "widened" if report.range_factor >= 1 else "narrowed"
    return (
        f"It shows {sources}, {scaled} by a factor of {report.range_factor:.2g}. The factor was chosen "
        "on simulated scans, whose true probability is known; on real scans it cannot be checked."
    )


def range_leaves_out(report: ScanReport) -> str:
    """Return what the plausible range of a probability does not cover."""
    training = "training on scans of other people" if report.uncertainty else "training the network again"
    return (
        f"It does not cover: {training}, a scanner or people unlike those of the training scans, errors in "
        "the diagnoses used for training, or motion and misregistration in this scan."
    )
