"""Predictions: stored and read to the bit, and of one length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.learning.predictions import Predictions


@pytest.fixture
def predictions(rng) -> Predictions:
    """Five scans of two classes."""
    return Predictions(
        tuple(f"sub-{n}_ses-1" for n in range(5)),
        tuple(str(n) for n in range(5)),
        rng.normal(size=(5, 2)),
        np.array([0, 1, 0, 1, 1]),
        rng.normal(size=(5, 3)).astype(np.float32),
        ("CN", "AD"),
    )


def test_predictions_come_back_from_their_file_to_the_bit(predictions, tmp_path):
    loaded = Predictions.load(predictions.save(tmp_path / "test.npz"))
    assert (loaded.scan_ids, loaded.subjects) == (predictions.scan_ids, predictions.subjects)
    assert loaded.class_names == predictions.class_names
    for name in ("logits", "labels", "features"):
        stored = getattr(loaded, name)
        np.testing.assert_array_equal(stored, getattr(predictions, name))
        assert stored.dtype == getattr(predictions, name).dtype


def test_rows_are_taken_in_the_order_given(predictions):
    taken = predictions.take(np.array([3, 0]))
    assert taken.scan_ids == ("sub-3_ses-1", "sub-0_ses-1")
    np.testing.assert_array_equal(taken.logits, predictions.logits[[3, 0]])


@pytest.mark.parametrize(
    "change", [{"scan_ids": ("a",)}, {"labels": np.array([0, 1])}, {"class_names": ("CN", "MCI", "AD")}]
)
def test_lengths_that_differ_are_refused(predictions, change):
    with pytest.raises(InputError, match="Expected one of each per scan"):
        replace(predictions, **change)
