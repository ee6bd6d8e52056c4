"""The order of scans in an epoch, and its batches, prepared ahead of the network."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms import Compose
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config import AugmentationSettings
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.transforms import augment, build_augmentation


@dataclass(frozen=True, eq=False)
class Batch:
    """Augmented volumes (N, 1, X, Y, Z), labels (N,) and the scans' rows in the training set (N,)."""

    volumes: Tensor
    labels: Tensor
    rows: NDArray[np.int64]


def epoch_order(labels: NDArray[np.int64], sampling: str, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the rows of one epoch in the order they are drawn.

    Parameters
    ----------
    labels : ndarray of int64, shape (N,)
    sampling : {"natural", "class_balanced"}
        Every scan once; or N draws with replacement in which all classes are equally likely.
    seed, epoch : int

    Examples
    --------
    >>> sorted(epoch_order(np.array([0, 0, 0, 1]), "natural", seed=1, epoch=0).tolist())
    [0, 1, 2, 3]
    """
    rng = np.random.default_rng((seed, epoch))
    if sampling == "natural":
        return rng.permutation(len(labels))
    counts = np.bincount(labels)
    weights = 1.0 / counts[labels]
    return rng.choice(len(labels), size=len(labels), p=weights / weights.sum())


def cut(order: NDArray[np.int64], batch_size: int, ranks: int = 1) -> list[NDArray[np.int64]]:
    """Cut an order into batches of nearly equal size, at most `batch_size`, each a multiple of `ranks`.

    A last batch of one scan would teach GCE nothing and upset batch statistics, so there is none.

    Examples
    --------
    >>> [len(batch) for batch in cut(np.arange(33), 16)]
    [11, 11, 11]
    """
    groups = order[: len(order) - len(order) % ranks].reshape(-1, ranks)
    number = max(1, -(-len(groups) * ranks // batch_size))
    return [batch.reshape(-1) for batch in np.array_split(groups, number)]


@dataclass(frozen=True, eq=False)
class Batches:
    """The batches of any epoch of a training set.

    Parameters
    ----------
    volumes : LabelledVolumes
        Training scans, in memory.
    augmentation : AugmentationSettings
    batch_size : int
        Scans of one step, over all ranks together.
    sampling : {"natural", "class_balanced"}
    seed : int
    rank, ranks : int
        This process and how many share the batch.
    workers : int
        Threads that prepare batches ahead; the result does not depend on it.
    """

    volumes: LabelledVolumes
    augmentation: AugmentationSettings
    batch_size: int
    sampling: str
    seed: int
    rank: int = 0
    ranks: int = 1
    workers: int = 1

    def __len__(self) -> int:
        return len(cut(np.arange(len(self.volumes)), self.batch_size, self.ranks))

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch; the next ones are being prepared meanwhile."""
        order = epoch_order(self.volumes.labels, self.sampling, self.seed, epoch)
        own = threading.local()  # MONAI's transforms hold their random state, so each thread has its own

        def begin() -> None:
            own.augmentation = build_augmentation(self.augmentation, self.volumes.preprocessing)

        def prepare(rows: NDArray[np.int64], first: int) -> Batch:
            draws = range(first + self.rank, first + len(rows), self.ranks)
            return self._batch(own.augmentation, rows[self.rank :: self.ranks], draws, epoch)

        batches = cut(order, self.batch_size, self.ranks)
        starts = np.cumsum([0, *map(len, batches)]).tolist()
        with ThreadPoolExecutor(self.workers, initializer=begin) as pool:
            waiting = []
            for rows, first in zip(batches, starts, strict=False):
                waiting.append(pool.submit(prepare, rows, first))
                if len(waiting) > self.workers + 1:
                    yield waiting.pop(0).result()
            for batch in waiting:
                yield batch.result()

    def _batch(
        self, augmentation: Compose | None, rows: NDArray[np.int64], draws: range, epoch: int
    ) -> Batch:
        changed = [
            augment(augmentation, torch.from_numpy(self.volumes.volumes[row][None]), self.seed, epoch, draw)
            for row, draw in zip(rows, draws, strict=True)
        ]
        return Batch(torch.stack(changed), torch.from_numpy(self.volumes.labels[rows]), rows)
