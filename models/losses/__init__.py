"""Losses by name: cross-entropy, its generative form, and what the field holds against it.

Each is called as ``loss(logits, target)`` with logits (N, K) and int64 target (N,) and returns the mean over
the batch. Formulas, defaults and papers stand in the class of each loss.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

from models.losses.confidence import MaximumMeanCalibrationError, MulticlassConfidenceAccuracy
from models.losses.focal import AdaFocal, DualFocal, Focal, FocalSampleDependent
from models.losses.generative import GenerativeCrossEntropy, GenerativeLogitAdjusted
from models.losses.loss import Loss
from models.losses.margin import (
    BalancedSoftmax,
    LabelDistributionAwareMargin,
    LogitAdjusted,
    VectorScaling,
)
from models.losses.reweighted import ClassBalanced, CrossEntropy, WeightedCrossEntropy
from models.losses.robust import Brier, GammaCrossEntropy, PolyOne, SymmetricCrossEntropy
from models.losses.smoothing import (
    AdaptiveConditionalSmoothing,
    EntropyPenalty,
    LabelSmoothing,
    MarginLabelSmoothing,
)

__all__ = ["LOSSES", "Loss", "build_loss"]

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
        Those of the loss's class.

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
    >>> build_loss("gce", 3, weight=0.5).current_weight
    0.5
    >>> build_loss("focall", 3)
    Traceback (most recent call last):
    ...
    ValueError: No loss is named 'focall': did you mean 'focal'?
    """
    if name not in LOSSES:
        raise ValueError(f"No loss is named {name!r}: {_nearest(name, list(LOSSES))}")
    loss = LOSSES[name]
    valid = [option for option in inspect.signature(loss).parameters if option not in _FACTS]
    for option in options:
        if option not in valid:
            raise ValueError(f"Loss {name!r} has no option {option!r}: {_nearest(option, valid)}")
    return loss(num_classes, class_counts, **options)


_FACTS = ("num_classes", "class_counts")


def _nearest(word: str, valid: list[str]) -> str:
    near = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"it must be one of {', '.join(valid)}" if valid else "it has none"
