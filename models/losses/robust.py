"""Losses of p_y that grow more slowly than cross-entropy, or faster at first: noise, tails, tuning."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .loss import Loss, log_probability
from .option import Option


class GammaCrossEntropy(Loss):
    r"""Between cross-entropy (gamma = 0) and total variation, 1 - p_y (gamma = 1).

    .. math:: -\log(\gamma + (1 - \gamma) p_y) / (1 - \gamma)

    With ``threshold`` b > 0 it is the gradient form: the weight
    :math:`\mathrm{clamp}(p_y / (\gamma + (1 - \gamma) p_y), b, 1)`, a constant, times :math:`-\log p_y`.
    The two have the same gradient wherever the clamp does not act. ``schedule="linear"`` moves gamma from 0
    in the first epoch to its value in the last; until `start_epoch` is called, the loss is that of the first.

    Attributes
    ----------
    current_gamma : float
        gamma in the current epoch.

    References
    ----------
    Ji et al., Tailoring Language Generation Models under Total Variation Distance (TaiLr), ICLR 2023.

    Examples
    --------
    >>> round(GammaCrossEntropy(2, gamma=1)(torch.zeros(1, 2), torch.tensor([0])).item(), 4)
    0.5
    """

    gamma = Option(0.1, "0 is cross-entropy, 1 is total variation", at_least=0, at_most=1)
    threshold = Option(0.0, "b, the smallest weight of a scan; 0 is the closed form", at_least=0, at_most=1)
    schedule = Option("constant", "how gamma moves over the epochs", choices=("constant", "linear"))

    def prepare(self) -> None:
        """Compute what follows from counts and options."""
        self.current_gamma = 0.0 if self.schedule == "linear" else self.gamma

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Set gamma to its value at this epoch of the schedule."""
        if self.schedule == "linear":
            self.current_gamma = self.gamma * min(1.0, epoch / max(1, epochs - 1))

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each scan, shape (N,)."""
        log_p = log_probability(logits, target)
        gamma = self.current_gamma
        if self.threshold > 0:
            weight = (log_p - _log_mixture(log_p, gamma)).exp().clamp(self.threshold, 1)
            return -(weight.detach() * log_p)
        if gamma == 1:
            return -log_p.expm1()
        return -_log_mixture(log_p, gamma) / (1 - gamma)


def _log_mixture(log_p: Tensor, gamma: float) -> Tensor:
    """Return log(gamma + (1 - gamma) p), exact at both ends of gamma."""
    if gamma > 0.5:  # near 0: from 1 - p, or dividing by 1 - gamma would magnify the rounding
        return ((1 - gamma) * log_p.expm1()).log1p()
    if gamma == 0:
        return log_p
    return torch.logaddexp(log_p.new_tensor(math.log(gamma)), log_p + math.log1p(-gamma))


class PolyOne(Loss):
    r"""Cross-entropy plus :math:`\epsilon (1 - p_y)`; epsilon = 0 is cross-entropy.

    References
    ----------
    Leng et al., PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions, ICLR 2022.
    """

    epsilon = Option(1.0, "below -1 a right answer would be punished", at_least=-1)

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each scan, shape (N,)."""
        log_p = log_probability(logits, target)
        return -(log_p + self.epsilon * log_p.expm1())


class SymmetricCrossEntropy(Loss):
    r"""A mix of cross-entropy and reverse cross-entropy.

    .. math:: \alpha (-\log p_y) + \beta \Big( -\sum_k p_k \log q_k \Big)

    with q the one-hot label and log 0 read as log 1e-4, so the second part is 9.21 (1 - p_y). alpha = 1,
    beta = 0 is cross-entropy.

    References
    ----------
    Wang et al., Symmetric Cross Entropy for Robust Learning with Noisy Labels, ICCV 2019;
    weights and log 1e-4 as in the authors' code.
    """

    alpha = Option(0.1, "the weight of cross-entropy", at_least=0)
    beta = Option(1.0, "the weight of reverse cross-entropy", at_least=0)

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each scan, shape (N,)."""
        log_p = log_probability(logits, target)
        return self.beta * math.log(1e-4) * log_p.expm1() - self.alpha * log_p


class Brier(Loss):
    """The mean squared distance of the probabilities from the one-hot label, summed over classes.

    A strictly proper loss without logarithm; cross-entropy is no limit of it.

    References
    ----------
    Brier, Verification of Forecasts Expressed in Terms of Probability, Monthly Weather Review 78, 1950.

    Examples
    --------
    >>> Brier(2)(torch.zeros(1, 2), torch.tensor([0])).item()
    0.5
    """

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the squared distance of each scan, shape (N,)."""
        label = functional.one_hot(target, self.num_classes)
        return (logits.softmax(dim=1) - label).square().sum(dim=1)
