"""Cross-entropy plus a measure of the batch's miscalibration."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from .loss import Loss
from .option import Option


class MaximumMeanCalibrationError(Loss):
    r"""Cross-entropy plus the kernel calibration error of the top label.

    .. math::
        CE + \frac{\lambda}{N^2} \sum_{i,j} (c_i - r_i)(c_j - r_j) \exp(-|r_i - r_j| / h)

    with r the top-label confidence, which carries the gradient, and c its correctness, a constant. lambda = 0
    is cross-entropy.

    References
    ----------
    Kumar, Sarawagi, Jain, Trainable Calibration Measures for Neural Networks from Kernel Mean Embeddings,
    ICML 2018; the square, as trained with in Mukhoti et al., NeurIPS 2020.
    """

    couples_batch: ClassVar[bool] = True
    lam = Option(2.0, "lambda, the weight of the calibration error", at_least=0)
    width = Option(0.4, "h, the width of the kernel", at_least=1e-6)

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of each scan plus the batch's calibration error, shape (N,)."""
        log_probs = functional.log_softmax(logits, dim=1)
        top = log_probs.max(dim=1)
        confidence = top.values.exp()
        gap = (top.indices == target).to(confidence) - confidence
        kernel = (-(confidence[:, None] - confidence).abs() / self.width).exp()
        penalty = (gap[:, None] * gap * kernel).mean()
        return functional.nll_loss(log_probs, target, reduction="none") + self.lam * penalty


class MulticlassConfidenceAccuracy(Loss):
    r"""Cross-entropy plus the gap between mean probability and frequency of each class in the batch.

    .. math:: CE + \beta \, \mathrm{mean}_k \Big| \frac{1}{N} \sum_i p_{ik} - \frac{N_k}{N} \Big|

    A class missing in the batch counts with frequency 0. beta = 0 is cross-entropy.

    References
    ----------
    Hebbalaguppe et al., A Stitch in Time Saves Nine: A Train-Time Regularizing Loss for Improved Neural
    Network Calibration (MDCA), CVPR 2022.
    """

    couples_batch: ClassVar[bool] = True
    beta = Option(1.0, "the weight of the gap", at_least=0)

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of each scan plus the batch's gap, shape (N,)."""
        log_probs = functional.log_softmax(logits, dim=1)
        frequency = functional.one_hot(target, self.num_classes).to(log_probs).mean(dim=0)
        penalty = (log_probs.exp().mean(dim=0) - frequency).abs().mean()
        return functional.nll_loss(log_probs, target, reduction="none") + self.beta * penalty
