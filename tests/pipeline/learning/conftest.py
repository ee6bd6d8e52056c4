"""A small synthetic cohort whose classes differ by the brightness of a blob."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from models.preprocessing import Preprocessing
from pipeline.config import Study
from pipeline.learning.loading import LabelledVolumes
from pipeline.scan import Split

SHAPE = (12, 14, 12)
NAMES = ("CN", "AD")


def make_volumes(n: int = 48, seed: int = 7) -> LabelledVolumes:
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 3 == 0).astype(np.int64)
    x, y, z = np.indices(SHAPE) - np.array([3, 4, 5]).reshape(3, 1, 1, 1)
    blob = np.exp(-(x**2 + y**2 + z**2) / 8.0)
    volumes = 0.25 + 0.05 * rng.standard_normal((n, *SHAPE)) + 0.4 * labels[:, None, None, None] * blob
    ids = tuple(f"sub-{i:03d}_ses-M00" for i in range(n))
    subjects = tuple(f"{i:03d}" for i in range(n))
    preprocessing = Preprocessing(8.0, 4.0, grid_shape=(48, 56, 48))
    return LabelledVolumes(
        ids,
        subjects,
        volumes.clip(0, 1).astype(np.float32),
        labels,
        NAMES,
        preprocessing,
        content=f"blobs-{n}-{seed}",
    )


@pytest.fixture
def volumes() -> LabelledVolumes:
    """48 scans of 8 mm, every third AD."""
    return make_volumes()


def make_split(volumes: LabelledVolumes) -> Split:
    ids = volumes.scan_ids
    return Split(ids[:24], ids[24:30], ids[30:39], ids[39:], dict(zip(ids, volumes.subjects, strict=True)))


def make_study(folder: Path, *, dropout: float = 0.2, **training) -> Study:
    return Study.model_validate(
        {
            "name": "tiny",
            "seed": 5,
            "output": str(folder),
            "cohort": {"path": str(folder), "classes": NAMES},
            "preprocessing": {"spacing_mm": 8},
            "network": {"name": "small_cnn", "options": {"width": 4, "dropout": dropout}},
            "training": {
                "loss": {"name": "ce"},
                "epochs": 4,
                "batch_size": 8,
                "learning_rate": 0.01,
                "warmup_epochs": 1,
                "device": "cpu",
            }
            | training,
        }
    )


@pytest.fixture
def split(volumes) -> Split:
    """24 / 6 / 9 / 9 scans, each part with a third of AD."""
    return make_split(volumes)


@pytest.fixture
def study(tmp_path):
    """A function that returns a tiny study, with training settings on top."""
    return partial(make_study, tmp_path)
