"""How good probabilities are: functions of (probabilities (N, K), labels (N,)), and their catalogue."""

from pipeline.evaluation.metrics.calibration_error import (
    bin_edges,
    bin_index,
    classwise_ece,
    expected_calibration_error,
    ks_calibration_error,
    maximum_calibration_error,
    overconfidence_error,
)
from pipeline.evaluation.metrics.catalogue import METRICS, PER_SCAN, TABLE, Metric, metric_named
from pipeline.evaluation.metrics.kernel_calibration import ece_kde, smooth_ece
from pipeline.evaluation.metrics.reliability import ReliabilityCurve, reliability_curve, reliability_curves
from pipeline.evaluation.metrics.scores import (
    PROBABILITY_FLOOR,
    BrierParts,
    accuracy,
    balanced_accuracy,
    brier_decomposition,
    brier_score,
    excess_nll,
    macro_auroc,
    macro_f1,
    negative_log_likelihood,
    ood_auroc,
    per_class_recall,
    posterior_error,
)
from pipeline.evaluation.metrics.selective import RiskCoverage, risk_coverage, risk_coverage_area

__all__ = [
    "METRICS",
    "PER_SCAN",
    "PROBABILITY_FLOOR",
    "TABLE",
    "BrierParts",
    "Metric",
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
    "metric_named",
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
