"""Data of `long_tails.py`: what everybody has, and MedMNIST files where they are there, cut to a long tail.

Features of a scan are its pixels, averaged to at most 14 along a side in pictures and 7 in volumes, or ten
regions of the phantom's population. Each seed draws its own balanced test part and its own training part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from pipeline.phantom.population import PRESETS, sample_classes

SEEDS = 20


@dataclass(frozen=True)
class Part:
    """Training and test scans of every seed: features (S, N, D), labels (S, N)."""

    x: torch.Tensor
    y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    shares: torch.Tensor


@dataclass(frozen=True)
class Source:
    """Scans of a kind; `shape` is that of a picture or volume, `largest` the size of the first class."""

    load: Callable[[], tuple[NDArray[np.float64], NDArray[np.int64]]]
    shape: tuple[int, ...]
    largest: int
    test_of_each: int


def draw(source: Source, imbalance: float) -> Part:
    """Draw a long-tailed training part and a balanced test part for every seed."""
    features, labels = source.load()
    classes, test = int(labels.max()) + 1, source.test_of_each
    decay = imbalance ** (-np.arange(classes) / (classes - 1))
    counts = np.maximum(1, np.round(source.largest * decay)).astype(int)
    chosen, held = [], []
    for seed in range(SEEDS):
        rng = np.random.default_rng([seed, 7])
        members = [rng.permutation(np.flatnonzero(labels == k)) for k in range(classes)]
        held.append(np.concatenate([m[:test] for m in members]))
        chosen.append(np.concatenate([m[test : test + n] for m, n in zip(members, counts, strict=True)]))
    train_rows, test_rows = np.stack(chosen), np.stack(held)
    x = torch.tensor(features, dtype=torch.float32)
    y = torch.tensor(labels)
    shares = torch.tensor(counts / counts.sum(), dtype=torch.float32)
    return Part(x[train_rows], y[train_rows], x[test_rows], y[test_rows], shares)


def medmnist(file: Path) -> Source:
    """Return a file of MedMNIST with two classes, its three parts together, the larger class first."""
    _, labels = _medmnist(file)
    larger, smaller = np.bincount(labels)
    test = int(smaller) * 3 // 7
    with np.load(file) as found:
        sides = found["train_images"].shape[1:]
    shape = tuple(side // _BLOCK[len(sides)] for side in sides)
    return Source(partial(_medmnist, file), shape, (int(larger) - test) // 100 * 100, test)


_BLOCK = {2: 2, 3: 4}
"""Pixels of 28 along a side that are averaged: pictures, volumes."""


@cache
def _medmnist(file: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    with np.load(file) as found:
        images = np.concatenate([found[f"{part}_images"] for part in ("train", "val", "test")])
        labels = np.concatenate([found[f"{part}_labels"] for part in ("train", "val", "test")]).ravel()
    block = _BLOCK[images.ndim - 1]
    for axis in range(1, images.ndim):
        count = images.shape[axis] // block
        images = images.reshape(*images.shape[:axis], count, block, *images.shape[axis + 1 :]).mean(axis + 1)
    features = images.reshape(len(images), -1)
    by_size = np.argsort(-np.bincount(labels), kind="stable")
    return (features - features.mean()) / features.std(), np.argsort(by_size)[labels].astype(np.int64)


def _digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    found = load_digits()
    return found.data / 8 - 1, found.target


def _phantom() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(99)
    labels, stage, _ = sample_classes(PRESETS["three_class"], 20_000, rng)
    onset = np.linspace(0, 0.6, 10)
    seen = 1 / (1 + np.exp(-12 * (stage[:, None] - onset))) + 0.25 * rng.standard_normal((len(stage), 10))
    return seen, labels


DIGITS = Source(_digits, (8, 8), 100, 50)
PHANTOM = Source(_phantom, (10,), 200, 300)
