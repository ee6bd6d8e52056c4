"""How good probabilities are: functions of (probabilities (N, K), labels (N,)), and those reported.

`METRICS` maps a name to its function and `WEIGHTED` to the same metric over bootstrap draws; all names of
`scores`, `calibration_error`, `kernel_calibration`, `selective` and `reliability` can be imported from here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from pipeline.errors import InputError
from pipeline.evaluation.metrics import calibration_error as binned
from pipeline.evaluation.metrics import kernel_calibration as kernel
from pipeline.evaluation.metrics import scores, selective
from pipeline.evaluation.metrics.calibration_error import (
    bin_edges,
    bin_index,
    classwise_ece,
    expected_calibration_error,
    ks_calibration_error,
    maximum_calibration_error,
    overconfidence_error,
)
from pipeline.evaluation.metrics.kernel_calibration import ece_kde, smooth_ece
from pipeline.evaluation.metrics.reliability import ReliabilityCurve, reliability_curve, reliability_curves
from pipeline.evaluation.metrics.sample import Weighted
from pipeline.evaluation.metrics.scores import (
    PROBABILITY_FLOOR,
    BrierParts,
    accuracy,
    balanced_accuracy,
    brier_decomposition,
    brier_score,
    macro_auroc,
    macro_f1,
    negative_log_likelihood,
    per_class_recall,
)
from pipeline.evaluation.metrics.selective import RiskCoverage, risk_coverage, risk_coverage_area

__all__ = [
    "HIGHER_IS_BETTER",
    "METRICS",
    "PROBABILITY_FLOOR",
    "WEIGHTED",
    "BrierParts",
    "ReliabilityCurve",
    "RiskCoverage",
    "accuracy",
    "balanced_accuracy",
    "bin_edges",
    "bin_index",
    "brier_decomposition",
    "brier_score",
    "classwise_ece",
    "ece_kde",
    "excess_nll",
    "expected_calibration_error",
    "ks_calibration_error",
    "macro_auroc",
    "macro_f1",
    "maximum_calibration_error",
    "negative_log_likelihood",
    "ood_auroc",
    "overconfidence_error",
    "per_class_recall",
    "posterior_error",
    "reliability_curve",
    "reliability_curves",
    "risk_coverage",
    "risk_coverage_area",
    "smooth_ece",
]


def ood_auroc(scores_in: ArrayLike, scores_out: ArrayLike) -> float:
    """Return the probability that a scan from outside scores above one from inside, ties counting half.

    Parameters
    ----------
    scores_in, scores_out : array_like, shape (n,) and (m,)
        Scores that are larger for stranger scans, of scans like those of training and of others.

    Raises
    ------
    InputError
        If one of them is empty or holds NaN.

    Examples
    --------
    >>> ood_auroc([0.1, 0.2], [0.2, 0.9])
    0.875
    """
    inside = np.sort(np.asarray(scores_in, dtype=np.float64).ravel())
    outside = np.asarray(scores_out, dtype=np.float64).ravel()
    if not (len(inside) and len(outside)) or np.isnan(inside).any() or np.isnan(outside).any():
        raise InputError(
            f"Scores must be numbers and at least one on each side, got {len(inside)} in, {len(outside)} out"
        )
    below = np.searchsorted(inside, outside, "left") + np.searchsorted(inside, outside, "right")
    return float(below.mean() / 2 / len(inside))


def posterior_error(probabilities: ArrayLike, posterior: ArrayLike) -> float:
    """Return the mean absolute difference to the true probabilities, over scans and classes.

    Parameters
    ----------
    probabilities, posterior : array_like, shape (N, K)
        The posterior is known for phantoms only.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    stated, true = np.asarray(probabilities, dtype=np.float64), np.asarray(posterior, dtype=np.float64)
    if stated.shape != true.shape:
        raise InputError(
            f"Probabilities and posterior must have one shape, got {stated.shape} and {true.shape}"
        )
    return float(np.abs(stated - true).mean())


def excess_nll(probabilities: ArrayLike, labels: ArrayLike, posterior: ArrayLike) -> float:
    """Return the NLL above that of the oracle, which states the true posterior, on the same labels."""
    return negative_log_likelihood(probabilities, labels) - negative_log_likelihood(posterior, labels)


Metric = Callable[[ArrayLike, ArrayLike], float]

METRICS: dict[str, Metric] = {
    "negative_log_likelihood": negative_log_likelihood,
    "brier_score": brier_score,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "macro_auroc": macro_auroc,
    "expected_calibration_error": expected_calibration_error,
    "maximum_calibration_error": maximum_calibration_error,
    "classwise_ece": classwise_ece,
    "smooth_ece": smooth_ece,
    "ece_kde": ece_kde,
    "ks_calibration_error": ks_calibration_error,
    "overconfidence_error": overconfidence_error,
    "risk_coverage_area": risk_coverage_area,
}

WEIGHTED: dict[str, Weighted] = {
    "negative_log_likelihood": scores.nll_over_draws,
    "brier_score": scores.brier_over_draws,
    "accuracy": scores.accuracy_over_draws,
    "balanced_accuracy": scores.balanced_accuracy_over_draws,
    "macro_f1": scores.macro_f1_over_draws,
    "macro_auroc": scores.macro_auroc_over_draws,
    "expected_calibration_error": binned.binned_gap(),
    "maximum_calibration_error": binned.largest_gap(),
    "classwise_ece": binned.classwise_gap(),
    "smooth_ece": kernel.smooth_gap,
    "ece_kde": kernel.kde_gap,
    "ks_calibration_error": binned.ks_gap,
    "overconfidence_error": binned.overconfidence(),
    "risk_coverage_area": selective.area_over_draws,
}

HIGHER_IS_BETTER = frozenset({"accuracy", "balanced_accuracy", "macro_f1", "macro_auroc"})
