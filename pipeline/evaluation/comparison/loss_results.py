"""What a comparison of losses finds: each loss, its differences to the baseline, and a sentence on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pipeline.evaluation.comparison.seed_runs import Key
from pipeline.evaluation.inference.intervals import Interval
from pipeline.evaluation.metrics import metric_named
from pipeline.wording import counted

Verdict = Literal["better", "worse", "not significant"]


@dataclass(frozen=True)
class Difference:
    """A metric of one loss minus that of the baseline.

    Parameters
    ----------
    interval : Interval
        Mean over seeds, with percentiles over draws of subjects and seeds, the same for both losses.
    p_value : float
        Two-sided, of this loss alone.
    p_holm : float
        Adjusted for the number of losses that are compared with the baseline in this metric.
    verdict : {"better", "worse", "not significant"}
        By the adjusted p-value.
    detectable : float
        The smallest true difference that the study would have found with 80 % power, at the level of Holm's
        first step.
    """

    metric: str
    interval: Interval
    p_value: float
    p_holm: float
    verdict: Verdict
    detectable: float = 0.0


@dataclass(frozen=True)
class LossResult:
    """One loss: its metrics, its differences to the baseline, and a sentence that sums them up.

    Parameters
    ----------
    seeds, folds : int
        How many the numbers come from.
    metrics : mapping of str to Interval
        Mean over seeds of the metric on the test scans of all folds; per-scan values of the runs too.
    recall, coverage : tuple of Interval
        Of each class: share of its scans that were classified right, share whose conformal set contains it.
        The second is empty where the runs have no sets.
    noise : mapping of str to float
        Noise floor of each calibration error: what these probabilities would show if they were true.
    differences : tuple of Difference
        Empty for the baseline.
    ground : str
        What the verdicts rest on, as ``"3 seeds x 5 folds, Holm over 10 losses"``; empty for the baseline.
    """

    loss: str
    seeds: int
    folds: int
    metrics: Mapping[str, Interval]
    recall: tuple[Interval, ...]
    differences: tuple[Difference, ...]
    sentence: str
    coverage: tuple[Interval, ...] = ()
    noise: Mapping[str, float] = field(default_factory=dict)
    ground: str = ""

    @property
    def shows_no_difference(self) -> bool:
        """Whether it was compared with the baseline, and differs from it significantly in nothing."""
        return bool(self.differences) and all(d.verdict == "not significant" for d in self.differences)


@dataclass(frozen=True)
class Comparison:
    """All losses against one.

    Parameters
    ----------
    results : tuple of LossResult
        The baseline first, the others in the order they were given.
    level : float
        Of the intervals; the chance of any false verdict in a metric is below 1 - level.
    scans, subjects : int
        In the test parts.
    missing : tuple of str
        Losses without a run of a seed and fold that the baseline has.
    """

    baseline: str
    results: tuple[LossResult, ...]
    level: float
    scans: int
    subjects: int
    missing: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return asdict(self)


def ground_of(keys: frozenset[Key], losses: int) -> str:
    """Return what verdicts rest on: the seeds and folds that both have, and how many losses are compared."""
    seeds, folds = len({seed for seed, _ in keys}), len({fold for _, fold in keys})
    ground = f"{counted(seeds, 'seed')} x {counted(folds, 'fold')}"
    if losses > 1:
        ground += f", Holm over {losses} losses"
    if seeds * folds == 1:
        ground += "; one run each, so chance in training is not covered"
    return ground


def sentence_on(loss: str, baseline: str, differences: tuple[Difference, ...], ground: str) -> str:
    """Sum up how a loss differs from the baseline, and what the verdicts rest on."""
    openings: dict[Verdict, str] = {
        "better": f"better than {baseline} in",
        "worse": f"worse than {baseline} in",
        "not significant": f"not significantly different from {baseline} in",
    }
    clauses = []
    for verdict, opening in openings.items():
        # Numbers of differences that are not significant are in the table: here they would hide the others.
        parts = [
            _with_power(d) if verdict == "not significant" else _in_numbers(d)
            for d in differences
            if d.verdict == verdict
        ]
        if parts:
            clauses.append(f"{opening} {', '.join(parts)}")
    return f"{loss} is {'; '.join(clauses)} ({ground})."


def _in_numbers(difference: Difference) -> str:
    found = difference.interval
    p = "p < 0.001" if difference.p_holm < 0.001 else f"p = {difference.p_holm:.3f}"
    scale, digits, unit = metric_named(difference.metric).steps
    value, low, high = (f"{scale * x:+.{digits}f}" for x in (found.value, found.low, found.high))
    return f"{_title(difference)} ({value}{unit} [{low}, {high}], {p})"


def _with_power(difference: Difference) -> str:
    if not difference.detectable:
        return _title(difference)
    scale, _, unit = metric_named(difference.metric).steps
    return f"{_title(difference)} (80 % power for {scale * difference.detectable:.2g}{unit})"


def _title(difference: Difference) -> str:
    return metric_named(difference.metric).title
