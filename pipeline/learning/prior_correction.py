"""The prior correction: from logits as trained to logits calibrated to the class shares of training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.arrays import Floats
from models.losses import Loss


@dataclass(frozen=True, eq=False)
class PriorCorrection:
    """Corrects logits as trained for class weights and sampling: ``scale * z + offset``.

    With a loss that weights classes or adds their prior to the logits, or with balanced sampling, a network
    answers as if the classes had other shares than they have. Calibrators and a clinic's prevalence start
    from the class shares of training.

    Parameters
    ----------
    scale, offset : Tensor of float64, shape (K,)
    """

    scale: Tensor
    offset: Tensor

    @classmethod
    def of(cls, loss: Loss, class_counts: Sequence[int], sampling: str) -> PriorCorrection:
        """Return the correction for a loss and a way of sampling; exact at the minimum of the loss."""
        nothing = torch.zeros(1, len(class_counts), dtype=torch.float64)
        weighted = loss.posterior_logits(nothing)[0].cpu()
        scale = loss.posterior_logits(nothing + 1)[0].cpu() - weighted
        return cls(scale, weighted + _sampled(class_counts, sampling))

    def apply(self, logits: Tensor) -> Tensor:
        """Return logits, shape (N, K), at the class shares of training."""
        return logits * self.scale.to(logits) + self.offset.to(logits)

    def reverse(self, logits: Floats) -> Floats:
        """Return the logits as the loss trained them, shape (N, K)."""
        trained: Floats = (logits - self.offset.numpy()) / self.scale.numpy()
        return trained

    def to_dict(self) -> dict[str, list[float]]:
        """Return JSON-able values."""
        return {"scale": self.scale.tolist(), "offset": self.offset.tolist()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> PriorCorrection:
        """Read what `to_dict` wrote."""
        return cls(*(torch.tensor(stored[name], dtype=torch.float64) for name in ("scale", "offset")))


def _sampled(class_counts: Sequence[int], sampling: str) -> Tensor:
    """Return the offset of logits from the class shares as sampled to those of the training scans."""
    counts = torch.tensor(class_counts, dtype=torch.float64)
    if sampling == "natural":
        return torch.zeros_like(counts)
    return torch.log(counts / counts.sum()) + math.log(len(counts))
