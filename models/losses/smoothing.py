"""Cross-entropy that avoids extreme confidence: softer labels, higher entropy, bounded logit gaps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .loss import Loss
from .option import Option


class LabelSmoothing(Loss):
    r"""Cross-entropy against labels mixed with the uniform distribution.

    .. math:: (1 - \alpha) (-\log p_y) - \alpha \, \mathrm{mean}_k \log p_k

    alpha = 0 is cross-entropy.

    References
    ----------
    Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016.
    """

    alpha = Option(0.05, "the share of the uniform distribution", at_least=0, at_most=1)

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each scan, shape (N,)."""
        log_probs = functional.log_softmax(logits, dim=1)
        nll = functional.nll_loss(log_probs, target, reduction="none")
        return (1 - self.alpha) * nll - self.alpha * log_probs.mean(dim=1)


class EntropyPenalty(Loss):
    r"""Cross-entropy minus alpha times the mean entropy of the predictions; alpha = 0 is cross-entropy.

    The entropy is in nats and summed over classes.

    References
    ----------
    Pereyra et al., Regularizing Neural Networks by Penalizing Confident Output Distributions,
    ICLR workshop 2017.
    """

    alpha = Option(0.1, "the weight of the entropy", at_least=0)

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each scan, shape (N,)."""
        log_probs = functional.log_softmax(logits, dim=1)
        entropy = -(log_probs.exp() * log_probs).sum(dim=1)
        return functional.nll_loss(log_probs, target, reduction="none") - self.alpha * entropy


class MarginLabelSmoothing(Loss):
    r"""Cross-entropy plus a penalty on logits that lie further than a margin below the largest.

    .. math:: CE + \alpha \, \mathrm{mean}_{i,k} \max(0, \max_l z_{il} - z_{ik} - m)

    Inside the margin it is cross-entropy, and so it is for alpha = 0; m = 0 pushes to the uniform
    distribution.

    References
    ----------
    Liu et al., The Devil is in the Margin: Margin-based Label Smoothing for Network Calibration, CVPR 2022.
    """

    margin = Option(10.0, "m, in logits", at_least=0)
    alpha = Option(0.1, "the weight of the penalty", at_least=0)

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each scan, shape (N,)."""
        gap = logits.max(dim=1, keepdim=True).values - logits
        penalty = functional.relu(gap - self.margin).mean(dim=1)
        return functional.cross_entropy(logits, target, reduction="none") + self.alpha * penalty


class AdaptiveConditionalSmoothing(Loss):
    r"""Cross-entropy plus squared penalties on a large top logit and on logits far below it.

    .. math::
        CE + \alpha \Big[ \frac{\lambda_1}{N} \sum_{top} \max(0, z - m)^2
        + \frac{\lambda_2}{N (K-1)} \sum_{others} \max(0, z_{max} - z - m)^2 \Big]

    In the second sum the largest logit is a constant. Classes that tie for the largest logit all count as
    top, as in the authors' code. alpha = 0 is cross-entropy.

    Notes
    -----
    The first penalty bounds the logit itself: unlike the other losses here, this one changes when a
    constant is added to all logits of a scan.

    References
    ----------
    Park et al., ACLS: Adaptive and Conditional Label Smoothing for Network Calibration, ICCV 2023;
    weights as in the authors' code.
    """

    alpha = Option(0.1, "the weight of both penalties", at_least=0)
    lam1 = Option(1.0, "lambda_1, the weight of the penalty on the top logit", at_least=0)
    lam2 = Option(0.1, "lambda_2, the weight of the penalty on the others", at_least=0)
    margin = Option(10.0, "m, in logits", at_least=0)

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each scan, shape (N,)."""
        largest = logits.detach().max(dim=1, keepdim=True).values
        too_large = self.lam1 * functional.relu(logits - self.margin).square()
        too_far = self.lam2 * functional.relu(largest - logits - self.margin).square()
        penalty = torch.where(logits == largest, too_large, too_far / (self.num_classes - 1)).sum(dim=1)
        return functional.cross_entropy(logits, target, reduction="none") + self.alpha * penalty
