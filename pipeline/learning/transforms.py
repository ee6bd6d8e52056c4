"""Random augmentation of training volumes, independent of the number of workers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.data import set_track_meta
from monai.transforms import (
    Compose,
    RandAffine,
    RandBiasField,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandShiftIntensity,
)
from torch import Tensor

from models.preprocessing import Preprocessing
from pipeline.config import AugmentationSettings


def build_augmentation(settings: AugmentationSettings, preprocessing: Preprocessing) -> Compose | None:
    """Compose MONAI's random transforms for preprocessed volumes.

    A small affine, intensity scale and shift, Gaussian noise, blur and a bias field; each is applied with
    ``settings.probability``. Left and right are never exchanged: asymmetry is evidence. Intensities are given
    in SUVR and turned into the network's [0, 1] here.

    Parameters
    ----------
    preprocessing : Preprocessing
        Gives voxel size, shape and the SUVR scaled to 1.

    Returns
    -------
    Compose or None
        None where nothing would change. Not safe to share between threads: it contains the random state.
    """
    p, spacing, suvr = settings.probability, preprocessing.spacing_mm, preprocessing.suvr_max
    if not p:
        return None
    set_track_meta(False)  # plain tensors: bookkeeping of affines costs more than the transforms
    axes = len(preprocessing.in_shape)
    blur = (1e-3, max(1e-3, settings.blur_sigma_mm / spacing))
    candidates = [
        (
            settings.rotate_deg or settings.translate_mm or settings.scale,
            RandAffine(
                p,
                rotate_range=[math.radians(settings.rotate_deg)] * axes,
                translate_range=[settings.translate_mm / spacing] * axes,
                scale_range=[settings.scale] * axes,
                spatial_size=preprocessing.in_shape,
                cache_grid=True,
                mode="bilinear",
                padding_mode="zeros",
            ),
        ),
        (settings.bias_field, RandBiasField(2, (-settings.bias_field, settings.bias_field), prob=p)),
        (settings.blur_sigma_mm, RandGaussianSmooth(blur, blur, blur, prob=p)),
        (settings.intensity_scale, RandScaleIntensity(settings.intensity_scale, prob=p)),
        (settings.intensity_shift, RandShiftIntensity(settings.intensity_shift / suvr, prob=p)),
        (settings.noise_sd, RandGaussianNoise(p, std=settings.noise_sd / suvr)),
    ]
    return Compose([transform for wanted, transform in candidates if wanted])


def augment(augmentation: Compose | None, volume: Tensor, *drawn_by: int) -> Tensor:
    """Augment one volume at random; the change depends on the numbers in `drawn_by` alone.

    Neither the number of workers nor earlier draws matter, so that a training that was stopped resumes as if
    it had not been.

    Parameters
    ----------
    volume : Tensor, shape (1, X, Y, Z)
    *drawn_by : int
        Seed of the network, which differs by repeat and fold of a cross-fitting; epoch; scan; and how often
        the scan was drawn in this epoch before.
    """
    if augmentation is None:
        return volume
    augmentation.set_random_state(seed=seed_of(drawn_by))
    changed: Tensor = augmentation(volume)
    return torch.as_tensor(changed, dtype=torch.float32)


def seed_of(drawn_by: Sequence[int]) -> int:
    """Return the seed of MONAI's transforms for one draw of a scan."""
    return int(np.random.SeedSequence(drawn_by).generate_state(1)[0])
