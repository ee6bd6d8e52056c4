"""The refits of the calibrator: as a bootstrap over subjects spreads, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibrators import build_calibrator, softmax
from pipeline.evaluation.classifier.assemble import refit_on_subjects
from pipeline.learning.predictions import Predictions


def predictions(n, scale=1.0, seed=0):
    """Labels drawn from softmax; the logits are `scale` times too large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3)) * 1.8
    labels = (softmax(logits).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    ids = tuple(f"scan-{i}" for i in range(n))
    people = tuple(f"sub-{i:04d}" for i in range(n))
    return Predictions(ids, people, logits * scale, labels, np.zeros((n, 1), np.float32), tuple("ABC"))


def test_refits_vary_as_a_bootstrap_over_subjects_should():
    scans = predictions(400, scale=2.0)
    refits = refit_on_subjects(scans, "temperature", draws=200, seed=1)
    logs = np.log([refit.temperature for refit in refits])
    # The spread over fresh samples of the same size is what the bootstrap stands for.
    fresh = []
    for seed in range(100, 160):
        again = predictions(400, scale=2.0, seed=seed)
        fresh.append(np.log(build_calibrator("temperature").fit(again.logits, again.labels).temperature))
    assert 0.6 < logs.std() / np.std(fresh) < 1.6


def test_refits_draw_subjects_not_scans():
    one_each = predictions(300, scale=2.0)
    twice = one_each.take(np.repeat(np.arange(300), 3))
    spread = [
        np.std([np.log(c.temperature) for c in refit_on_subjects(scans, "temperature", draws=60, seed=1)])
        for scans in (one_each, twice)
    ]
    assert spread[1] == pytest.approx(spread[0], rel=1e-6)


def test_refits_repeat_with_the_seed():
    scans = predictions(120)
    first = refit_on_subjects(scans, "adaptive_temperature", draws=3, seed=7)
    again = refit_on_subjects(scans, "adaptive_temperature", draws=3, seed=7)
    assert [c.to_dict() for c in first] == [c.to_dict() for c in again]
    assert first[0].to_dict() != first[1].to_dict()
