"""The sentences of a scan's report, each made from the figures that stand on the same page."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.reporting.page.facts import (
    held_too_rarely,
    listed,
    number,
    percent,
    percent_range,
    signed,
    texts_apart,
)
from pipeline.reporting.page.reasons import in_words
from pipeline.reporting.scan.scan_numbers import ClassProbability, ScanReport, Visit


def headline(classes: Sequence[ClassProbability]) -> str:
    """Return the finding: the most likely class with its probability, and the others of the set."""
    first = max(classes, key=lambda c: c.shown)
    others = [c.name for c in classes if c.in_set and c is not first]
    where = "" if first.clinic_probability is None else " at your clinic's prevalence"
    found = f"Most like {first.name} ({percent(first.shown)}{where}, {first.range_text})"
    return f"{found}. The scan may also be {listed(others, 'or')}." if others else found


def usual_sentence(report: ScanReport) -> str:
    """Return that a meta-ROI which is not negative is usual in normal scans; empty where it is not."""
    m = report.meta_roi
    if report.tau is None or report.tau.status == "negative" or m is None or not m.norm_sd:
        return ""
    z = (m.suvr - (m.norm_mean or 0)) / m.norm_sd
    if abs(z) >= 1:
        return ""
    shown = texts_apart(z, 1 if z > 0 else -1, signed, 1)[0]
    return f"Such a value is usual in cognitively normal training scans (z = {shown})."


def set_sentence(report: ScanReport) -> str:
    """Return what the prediction set of a reported scan decides."""
    if len(report.prediction_set) == 1:
        return "No other class is in the prediction set."
    several = listed(report.prediction_set, "or")
    return f"The prediction set is {several}: the model does not decide between them."


def reader_reasons(report: ScanReport) -> list[str]:
    """Return why a scan is referred or refused, as a reader says it: the checks have value and limit."""
    return [in_words(reason, report.prediction_set) for reason in report.reasons]


def tested_sentence(report: ScanReport) -> str:
    """Return how often such sets held the true class in tests, beside what they were made for."""
    share = percent(report.coverage or 0)
    made_for = f"set to contain the true class in at least {share} of the scans of each class"
    counted = [t for t in report.tested_sets if t.scans]
    if not counted:
        return f"How often such sets hold the true class was not tested. They are {made_for}."
    held = ", ".join(f"{t.held} of {t.scans} {t.name}" for t in counted)
    text = f"In tests these sets held the true class of {held} scans. "
    short = [t.name for t in counted if held_too_rarely(t.held, t.scans, report.coverage or 0)]
    text += f"They were {made_for}: for {listed(short)} they did not." if short else f"They are {made_for}."
    tested = {t.name for t in counted}
    untested = [c.name for c in report.classes if c.name not in tested]
    return f"{text} No test scan was of {listed(untested, 'or')}." if untested else text


def ruled_out_sentence(report: ScanReport) -> str:
    """Limit what sets are made for to the classes that the clinic has; empty where it has all."""
    none = [c.name for c in report.classes if c.clinic_share == 0]
    return f"Your clinic's prevalence rules out {listed(none)}: no set contains it." if none else ""


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
    training = "" if report.uncertainty else "training the network again, "
    return (
        f"It does not cover: {training}differences between your patients and the training scans, another "
        "scanner, errors in the diagnoses used for training, or motion and misregistration in this scan."
    )


def corrected_sentence(report: ScanReport) -> str:
    """Return how the second SUVR was made, and its error (tests/benchmarks/RESULTS.md); empty without one."""
    if report.pvc_resolution_mm is None:
        return ""
    blur = number(report.pvc_resolution_mm, 1)
    return (
        f"The number in small print is SUVR corrected for a blur of {blur} mm by the geometric transfer "
        "matrix, without MRI: on 64 scans painted onto the labels of real people its mean error was 9 to 10 "
        "% in target regions and 2 to 4 % in the meta-ROI, on simulated people whose cortex tau had thinned "
        "it read the meta-ROI 14 % low, and no real scan has tested it; z-scores, thresholds and the model "
        "use the first number."
    )


def suvr_change_sentence(report: ScanReport, retest_share: float) -> str:
    """Return how the meta-ROI has changed since the first visit, beside its test-retest variation."""
    first, last = report.visits[0], report.visits[-1]
    change = last.meta_roi / first.meta_roi - 1
    size, limit = texts_apart(100 * abs(change), 100 * retest_share, number, 1)
    found = f"Since {first.label} the meta-ROI has {'risen' if change >= 0 else 'fallen'} by {size} %"
    if abs(change) > retest_share:
        return f"{found}, more than its test-retest variation of {limit} %."
    return f"{found}, within its test-retest variation of {limit} %: it may not have changed."


def probability_change_sentence(report: ScanReport) -> str:
    """Return how the probability of the most likely class has changed; empty without earlier predictions."""
    known = [v for v in report.visits if v.probability is not None]
    if len(known) < 2 or known[-1] is not report.visits[-1] or not report.classes:
        return ""
    (was, first), (now, last) = ((_with_range(v), v) for v in (known[0], known[-1]))
    apart = (first.upper or 0) < (last.lower or 0) or (last.upper or 0) < (first.lower or 0)
    end = "do not overlap" if apart else "overlap: the scans alone do not show a change"
    name = report.most_likely.name
    return (
        f"For the scan of {first.label} the same model gives {name} a probability of {was}, for this scan "
        f"{now}; the plausible ranges {end}."
    )


def _with_range(visit: Visit) -> str:
    return f"{percent(visit.probability or 0)} ({percent_range(visit.lower or 0, visit.upper or 0)})"
