"""The metrics that are reported: name, title, direction, unit and function, one entry each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from numpy.typing import ArrayLike

from pipeline.errors import InputError
from pipeline.evaluation.metrics import calibration_error as binned
from pipeline.evaluation.metrics import kernel_calibration as kernel
from pipeline.evaluation.metrics import scores, selective
from pipeline.evaluation.metrics.sample import Weighted

Function = Callable[[ArrayLike, ArrayLike], float]
"""Of (probabilities (N, K), labels (N,))."""


class IntervalLike(Protocol):
    """A value between two bounds."""

    @property
    def value(self) -> float:
        """The point."""

    @property
    def low(self) -> float:
        """The lower bound."""

    @property
    def high(self) -> float:
        """The upper bound."""


@dataclass(frozen=True)
class Metric:
    """A measure with all that tables and sentences need to show it.

    Parameters
    ----------
    name : str
        In code and files.
    title : str
        In tables and sentences, as within a sentence.
    better : {"higher", "lower", "nominal"}
        ``"nominal"`` where a given value is aimed at, or none is.
    percent : bool
        Shown in percent with one decimal; else as it is with two.
    function : callable, optional
        Of (probabilities, labels). Missing where the measure needs more than these, as a true posterior.
    weighted : callable, optional
        The same over bootstrap draws: of a `Sample` and weights (draws, N).
    """

    name: str
    title: str
    better: Literal["higher", "lower", "nominal"] = "lower"
    percent: bool = False
    function: Function | None = None
    weighted: Weighted | None = None

    def __call__(self, probabilities: ArrayLike, labels: ArrayLike) -> float:
        """Return the metric of probabilities (N, K) and labels (N,).

        Raises
        ------
        InputError
            If it needs more than these.
        """
        if self.function is None:
            raise InputError(f"The {self.title} cannot be computed from probabilities and labels alone")
        return self.function(probabilities, labels)

    @property
    def heading(self) -> str:
        """The title over a column; its arrow points to where it is better."""
        arrow = {"higher": " ↑", "lower": " ↓", "nominal": ""}[self.better]
        return f"{self.title[0].upper()}{self.title[1:]}{arrow}"

    def parts(self, found: IntervalLike) -> tuple[str, str]:
        """Return value and interval as tables show them.

        Examples
        --------
        >>> from pipeline.evaluation.inference.intervals import Interval
        >>> METRICS["classwise_ece"].parts(Interval(0.1234, 0.1, 0.15))
        ('12.3 %', '10.0 to 15.0')
        """
        scale, digits, unit = (100, 1, " %") if self.percent else (1, 2, "")
        value, low, high = (f"{x * scale:.{digits}f}" for x in (found.value, found.low, found.high))
        return f"{value}{unit}", f"{low} to {high}"

    def text(self, found: IntervalLike) -> str:
        """Return value and interval in one line, as in ``'12.3 % [10.0 to 15.0]'``."""
        value, interval = self.parts(found)
        return f"{value} [{interval}]"


def _catalogue(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


METRICS = _catalogue(
    Metric("negative_log_likelihood", "NLL",
        function=scores.negative_log_likelihood, weighted=scores.nll_over_draws),
    Metric("brier_score", "Brier score", function=scores.brier_score, weighted=scores.brier_over_draws),
    Metric("accuracy", "accuracy", "higher", function=scores.accuracy, weighted=scores.accuracy_over_draws),
    Metric("balanced_accuracy", "balanced accuracy", "higher",
        function=scores.balanced_accuracy, weighted=scores.balanced_accuracy_over_draws),
    Metric("macro_f1", "macro F1", "higher", function=scores.macro_f1, weighted=scores.macro_f1_over_draws),
    Metric("macro_auroc", "macro AUROC", "higher",
        function=scores.macro_auroc, weighted=scores.macro_auroc_over_draws),
    Metric("expected_calibration_error", "ECE", percent=True,
        function=binned.expected_calibration_error, weighted=binned.binned_gap),
    Metric("maximum_calibration_error", "maximum calibration error", percent=True,
        function=binned.maximum_calibration_error, weighted=binned.largest_gap),
    Metric("classwise_ece", "classwise ECE", percent=True,
        function=binned.classwise_ece, weighted=binned.classwise_gap),
    Metric("smooth_ece", "smooth ECE", percent=True, function=kernel.smooth_ece, weighted=kernel.smooth_gap),
    Metric("ece_kde", "kernel density ECE", percent=True, function=kernel.ece_kde, weighted=kernel.kde_gap),
    Metric("ks_calibration_error", "KS calibration error", percent=True,
        function=binned.ks_calibration_error, weighted=binned.ks_gap),
    Metric("overconfidence_error", "overconfidence error",
        function=binned.overconfidence_error, weighted=binned.overconfidence),
    Metric("risk_coverage_area", "AURC",
        function=selective.risk_coverage_area, weighted=selective.area_over_draws),
)  # fmt: skip
"""The metrics of (probabilities, labels), by name."""

PER_SCAN = _catalogue(
    Metric("posterior_error", "posterior error"),
    Metric("excess_nll", "NLL above the oracle"),
    Metric("above_oracle", "expected NLL above the oracle"),
    Metric("set_coverage", "coverage of sets", "nominal"),
    Metric("set_size", "classes in a set"),
    Metric("coverage", "coverage of sets", "nominal"),
    Metric("referred", "referred", "nominal"),
)
"""Measures that are means of one value a scan and need more than probabilities and labels, by name."""

TABLE = (
    "negative_log_likelihood",
    "brier_score",
    "classwise_ece",
    "expected_calibration_error",
    "balanced_accuracy",
    "macro_auroc",
    "posterior_error",
)
"""The metrics that every table of results shows, in order; the posterior error where it is known."""


def metric_named(name: str) -> Metric:
    """Return an entry of `METRICS` or `PER_SCAN`; a name of neither is its own title.

    Examples
    --------
    >>> metric_named("balanced_accuracy").heading, metric_named("set_size").heading
    ('Balanced accuracy ↑', 'Classes in a set ↓')
    """
    found = METRICS.get(name) or PER_SCAN.get(name)
    return found or Metric(name, name.replace("_", " "), "nominal")
