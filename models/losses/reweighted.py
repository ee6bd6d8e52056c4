"""Cross-entropy itself, and cross-entropy with a weight for each class."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from .loss import Loss, log_probability
from .option import Option


class CrossEntropy(Loss):
    """The mean of -log p_y.

    References
    ----------
    Good, Rational Decisions, J. R. Stat. Soc. B 14, 1952 (the logarithmic score).

    Examples
    --------
    >>> round(CrossEntropy(2)(torch.zeros(1, 2), torch.tensor([0])).item(), 4)
    0.6931
    """

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return -log p_y of each scan, shape (N,)."""
        return functional.cross_entropy(logits, target, reduction="none")


class _ClassWeighted(Loss):
    """Cross-entropy with each scan weighted by its class, divided by N and not by the sum of weights.

    A scan then counts alike in every batch; dividing by the sum of weights would make a scan depend on its
    batch and cancel the weighting where a batch holds one class only.
    """

    needs_counts: ClassVar[bool] = True
    weights: Tensor

    def prepare(self) -> None:
        """Compute what follows from counts and options."""
        weights = self.unscaled_weights(self.counts)
        self.register_buffer("weights", weights * self.num_classes / weights.sum(), persistent=False)

    @abstractmethod
    def unscaled_weights(self, counts: Tensor) -> Tensor:
        """Return class weights up to a factor, shape (K,)."""

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the weighted -log p_y of each scan, shape (N,)."""
        weights = self.weights.to(logits)[target]
        return -(weights * log_probability(logits, target))

    def posterior_logits(self, logits: Tensor) -> Tensor:
        """Return logits corrected for the class weights: weighting by w_k adds log w_k to them."""
        return logits - self.weights.log().to(logits)


class WeightedCrossEntropy(_ClassWeighted):
    """Cross-entropy weighted by inverse class frequency, 1/n_k scaled to mean 1 over classes.

    With equal counts it is cross-entropy.

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
    is `WeightedCrossEntropy`.

    References
    ----------
    Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019.

    Examples
    --------
    >>> ClassBalanced(2, [1, 2], beta=0.5).weights
    tensor([1.2000, 0.8000], dtype=torch.float64)
    """

    beta = Option(0.9999, "overlap of scans; weighted_ce is the limit of beta = 1", at_least=0, below=1)

    def unscaled_weights(self, counts: Tensor) -> Tensor:
        """Return (1 - beta) / (1 - beta ** n_k)."""
        return (1 - self.beta) / (1 - torch.pow(self.beta, counts))
