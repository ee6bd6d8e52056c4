"""Focal losses: cross-entropy with less weight on scans that are already confident."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .loss import Loss, log_complement, log_probability
from .option import Option


class Focal(Loss):
    r"""The mean of :math:`(1 - p_y)^\gamma (-\log p_y)`; gamma = 0 is cross-entropy.

    References
    ----------
    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017; for calibration with gamma = 3
    Mukhoti et al., Calibrating Deep Neural Networks using Focal Loss, NeurIPS 2020.

    Examples
    --------
    >>> round(Focal(2, gamma=1)(torch.zeros(1, 2), torch.tensor([0])).item(), 4)  # half of log 2
    0.3466
    """

    gamma = Option(3.0, "how much less a confident scan counts", at_least=0)

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the focal loss of each scan, shape (N,)."""
        focus = (self.gamma * log_complement(logits, target)).exp()
        return -(focus * log_probability(logits, target))


class FocalSampleDependent(Loss):
    """Focal loss with a larger gamma for scans whose true class is improbable (FLSD-53).

    The choice of gamma carries no gradient. Both gammas 0 is cross-entropy.

    References
    ----------
    Mukhoti et al., Calibrating Deep Neural Networks using Focal Loss, NeurIPS 2020.
    """

    gamma = Option(3.0, "gamma where p_y is at least the threshold", at_least=0)
    gamma_hard = Option(5.0, "gamma where p_y is below the threshold", at_least=0)
    threshold = Option(0.2, "the p_y below which a scan is hard", at_least=0, at_most=1)

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the focal loss of each scan, shape (N,)."""
        log_p = log_probability(logits, target)
        hard = log_p.detach().exp() < self.threshold
        gamma = torch.full_like(log_p, self.gamma).masked_fill(hard, self.gamma_hard)
        return -((gamma * log_complement(logits, target)).exp() * log_p)


class AdaFocal(Loss):
    r"""Focal loss whose gamma, one for each bin of p_y, follows the calibration gap on validation.

    After each epoch the validation scans are cut into bins of equal counts by top-label confidence, and each
    bin's gamma is multiplied by :math:`\exp(\pm\lambda (\mathrm{confidence} - \mathrm{accuracy}))`: plus for
    a positive gamma, minus for a negative one, so that overconfidence always pushes up. A gamma whose size
    falls below ``switch`` jumps to the other sign; all are clipped. For gamma > 0 a scan costs
    :math:`(1 - p_y)^\gamma (-\log p_y)`, for gamma < 0 (inverse focal)
    :math:`(1 + p_y)^{|\gamma|} (-\log p_y)`; ``gamma=0`` stays 0 and is cross-entropy.

    As in the authors' code, validation bins are (low, high], so that the least confident scan is in none,
    and a bin without scans keeps its gamma.

    Attributes
    ----------
    gammas : Tensor of float64, shape (bins,)
    edges : Tensor of float64, shape (bins - 1,)
        Inner edges of the bins of p_y; a value on an edge belongs to the bin above. Equal widths until the
        first `end_epoch`. Both are buffers: store ``state_dict()`` to resume training.

    References
    ----------
    Ghosh, Schaaf, Gormley, AdaFocal: Calibration-aware Adaptive Focal Loss, NeurIPS 2022.
    """

    bins = Option(15, "number of bins", at_least=1)
    gamma = Option(1.0, "initial gamma of every bin, within the clip")
    lam = Option(1.0, "lambda, the speed of adaptation", at_least=0)
    clip = Option((-2.0, 20.0), "smallest gamma, at most 0, and largest, at least 0")
    switch = Option(0.2, "size of gamma below which focal and inverse focal change places", at_least=0)
    gammas: Tensor
    edges: Tensor

    def prepare(self) -> None:
        """Compute what follows from counts and options."""
        low, high = self.clip
        if not low <= 0 <= high:
            raise ValueError(f"clip={self.clip} is not valid for AdaFocal. Expected low <= 0 <= high.")
        if not low <= self.gamma <= high:
            raise ValueError(
                f"gamma={self.gamma:g} is not valid for AdaFocal. Expected a gamma within the clip, "
                f"{low:g} <= gamma <= {high:g}."
            )
        self.register_buffer("gammas", torch.full((self.bins,), self.gamma, dtype=torch.float64))
        self.register_buffer("edges", torch.linspace(0, 1, self.bins + 1, dtype=torch.float64)[1:-1])

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the focal or inverse focal loss of each scan, shape (N,)."""
        log_p = log_probability(logits, target)
        p = log_p.exp()
        which = torch.bucketize(p.detach(), self.edges.to(p), right=True)
        gamma = self.gammas.to(p)[which]
        base = torch.where(gamma < 0, p.log1p(), log_complement(logits, target))
        return -((gamma.abs() * base).exp() * log_p)

    @torch.no_grad()
    def end_epoch(self, validation_logits: Tensor, validation_labels: Tensor) -> None:
        """Move bins and gammas to the calibration gap on the validation split."""
        self._check(validation_logits, validation_labels)
        log_probs = functional.log_softmax(validation_logits.double(), dim=1)
        # float32, as the authors: an edge that falls on a scan's confidence then equals it.
        confidence, prediction = log_probs.exp().float().max(dim=1)
        correct = (prediction == validation_labels).double()
        edges = _equal_count_edges(confidence, self.bins)
        gap = torch.zeros_like(self.gammas)
        for index in range(self.bins):
            inside = (confidence > edges[index]) & (confidence <= edges[index + 1])
            if inside.any():
                gap[index] = confidence[inside].double().mean() - correct[inside].mean()
        self.gammas.copy_(self._moved(self.gammas, gap.to(self.gammas)))
        self.edges.copy_(edges[1:-1])

    def _moved(self, gammas: Tensor, gap: Tensor) -> Tensor:
        direction = torch.where(gammas > 0, 1.0, -1.0)
        moved = gammas * (direction * self.lam * gap).exp()
        switched = torch.where(moved.abs() < self.switch, -self.switch * moved.sign(), moved)
        return switched.clamp(*self.clip)


def _equal_count_edges(confidence: Tensor, bins: int) -> Tensor:
    """Return ``bins + 1`` edges between which equally many confidences lie, the outer two the extremes."""
    ordered = confidence.sort().values
    place = torch.linspace(0, len(ordered), bins + 1, dtype=torch.float64, device=ordered.device)
    place = place.clamp(max=len(ordered) - 1)
    below = place.floor().long()
    above = place.ceil().long()
    return (ordered[below] + (place - below) * (ordered[above] - ordered[below]).double()).float()


class DualFocal(Loss):
    r"""The mean of :math:`(1 - p_y + p_j)^\gamma (-\log p_y)`, p_j the runner-up to the true class.

    p_j is the largest probability strictly below p_y, 0 where there is none: classes that tie with the true
    class or beat it are left out, as in the paper. gamma = 0 is cross-entropy.

    References
    ----------
    Tao, Dong, Xu, Dual Focal Loss for Calibration, ICML 2023.
    """

    gamma = Option(5.0, "how much less a scan with a clear lead counts", at_least=0)

    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the dual focal loss of each scan, shape (N,)."""
        log_probs = functional.log_softmax(logits, dim=1)
        log_p = log_probs.gather(1, target[:, None])
        runner_up = log_probs.masked_fill(log_probs >= log_p, -math.inf).max(dim=1).values
        log_base = torch.logaddexp(log_complement(logits, target), runner_up)
        return -((self.gamma * log_base).exp() * log_p[:, 0])
