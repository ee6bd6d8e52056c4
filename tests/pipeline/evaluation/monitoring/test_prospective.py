"""Predictions of a period are stored, pooled and compared in pairs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.evaluation.metrics import classwise_ece, negative_log_likelihood
from pipeline.evaluation.monitoring.prospective import (
    PeriodPredictions,
    PolicyPredictions,
    compare_policies,
    measure,
    measure_with_intervals,
    pool,
)
from pipeline.scan import Cohort, Scan


def period(rng, n, start=0):
    posterior = rng.dirichlet([1, 1, 1], n)
    labels = np.array([rng.choice(3, p=p) for p in posterior])
    wrong = posterior[:, [1, 2, 0]]
    predicted = {
        name: PolicyPredictions(k, p, np.array(p[np.arange(n), labels] > 0.2), np.array(p.max(axis=1) < 0.5))
        for k, (name, p) in enumerate({"gate": posterior * 0.9 + 0.1 / 3, "never": wrong}.items(), start=1)
    }
    ids = tuple(f"s{start + k}" for k in range(n))
    return PeriodPredictions(ids, ids, labels, posterior, predicted)


def test_what_is_written_comes_back(rng):
    one = period(rng, 5)
    again = PeriodPredictions.from_dict(json.loads(json.dumps(one.to_dict())))
    assert again.to_dict() == one.to_dict()
    assert again.by_policy["never"].covered.dtype == bool
    earlier = {"said" if key == "by_policy" else key: value for key, value in one.to_dict().items()}
    assert PeriodPredictions.from_dict(earlier).to_dict() == one.to_dict()
    empty = PeriodPredictions((), (), np.zeros(0, dtype=np.int64), None, {})
    assert len(PeriodPredictions.from_dict(empty.to_dict())) == 0


def test_pooling_keeps_every_scan_in_order(rng):
    first, second = period(rng, 4), period(rng, 6, start=4)
    empty = PeriodPredictions((), (), np.zeros(0, dtype=np.int64), None, {})
    together = pool([first, empty, second])
    assert together.scan_ids == (*first.scan_ids, *second.scan_ids)
    mean = (4 * measure(first, "gate")["coverage"] + 6 * measure(second, "gate")["coverage"]) / 10
    assert measure(together, "gate")["coverage"] == pytest.approx(mean)
    assert together.posterior.shape == (10, 3)
    with pytest.raises(InputError, match="No period has a scan"):
        pool([empty])


def test_measures_are_those_of_the_metrics(rng):
    one = period(rng, 40)
    found = measure(one, "never")
    predicted = one.by_policy["never"]
    assert found["negative_log_likelihood"] == negative_log_likelihood(predicted.probabilities, one.labels)
    assert found["classwise_ece"] == classwise_ece(predicted.probabilities, one.labels)
    assert found["referred"] == predicted.referred.mean()
    assert found["oracle"] == negative_log_likelihood(one.posterior, one.labels)


def test_intervals_hold_the_value_and_the_oracle_is_what_is_above(rng):
    one = period(rng, 60)
    found = measure_with_intervals(one, "never", draws=300)
    values = measure(one, "never")
    p, q = one.by_policy["never"].probabilities, one.posterior
    assert found["above_oracle"].value == pytest.approx((q * (np.log(q) - np.log(p))).sum(axis=1).mean())
    for name in ("negative_log_likelihood", "coverage", "referred"):
        assert found[name].value == pytest.approx(values[name])
        assert found[name].low <= found[name].value <= found[name].high


def test_the_better_policy_is_told_apart_and_a_policy_is_as_good_as_itself(rng):
    one = period(rng, 150)
    better = compare_policies(one, "gate", "never", draws=300)["negative_log_likelihood"]
    assert better.high < 0
    above = {p: measure_with_intervals(one, p, draws=10)["above_oracle"].value for p in ("gate", "never")}
    expected = compare_policies(one, "gate", "never", draws=300)["above_oracle"]
    assert expected.value == pytest.approx(above["gate"] - above["never"])
    assert expected.high < 0
    worse = compare_policies(one, "never", "gate", draws=300)["negative_log_likelihood"]
    assert (worse.value, worse.low, worse.high) == pytest.approx((-better.value, -better.high, -better.low))
    same = compare_policies(one, "gate", "gate", draws=50)
    assert all((i.value, i.low, i.high) == (0, 0, 0) for i in same.values())


def test_predictions_of_a_policy_are_held_against_the_diagnoses():
    scans = [Scan(f"{n}", "a", Path(), diagnosis=name) for n, name in enumerate(("CN", "AD"))]
    cohort = Cohort(tuple(scans), ("CN", "AD"))
    answers = [
        SimpleNamespace(probabilities=(0.9, 0.1), prediction_set=("CN",), decision="report"),
        SimpleNamespace(probabilities=(0.6, 0.4), prediction_set=("CN",), decision="refer"),
    ]
    found = PolicyPredictions.of(3, answers, cohort)
    assert found.version == 3
    assert (found.covered.tolist(), found.referred.tolist()) == ([True, False], [False, True])
    np.testing.assert_array_equal(found.probabilities, [[0.9, 0.1], [0.6, 0.4]])
    nothing = PolicyPredictions.of(3, [], Cohort((), ("CN", "AD")))
    assert nothing.probabilities.shape == (0, 2)
    assert nothing.covered.dtype == nothing.referred.dtype == bool
