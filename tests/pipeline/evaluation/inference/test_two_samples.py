"""Two groups of scans: p-values of groups that are the same and of groups that are not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.evaluation.inference.two_samples import means_p_value, rate_p_value, shares_p_value


def test_a_rate_is_tested_by_the_hypergeometric_tail():
    before, after = np.arange(100) < 3, np.arange(60) < 6
    assert rate_p_value(before, after) == pytest.approx(stats.hypergeom.sf(5, 160, 9, 60))
    assert rate_p_value(after, before) > 0.5
    assert rate_p_value(before[50:], after[50:]) == 1.0


def test_shares_that_agree_and_shares_that_do_not(rng):
    same = shares_p_value(np.array([200, 100, 0]), np.array([100, 50, 0]), 999, rng)
    assert same == pytest.approx(1.0)
    moved = shares_p_value(np.array([200, 100, 0]), np.array([50, 60, 40]), 999, rng)
    assert moved == pytest.approx(1 / 1000)
    assert shares_p_value(np.array([60]), np.array([30]), 99, rng) == 1.0


def test_p_values_of_shares_are_uniform_where_nothing_has_changed(rng):
    found = [
        shares_p_value(*rng.multinomial(80, [0.5, 0.3, 0.2], size=2), draws=199, rng=rng) for _ in range(200)
    ]
    assert np.mean(np.array(found) <= 0.1) == pytest.approx(0.1, abs=0.06)


def test_one_column_that_moves_is_seen_beside_many_that_do_not(rng):
    before, after = rng.normal(size=(80, 10)), rng.normal(size=(60, 10))
    assert means_p_value(before, after, 499, rng) > 0.01
    after[:, 3] += 1.0
    assert means_p_value(before, after, 499, rng) == pytest.approx(1 / 500)
