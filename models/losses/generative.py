"""Generative cross-entropy: a discriminative network read as p(x|y)."""

from __future__ import annotations

import math
import warnings
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from .loss import Loss, log_prior
from .option import Option


class GenerativeCrossEntropy(Loss):
    r"""Cross-entropy plus the log of the batch's mean probability of each scan's class.

    .. math::
        L = \frac{1}{B} \sum_i \Big[ -\log p(y_i|x_i) + w \log \frac{1}{B} \sum_j p(y_i|x_j) \Big]

    With w = 1 it maximises :math:`p(x|y) = p(y|x) p(x) / p(y)` where :math:`p(y)` is the mean of
    :math:`p(y|x)` over the batch; w = 0 is cross-entropy. A batch of one scan gives (1 - w) times
    cross-entropy: nothing at all for w = 1, which warns once.

    Attributes
    ----------
    current_weight : float
        w in the current epoch. Until `start_epoch` is called, it is that of epoch 0.

    Notes
    -----
    For w = 1 the value lies in [-log B, inf); above 1 it would have no lower bound. Its population risk is
    minimised only at the true posterior when no class weights other than 1 let every row :math:`c_k p(k|x)`
    sum to one; for w < 1 always. Under ``torch.distributed`` B is the batch of all ranks.

    References
    ----------
    Zhan, Zhou, Shen, Generative Cross-Entropy: A Strictly Proper Loss for Data-Efficient Classification,
    arXiv 2604.06689. The formula is derived from the abstracts, which leave open whether a scan counts in its
    own class mean. Here it does: the mean over the others alone has no lower bound.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> round(GenerativeCrossEntropy(2)(logits, torch.tensor([0, 1])).item(), 4)
    -0.5662
    """

    couples_batch: ClassVar[bool] = True
    weight = Option(1.0, "w, the weight of the class means", at_least=0, at_most=1)
    warmup_epochs = Option(0.0, "epochs in which w grows linearly from 0", at_least=0)

    def prepare(self) -> None:
        """Compute what follows from counts and options."""
        self._warned = False
        self.start_epoch(0, 1)

    def start_epoch(self, epoch: int, epochs: int) -> None:  # noqa: ARG002 - the ramp's length is its own
        """Set w to its value at this epoch of the warm-up."""
        ramp = min(1.0, epoch / self.warmup_epochs) if self.warmup_epochs else 1.0
        self.current_weight = self.weight * ramp

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the term of each scan, shape (N,)."""
        if len(logits) < 2:
            self._warn(len(logits))
        log_probs = functional.log_softmax(logits, dim=1)
        log_class_means = log_probs.logsumexp(dim=0, keepdim=True) - math.log(len(logits))
        weighted = log_probs - self.current_weight * log_class_means
        return functional.nll_loss(weighted, target, reduction="none")

    def _warn(self, batch_size: int) -> None:
        if not self._warned:
            warnings.warn(
                "Generative cross-entropy compares the scans of a batch and learns nothing from a single "
                f"one at weight 1; the batch size is {batch_size}. Use larger batches.",
                RuntimeWarning,
                stacklevel=2,
            )
            self._warned = True


class GenerativeLogitAdjusted(GenerativeCrossEntropy):
    r"""Generative cross-entropy of prior-adjusted logits, for heavy tails.

    `GenerativeCrossEntropy` of :math:`z + \tau \log \pi`; our combination of two papers. tau = 0 is
    `GenerativeCrossEntropy`.

    References
    ----------
    Zhan, Zhou, Shen, arXiv 2604.06689; Menon et al., Long-tail Learning via Logit Adjustment, ICLR 2021.
    """

    needs_counts: ClassVar[bool] = True
    tau = Option(1.0, "the strength of the prior", at_least=0)
    offset: Tensor

    def prepare(self) -> None:
        """Compute what follows from counts and options."""
        super().prepare()
        self.register_buffer("offset", self.tau * log_prior(self.counts), persistent=False)

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the term of each scan, shape (N,)."""
        return super().per_scan(self.posterior_logits(logits), target)

    def posterior_logits(self, logits: Tensor) -> Tensor:
        """Return the logits as they were trained, with the prior."""
        return logits + self.offset.to(logits)
