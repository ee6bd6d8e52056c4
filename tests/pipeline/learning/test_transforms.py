"""Augmentation is decided by (seed, epoch, draw), never mirrors, and is free of who computes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.preprocessing import Preprocessing
from pipeline.config import AugmentationSettings
from pipeline.learning.transforms import augment, build_augmentation

PREPROCESSING = Preprocessing(8.0, 4.0)
NOTHING = {
    "rotate_deg": 0,
    "translate_mm": 0,
    "scale": 0,
    "intensity_scale": 0,
    "intensity_shift": 0,
    "noise_sd": 0,
    "blur_sigma_mm": 0,
    "bias_field": 0,
}


@pytest.fixture
def volume(rng) -> torch.Tensor:
    """A volume whose left half is bright and whose right half is dark."""
    array = 0.3 + 0.02 * rng.standard_normal((1, *PREPROCESSING.in_shape))
    array[:, :12] += 0.3
    return torch.from_numpy(array.astype(np.float32))


def test_the_same_draw_gives_the_same_volume_whatever_came_before(volume):
    one, two = (build_augmentation(AugmentationSettings(), PREPROCESSING) for _ in range(2))
    for draw in range(7):
        augment(two, volume, 1, 0, draw)
    for draw in (3, 0, 5):
        first, second = (augment(a, volume, 1, 2, draw) for a in (one, two))
        assert torch.equal(first, second)


def test_seed_epoch_and_draw_each_matter(volume):
    augmentation = build_augmentation(AugmentationSettings(probability=1), PREPROCESSING)
    triples = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    results = [augment(augmentation, volume, *triple) for triple in triples]
    assert all(not torch.equal(results[0], other) for other in results[1:])


def test_left_stays_left(volume):
    augmentation = build_augmentation(AugmentationSettings(probability=1), PREPROCESSING)
    for draw in range(50):
        changed = augment(augmentation, volume, 0, 0, draw)[:, 4:20, 6:22, 6:18]
        assert changed[:, :8].mean() > changed[:, 8:].mean() + 0.2


def test_no_probability_or_no_strength_changes_nothing(volume):
    assert build_augmentation(AugmentationSettings(probability=0), PREPROCESSING) is None
    still = build_augmentation(AugmentationSettings(probability=1, **NOTHING), PREPROCESSING)
    assert torch.equal(augment(still, volume, 0, 0, 0), volume)


def test_intensities_are_given_in_suvr(volume):
    settings = AugmentationSettings(probability=1, **(NOTHING | {"intensity_shift": 0.4}))
    shift = build_augmentation(settings, PREPROCESSING)
    moved = [float((augment(shift, volume, 0, 0, draw) - volume).mean()) for draw in range(200)]
    assert max(np.abs(moved)) <= 0.1 + 1e-6  # 0.4 SUVR of the 4 that became 1
    assert max(np.abs(moved)) > 0.09


def test_translation_is_given_in_millimetres():
    settings = AugmentationSettings(probability=1, **(NOTHING | {"translate_mm": 16}))
    move = build_augmentation(settings, PREPROCESSING)
    point = torch.zeros(1, *PREPROCESSING.in_shape)
    point[0, 12, 14, 12] = 1
    far = 0.0
    for draw in range(60):
        moved = augment(move, point, 0, 0, draw)[0]
        centre = (
            torch.stack(
                [
                    (moved.sum([j for j in range(3) if j != i]) * torch.arange(moved.shape[i])).sum()
                    for i in range(3)
                ]
            )
            / moved.sum()
        )
        far = max(far, float((centre - torch.tensor([12.0, 14.0, 12.0])).abs().max()))
    assert 1.8 < far <= 2.01  # 16 mm are two voxels of 8 mm
