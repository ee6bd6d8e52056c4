"""Focal losses: cross-entropy with less weight on scans that are already confident."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from models.losses.loss import Loss, log_complement, log_probability, within


class Focal(Loss):
    r"""The mean of :math:`(1 - p_y)^\gamma (-\log p_y)`; gamma = 0 is cross-entropy.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`; counts are not used.
    gamma : float
        At least 0.

    References
    ----------
    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017; for calibration with gamma = 3
    Mukhoti et al., Calibrating Deep Neural Networks using Focal Loss, NeurIPS 2020.

    Examples
    --------
    >>> round(Focal(2, gamma=1)(torch.zeros(1, 2), torch.tensor([0])).item(), 4)  # half of log 2
    0.3466
    """

    def __init__(
        self, num_classes: int, class_counts: Sequence[float] | None = None, *, gamma: float = 3.0
    ) -> None:
        super().__init__(num_classes, class_counts)
        self.gamma = within("gamma", gamma)

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        focus = (self.gamma * log_complement(logits, target)).exp()
        return -(focus * log_probability(logits, target)).mean()


class FocalSampleDependent(Loss):
    """Focal loss with a larger gamma for scans whose true class is improbable (FLSD-53).

    The choice of gamma carries no gradient. Both gammas 0 is cross-entropy.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`; counts are not used.
    gamma : float
        Where p_y is at least ``threshold``; at least 0.
    gamma_hard : float
        Where p_y is below it; at least 0.
    threshold : float
        In [0, 1].

    References
    ----------
    Mukhoti et al., Calibrating Deep Neural Networks using Focal Loss, NeurIPS 2020.
    """

    def __init__(
        self,
        num_classes: int,
        class_counts: Sequence[float] | None = None,
        *,
        gamma: float = 3.0,
        gamma_hard: float = 5.0,
        threshold: float = 0.2,
    ) -> None:
        super().__init__(num_classes, class_counts)
        self.gamma = within("gamma", gamma)
        self.gamma_hard = within("gamma_hard", gamma_hard)
        self.threshold = within("threshold", threshold, 0, 1)

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        log_p = log_probability(logits, target)
        hard = log_p.detach().exp() < self.threshold
        gamma = torch.full_like(log_p, self.gamma).masked_fill(hard, self.gamma_hard)
        return -((gamma * log_complement(logits, target)).exp() * log_p).mean()


class AdaFocal(Loss):
    r"""Focal loss whose gamma, one for each bin of p_y, follows the calibration gap on validation.

    After each epoch the validation scans are cut into bins of equal counts by top-label confidence, and each
    bin's gamma is multiplied by :math:`\exp(\pm\lambda (\mathrm{confidence} - \mathrm{accuracy}))`: plus for
    a positive gamma, minus for a negative one, so that overconfidence always pushes up. A gamma whose size
    falls below ``switch`` jumps to the other sign; all are clipped. For gamma > 0 a scan costs
    :math:`(1 - p_y)^\gamma (-\log p_y)`, for gamma < 0 (inverse focal)
    :math:`(1 + p_y)^{|\gamma|} (-\log p_y)`; ``gamma=0`` stays 0 and is cross-entropy.

    As in the authors' code, validation bins are (low, high], so that the least confident scan stands in none,
    and a bin without scans keeps its gamma.

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`; counts are not used.
    bins : int
        Number of bins, at least 1.
    gamma : float
        Initial gamma of every bin, within the clip.
    lam : float
        Speed of adaptation, at least 0.
    clip : tuple of two floats
        Smallest and largest gamma.
    switch : float
        Size of gamma under which focal and inverse focal change places, at least 0.

    Attributes
    ----------
    gammas : Tensor of float64, shape (bins,)
    edges : Tensor of float64, shape (bins - 1,)
        Inner edges of the bins of p_y; a value on an edge belongs to the bin above. Equal widths until the
        first `end_epoch`. Both are buffers: keep ``state_dict()`` to resume training.

    References
    ----------
    Ghosh, Schaaf, Gormley, AdaFocal: Calibration-aware Adaptive Focal Loss, NeurIPS 2022.
    """

    gammas: Tensor
    edges: Tensor

    def __init__(  # noqa: PLR0913 - the method has five constants
        self,
        num_classes: int,
        class_counts: Sequence[float] | None = None,
        *,
        bins: int = 15,
        gamma: float = 1.0,
        lam: float = 1.0,
        clip: tuple[float, float] = (-2.0, 20.0),
        switch: float = 0.2,
    ) -> None:
        super().__init__(num_classes, class_counts)
        self.bins = int(within("bins", bins, 1))
        self.lam = within("lam", lam)
        low, high = clip
        self.clip = within("clip[0]", low, -math.inf, 0), within("clip[1]", high, 0)
        self.switch = within("switch", switch)
        first = within("gamma", gamma, *self.clip)
        self.register_buffer("gammas", torch.full((self.bins,), first, dtype=torch.float64))
        self.register_buffer("edges", torch.linspace(0, 1, self.bins + 1, dtype=torch.float64)[1:-1])

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        log_p = log_probability(logits, target)
        p = log_p.exp()
        which = torch.bucketize(p.detach(), self.edges.to(p), right=True)
        gamma = self.gammas.to(p)[which]
        base = torch.where(gamma < 0, p.log1p(), log_complement(logits, target))
        return -((gamma.abs() * base).exp() * log_p).mean()

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

    Parameters
    ----------
    num_classes, class_counts
        See `Loss`; counts are not used.
    gamma : float
        At least 0.

    References
    ----------
    Tao, Dong, Xu, Dual Focal Loss for Calibration, ICML 2023.
    """

    def __init__(
        self, num_classes: int, class_counts: Sequence[float] | None = None, *, gamma: float = 5.0
    ) -> None:
        super().__init__(num_classes, class_counts)
        self.gamma = within("gamma", gamma)

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch."""
        log_probs = functional.log_softmax(logits, dim=1)
        log_p = log_probs.gather(1, target[:, None])
        runner_up = log_probs.masked_fill(log_probs >= log_p, -math.inf).max(dim=1).values
        log_base = torch.logaddexp(log_complement(logits, target), runner_up)
        return -((self.gamma * log_base).exp() * log_p[:, 0]).mean()
