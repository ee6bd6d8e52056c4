"""Random crops and flips of training images, a batch at a time, independent of the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from models.arrays import Ints
from pipeline.config import AugmentationSettings

# Separates these numbers from those that order the epoch, which are seeded with (seed, epoch) alone.
_MOVES = 1


def draw_moves(settings: AugmentationSettings, number: int, seed: int, epoch: int) -> Ints:
    """Return how each image of an epoch is moved: its window's top and left in pixels, and 1 where flipped.

    The row of a draw depends on ``(seed, epoch, draw)`` alone, not on the number of images, the batch size or
    the device.

    Parameters
    ----------
    settings : AugmentationSettings
        Only ``crop_pixels`` and ``flip`` apply to images.
    number : int
        Images of the epoch, N.

    Returns
    -------
    ndarray of int64, shape (N, 3)

    Examples
    --------
    >>> padded_by_four = AugmentationSettings(crop_pixels=4, flip=True)
    >>> draw_moves(padded_by_four, 1000, seed=1, epoch=0).max(axis=0).tolist()
    [8, 8, 1]
    """
    chances = np.random.default_rng((seed, epoch, _MOVES)).random((number, 3))
    places = 2 * settings.crop_pixels + 1
    return np.floor(chances * (places, places, 1 + settings.flip)).astype(np.int64)


def move(images: Tensor, moves: Tensor, padding: int) -> Tensor:
    """Pad images with zeros, cut from each the window of its old size that `moves` names, and flip it or not.

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W)
    moves : Tensor of int64, shape (N, 3)
        Rows of `draw_moves`; on any device.
    padding : int
        Pixels on every side.

    Returns
    -------
    Tensor, shape (N, C, H, W), of the same type and on the same device
    """
    moves = moves.to(images.device, non_blocking=True)
    n, c, y, x = (torch.arange(size, device=images.device) for size in images.shape)
    rows = moves[:, :1] + y
    columns = moves[:, 1:2] + torch.where(moves[:, 2:] == 1, x.flip(0), x)
    padded = nn.functional.pad(images, [padding] * 4)
    return padded[n.view(-1, 1, 1, 1), c.view(1, -1, 1, 1), rows[:, None, :, None], columns[:, None, None, :]]
