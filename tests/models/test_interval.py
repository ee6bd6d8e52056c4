"""The interval of calibrated probabilities over networks and refitted calibrators."""

from __future__ import annotations

import numpy as np

from models.calibrators import build_calibrator
from models.interval import calibrated_members, probability_interval


def test_members_are_calibrated_each_as_alone(rng):
    labels = rng.integers(0, 3, 60)
    logits = 2 * np.eye(3)[labels] + rng.normal(size=(60, 3))
    calibrator = build_calibrator("vector").fit(logits, labels)
    members = rng.normal(size=(4, 7, 3))
    alone = np.stack([calibrator.transform(member) for member in members])
    np.testing.assert_allclose(calibrated_members(calibrator, members), alone, rtol=1e-13)


def test_it_is_the_percentiles_over_members_and_calibrators(rng):
    members, softened = rng.normal(size=(5, 8, 3)), build_calibrator("temperature")
    softened.fit(rng.normal(size=(40, 3)), rng.integers(0, 3, 40))
    calibrators = [build_calibrator("identity"), softened]
    drawn = np.concatenate([calibrated_members(c, members) for c in calibrators])
    centre = np.median(drawn, axis=0)
    low, high = probability_interval(centre, members, calibrators)
    np.testing.assert_array_equal(low, np.percentile(drawn, 5, axis=0))
    np.testing.assert_array_equal(high, np.percentile(drawn, 95, axis=0))


def test_it_contains_the_probabilities_themselves(rng):
    members = rng.normal(size=(3, 8, 2))
    far = np.array([[0.001, 0.999]] * 8)
    low, high = probability_interval(far, members, [build_calibrator("identity")])
    assert (low <= far).all()
    assert (far <= high).all()
