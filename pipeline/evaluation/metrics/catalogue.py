"""The metrics that are reported: name, title, direction, unit and function, one entry each.

A calibration error of few scans is mostly noise. Its noise floor, what a perfectly calibrated classifier
would show on as many scans, is computed here. The error above it is a metric of its own, to be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike

from models.arrays import Floats
from pipeline.errors import InputError
from pipeline.evaluation.metrics import calibration_error as binned
from pipeline.evaluation.metrics import kernel_calibration as kernel
from pipeline.evaluation.metrics import scores, selective
from pipeline.evaluation.metrics.logistic_recalibration import calibration_slope, slope_over_draws
from pipeline.evaluation.metrics.sample import Sample, Weighted, on_sample, redraw

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
    noisy : bool
        Whether the noise of few scans makes it larger: a perfectly calibrated classifier has not 0 but its
        `noise_floor`.
    """

    name: str
    title: str
    better: Literal["higher", "lower", "nominal"] = "lower"
    percent: bool = False
    function: Function | None = None
    weighted: Weighted | None = None
    noisy: bool = False

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
        unit = " %" if self.percent else ""
        low, high = (self.number(x).removesuffix(unit) for x in (found.low, found.high))
        return self.number(found.value), f"{low} to {high}"

    @property
    def steps(self) -> tuple[float, int, str]:
        """How a difference is written: factor, digits, unit; percentage points where it is in percent."""
        return (100, 1, " points") if self.percent else (1, 3, "")

    def number(self, value: float) -> str:
        """Return a value of it as tables show it, with its unit."""
        digits, scale, unit = (1, 100, " %") if self.percent else (2, 1, "")
        return f"{round(scale * value, digits) + 0.0:.{digits}f}{unit}"  # never -0.00

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
    Metric("expected_calibration_error", "ECE", percent=True, noisy=True,
        function=binned.expected_calibration_error, weighted=binned.binned_gap),
    Metric("maximum_calibration_error", "maximum calibration error", percent=True, noisy=True,
        function=binned.maximum_calibration_error, weighted=binned.largest_gap),
    Metric("classwise_ece", "classwise ECE", percent=True, noisy=True,
        function=binned.classwise_ece, weighted=binned.classwise_gap),
    Metric("smooth_ece", "smooth ECE", percent=True, noisy=True,
        function=kernel.smooth_ece, weighted=kernel.smooth_gap),
    Metric("ece_kde", "kernel density ECE", percent=True, noisy=True,
        function=kernel.ece_kde, weighted=kernel.kde_gap),
    Metric("ks_calibration_error", "KS calibration error", percent=True, noisy=True,
        function=binned.ks_calibration_error, weighted=binned.ks_gap),
    Metric("overconfidence_error", "overconfidence error", noisy=True,
        function=binned.overconfidence_error, weighted=binned.overconfidence),
    Metric("risk_coverage_area", "AURC",
        function=selective.risk_coverage_area, weighted=selective.area_over_draws),
    Metric("calibration_slope", "calibration slope", "nominal",
        function=calibration_slope, weighted=slope_over_draws),
)  # fmt: skip
"""The metrics of (probabilities, labels), by name."""

NOISY = tuple(name for name, metric in METRICS.items() if metric.noisy)
"""The calibration errors that have a noise floor."""

NOISE_DRAWS = 1000


def noise_floors(
    probabilities: ArrayLike, names: Iterable[str] = NOISY, *, draws: int = NOISE_DRAWS, seed: int = 0
) -> dict[str, float]:
    """Return the calibration errors that the probabilities would show on average if they were true.

    Parameters
    ----------
    probabilities : array_like, shape (N, K)
    names : iterable of str
        Of `NOISY`.
    draws : int
        How often the labels of all scans are drawn from their probabilities.
    seed : int
        One seed, one answer, whatever other errors are asked for.

    Raises
    ------
    InputError
        If the probabilities are none, or a name is not of a calibration error.

    References
    ----------
    Vaicenavicius et al., Evaluating model calibration in classification, AISTATS 2019, section 4.2
    (consistency resampling; here its mean).

    Examples
    --------
    >>> floors = noise_floors([[0.8, 0.2]] * 25, ["expected_calibration_error"])
    >>> round(floors["expected_calibration_error"], 3)  # of 25 scans, 20 are right give or take 2
    0.063
    """
    asked = tuple(names)
    for name in asked:
        if name not in NOISY:
            raise InputError(
                f"The metric {name!r} has no noise floor", hint=f"name some of {', '.join(NOISY)}"
            )
    found: dict[str, list[Floats]] = {name: [] for name in asked}
    for sample in redraw(probabilities, draws, seed) if asked else ():
        once = np.ones((1, len(sample)))
        for name in asked:
            weighted = METRICS[name].weighted
            assert weighted is not None
            found[name].append(weighted(sample, once))
    return {name: float(np.concatenate(values).mean()) for name, values in found.items()}


def noise_floor(name: str, probabilities: ArrayLike, *, draws: int = NOISE_DRAWS, seed: int = 0) -> float:
    """Return one of `noise_floors`."""
    return noise_floors(probabilities, [name], draws=draws, seed=seed)[name]


@lru_cache(maxsize=8)  # the draws of a sample, or of a pair, come in chunks
def _floor_of(sample: Sample, name: str) -> float:
    return noise_floor(name, sample.probabilities)


def _above_noise_over_draws(sample: Sample, weights: Floats, *, name: str) -> Floats:
    error = METRICS[name].weighted
    assert error is not None
    return np.asarray(error(sample, weights) - _floor_of(sample, name))


def _above_noise(name: str) -> Metric:
    error, weighted = METRICS[name], partial(_above_noise_over_draws, name=name)
    return Metric(
        f"{name}{ABOVE}", f"{error.title} above noise", percent=error.percent, noisy=True,
        function=partial(on_sample, weighted), weighted=weighted,
    )  # fmt: skip


ABOVE = "_above_noise"
"""Ends the name of what lies above the noise floor of an error."""
ABOVE_NOISE = _catalogue(*map(_above_noise, NOISY))
"""Each calibration error minus its noise floor, named as the error with ``_above_noise`` after it.

On average over test sets 0 for a perfectly calibrated classifier, and below it as often as above. What is
compared or decided by a calibration error is compared or decided by these.
"""

PER_SCAN = _catalogue(
    Metric("prior_corrected_balanced_accuracy", "prior-corrected balanced accuracy", "higher"),
    Metric("posterior_error", "posterior error"),
    Metric("excess_nll", "NLL above the oracle"),
    Metric("above_oracle", "expected NLL above the oracle"),
    Metric("set_coverage", "coverage of sets", "nominal", percent=True),
    Metric("set_size", "classes in a set"),
    Metric("coverage", "coverage of sets", "nominal", percent=True),
    Metric("referred", "scans referred", "nominal", percent=True),
)
"""Measures that need more than probabilities and labels, by name; most are means of one value a scan."""

TABLE = (
    "negative_log_likelihood",
    "brier_score",
    "classwise_ece",
    "expected_calibration_error",
    "balanced_accuracy",
    "prior_corrected_balanced_accuracy",
    "macro_auroc",
    "posterior_error",
)
"""The metrics that every table of results shows, in order; the posterior error where it is known."""


def metric_named(name: str) -> Metric:
    """Return an entry of `METRICS`, `ABOVE_NOISE` or `PER_SCAN`; any other name is its own title.

    Examples
    --------
    >>> metric_named("balanced_accuracy").heading, metric_named("set_size").heading
    ('Balanced accuracy ↑', 'Classes in a set ↓')
    """
    found = METRICS.get(name) or ABOVE_NOISE.get(name) or PER_SCAN.get(name)
    return found or Metric(name, name.replace("_", " "), "nominal")
