"""A batch is augmented on a device as MONAI augments its scans one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.preprocessing import Preprocessing
from pipeline.config import AugmentationSettings
from pipeline.learning import batches as batches_module
from pipeline.learning.batched_transforms import augment_batch
from pipeline.learning.batches import Batches
from pipeline.learning.transforms import augment, build_augmentation

STRENGTHS = {name: value for name, value in AugmentationSettings() if isinstance(value, float)}
ROUNDING = 1e-4  # of values between 0 and 1: float32 here, float64 in MONAI


def scans_of(rng: np.random.Generator, preprocessing: Preprocessing, number: int) -> torch.Tensor:
    values = rng.random((number, 1, *preprocessing.in_shape), dtype=np.float32)
    return torch.nn.functional.avg_pool3d(torch.from_numpy(values), 3, 1, 1)


def differences(settings, preprocessing, rng, number=12) -> tuple[float, float]:
    """Return the largest difference to MONAI, and the mean change."""
    augmentation, scans = build_augmentation(settings, preprocessing), scans_of(rng, preprocessing, number)
    before, drawn_by = scans.clone(), [(3, 1, scan, 0) for scan in range(number)]
    batch = augment_batch(augmentation, scans, drawn_by)
    alone = torch.stack([augment(augmentation, s, *by) for s, by in zip(scans, drawn_by, strict=True)])
    assert torch.equal(scans, before)
    assert batch.dtype == torch.float32
    return float((batch - alone).abs().max()), float((batch - scans).abs().mean())


@pytest.mark.parametrize("kept", [name for name in STRENGTHS if name != "probability"])
@pytest.mark.parametrize("spacing", [8.0, 4.0])
def test_each_change_is_that_of_monai(kept, spacing, rng):
    strengths = dict.fromkeys(STRENGTHS, 0.0) | {kept: 3 * STRENGTHS[kept], "probability": 1.0}
    off, changed = differences(AugmentationSettings(**strengths), Preprocessing(spacing, 4.0), rng)
    assert off < ROUNDING
    assert changed > 1e-3


@pytest.mark.parametrize("probability", [0.2, 0.5, 1.0])
def test_all_changes_together_are_those_of_monai(probability, rng):
    settings = AugmentationSettings(probability=probability)
    off, changed = differences(settings, Preprocessing(8.0, 4.0), rng, number=30)
    assert off < ROUNDING
    assert changed > 1e-3


def test_a_scan_is_changed_alike_in_any_batch(rng):
    preprocessing = Preprocessing(8.0, 4.0)
    augmentation, scans = (
        build_augmentation(AugmentationSettings(), preprocessing),
        scans_of(rng, preprocessing, 9),
    )
    drawn_by = [(0, 0, scan, 0) for scan in range(9)]
    whole = augment_batch(augmentation, scans, drawn_by)
    order = [7, 2, 5]
    part = augment_batch(augmentation, scans[order], [drawn_by[row] for row in order])
    torch.testing.assert_close(part, whole[order], rtol=0, atol=1e-5)


def test_without_augmentation_a_batch_stays_as_it_is(rng):
    scans = scans_of(rng, Preprocessing(8.0, 4.0), 2)
    assert augment_batch(None, scans, [(0,), (1,)]) is scans


@pytest.mark.parametrize("sampling", ["natural", "class_balanced"])
def test_an_epoch_on_a_device_shows_what_one_on_the_cpu_shows(volumes, sampling, monkeypatch):
    settings = AugmentationSettings(probability=1)

    def epoch(workers: int) -> list[torch.Tensor]:
        return [b.volumes for b in Batches(volumes, settings, 8, sampling, seed=3, workers=workers).epoch(1)]

    alone = epoch(1)
    monkeypatch.setattr(batches_module, "augments_whole_batches", lambda device: True)
    for workers in (1, 3):
        for one, other in zip(alone, epoch(workers), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=ROUNDING)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_changes_a_batch_as_the_cpu_does(volumes):
    settings = AugmentationSettings(probability=1)
    on_cpu, on_gpu = (
        [
            b.volumes
            for b in Batches(volumes, settings, 8, "natural", seed=3, device=torch.device(name)).epoch(1)
        ]
        for name in ("cpu", "cuda")
    )
    for one, other in zip(on_cpu, on_gpu, strict=True):
        assert other.is_cuda
        torch.testing.assert_close(one, other.cpu(), rtol=0, atol=1e-3)
