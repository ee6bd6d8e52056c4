"""Cross-entropy held back from extreme confidence: softer labels, higher entropy, bounded logit gaps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from models.losses.loss import Loss, within


class LabelSmoothing(Loss):
    r"""Cross-entropy against labels mixed with the uniform distribution.

    .. math:: (1 - \alpha) (-\log p_y) - \alpha \, \mathrm{mean}_k \log p_k

    alpha = 0 is cross-entropy.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`; counts are not used.
    alpha : float
        Share of the uniform distribution, in [0, 1].

    References
    ----------
    Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016.
    """

    def __init__(
        self, num_classes: int, class_counts: Sequence[float] | None = None, *, alpha: float = 0.05
    ) -> None:
        super().__init__(num_classes, class_counts)
        self.alpha = within("alpha", alpha, 0, 1)

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        log_probs = functional.log_softmax(logits, dim=1)
        return (1 - self.alpha) * functional.nll_loss(log_probs, target) - self.alpha * log_probs.mean()


class EntropyPenalty(Loss):
    r"""Cross-entropy minus alpha times the mean entropy of the predictions; alpha = 0 is cross-entropy.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`; counts are not used.
    alpha : float
        Weight of the entropy, natural log, summed over classes; at least 0.

    References
    ----------
    Pereyra et al., Regularizing Neural Networks by Penalizing Confident Output Distributions,
    ICLR workshop 2017.
    """

    def __init__(
        self, num_classes: int, class_counts: Sequence[float] | None = None, *, alpha: float = 0.1
    ) -> None:
        super().__init__(num_classes, class_counts)
        self.alpha = within("alpha", alpha)

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        log_probs = functional.log_softmax(logits, dim=1)
        entropy = -(log_probs.exp() * log_probs).sum(dim=1).mean()
        return functional.nll_loss(log_probs, target) - self.alpha * entropy


class MarginLabelSmoothing(Loss):
    r"""Cross-entropy plus a penalty on logits that lie further than a margin below the largest.

    .. math:: CE + \alpha \, \mathrm{mean}_{i,k} \max(0, \max_l z_{il} - z_{ik} - m)

    Inside the margin it is cross-entropy, and so it is for alpha = 0; m = 0 pushes to the uniform
    distribution.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`; counts are not used.
    margin : float
        m, in logits, at least 0.
    alpha : float
        Weight of the penalty, at least 0.

    References
    ----------
    Liu et al., The Devil is in the Margin: Margin-based Label Smoothing for Network Calibration, CVPR 2022.
    """

    def __init__(
        self,
        num_classes: int,
        class_counts: Sequence[float] | None = None,
        *,
        margin: float = 10.0,
        alpha: float = 0.1,
    ) -> None:
        super().__init__(num_classes, class_counts)
        self.margin = within("margin", margin)
        self.alpha = within("alpha", alpha)

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        gap = logits.max(dim=1, keepdim=True).values - logits
        return (
            functional.cross_entropy(logits, target) + self.alpha * functional.relu(gap - self.margin).mean()
        )


class AdaptiveConditionalSmoothing(Loss):
    r"""Cross-entropy plus squared penalties on a large top logit and on logits far below it.

    .. math::
        CE + \alpha \Big[ \frac{\lambda_1}{N} \sum_{top} \max(0, z - m)^2
        + \frac{\lambda_2}{N (K-1)} \sum_{others} \max(0, z_{max} - z - m)^2 \Big]

    In the second sum the largest logit is a constant. Classes that tie for the largest logit all count as
    top, as in the authors' code. alpha = 0 is cross-entropy.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`; counts are not used.
    alpha, lam1, lam2 : float
        Weights of the whole penalty and of its two parts, at least 0.
    margin : float
        m, in logits, at least 0.

    Notes
    -----
    The first penalty bounds the logit itself: unlike the other losses here, this one changes when a
    constant is added to all logits of a scan.

    References
    ----------
    Park et al., ACLS: Adaptive and Conditional Label Smoothing for Network Calibration, ICCV 2023;
    weights as in the authors' code.
    """

    def __init__(
        self,
        num_classes: int,
        class_counts: Sequence[float] | None = None,
        *,
        alpha: float = 0.1,
        lam1: float = 1.0,
        lam2: float = 0.1,
        margin: float = 10.0,
    ) -> None:
        super().__init__(num_classes, class_counts)
        self.alpha = within("alpha", alpha)
        self.lam1 = within("lam1", lam1)
        self.lam2 = within("lam2", lam2)
        self.margin = within("margin", margin)

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        largest = logits.detach().max(dim=1, keepdim=True).values
        too_large = self.lam1 * functional.relu(logits - self.margin).square()
        too_far = self.lam2 * functional.relu(largest - logits - self.margin).square()
        by_class = torch.where(logits == largest, too_large, too_far / (self.num_classes - 1))
        penalty = by_class.sum() / len(logits)
        return functional.cross_entropy(logits, target) + self.alpha * penalty
