"""Cross-entropy of logits that class counts have shifted or scaled: rare classes get a wider margin."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from .loss import Loss, log_prior
from .option import Option


class _Adjusted(Loss):
    """Cross-entropy of `posterior_logits`."""

    needs_counts: ClassVar[bool] = True

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of each scan's adjusted logits, shape (N,)."""
        return functional.cross_entropy(self.posterior_logits(logits), target, reduction="none")


class BalancedSoftmax(_Adjusted):
    """Cross-entropy of z + log n_k.

    A constant added to all logits changes nothing, so this is `LogitAdjusted` with tau = 1. With equal counts
    it is cross-entropy.

    References
    ----------
    Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020.

    Examples
    --------
    >>> import torch
    >>> round(BalancedSoftmax(2, [1, 3])(torch.zeros(1, 2), torch.tensor([0])).exp().item(), 4)
    4.0
    """

    def posterior_logits(self, logits: Tensor) -> Tensor:
        """Return the logits as they were trained, with log n_k."""
        return logits + self.counts.log().to(logits)


class LogitAdjusted(_Adjusted):
    r"""Cross-entropy of :math:`z + \tau \log \pi`; tau = 0 is cross-entropy.

    The network then estimates logits of balanced classes: use z, not the adjusted logits, to predict.

    References
    ----------
    Menon et al., Long-tail Learning via Logit Adjustment, ICLR 2021.
    """

    tau = Option(1.0, "the strength of the prior", at_least=0)
    offset: Tensor

    def prepare(self) -> None:
        """Compute what follows from counts and options."""
        self.register_buffer("offset", self.tau * log_prior(self.counts), persistent=False)

    def posterior_logits(self, logits: Tensor) -> Tensor:
        """Return the logits as they were trained, with the prior."""
        return logits + self.offset.to(logits)


class LabelDistributionAwareMargin(Loss):
    r"""Cross-entropy of :math:`s (z - m_y e_y)`: the true class must win by a margin, wider where it is rare.

    Margins are :math:`m_k \propto n_k^{-1/4}`, the largest being ``max_m``. ``max_m=0, s=1`` is
    cross-entropy.

    Notes
    -----
    The paper's network ends in cosines, logits in [-1, 1], for which s = 30 is meant. With unbounded logits
    the scale only sharpens; s = 1 is then the fairer choice.

    References
    ----------
    Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019.
    """

    needs_counts: ClassVar[bool] = True
    max_m = Option(0.5, "the margin of the rarest class", at_least=0)
    s = Option(30.0, "the scale of the logits", above=0)
    margins: Tensor

    def prepare(self) -> None:
        """Compute what follows from counts and options."""
        fourth_root = self.counts.pow(-0.25)
        self.register_buffer("margins", self.max_m * fourth_root / fourth_root.max(), persistent=False)

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of each scan with its margin, shape (N,)."""
        margins = self.margins.to(logits)[target]
        lowered = logits.scatter_add(1, target[:, None], -margins[:, None])
        return functional.cross_entropy(self.s * lowered, target, reduction="none")

    def posterior_logits(self, logits: Tensor) -> Tensor:
        """Return s times the logits: the softmax of these was trained, with a margin for the true class."""
        return logits * self.s


class VectorScaling(_Adjusted):
    r"""Cross-entropy of :math:`z_k / (n_{max} / n_k)^\gamma + \tau \log \pi_k`.

    ``gamma=0`` is `LogitAdjusted`; ``gamma=0, tau=0`` is cross-entropy.

    References
    ----------
    Kini et al., Label-Imbalanced and Group-Sensitive Classification under Overparameterization,
    NeurIPS 2021; parameters as in the authors' code.
    """

    gamma = Option(0.3, "the strength of the factor", at_least=0)
    tau = Option(1.0, "the strength of the prior", at_least=0)
    scale: Tensor
    offset: Tensor

    def prepare(self) -> None:
        """Compute what follows from counts and options."""
        scale = (self.counts / self.counts.max()).pow(self.gamma)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("offset", self.tau * log_prior(self.counts), persistent=False)

    def posterior_logits(self, logits: Tensor) -> Tensor:
        """Return the logits as they were trained, scaled and with the prior."""
        return logits * self.scale.to(logits) + self.offset.to(logits)
