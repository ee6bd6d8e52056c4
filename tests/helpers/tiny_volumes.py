"""A MedMNIST archive of small volumes with two classes, for comparisons and curves that train in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def write_archive(folder: Path, sizes: Mapping[str, int], contrast: int) -> Path:
    """Write an archive; every third volume is of class 1, which is brighter in the middle.

    Parameters
    ----------
    sizes : mapping of str to int
        Volumes of ``train``, ``val`` and ``test``.
    contrast : int
        How much brighter, above noise from 0 to 89.
    """
    rng = np.random.default_rng(3)
    arrays = {}
    for part, n in sizes.items():
        labels = np.arange(n) % 3 == 0
        images = rng.integers(0, 90, (n, 12, 12, 12))
        images[labels, 4:8, 4:8, 4:8] += contrast
        arrays |= {
            f"{part}_images": images.astype(np.uint8),
            f"{part}_labels": labels.astype(np.uint8)[:, None],
        }
    path = folder / "tiny.npz"
    np.savez(path, **arrays)
    return path
