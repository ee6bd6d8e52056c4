"""Generative cross-entropy: what must be true of it."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as from_numpy
from torch.nn import functional

from models.losses import build_loss

THREE_CLASSES = st.integers(2, 9).flatmap(
    lambda n: st.tuples(
        from_numpy.arrays("float64", (n, 3), elements=st.floats(-1000, 1000)),
        from_numpy.arrays("int64", n, elements=st.integers(0, 2)),
    )
)


@given(THREE_CLASSES)
@settings(deadline=None)
def test_lies_above_minus_log_batch(batch):
    logits, target = map(torch.from_numpy, batch)
    value = build_loss("gce", 3)(logits, target).item()
    assert -math.log(len(target)) - 1e-9 <= value < math.inf


@given(THREE_CLASSES, st.floats(0, 1))
@settings(deadline=None)
def test_every_weight_mixes_with_cross_entropy(batch, weight):
    logits, target = map(torch.from_numpy, batch)
    mixed = build_loss("gce", 3, weight=weight)(logits, target)
    whole = build_loss("gce", 3)(logits, target)
    expected = (1 - weight) * functional.cross_entropy(logits, target) + weight * whole
    torch.testing.assert_close(mixed, expected, rtol=1e-9, atol=1e-9)


def test_reaches_its_lower_bound_where_all_classes_are_told_apart_evenly():
    # Each scan its own class, each probability 0 or 1: every class mean is 1/B.
    value = build_loss("gce", 4)(1000 * torch.eye(4), torch.arange(4))
    assert value.item() == pytest.approx(-math.log(4))


def test_closed_form_of_two_scans():
    # p(y=0 | x1) = .8, p(y=1 | x2) = .6; class means (.8 + .4) / 2 and (.2 + .6) / 2.
    logits = torch.tensor([[0.8, 0.2], [0.4, 0.6]], dtype=torch.float64).log()
    expected = (-math.log(0.8 * 0.6) + math.log(0.6 * 0.4)) / 2
    target = torch.tensor([0, 1])
    assert build_loss("gce", 2)(logits, target).item() == pytest.approx(expected)


def test_one_scan_teaches_nothing_and_warns_once():
    loss = build_loss("gce", 3)
    logits = torch.tensor([[3.0, -1.0, 0.5]], requires_grad=True)
    with pytest.warns(RuntimeWarning, match=r"the batch size is 1\. Use larger batches"):
        value = loss(logits, torch.tensor([1]))
    value.backward()
    assert value == 0
    assert torch.equal(logits.grad, torch.zeros(1, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(logits, torch.tensor([1]))


@pytest.mark.filterwarnings("ignore:Generative cross-entropy compares")
def test_one_scan_at_half_weight_is_half_its_cross_entropy():
    loss = build_loss("gce", 3, weight=0.5)
    logits, target = torch.tensor([[3.0, -1.0, 0.5]]), torch.tensor([1])
    torch.testing.assert_close(loss(logits, target), functional.cross_entropy(logits, target) / 2)


def test_a_network_that_hears_nothing_gets_no_gradient_along_the_prior(batch):
    """Rows that are all alike cost 0 at w = 1 whatever they say: the prior itself is not learned."""
    _, target = batch(9, 3)
    row = torch.tensor([0.3, -2.0, 1.0], requires_grad=True)
    value = build_loss("gce", 3)(row.expand(9, 3), target)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert row.grad.abs().max() < 1e-6


def test_warmup_ramps_the_weight_from_nought():
    loss = build_loss("gce", 3, weight=0.8, warmup_epochs=4)
    weights = [loss.current_weight]
    for epoch in range(7):
        loss.start_epoch(epoch, 7)
        weights.append(loss.current_weight)
    assert weights == pytest.approx([0, 0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_warmup_begins_as_cross_entropy(batch):
    logits, target = batch()
    loss = build_loss("gce", 4, warmup_epochs=3)
    loss.start_epoch(0, 10)
    torch.testing.assert_close(loss(logits, target), functional.cross_entropy(logits, target))


def test_without_warmup_the_weight_is_whole_at_once():
    loss = build_loss("gce", 3)
    loss.start_epoch(0, 5)
    assert loss.current_weight == 1


TOLD_APART = torch.tensor([[8, 1, 1], [2, 5, 3], [1, 1, 8], [4, 4, 2]])  # pairs of each x (row) and y
ALL_ALIKE = torch.tensor([[5, 3, 2], [10, 6, 4]])


def posterior_of(pairs):
    return pairs.double() / pairs.sum(1, keepdim=True)


@pytest.mark.parametrize("weight", [0.5, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_population_risk_is_least_at_the_true_posterior(minimise, pairs_of, weight, seed):
    loss = build_loss("gce", 3, weight=weight)
    posterior = posterior_of(TOLD_APART)
    assert torch.linalg.matrix_rank(posterior) == 3  # only weights of 1 make every row sum to one
    x, y = pairs_of(TOLD_APART)
    risk, found = minimise(loss, TOLD_APART, seed)
    assert risk == pytest.approx(loss(posterior.log()[x], y).item(), abs=1e-10)
    torch.testing.assert_close(found.softmax(1), posterior, rtol=0, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_without_completeness_only_a_weight_below_one_finds_the_posterior(minimise, pairs_of, seed):
    posterior = posterior_of(ALL_ALIKE)
    x, y = pairs_of(ALL_ALIKE)
    whole = build_loss("gce", 3)
    other = torch.tensor([[0.1, 0.2, 0.7]] * 2, dtype=torch.float64)  # the posterior with weights not 1
    assert whole(other.log()[x], y).item() == pytest.approx(whole(posterior.log()[x], y).item(), abs=1e-12)
    _, found = minimise(build_loss("gce", 3, weight=0.9), ALL_ALIKE, seed)
    torch.testing.assert_close(found.softmax(1), posterior, rtol=0, atol=1e-4)
