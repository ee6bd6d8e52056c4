"""The plausible range of calibrated probabilities over networks and draws of the calibrator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.calibrators import build_calibrator, softmax
from models.interval import (
    calibrated_members,
    calibrator_draws,
    choose_range_factor,
    describe_range,
    plausible_range,
)
from models.prevalence import adjust_prevalence


def test_members_are_calibrated_each_as_alone(rng):
    labels = rng.integers(0, 3, 60)
    logits = 2 * np.eye(3)[labels] + rng.normal(size=(60, 3))
    calibrator = build_calibrator("vector").fit(logits, labels)
    members = rng.normal(size=(4, 7, 3))
    alone = np.stack([calibrator.transform(member) for member in members])
    np.testing.assert_allclose(calibrated_members(calibrator, members), alone, rtol=1e-13)


def test_draws_are_every_network_under_every_draw_of_every_calibrator(rng):
    members, softened = rng.normal(size=(5, 8, 3)), build_calibrator("temperature")
    softened.fit(rng.normal(size=(40, 3)), rng.integers(0, 3, 40))
    softened.draws = lambda logits: np.stack([softmax(logits / t) for t in (1.0, 2.0, 3.0)])
    drawn = calibrator_draws([build_calibrator("identity"), softened], members)
    parts = [softmax(member / t) for t in (1.0, 1.0, 2.0, 3.0) for member in members]
    np.testing.assert_allclose(drawn, parts, rtol=1e-13)


def test_without_a_factor_it_is_the_percentiles_as_in_older_bundles(rng):
    drawn = np.stack([softmax(z) for z in rng.normal(size=(20, 8, 3))])
    centre = np.median(drawn, axis=0)
    low, high = plausible_range(centre, drawn, None)
    np.testing.assert_array_equal(low, np.percentile(drawn, 5, axis=0))
    np.testing.assert_array_equal(high, np.percentile(drawn, 95, axis=0))
    far = np.array([[0.001, 0.002, 0.997]] * 8)
    low, high = plausible_range(far, drawn, None)
    assert (low <= far).all()
    assert (far <= high).all()


logits = arrays(np.float64, (4, 5, 3), elements=st.floats(-30, 30))


@given(logits, st.floats(0.1, 10))
def test_the_stated_value_lies_strictly_inside(z, factor):
    drawn = np.stack([softmax(member) for member in z])
    stated = drawn.mean(axis=0)
    low, high = plausible_range(stated, drawn, factor)
    inside = stated < 1 - 1e-12
    assert ((low > 0) & (low < stated) & (stated < high) & (high < 1))[inside].all()
    wider = plausible_range(stated, drawn, 2 * factor)
    assert (wider[0] <= low).all()
    assert (high <= wider[1]).all()


def test_zero_and_one_are_their_own_range():
    stated = np.array([[0.0, 1.0]])
    low, high = plausible_range(stated, np.array([[[0.1, 0.9]]]), 2.0)
    assert low.tolist() == high.tolist() == stated.tolist()


@pytest.mark.parametrize("stated", [5e-324, 1e-310, 5e-301, 1e-300])
def test_the_smallest_stated_value_is_inside(stated):
    drawn = np.array([[[1e-308, 1.0]], [[1e-280, 1.0]]])
    low, high = plausible_range(np.array([[stated, 1 - stated]]), drawn, 1.6)
    assert 0 <= low[0, 0] < stated < high[0, 0]


@pytest.mark.parametrize("factor", [0.0, -1.0, np.nan, np.inf])
def test_a_factor_that_makes_no_range_is_refused(factor):
    with pytest.raises(
        ValueError, match=f"factor of the range is {factor}. Expected a finite number above 0"
    ):
        plausible_range(np.array([[0.6, 0.4]]), np.array([[[0.5, 0.5]]]), factor)


def test_one_network_without_draws_is_not_certain():
    stated = np.array([[0.2, 0.8]])
    low, high = plausible_range(stated, stated[None], 2.0)
    assert (high - low > 0.02).all()


def test_the_factor_is_the_smallest_that_holds_the_share(rng):
    truth = softmax(rng.normal(size=(300, 3)))
    drawn = np.stack([softmax(np.log(truth) + 0.3 * rng.normal(size=(300, 3))) for _ in range(9)])
    shared = 0.5 * rng.normal(size=(300, 3))  # an error of all networks, which their spread does not show
    drawn = softmax((np.log(drawn) + shared).reshape(-1, 3)).reshape(drawn.shape)
    stated = drawn.mean(axis=0)
    found = choose_range_factor(stated, drawn, truth, share=0.8)
    assert min(found.held, found.held_first) >= 0.8
    assert found == describe_range(stated, drawn, truth, found.factor)
    smaller = describe_range(stated, drawn, truth, found.factor - 1e-6)
    assert min(smaller.held, smaller.held_first) < 0.8
    assert smaller.width < found.width
    assert found.factor > 1
    assert describe_range(stated, drawn, truth, 0.5).held < 0.8


def test_a_prior_shift_moves_the_range_with_the_stated_value(rng):
    """The log-odds of two classes all move alike, so what is held stays held."""
    trained, here = [0.7, 0.3], [0.2, 0.8]
    truth = softmax(rng.normal(size=(200, 2)))
    drawn = np.stack([softmax(np.log(truth) + 0.3 * rng.normal(size=(200, 2))) for _ in range(9)])
    low, high = plausible_range(drawn.mean(axis=0), drawn, 1.5)
    moved = adjust_prevalence(drawn, trained, here)
    new_low, new_high = plausible_range(adjust_prevalence(drawn.mean(axis=0), trained, here), moved, 1.5)
    np.testing.assert_allclose(
        np.stack([new_low[:, 0], new_high[:, 1]], 1),
        adjust_prevalence(np.stack([low[:, 0], high[:, 1]], 1), trained, here),
        rtol=1e-9,
    )
    moved_truth = adjust_prevalence(truth, trained, here)
    held = (low <= truth) & (truth <= high)
    np.testing.assert_array_equal((new_low <= moved_truth) & (moved_truth <= new_high), held)
