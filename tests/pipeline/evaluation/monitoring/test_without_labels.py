"""Expected performance holds what the diagnoses then show, unless scans of a class look different."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from pipeline.evaluation.metrics import accuracy, negative_log_likelihood, per_class_recall
from pipeline.evaluation.monitoring.without_labels import (
    FEWEST_SUBJECTS,
    Unlabelled,
    calibration_z,
    expected_performance,
)
from pipeline.phantom.population import PRESETS, posterior, sample_classes

PRESET = PRESETS["three_class"]
SHARES = np.array(PRESET.prevalence)


def month(n, seed, shares=None, stretch=1.0):
    """Return a period of phantom scans, at other class shares, and their labels."""
    rng = np.random.default_rng(seed)
    labels, stage, typical = sample_classes(PRESET, 20 * n, rng)
    chosen = np.arange(n)
    if shares is not None:
        weights = (np.asarray(shares) / SHARES)[labels]
        chosen = rng.choice(len(labels), n, replace=False, p=weights / weights.sum())
    truth = posterior(PRESET, stage[chosen], typical[chosen])
    p = softmax(stretch * np.log(truth), axis=1)
    return Unlabelled(p, p > 0.2, PRESET.class_names, SHARES), labels[chosen]


NONE = np.zeros(60, dtype=bool)


def realised(period, labels):
    p = period.probabilities
    return {
        "accuracy": accuracy(p, labels),
        "negative_log_likelihood": negative_log_likelihood(p, labels),
        "coverage": period.sets[np.arange(len(labels)), labels].mean(),
        "recall.CN": per_class_recall(p, labels)[0],
    }


@pytest.mark.parametrize("shares", [None, (0.35, 0.35, 0.30)], ids=["as trained", "AD thrice as frequent"])
def test_intervals_hold_the_realised_values(shares):
    held = dict.fromkeys(("accuracy", "negative_log_likelihood", "coverage", "recall.CN"), 0)
    for seed in range(20):
        period, labels = month(60, seed, shares)
        found = expected_performance(period, NONE, NONE, draws=120, seed=seed)
        for name, value in realised(period, labels).items():
            held[name] += found.values[name].low <= value <= found.values[name].high
    assert min(held.values()) >= 0.9 * 20, held


def test_thirty_scans_of_an_unsure_classifier_do_not_fit_any_class_shares():
    z = np.log(month(31, 2)[0].probabilities)
    p = softmax(0.3 * z + np.log(SHARES), axis=1)
    drawn = np.stack([softmax(t * z + np.log(SHARES), axis=1) for t in np.linspace(0.1, 0.5, 40)])
    period = Unlabelled(p, p > 0.2, PRESET.class_names, SHARES, drawn)
    found = expected_performance(period, NONE[:31], NONE, draws=200)
    assert found.values["accuracy"].high - found.values["accuracy"].low < 0.4
    assert min(found.prevalence) > 0.02


def test_a_classifier_that_is_too_sure_expects_too_much_and_z_finds_it():
    z, beyond = [], 0
    for seed in range(20):
        period, labels = month(200, seed, stretch=2.5)
        none = np.zeros(200, dtype=bool)
        found = expected_performance(period, none, none, draws=100, seed=seed)
        beyond += (
            realised(period, labels)["negative_log_likelihood"] > found.values["negative_log_likelihood"].high
        )
        z.append(calibration_z(period.probabilities, labels))
    assert beyond >= 15
    assert np.mean(z) < -2


def test_the_z_of_a_calibrated_classifier_is_standard_normal():
    z = np.array([calibration_z(period.probabilities, y) for period, y in (month(60, s) for s in range(200))])
    assert abs(z.mean()) < 0.2
    assert z.std() == pytest.approx(1, abs=0.15)
    sure = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert np.isnan(calibration_z(sure, np.array([0, 0])))
    assert calibration_z(sure, np.array([0, 1])) == -np.inf, "one wrong is more than certainty allows"


def test_it_is_withheld_where_it_cannot_be_known():
    period, _ = month(FEWEST_SUBJECTS - 1, 0)
    few = expected_performance(period, NONE[:29], NONE)
    one = expected_performance(month(1, 0)[0], NONE[:1], NONE)
    assert one.withheld == "there is 1 subject, and it needs 30"
    assert few.values is None
    assert "there are 29 subjects, and it needs 30" in few.sentences()[0]
    period, _ = month(60, 0)
    risen = NONE.copy()
    risen[:12] = True
    found = expected_performance(period, risen, NONE)
    assert found.values is None
    assert "20 % of the scans are out of distribution, before 0 %" in found.sentences()[0]
    assert expected_performance(period, NONE, risen, draws=20).values is not None, "a fall is no alarm"


def test_draws_of_the_calibrator_widen_the_intervals():
    period, _ = month(60, 3)
    rng = np.random.default_rng(0)
    z = np.log(period.probabilities)
    drawn = np.stack([softmax(t * z, axis=1) for t in rng.lognormal(0, 0.5, 50)])
    unsure = Unlabelled(period.probabilities, period.sets, period.class_names, SHARES, drawn)
    plain, wide = (expected_performance(p, NONE, NONE, draws=300).values for p in (period, unsure))
    a, b = plain["negative_log_likelihood"], wide["negative_log_likelihood"]
    assert b.high - b.low > 1.3 * (a.high - a.low)
    assert a.value == b.value
