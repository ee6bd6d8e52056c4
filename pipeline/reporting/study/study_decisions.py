"""What the report of a study states on decisions: prediction sets, findings, ranges, slopes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from pipeline.evaluation.classifier.decision import SetSizes
from pipeline.evaluation.classifier.decision_counts import DecisionCounts
from pipeline.evaluation.classifier.results import Results
from pipeline.evaluation.metrics.reliability import wilson_interval
from pipeline.reporting.page.facts import held_too_rarely, measured
from pipeline.reporting.study.study_numbers import Coverage, Decided, PlausibleRanges, SlopeRow


def coverage_of(coverage: Mapping[str, tuple[int, int]], class_names: Sequence[str]) -> Iterator[Coverage]:
    """Yield how often the prediction sets contain each class, in the order of the classes."""
    for name in (name for name in class_names if name in coverage):
        covered, scans = coverage[name]
        low, high = wilson_interval(covered, scans)
        yield Coverage(name=name, covered=covered, scans=scans, low=float(low), high=float(high))


def decided_of(found: DecisionCounts | None) -> Decided | None:
    """Return what was decided on the test scans; None for results of older versions."""
    if found is None:
        return None
    true = found.true_sets
    return Decided(
        promised=found.promised,
        largest_set=found.largest_set,
        mean_size=found.sets.mean_size,
        too_large=_too_large(found.sets),
        answered=found.answered,
        right=found.right,
        missed=tuple(
            name for name, (held, of) in found.held.items() if held_too_rarely(held, of, found.promised)
        ),
        true_size=None if true is None else true.mean_size,
        true_too_large=None if true is None else _too_large(true),
    )


def _too_large(sets: SetSizes) -> int:
    return round(sets.referred * sets.scans)


def plausible_of(found: DecisionCounts | None) -> PlausibleRanges | None:
    """Return whether plausible ranges held the true probabilities; None where these are unknown."""
    return None if found is None or found.plausible is None else PlausibleRanges(**asdict(found.plausible))


def slopes_of(results: Results) -> Iterator[SlopeRow]:
    """Yield slope and intercepts of the network and of what ships."""
    for row in results.rows:
        if row.intercepts:
            slope = measured(row.metrics.items()).get("calibration_slope")
            yield SlopeRow(name=row.name, slope=slope, intercepts=measured(row.intercepts.items()))
