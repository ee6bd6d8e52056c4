"""The base of all losses: the call, its checks, float32 arithmetic, and pieces of log-probability."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from .gathering import gather_batch
from .option import Option, described, nearest


class Loss(nn.Module, ABC):
    """A classification loss of logits.

    A subclass declares its `Option` s in the class body and computes `per_scan`. Options bear the Greek
    letter of their paper (``lam`` for lambda). Half-precision logits are computed in float32; float64 stays
    float64.

    Parameters
    ----------
    num_classes : int
        K, at least 2.
    class_counts : sequence of int, length K, optional
        Scans of each class in the training split. Needed where `needs_counts` is true, else not used.
    **options
        `reduction` and the options of the class.

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
        message names the class index), or if an option is unknown or out of range.

    Notes
    -----
    With several ranks a coupling loss in training mode gathers the logits of all of them, so every rank must
    call it in the same step. Call ``loss.eval()`` where one rank evaluates alone.
    """

    couples_batch: ClassVar[bool] = False
    needs_counts: ClassVar[bool] = False
    counts: Tensor

    reduction = Option(
        "mean", "mean or sum over the batch, or one value a scan", choices=("mean", "sum", "none")
    )

    def __init_subclass__(cls) -> None:
        own = inspect.Parameter("loss", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        options = [
            own.replace(name=name, kind=inspect.Parameter.KEYWORD_ONLY, default=option.default)
            for name, option in cls.options().items()
        ]
        facts = [own.replace(name="num_classes"), own.replace(name="class_counts", default=None)]
        cls.__signature__ = inspect.Signature([*facts, *options])  # type: ignore[attr-defined]
        cls.__doc__ = described(cls.__doc__ or "", cls.options().values())

    def __init__(self, num_classes: int, class_counts: Sequence[float] | None = None, **options: Any) -> None:
        super().__init__()
        name, known = type(self).__name__, self.options()
        if num_classes < 2:
            raise ValueError(f"{name} has num_classes={num_classes}. A loss needs at least 2 classes.")
        if self.needs_counts and class_counts is None:
            raise ValueError(
                f"{name} needs class_counts, the scans of each class in the training split. They are missing."
            )
        for option, value in options.items():
            if option not in known:
                raise ValueError(f"{name} has no option {option!r}. {nearest(option, known)}")
            setattr(self, option, known[option].checked(value, name))
        self.num_classes = num_classes
        counts = None if class_counts is None else checked_counts(class_counts, num_classes)
        self.register_buffer("counts", counts, persistent=False)
        self.prepare()

    def prepare(self) -> None:
        """Compute what follows from counts and options; the constructor calls it last."""

    @classmethod
    def options(cls) -> dict[str, Option[Any]]:
        """Return the options by name, those of the class first."""
        names = [name for c in cls.__mro__ for name, o in vars(c).items() if isinstance(o, Option)]
        return {name: getattr(cls, name) for name in names}

    def extra_repr(self) -> str:
        """Return the options and their values, for ``print(loss)``."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options())

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
        Tensor, scalar, or of shape (N,) with ``reduction="none"``
            float32, or float64 for float64 logits. A coupling loss in training mode returns the values of
            the scans of all ranks.

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
        values = self.per_scan(logits, target)
        if self.reduction == "none":
            return values
        return values.sum() if self.reduction == "sum" else values.mean()

    @abstractmethod
    def per_scan(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return one value a scan, shape (N,), of a checked batch in float32 or float64.

        Their mean is the loss. A term of the batch as a whole is part of the value of every scan.
        """

    def posterior_logits(self, logits: Tensor) -> Tensor:
        """Return logits, shape (N, K), whose softmax is calibrated to the class frequencies of training.

        A loss that weights classes or adds their prior to the logits makes the network answer as if classes
        were equally frequent. This corrects for it, class by class and exactly at the minimum of the loss.
        The other losses leave the class shares alone. Where their minimum is not the posterior, as with focal
        losses, label smoothing and the margin of LDAM, that is for a calibrator to correct.
        """
        return logits

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Move warm-up and schedules to an epoch, counted from 0, of ``epochs`` in all."""

    def end_epoch(self, validation_logits: Tensor, validation_labels: Tensor) -> None:
        """Learn from the validation split what the next epoch needs; shapes (N, K) and (N,)."""

    def _check(self, logits: Tensor, target: Tensor) -> None:
        if logits.ndim != 2 or logits.shape[1] != self.num_classes:
            raise ValueError(f"Logits have shape {tuple(logits.shape)}. Expected (N, {self.num_classes}).")
        if not logits.is_floating_point():
            raise ValueError(f"Logits are {logits.dtype}. Expected a floating-point type.")
        if target.dtype != torch.int64 or target.shape != logits.shape[:1]:
            raise ValueError(
                f"Targets are {target.dtype} of shape {tuple(target.shape)}. "
                f"Expected torch.int64 of shape ({len(logits)},)."
            )
        if len(logits) == 0:
            raise ValueError("The batch is empty. A loss needs at least one scan.")
        # On a GPU reading the extremes would wait for the device in every step; there CUDA itself asserts.
        if target.device.type == "cpu" and not 0 <= int(target.min()) <= int(target.max()) < self.num_classes:
            raise ValueError(
                f"Targets range from {int(target.min())} to {int(target.max())}. "
                f"Expected class indices 0 to {self.num_classes - 1}."
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
        raise ValueError(
            f"class_counts has {len(counts)} entries. Expected one for each of {num_classes} classes."
        )
    for index, count in enumerate(counts.tolist()):
        if not (math.isfinite(count) and count > 0):
            raise ValueError(
                f"class_counts is {count:g} for class {index}. Every class needs training scans: count those "
                "of the training split, and leave out a class without any."
            )
    return counts


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
