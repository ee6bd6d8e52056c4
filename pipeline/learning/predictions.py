"""Predictions of a network: logits, never probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.arrays import Floats, Ints
from pipeline.errors import InputError
from pipeline.files import written_whole


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits and features of scans, with what is needed to evaluate them.

    Parameters
    ----------
    scan_ids, subjects : tuple of str, length N
    logits : ndarray of float64, shape (N, K)
        Unnormalised class scores.
    labels : ndarray of int64, shape (N,)
    features : ndarray of float32, shape (N, F)
        Penultimate activations.
    class_names : tuple of str, length K

    Raises
    ------
    InputError
        If lengths differ.
    """

    scan_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    logits: Floats
    labels: Ints
    features: NDArray[np.float32]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        n, k = self.logits.shape
        lengths = {len(self.scan_ids), len(self.subjects), len(self.labels), len(self.features), n}
        if len(lengths) != 1 or k != len(self.class_names):
            raise InputError(
                f"There are {len(self.scan_ids)} ids, {len(self.subjects)} subjects, logits of shape "
                f"{self.logits.shape}, {len(self.labels)} labels, {len(self.features)} rows of features and "
                f"{len(self.class_names)} classes. Expected one of each per scan, one logit per class"
            )

    def __len__(self) -> int:
        return len(self.scan_ids)

    def take(self, rows: Ints) -> Predictions:
        """Return the given rows."""
        return Predictions(
            tuple(self.scan_ids[i] for i in rows),
            tuple(self.subjects[i] for i in rows),
            self.logits[rows],
            self.labels[rows],
            self.features[rows],
            self.class_names,
        )

    def save(self, path: Path) -> Path:
        """Write a ``.npz`` whole or not at all."""
        with written_whole(path) as beside, beside.open("wb") as stream:
            np.savez(
                stream,
                scan_ids=np.array(self.scan_ids),
                subjects=np.array(self.subjects),
                logits=self.logits,
                labels=self.labels,
                features=self.features,
                class_names=np.array(self.class_names),
            )
        return path

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what `save` wrote; pickled objects are refused."""
        with np.load(path, allow_pickle=False) as data:
            return cls(
                tuple(data["scan_ids"].tolist()),
                tuple(data["subjects"].tolist()),
                data["logits"],
                data["labels"],
                data["features"],
                tuple(data["class_names"].tolist()),
            )
