"""How good probabilities are: functions of (probabilities (N, K), labels (N,))."""

from pipeline.evaluation.metrics.catalogue import *  # noqa: F403
from pipeline.evaluation.metrics.catalogue import __all__ as __all__
