"""Losses by name: cross-entropy, its generative form, and the losses it is compared with.

Each is called as ``loss(logits, target)`` with logits (N, K) and int64 target (N,) and returns the mean over
the batch. Each class has its formula, its options and its paper. The folder imports torch alone and can be
copied into another project.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .confidence import MaximumMeanCalibrationError, MulticlassConfidenceAccuracy
from .focal import AdaFocal, DualFocal, Focal, FocalSampleDependent
from .generative import GenerativeCrossEntropy, GenerativeLogitAdjusted
from .loss import Loss
from .margin import (
    BalancedSoftmax,
    LabelDistributionAwareMargin,
    LogitAdjusted,
    VectorScaling,
)
from .option import Option, nearest
from .reweighted import ClassBalanced, CrossEntropy, WeightedCrossEntropy
from .robust import Brier, GammaCrossEntropy, PolyOne, SymmetricCrossEntropy
from .smoothing import (
    AdaptiveConditionalSmoothing,
    EntropyPenalty,
    LabelSmoothing,
    MarginLabelSmoothing,
)

__all__ = ["LOSSES", "Loss", "Option", "build_loss"]

LOSSES: dict[str, type[Loss]] = {
    "ce": CrossEntropy,
    "weighted_ce": WeightedCrossEntropy,
    "class_balanced": ClassBalanced,
    "balanced_softmax": BalancedSoftmax,
    "logit_adjusted": LogitAdjusted,
    "ldam": LabelDistributionAwareMargin,
    "vs": VectorScaling,
    "label_smoothing": LabelSmoothing,
    "entropy_penalty": EntropyPenalty,
    "mbls": MarginLabelSmoothing,
    "gamma_ce": GammaCrossEntropy,
    "focal": Focal,
    "flsd53": FocalSampleDependent,
    "adafocal": AdaFocal,
    "dual_focal": DualFocal,
    "poly1": PolyOne,
    "mmce": MaximumMeanCalibrationError,
    "mdca": MulticlassConfidenceAccuracy,
    "acls": AdaptiveConditionalSmoothing,
    "symmetric_ce": SymmetricCrossEntropy,
    "brier": Brier,
    "gce": GenerativeCrossEntropy,
    "gce_logit_adjusted": GenerativeLogitAdjusted,
}


def build_loss(
    name: str, num_classes: int, class_counts: Sequence[float] | None = None, **options: Any
) -> Loss:
    """Return a loss by its name.

    Parameters
    ----------
    name : str
        A key of `LOSSES`.
    num_classes : int
        K, at least 2.
    class_counts : sequence of int, length K, optional
        Scans of each class in the training split; needed by the losses that use them.
    **options
        ``reduction`` ("mean", "sum" or "none") and those that the loss's class declares:
        ``LOSSES[name].options()``.

    Returns
    -------
    Loss
        Called as ``loss(logits, target)``.

    Raises
    ------
    ValueError
        If the name or an option is unknown (the message names the nearest), or a value is out of range.

    Examples
    --------
    >>> build_loss("gce", 3, weight=0.5)
    GenerativeCrossEntropy(weight=0.5, warmup_epochs=0.0, reduction='mean')
    >>> build_loss("focall", 3)
    Traceback (most recent call last):
    ...
    ValueError: No loss is named 'focall'. Did you mean 'focal'?
    """
    if name not in LOSSES:
        raise ValueError(f"No loss is named {name!r}. {nearest(name, LOSSES)}")
    return LOSSES[name](num_classes, class_counts, **options)
