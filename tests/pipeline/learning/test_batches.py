"""The order of an epoch and its batches: independent of workers and ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.config import AugmentationSettings
from pipeline.learning.batches import Batches, cut, epoch_order


def test_batches_do_not_depend_on_the_number_of_workers(volumes):
    settings = AugmentationSettings(probability=1)
    few, many = (list(Batches(volumes, settings, 8, "natural", seed=3, workers=n).epoch(2)) for n in (1, 3))
    for one, other in zip(few, many, strict=True):
        assert torch.equal(one.volumes, other.volumes)
        assert one.rows.tolist() == other.rows.tolist()


def test_two_ranks_share_the_batches_of_one(volumes):
    settings = AugmentationSettings(probability=1)
    whole = list(Batches(volumes, settings, 8, "natural", seed=3).epoch(0))
    shares = [
        list(Batches(volumes, settings, 8, "natural", seed=3, rank=rank, ranks=2).epoch(0)) for rank in (0, 1)
    ]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert torch.equal(batch.volumes[0::2], first.volumes)
        assert torch.equal(batch.volumes[1::2], second.volumes)


def test_an_epoch_shows_every_scan_once_in_another_order():
    labels = np.repeat([0, 1], [30, 10])
    orders = [epoch_order(labels, "natural", 0, epoch).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(40)) for order in orders)
    assert len(set(map(tuple, orders))) == 3


def test_balanced_sampling_draws_classes_equally_often():
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    drawn = np.concatenate([labels[epoch_order(labels, "class_balanced", 0, epoch)] for epoch in range(20)])
    # 20,000 draws: three standard errors of a third are 0.01.
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), 1 / 3, atol=0.01)


@pytest.mark.parametrize(("n", "size"), [(120, 16), (17, 16), (5, 16), (33, 8), (2, 2)])
def test_batches_are_nearly_equal_and_never_too_large(n, size):
    sizes = [len(batch) for batch in cut(np.arange(n), size)]
    assert sum(sizes) == n
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_ranks_share_batches_whose_size_is_no_multiple_of_them(volumes):
    settings = AugmentationSettings(probability=0)
    whole = Batches(volumes, settings, 7, "natural", seed=3)
    shares = [Batches(volumes, settings, 7, "natural", seed=3, rank=r, ranks=3).epoch(0) for r in range(3)]
    seen = 0
    for batch, *parts in zip(whole.epoch(0), *shares, strict=True):
        for rank, part in enumerate(parts):
            assert torch.equal(part.volumes, batch.volumes[rank::3])
            assert torch.equal(part.labels, batch.labels[rank::3])
            assert part.rows.tolist() == batch.rows.tolist()  # an error names the scans of the whole step
        # The mean over ranks of weight times mean loss is the mean over the batch.
        assert [part.weight for part in parts] == [3 * len(p.labels) / len(batch.rows) for p in parts]
        seen += len(batch.rows)
    assert seen == len(volumes)
    assert whole.smallest == min(len(batch.rows) for batch in whole.epoch(1))
