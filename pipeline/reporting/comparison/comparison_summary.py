"""What a comparison shows, in sentences: losses that differ from the baseline in nothing share one."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.evaluation.comparison.loss_results import Comparison, Difference, LossResult
from pipeline.evaluation.metrics import metric_named
from pipeline.reporting.page.facts import listed


def summary_of(comparison: Comparison) -> tuple[str, ...]:
    """Return a sentence for the baseline and each loss that differs from it, and one for those that do not.

    Losses share a sentence where they were compared in the same metrics over as many seeds and folds. A loss
    that is alone in this has its own.
    """
    alike: dict[tuple[str, tuple[str, ...]], list[LossResult]] = {}
    for result in comparison.results:
        if result.shows_no_difference:
            tested = tuple(difference.metric for difference in result.differences)
            alike.setdefault((result.ground, tested), []).append(result)
    groups = [group for group in alike.values() if len(group) > 1]
    grouped = {result.loss for group in groups for result in group}
    own = [result.sentence for result in comparison.results if result.loss not in grouped]
    return (*own, *(_shared_sentence(group, comparison.baseline) for group in groups))


def _shared_sentence(group: Sequence[LossResult], baseline: str) -> str:
    tested = [_with_powers(of_losses) for of_losses in zip(*(r.differences for r in group), strict=True)]
    names = listed([result.loss for result in group])
    return (
        f"No significant difference from {baseline} in {listed(tested, 'or')}: {names} ({group[0].ground})."
    )


def _with_powers(differences: Sequence[Difference]) -> str:
    """Name a metric, and the range over losses of what the study would have shown in it."""
    metric = metric_named(differences[0].metric)
    scale, _, unit = metric.steps
    found = [scale * difference.detectable for difference in differences if difference.detectable]
    if not found:
        return metric.title
    ends = dict.fromkeys(f"{end:.2g}" for end in (min(found), max(found)))
    by_loss = ", by loss" if len(ends) > 1 else ""
    return f"{metric.title} (80 % power for {' to '.join(ends)}{unit}{by_loss})"
