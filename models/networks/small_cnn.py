"""A small network of volumes or images that needs no MONAI, and its ways to average over space."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.networks.network import Network


class PlaceWeightedPooling(nn.Module):
    """Average every channel over space with its own learned weight for each place.

    Scans lie in template space, so the place of uptake is evidence, which plain averaging would discard.
    The weights start as those of plain averaging.
    """

    def __init__(self, channels: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels, *grid), 1.0 / math.prod(grid)))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C) of (N, C, *grid).

        Raises
        ------
        ValueError
            If the features have another shape than the weights.
        """
        if x.shape[1:] != self.weight.shape:
            raise ValueError(
                f"Features have shape {tuple(x.shape[1:])}. Expected {tuple(self.weight.shape)}: "
                "the network was built for volumes or images of another size."
            )
        return (x * self.weight).flatten(2).sum(2)


class MeanPooling(nn.Module):
    """Average every channel over space."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C) of (N, C, *grid)."""
        return x.flatten(2).mean(2)


def small_cnn(
    num_classes: int,
    channels: int,
    grid: tuple[int, ...],
    *,
    width: int = 12,
    dropout: float = 0.2,
    pooling: str = "place",
) -> Network:
    """Five convolutions with group normalisation, learnt pooling and dropout; deterministic on CUDA too."""
    if pooling not in ("place", "mean"):
        raise ValueError(f"pooling={pooling!r} is not valid for small_cnn. Expected 'place' or 'mean'.")
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise ValueError(f"width={width!r} is not valid for small_cnn. Expected a whole number from 1.")
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout!r} is not valid for small_cnn. Expected a number in [0, 1).")
    convolution = nn.Conv2d if len(grid) == 2 else nn.Conv3d

    def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            convolution(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(4, outputs),
            nn.ReLU(inplace=True),
        )

    plan = [(channels, width, 2), (width, 2 * width, 2), (2 * width, 2 * width, 1)]
    plan += [(2 * width, 4 * width, 2), (4 * width, 4 * width, 1)]
    coarse = [math.ceil(size / 8) for size in grid]
    pool = PlaceWeightedPooling(4 * width, coarse) if pooling == "place" else MeanPooling()
    body = nn.Sequential(*[block(*sizes) for sizes in plan], pool)
    return Network(body, nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * width, num_classes)))
