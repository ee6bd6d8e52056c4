"""What all losses share: the call, its checks, float32 arithmetic, and pieces of log-probability."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.losses.gathering import gather_batch


class Loss(nn.Module, ABC):
    """A classification loss of logits, the mean over the batch.

    Every loss is built from the same two facts about the training split and takes its own options by
    keyword. Options bear the Greek letter of their paper (``lam`` for lambda). Half-precision logits are
    computed in float32; float64 stays float64.

    Parameters
    ----------
    num_classes : int
        K, at least 2.
    class_counts : sequence of int, length K, optional
        Scans of each class in the training split. Needed where `needs_counts` is true.

    Attributes
    ----------
    couples_batch : bool
        Whether a scan's gradient depends on the other scans of its batch. Such a batch cannot be split by
        adding up gradients of its parts, and under ``torch.distributed`` it is the batch of all ranks.
    needs_counts : bool
        Whether ``class_counts`` must be given.

    Raises
    ------
    ValueError
        If K is below 2, if counts are needed and missing, of another length, or not all positive (the
        message names the class index), or if an option lies outside its range.

    Notes
    -----
    With several ranks a coupling loss in training mode gathers the logits of all of them, so every rank must
    call it in the same step. Call ``loss.eval()`` where one rank evaluates alone.
    """

    couples_batch: ClassVar[bool] = False
    needs_counts: ClassVar[bool] = False
    counts: Tensor

    def __init__(self, num_classes: int, class_counts: Sequence[float] | None = None) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"A loss needs at least 2 classes, got {num_classes}")
        if self.needs_counts and class_counts is None:
            raise ValueError(
                f"{type(self).__name__} needs class_counts, got none: give the scans of each class in the "
                "training split"
            )
        self.num_classes = num_classes
        counts = None if class_counts is None else checked_counts(class_counts, num_classes)
        self.register_buffer("counts", counts, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        logits : Tensor, shape (N, K)
            Unnormalised class scores, any floating type.
        target : Tensor of int64, shape (N,)
            True class indices.

        Returns
        -------
        Tensor, scalar
            Mean over the batch; float32, or float64 for float64 logits.

        Raises
        ------
        ValueError
            If shapes, types or class indices do not fit.
        """
        self._check(logits, target)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        if self.couples_batch and self.training:
            logits, target = gather_batch(logits, target)
        return self.value(logits, target)

    @abstractmethod
    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a checked batch in float32 or float64; `forward` calls it."""

    def posterior_logits(self, logits: Tensor) -> Tensor:
        """Return logits, shape (N, K), whose softmax speaks at the class frequencies of training.

        A loss that weights classes or adds their prior to the logits makes the network answer as if classes
        were equally frequent. This undoes it, class by class and exactly at the minimum of the loss; most
        losses have nothing to undo.
        """
        return logits

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Move warm-up and schedules to an epoch, counted from 0, of ``epochs`` in all."""

    def end_epoch(self, validation_logits: Tensor, validation_labels: Tensor) -> None:
        """Learn from the validation split what the next epoch needs; shapes (N, K) and (N,)."""

    def _check(self, logits: Tensor, target: Tensor) -> None:
        if logits.ndim != 2 or logits.shape[1] != self.num_classes:
            raise ValueError(
                f"Logits must have shape (N, {self.num_classes}), got {tuple(logits.shape)}: one row a scan"
            )
        if not logits.is_floating_point():
            raise ValueError(f"Logits must be floating point, got {logits.dtype}")
        if target.dtype != torch.int64 or target.shape != logits.shape[:1]:
            raise ValueError(
                f"Targets must be int64 of shape ({len(logits)},), got {target.dtype} "
                f"of {tuple(target.shape)}"
            )
        if len(logits) == 0:
            raise ValueError("A batch must hold at least one scan, got none")
        # On a GPU reading the extremes would wait for the device in every step; there CUDA itself asserts.
        if target.device.type == "cpu" and not 0 <= int(target.min()) <= int(target.max()) < self.num_classes:
            raise ValueError(
                f"Targets must lie in 0..{self.num_classes - 1}, got {int(target.min())}..{int(target.max())}"
            )


def checked_counts(class_counts: Sequence[float], num_classes: int) -> Tensor:
    """Return class counts as float64, shape (K,), all positive.

    Raises
    ------
    ValueError
        If the length is not K, or a count is not positive and finite; the message names the class index.
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64).flatten().cpu()
    if len(counts) != num_classes:
        raise ValueError(f"class_counts must hold {num_classes} classes, got {len(counts)}")
    for index, count in enumerate(counts.tolist()):
        if not (math.isfinite(count) and count > 0):
            raise ValueError(
                f"Every class must have training scans, got {count:g} for class {index}: count the training "
                "split only, and drop a class it does not hold"
            )
    return counts


def within(name: str, value: float, low: float = 0.0, high: float = math.inf) -> float:
    """Return ``value`` as a float if it is finite and lies in [low, high].

    Raises
    ------
    ValueError
        Otherwise, naming the option, its range and the value.
    """
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number, got {value!r}") from error
    if not (math.isfinite(number) and low <= number <= high):
        raise ValueError(f"{name} must be finite and lie in [{low:g}, {high:g}], got {value!r}")
    return number


def log_prior(counts: Tensor) -> Tensor:
    """Return log pi_k, the log share of each class in the training split, shape (K,)."""
    return (counts / counts.sum()).log()


def log_probability(logits: Tensor, target: Tensor) -> Tensor:
    """Return log p_y of each scan, shape (N,)."""
    return -functional.cross_entropy(logits, target, reduction="none")


def log_complement(logits: Tensor, target: Tensor) -> Tensor:
    """Return log(1 - p_y) of each scan, shape (N,), as the log of the other classes' sum.

    Unlike ``log(1 - p)`` it stays finite, with a finite gradient, where p_y rounds to 1.
    """
    log_probs = functional.log_softmax(logits, dim=1)
    others = torch.ones_like(log_probs, dtype=torch.bool).scatter(1, target[:, None], value=False)
    return log_probs.masked_fill(~others, -math.inf).logsumexp(dim=1)
