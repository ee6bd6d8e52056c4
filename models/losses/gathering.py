"""The batch of all ranks, with gradient, for losses whose scans are coupled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def gather_batch(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits and targets of all ranks, in rank order; without ranks, those given.

    A loss computed from the result is the loss of the whole batch on every rank, and its gradient, averaged
    over ranks as ``DistributedDataParallel`` does, is the gradient one process would have had. Ranks may
    hold different numbers of scans.

    Parameters
    ----------
    logits : Tensor, shape (n, K)
        The scans of this rank; n may differ between ranks.
    target : Tensor of int64, shape (n,)

    Returns
    -------
    Tensor, shape (N, K)
        With N the sum of n over ranks.
    Tensor of int64, shape (N,)

    Examples
    --------
    >>> logits, target = gather_batch(torch.zeros(2, 3), torch.tensor([0, 2]))
    >>> logits.shape, target.tolist()
    (torch.Size([2, 3]), [0, 2])
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return logits, target
    sizes = [torch.zeros(1, dtype=torch.int64, device=target.device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(target)], device=target.device))
    lengths = [int(size) for size in sizes]
    rows: Tensor = _GatherRows.apply(logits, lengths)  # type: ignore[no-untyped-call]
    return rows, _all_rows(target, lengths)


class _GatherRows(torch.autograd.Function):
    """Rows of all ranks forward; this rank's rows of the gradient backward."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, lengths: list[int]) -> Tensor:
        rank = dist.get_rank()
        ctx.first = sum(lengths[:rank])
        ctx.length = lengths[rank]
        ctx.ranks = len(lengths)
        return _all_rows(rows, lengths)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # Every rank computes the whole loss, so its own rows of the gradient are already complete and need
        # no exchange. Averaging over ranks will divide by their number: multiply by it first.
        own = gradients[0][ctx.first : ctx.first + ctx.length]
        return ctx.ranks * own, None


def _all_rows(rows: Tensor, lengths: list[int]) -> Tensor:
    # all_gather wants equal shapes: pad to the longest rank and cut again.
    padded = rows.new_zeros((max(lengths), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(parts, padded)
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])
