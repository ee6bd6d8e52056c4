"""The order of scans or images in an epoch, and its batches, prepared while the network computes."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from models.arrays import Ints
from models.preprocessing import ImagePreprocessing, Preprocessing
from pipeline.config import AugmentationSettings
from pipeline.learning.batched_transforms import augment_batch
from pipeline.learning.devices import (
    augments_whole_batches,
    made_beside_steps,
    resident_on,
    stream_beside_steps,
    to_device,
)
from pipeline.learning.image_transforms import draw_moves, move
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.transforms import augment, build_augmentation

_CPU = torch.device("cpu")
# From rows of the training set and their places in the epoch's order to the network's input.
_Prepare = Callable[[Ints, range], Tensor]


@dataclass(frozen=True, eq=False)
class Batch:
    """Augmented volumes (N, 1, X, Y, Z) or images (N, C, H, W), and labels (N,), on the device.

    Where ranks share a batch, they are the part of one; `weight` is its scans divided by the mean over ranks.
    `rows` in the set are those of the whole batch.
    """

    volumes: Tensor
    labels: Tensor
    rows: Ints
    weight: float = 1.0


def epoch_order(labels: Ints, sampling: str, seed: int, epoch: int) -> Ints:
    """Return the rows of one epoch in the order they are drawn.

    Parameters
    ----------
    labels : ndarray of int64, shape (N,)
    sampling : {"natural", "class_balanced"}
        Every scan once, or N draws with replacement in which all classes are equally likely.

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


def cut(order: Ints, batch_size: int) -> list[Ints]:
    """Cut an order into batches of nearly equal size, at most `batch_size`.

    Equal sizes avoid a last batch of one scan, from which GCE learns nothing and which distorts batch
    statistics.

    Examples
    --------
    >>> [len(batch) for batch in cut(np.arange(33), 16)]
    [11, 11, 11]
    """
    return np.array_split(order, max(1, -(-len(order) // batch_size)))


def _times_before(order: Ints) -> Ints:
    """Return for each place of an order how often its row has come before.

    Examples
    --------
    >>> _times_before(np.array([2, 0, 2, 2])).tolist()
    [0, 0, 1, 2]
    """
    seen: Counter[int] = Counter()
    before = np.zeros(len(order), dtype=np.int64)
    for place, row in enumerate(order.tolist()):
        before[place] = seen[row]
        seen[row] += 1
    return before


@dataclass(frozen=True, eq=False)
class Batches:
    """The batches of any epoch of a training set.

    Parameters
    ----------
    volumes : LabelledVolumes
        Training scans, in memory or mapped from a file.
    batch_size : int
        Scans of one step, over all ranks together.
    sampling : {"natural", "class_balanced"}
    rank, ranks : int
        This process and how many share the batch.
    workers : int
        Threads that prepare batches ahead; the result does not depend on it.
    device : torch.device
        A GPU augments the batches that it learns from; a small set of images stays there as a whole.
    """

    volumes: LabelledVolumes
    augmentation: AugmentationSettings
    batch_size: int
    sampling: str
    seed: int
    rank: int = 0
    ranks: int = 1
    workers: int = 1
    device: torch.device = _CPU

    def __len__(self) -> int:
        return len(cut(np.arange(len(self.volumes)), self.batch_size))

    @property
    def smallest(self) -> int:
        """Scans of the smallest batch, over all ranks together."""
        return min(map(len, cut(np.arange(len(self.volumes)), self.batch_size)))

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch; threads prepare the next ones meanwhile."""
        order = epoch_order(self.volumes.labels, self.sampling, self.seed, epoch)
        preprocessing = self.volumes.preprocessing
        if isinstance(preprocessing, ImagePreprocessing):
            prepare = self._images(preprocessing, epoch)
        else:
            prepare = self._scans(preprocessing, epoch, _times_before(order))

        def make(rows: Ints, first: int) -> Batch:
            draws = range(first + self.rank, first + len(rows), self.ranks)
            own = rows[self.rank :: self.ranks]
            weight = len(own) * self.ranks / len(rows)

            def there() -> tuple[Tensor, Tensor]:
                return prepare(own, draws), torch.from_numpy(self.volumes.labels[own]).to(self.device)

            volumes, labels = made_beside_steps(stream, there)
            return Batch(volumes, labels, rows, weight)

        batches = cut(order, self.batch_size)
        starts = np.cumsum([0, *map(len, batches)]).tolist()
        stream = self._stream  # before threads start, of which all share it and the memory it keeps
        with ThreadPoolExecutor(self.workers) as pool:
            waiting = []
            for rows, first in zip(batches, starts, strict=False):
                waiting.append(pool.submit(make, rows, first))
                if len(waiting) > self.workers + 1:
                    yield waiting.pop(0).result()
            for batch in waiting:
                yield batch.result()

    def _scans(self, preprocessing: Preprocessing, epoch: int, before: Ints) -> _Prepare:
        own = threading.local()  # MONAI's transforms contain their random state, so each thread has its own

        def prepare(rows: Ints, draws: range) -> Tensor:
            if not hasattr(own, "augmentation"):
                own.augmentation = build_augmentation(self.augmentation, preprocessing)
            drawn_by = [
                (self.seed, epoch, self._numbers[row], int(before[draw]))
                for row, draw in zip(rows, draws, strict=True)
            ]
            scans = torch.from_numpy(self.volumes.volumes[rows][:, None])
            if augments_whole_batches(self.device):
                return augment_batch(own.augmentation, to_device(scans, self.device), drawn_by)
            changed = zip(scans, drawn_by, strict=True)
            return torch.stack([augment(own.augmentation, scan, *numbers) for scan, numbers in changed])

        return prepare

    def _images(self, preprocessing: ImagePreprocessing, epoch: int) -> _Prepare:
        padding, flip = self.augmentation.crop_pixels, self.augmentation.flip
        moves = torch.from_numpy(draw_moves(self.augmentation, len(self.volumes), self.seed, epoch))
        resident = self._bytes  # before threads start, each of which would move it to the device

        def prepare(rows: Ints, draws: range) -> Tensor:
            chosen = resident[torch.from_numpy(rows).to(resident.device, non_blocking=True)]
            images = to_device(chosen, self.device)
            if padding or flip:
                images = move(images, moves[draws.start : draws.stop : draws.step], padding)
            return preprocessing.normalise(images)

        return prepare

    @cached_property
    def _stream(self) -> torch.cuda.Stream | None:
        return stream_beside_steps(self.device)

    @cached_property
    def _numbers(self) -> list[int]:
        """A number for each scan that follows from its id alone."""
        digests = (hashlib.sha256(scan_id.encode()).digest() for scan_id in self.volumes.scan_ids)
        return [int.from_bytes(digest[:8], "big") for digest in digests]

    @cached_property
    def _bytes(self) -> Tensor:
        return resident_on(self.device, torch.from_numpy(np.asarray(self.volumes.volumes)))
