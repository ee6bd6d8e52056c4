"""Cross-entropy plus a measure of the batch's miscalibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from models.losses.loss import Loss, within


class MaximumMeanCalibrationError(Loss):
    r"""Cross-entropy plus the kernel calibration error of the top label.

    .. math::
        CE + \frac{\lambda}{N^2} \sum_{i,j} (c_i - r_i)(c_j - r_j) \exp(-|r_i - r_j| / h)

    with r the top-label confidence, which carries the gradient, and c its correctness, a constant. lambda = 0
    is cross-entropy.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`; counts are not used.
    lam : float
        lambda, at least 0.
    width : float
        h, width of the kernel, above 0.

    References
    ----------
    Kumar, Sarawagi, Jain, Trainable Calibration Measures for Neural Networks from Kernel Mean Embeddings,
    ICML 2018; the square, as trained with in Mukhoti et al., NeurIPS 2020.
    """

    couples_batch: ClassVar[bool] = True

    def __init__(
        self,
        num_classes: int,
        class_counts: Sequence[float] | None = None,
        *,
        lam: float = 2.0,
        width: float = 0.4,
    ) -> None:
        super().__init__(num_classes, class_counts)
        self.lam = within("lam", lam)
        self.width = within("width", width, 1e-6)

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        log_probs = functional.log_softmax(logits, dim=1)
        top = log_probs.max(dim=1)
        confidence = top.values.exp()
        gap = (top.indices == target).to(confidence) - confidence
        kernel = (-(confidence[:, None] - confidence).abs() / self.width).exp()
        penalty = (gap[:, None] * gap * kernel).mean()
        return functional.nll_loss(log_probs, target) + self.lam * penalty


class MulticlassConfidenceAccuracy(Loss):
    r"""Cross-entropy plus the gap between mean probability and frequency of each class in the batch.

    .. math:: CE + \beta \, \mathrm{mean}_k \Big| \frac{1}{N} \sum_i p_{ik} - \frac{N_k}{N} \Big|

    A class missing in the batch counts with frequency 0. beta = 0 is cross-entropy.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`; counts are not used.
    beta : float
        At least 0.

    References
    ----------
    Hebbalaguppe et al., A Stitch in Time Saves Nine: A Train-Time Regularizing Loss for Improved Neural
    Network Calibration (MDCA), CVPR 2022.
    """

    couples_batch: ClassVar[bool] = True

    def __init__(
        self, num_classes: int, class_counts: Sequence[float] | None = None, *, beta: float = 1.0
    ) -> None:
        super().__init__(num_classes, class_counts)
        self.beta = within("beta", beta)

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        log_probs = functional.log_softmax(logits, dim=1)
        frequency = functional.one_hot(target, self.num_classes).to(log_probs).mean(dim=0)
        penalty = (log_probs.exp().mean(dim=0) - frequency).abs().mean()
        return functional.nll_loss(log_probs, target) + self.beta * penalty
