"""Cross-entropy itself, and cross-entropy with a weight for each class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from models.losses.loss import Loss, log_probability, within


class CrossEntropy(Loss):
    """The mean of -log p_y.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`; counts are not used.

    References
    ----------
    Good, Rational Decisions, J. R. Stat. Soc. B 14, 1952 (the logarithmic score).

    Examples
    --------
    >>> round(CrossEntropy(2)(torch.zeros(1, 2), torch.tensor([0])).item(), 4)
    0.6931
    """

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        return functional.cross_entropy(logits, target)


class _ClassWeighted(Loss):
    """Cross-entropy with each scan weighted by its class, divided by N and not by the sum of weights.

    Dividing by the sum of weights, as ``torch`` does, would make a scan's weight depend on the others in its
    batch and undo the weighting where a batch holds one class only.
    """

    needs_counts: ClassVar[bool] = True
    weights: Tensor

    def __init__(self, num_classes: int, class_counts: Sequence[float] | None = None) -> None:
        super().__init__(num_classes, class_counts)
        weights = self.unscaled_weights(self.counts)
        self.register_buffer("weights", weights * num_classes / weights.sum(), persistent=False)

    @abstractmethod
    def unscaled_weights(self, counts: Tensor) -> Tensor:
        """Return class weights up to a factor, shape (K,)."""

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        weights = self.weights.to(logits)[target]
        return -(weights * log_probability(logits, target)).mean()

    def posterior_logits(self, logits: Tensor) -> Tensor:
        """Return logits with the class weights undone: weighting by w_k adds log w_k to them."""
        return logits - self.weights.log().to(logits)


class WeightedCrossEntropy(_ClassWeighted):
    """Cross-entropy weighted by inverse class frequency, 1/n_k scaled to mean 1 over classes.

    With equal counts it is cross-entropy.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`.

    References
    ----------
    King & Zeng, Logistic Regression in Rare Events Data, Political Analysis 9, 2001.

    Examples
    --------
    >>> WeightedCrossEntropy(2, [10, 30]).weights.tolist()
    [1.5, 0.5]
    """

    def unscaled_weights(self, counts: Tensor) -> Tensor:
        """Return 1/n_k."""
        return 1 / counts


class ClassBalanced(_ClassWeighted):
    r"""Cross-entropy weighted by the inverse effective number of scans.

    Weights :math:`(1 - \beta) / (1 - \beta^{n_k})`, scaled to sum to K. beta = 0 is cross-entropy, beta -> 1
    is inverse frequency.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`.
    beta : float
        In [0, 1).

    References
    ----------
    Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019.

    Examples
    --------
    >>> ClassBalanced(2, [1, 2], beta=0.5).weights
    tensor([1.2000, 0.8000], dtype=torch.float64)
    """

    def __init__(
        self, num_classes: int, class_counts: Sequence[float] | None = None, *, beta: float = 0.9999
    ) -> None:
        self.beta = within("beta", beta, 0, 1)
        if self.beta == 1:
            raise ValueError("beta must be below 1, got 1: weighted_ce is that limit")
        super().__init__(num_classes, class_counts)

    def unscaled_weights(self, counts: Tensor) -> Tensor:
        """Return (1 - beta) / (1 - beta ** n_k)."""
        return (1 - self.beta) / (1 - torch.pow(self.beta, counts))
