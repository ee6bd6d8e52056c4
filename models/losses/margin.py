"""Cross-entropy of logits that class counts have shifted or scaled: rare classes get a wider margin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from models.losses.loss import Loss, log_prior, within


class BalancedSoftmax(Loss):
    """Cross-entropy of z + log n_k.

    A constant added to all logits changes nothing, so this is `LogitAdjusted` with tau = 1. With equal counts
    it is cross-entropy.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`.

    References
    ----------
    Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020.

    Examples
    --------
    >>> import torch
    >>> round(BalancedSoftmax(2, [1, 3])(torch.zeros(1, 2), torch.tensor([0])).exp().item(), 4)
    4.0
    """

    needs_counts: ClassVar[bool] = True

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        return functional.cross_entropy(self.posterior_logits(logits), target)

    def posterior_logits(self, logits: Tensor) -> Tensor:
        """Return the logits as they were trained, with log n_k."""
        return logits + self.counts.log().to(logits)


class LogitAdjusted(Loss):
    r"""Cross-entropy of :math:`z + \tau \log \pi`; tau = 0 is cross-entropy.

    The network then estimates logits of balanced classes: use z, not the adjusted logits, to predict.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`.
    tau : float
        Strength of the prior, at least 0.

    References
    ----------
    Menon et al., Long-tail Learning via Logit Adjustment, ICLR 2021.
    """

    needs_counts: ClassVar[bool] = True
    offset: Tensor

    def __init__(
        self, num_classes: int, class_counts: Sequence[float] | None = None, *, tau: float = 1.0
    ) -> None:
        super().__init__(num_classes, class_counts)
        self.register_buffer("offset", within("tau", tau) * log_prior(self.counts), persistent=False)

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        return functional.cross_entropy(self.posterior_logits(logits), target)

    def posterior_logits(self, logits: Tensor) -> Tensor:
        """Return the logits as they were trained, with the prior."""
        return logits + self.offset.to(logits)


class LabelDistributionAwareMargin(Loss):
    r"""Cross-entropy of :math:`s (z - m_y e_y)`: the true class must win by a margin, wider where it is rare.

    Margins are :math:`m_k \propto n_k^{-1/4}`, the largest being ``max_m``. ``max_m=0, s=1`` is
    cross-entropy.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`.
    max_m : float
        Margin of the rarest class, at least 0.
    s : float
        Scale of the logits, at least 0.

    Notes
    -----
    The paper's network ends in cosines, logits in [-1, 1], for which s = 30 is meant. With unbounded logits
    the scale only sharpens; s = 1 is then the fairer choice.

    References
    ----------
    Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019.
    """

    needs_counts: ClassVar[bool] = True
    margins: Tensor

    def __init__(
        self,
        num_classes: int,
        class_counts: Sequence[float] | None = None,
        *,
        max_m: float = 0.5,
        s: float = 30.0,
    ) -> None:
        super().__init__(num_classes, class_counts)
        self.s = within("s", s)
        fourth_root = self.counts.pow(-0.25)
        margins = within("max_m", max_m) * fourth_root / fourth_root.max()
        self.register_buffer("margins", margins, persistent=False)

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        margins = self.margins.to(logits)[target]
        lowered = logits.scatter_add(1, target[:, None], -margins[:, None])
        return functional.cross_entropy(self.s * lowered, target)


class VectorScaling(Loss):
    r"""Cross-entropy of :math:`z_k / (n_{max} / n_k)^\gamma + \tau \log \pi_k`.

    ``gamma=0`` is `LogitAdjusted`; ``gamma=0, tau=0`` is cross-entropy.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`.
    gamma, tau : float
        Strengths of the multiplicative and the additive part, at least 0.

    References
    ----------
    Kini et al., Label-Imbalanced and Group-Sensitive Classification under Overparameterization,
    NeurIPS 2021; parameters as in the authors' code.
    """

    needs_counts: ClassVar[bool] = True
    scale: Tensor
    offset: Tensor

    def __init__(
        self,
        num_classes: int,
        class_counts: Sequence[float] | None = None,
        *,
        gamma: float = 0.3,
        tau: float = 1.0,
    ) -> None:
        super().__init__(num_classes, class_counts)
        scale = (self.counts / self.counts.max()).pow(within("gamma", gamma))
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("offset", within("tau", tau) * log_prior(self.counts), persistent=False)

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        return functional.cross_entropy(self.posterior_logits(logits), target)

    def posterior_logits(self, logits: Tensor) -> Tensor:
        """Return the logits as they were trained, scaled and with the prior."""
        return logits * self.scale.to(logits) + self.offset.to(logits)
