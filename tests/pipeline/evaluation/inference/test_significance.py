"""Tests of differences: by hand, and with the tests that they have as limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pipeline.errors import InputError
from pipeline.evaluation.inference.significance import (
    components_t_test,
    corrected_resampled_t_test,
    detectable,
    holm,
    t_test,
)


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.5]), [0.04, 0.09, 0.09, 0.5])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])
    assert holm([]).shape == (0,)


def test_corrected_t_test_by_hand_and_its_limits():
    differences = np.array([0.02, 0.05, 0.01, 0.04, 0.03])
    t = 0.03 / np.sqrt(differences.var(ddof=1) * (1 / 5 + 1 / 4))
    assert corrected_resampled_t_test(differences, 0.25) == pytest.approx(2 * stats.t.sf(t, 4))
    # Without a test part the correction vanishes and it is the paired t-test.
    uncorrected = stats.ttest_1samp(differences, 0.0).pvalue
    assert corrected_resampled_t_test(differences, 1e-12) == pytest.approx(uncorrected)
    assert corrected_resampled_t_test(differences, 0.25) > uncorrected
    assert corrected_resampled_t_test([0.0, 0.0], 0.25) == 1.0
    assert corrected_resampled_t_test([0.1, 0.1], 0.25) == 0.0


@pytest.mark.parametrize(
    ("differences", "ratio", "message"),
    [([0.1], 0.25, "There are 1 differences"), ([0.1, 0.2], 0.0, "is 0.0, expected above 0")],
)
def test_corrected_t_test_refuses_what_it_cannot_judge(differences, ratio, message):
    with pytest.raises(InputError, match=message):
        corrected_resampled_t_test(differences, ratio)


def test_components_t_test_has_the_two_tests_it_joins_as_limits():
    values = [0.1, 0.3, 0.2]
    assert components_t_test(0.2, 0.0, values) == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)
    assert components_t_test(0.2, 0.01, [0.2]) == pytest.approx(2 * stats.norm.sf(2.0))
    assert components_t_test(0.2, 0.01, values) > components_t_test(0.2, 0.01, [0.2])


@pytest.mark.parametrize(
    ("degrees", "alpha"), [(2, 0.05), (2, 0.05 / 22), (4, 0.05 / 22), (9, 0.05), (40, 0.05)]
)
def test_a_difference_that_is_called_detectable_is_found_in_four_of_five_studies(rng, degrees, alpha):
    truth, found = detectable(0.04, degrees, alpha), 0
    for _ in range(4000):
        mean = truth + 0.2 * rng.standard_normal()
        variance = 0.04 * rng.chisquare(degrees) / degrees
        found += t_test(mean, variance, degrees) <= alpha
    assert found / 4000 == pytest.approx(0.8, abs=0.025)


@pytest.mark.parametrize("degrees", [1, 2.3, 30, 9999, 10001, math.inf])
@pytest.mark.parametrize("alpha", [0.5, 0.05, 0.0005])
def test_the_power_of_what_is_detectable_is_that_of_the_noncentral_t(degrees, alpha):
    limit, shift = stats.t.isf(alpha / 2, degrees), detectable(1.0, degrees, alpha)
    power = stats.nct.sf(limit, degrees, shift) if degrees < 1e5 else stats.norm.sf(limit - shift)
    assert power == pytest.approx(0.8, abs=1e-3)
    assert detectable(0.0, degrees, alpha) == 0
