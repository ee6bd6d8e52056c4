"""Windows and flips only move pixels, as (seed, epoch, draw) decides, whoever computes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.preprocessing import ImagePreprocessing
from pipeline.config import AugmentationSettings
from pipeline.learning.batches import Batches
from pipeline.learning.image_transforms import draw_moves, move
from pipeline.learning.loading import LabelledVolumes

SHAPE = (3, 8, 10)
MOVING = AugmentationSettings(crop_pixels=2, flip=True)


def make_images(n: int = 23) -> LabelledVolumes:
    # No byte is zero, so that padding can be told from pixels.
    pixels = np.random.default_rng(3).integers(1, 256, (n, *SHAPE), dtype=np.uint8)
    ids = tuple(f"{i:03d}" for i in range(n))
    preprocessing = ImagePreprocessing(SHAPE, (0.5, 0.4, 0.6), (0.2, 0.3, 0.25))
    return LabelledVolumes(ids, ids, pixels, np.arange(n) % 2, ("cat", "dog"), preprocessing, content="noise")


def shown(images: LabelledVolumes, settings: AugmentationSettings, size: int = 8, **options) -> torch.Tensor:
    batches = Batches(images, settings, size, "natural", seed=4, **options)
    return torch.cat([batch.volumes for batch in batches.epoch(2)])


def test_a_moved_image_is_a_window_of_the_padded_one():
    images = torch.from_numpy(make_images(200).volumes)
    moves = draw_moves(MOVING, 200, seed=1, epoch=0)
    moved = move(images, torch.from_numpy(moves), 2)
    assert moved.dtype == torch.uint8
    for image, (top, left, flipped), result in zip(images.numpy(), moves, moved.numpy(), strict=True):
        window = np.pad(image, [(0, 0), (2, 2), (2, 2)])[:, top : top + 8, left : left + 10]
        np.testing.assert_array_equal(result, window[..., ::-1] if flipped else window)
        # Nothing is made up: channel by channel, the pixels are some of the image's own.
        for before, after in zip(image, result, strict=True):
            assert (
                np.bincount(after[after > 0], minlength=256) <= np.bincount(before.ravel(), minlength=256)
            ).all()


def test_every_window_is_as_likely_as_any_other():
    moves = draw_moves(MOVING, 50_000, seed=0, epoch=0)
    counts = np.unique(moves, axis=0, return_counts=True)[1]
    # 5 x 5 windows, flipped or not: a thousand each, six standard deviations either way.
    assert len(counts) == 50
    assert np.abs(counts - 1000).max() < 190


def test_a_draw_depends_on_seed_and_epoch_and_not_on_how_many_there_are():
    moves = draw_moves(MOVING, 40, seed=1, epoch=2)
    np.testing.assert_array_equal(draw_moves(MOVING, 7, seed=1, epoch=2), moves[:7])
    for seed, epoch in ((0, 2), (1, 0)):
        assert (draw_moves(MOVING, 40, seed=seed, epoch=epoch) != moves).any()


def test_without_crop_or_flip_images_are_only_normalised():
    images = make_images()
    (whole,) = list(Batches(images, AugmentationSettings(), 100, "natural", seed=4).epoch(0))
    expected = images.preprocessing(images.volumes[whole.rows])
    np.testing.assert_array_equal(whole.volumes.numpy(), expected)
    np.testing.assert_array_equal(whole.labels.numpy(), images.labels[whole.rows])


def test_only_flips_leave_images_whole():
    images = make_images()
    flips = AugmentationSettings(flip=True)
    (whole,) = list(Batches(images, flips, 100, "natural", seed=4).epoch(0))
    expected = images.preprocessing(images.volumes[whole.rows])
    flipped = [np.array_equal(a, b[..., ::-1]) for a, b in zip(whole.volumes.numpy(), expected, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(whole.volumes.numpy(), expected, strict=True)]
    assert all(one != other for one, other in zip(flipped, same, strict=True))
    assert 4 < sum(flipped) < 19


def test_what_is_done_to_volumes_is_not_done_to_images():
    strong = {"probability": 1, "rotate_deg": 45, "noise_sd": 1, "blur_sigma_mm": 9, "bias_field": 0.9}
    images = make_images()
    gentle = shown(images, MOVING)
    assert torch.equal(shown(images, MOVING.model_copy(update=strong)), gentle)


def test_images_do_not_depend_on_workers_or_on_how_they_are_cut():
    images = make_images()
    first = shown(images, MOVING)
    for options in ({"workers": 3}, {"size": 5}, {"size": 100}):
        assert torch.equal(shown(images, MOVING, **options), first)


def test_two_ranks_share_the_images_of_one():
    images = make_images(24)
    whole = list(Batches(images, MOVING, 8, "natural", seed=3).epoch(1))
    shares = [list(Batches(images, MOVING, 8, "natural", seed=3, rank=r, ranks=2).epoch(1)) for r in (0, 1)]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert torch.equal(batch.volumes[0::2], first.volumes)
        assert torch.equal(batch.volumes[1::2], second.volumes)


def test_images_mapped_from_disk_are_batched_too(tmp_path):
    images = make_images()
    np.save(tmp_path / "images.npy", images.volumes)
    mapped = replace(images, volumes=np.load(tmp_path / "images.npy", mmap_mode="r")).subset(images.scan_ids)
    assert torch.equal(shown(mapped, MOVING), shown(images, MOVING))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kept", [True, False])
def test_a_gpu_shows_the_same_images(kept, monkeypatch):
    if not kept:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 100))
    images = make_images()
    on_gpu = shown(images, MOVING, device=torch.device("cuda", 0))
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), shown(images, MOVING))
