"""Generative cross-entropy: a discriminative network read as p(x|y)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from models.losses.loss import Loss, log_prior, within


class GenerativeCrossEntropy(Loss):
    r"""Cross-entropy plus the log of the batch's mean probability of each scan's class.

    .. math::
        L = \frac{1}{B} \sum_i \Big[ -\log p(y_i|x_i) + w \log \frac{1}{B} \sum_j p(y_i|x_j) \Big]

    With w = 1 it maximises :math:`p(x|y) = p(y|x) p(x) / p(y)` where :math:`p(y)` is the mean of
    :math:`p(y|x)` over the batch; w = 0 is cross-entropy. A batch of one scan gives (1 - w) times
    cross-entropy: nothing at all for w = 1, which warns once.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`; counts are not used.
    weight : float
        w in [0, 1]. Above 1 the loss has no lower bound.
    warmup_epochs : int
        w grows linearly from 0 at epoch 0 to ``weight`` at this epoch; 0 for none. Until `start_epoch` is
        called, the loss is that of epoch 0.
    include_self : bool
        Whether a scan counts in its own class mean. The abstracts of the paper leave it open.

    Attributes
    ----------
    current_weight : float
        The w in force.

    Notes
    -----
    For w = 1 the value lies in [-log B, inf). Its population risk is minimised only at the true posterior
    when no class weights other than 1 let every row :math:`c_k p(k|x)` sum to one; for w < 1 always.
    Under ``torch.distributed`` B is the batch of all ranks.

    References
    ----------
    Zhan, Zhou, Shen, Generative Cross-Entropy: A Strictly Proper Loss for Data-Efficient Classification,
    arXiv 2604.06689. The formula is derived from the abstract.

    Examples
    --------
    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> round(GenerativeCrossEntropy(2)(logits, torch.tensor([0, 1])).item(), 4)
    -0.5662
    """

    couples_batch: ClassVar[bool] = True

    def __init__(
        self,
        num_classes: int,
        class_counts: Sequence[float] | None = None,
        *,
        weight: float = 1.0,
        warmup_epochs: int = 0,
        include_self: bool = True,
    ) -> None:
        super().__init__(num_classes, class_counts)
        self.weight = within("weight", weight, 0, 1)
        self.warmup_epochs = within("warmup_epochs", warmup_epochs)
        self.include_self = include_self
        self._warned = False
        self.start_epoch(0, 1)

    def start_epoch(self, epoch: int, epochs: int) -> None:  # noqa: ARG002 - the ramp's length is its own
        """Set w to its value at this epoch of the warm-up."""
        ramp = min(1.0, epoch / self.warmup_epochs) if self.warmup_epochs else 1.0
        self.current_weight = self.weight * ramp

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        if len(logits) < 2:
            self._warn(len(logits))
        log_probs = functional.log_softmax(logits, dim=1)
        log_class_means = self._log_class_means(log_probs)
        return functional.nll_loss(log_probs - self.current_weight * log_class_means, target)

    def _log_class_means(self, log_probs: Tensor) -> Tensor:
        """Return log mean_j p(k|x_j), shape (1, K), or over j other than i for each scan i, shape (N, K)."""
        n = len(log_probs)
        if self.include_self or n == 1:  # a lone scan has no others and stands for itself
            return log_probs.logsumexp(dim=0, keepdim=True) - math.log(n)
        itself = torch.eye(n, dtype=torch.bool, device=log_probs.device)
        others = log_probs.masked_fill(itself[:, :, None], -math.inf)  # (i, j, k): log p(k|x_j), j not i
        return others.logsumexp(dim=1) - math.log(n - 1)

    def _warn(self, batch_size: int) -> None:
        if not self._warned:
            warnings.warn(
                f"Generative cross-entropy compares the scans of a batch and needs at least 2, got batch "
                f"size {batch_size}: a lone scan teaches nothing at weight 1; use larger batches",
                RuntimeWarning,
                stacklevel=2,
            )
            self._warned = True


class GenerativeLogitAdjusted(GenerativeCrossEntropy):
    r"""Generative cross-entropy of prior-adjusted logits, for heavy tails.

    `GenerativeCrossEntropy` of :math:`z + \tau \log \pi`; our combination of two papers.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`.
    tau : float
        Strength of the prior; 0 is `GenerativeCrossEntropy`.
    **options
        Those of `GenerativeCrossEntropy`: ``weight``, ``warmup_epochs``, ``include_self``.

    References
    ----------
    Zhan, Zhou, Shen, arXiv 2604.06689; Menon et al., Long-tail Learning via Logit Adjustment, ICLR 2021.
    """

    needs_counts: ClassVar[bool] = True
    offset: Tensor

    def __init__(
        self,
        num_classes: int,
        class_counts: Sequence[float] | None = None,
        *,
        tau: float = 1.0,
        weight: float = 1.0,
        warmup_epochs: int = 0,
        include_self: bool = True,
    ) -> None:
        super().__init__(
            num_classes,
            class_counts,
            weight=weight,
            warmup_epochs=warmup_epochs,
            include_self=include_self,
        )
        self.register_buffer("offset", within("tau", tau) * log_prior(self.counts), persistent=False)

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        return super().value(self.posterior_logits(logits), target)

    def posterior_logits(self, logits: Tensor) -> Tensor:
        """Return the logits as they were trained, with the prior."""
        return logits + self.offset.to(logits)
