"""What must hold for every loss: gradients, limits, range, precision, edges."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from models.losses import LOSSES, build_loss

COUNTS = (100, 20, 5, 1)
LONE_SCANS = pytest.mark.filterwarnings("ignore:Generative cross-entropy compares")

ACTIVE = {  # options that make every part of a loss act on logits of ordinary size
    "mbls": {"margin": 1},
    "acls": {"margin": 0.5, "lam2": 0},  # its other part holds the largest logit constant, see below
    "ldam": {"s": 2},
    "gce": {"weight": 0.7},
}

CROSS_ENTROPY_LIMIT = {
    "ce": {},
    "class_balanced": {"beta": 0},
    "logit_adjusted": {"tau": 0},
    "ldam": {"max_m": 0, "s": 1},
    "vs": {"gamma": 0, "tau": 0},
    "label_smoothing": {"alpha": 0},
    "entropy_penalty": {"alpha": 0},
    "mbls": {"alpha": 0},
    "gamma_ce": {"gamma": 0},
    "focal": {"gamma": 0},
    "flsd53": {"gamma": 0, "gamma_hard": 0},
    "adafocal": {"gamma": 0},
    "dual_focal": {"gamma": 0},
    "poly1": {"epsilon": 0},
    "mmce": {"lam": 0},
    "mdca": {"beta": 0},
    "acls": {"alpha": 0},
    "symmetric_ce": {"alpha": 1, "beta": 0},
    "gce": {"weight": 0},
    "gce_logit_adjusted": {"weight": 0, "tau": 0},
}
LIMIT_AT_EQUAL_COUNTS = ("weighted_ce", "class_balanced", "balanced_softmax", "logit_adjusted")


def value_and_gradient(loss, logits, target):
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf, target)
    value.backward()
    return value.detach(), leaf.grad


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("scans", "classes"), [(1, 4), (5, 4), (6, 2)])
@LONE_SCANS
def test_gradient_equals_finite_differences(batch, name, scans, classes):
    logits, target = batch(scans, classes, seed=3)
    loss = build_loss(name, classes, COUNTS[:classes], **ACTIVE.get(name, {}))
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits.requires_grad_())


@pytest.mark.parametrize("name", CROSS_ENTROPY_LIMIT)
def test_has_cross_entropy_as_a_limit(batch, name):
    logits, target = batch(spread=5.0)
    loss = build_loss(name, 4, COUNTS, **CROSS_ENTROPY_LIMIT[name])
    value, gradient = value_and_gradient(loss, logits, target)
    expected, expected_gradient = value_and_gradient(functional.cross_entropy, logits, target)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("name", LIMIT_AT_EQUAL_COUNTS)
def test_is_cross_entropy_at_equal_counts(batch, name):
    logits, target = batch()
    loss = build_loss(name, 4, [9] * 4)
    torch.testing.assert_close(loss(logits, target), functional.cross_entropy(logits, target))


def test_only_the_brier_score_has_no_such_limit():
    assert set(LOSSES) - set(CROSS_ENTROPY_LIMIT) - set(LIMIT_AT_EQUAL_COUNTS) == {"brier"}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1000.0, 100.0])
def test_extreme_logits_give_finite_values_and_gradients(name, kind, size):
    logits = size * torch.tensor(
        [[1, -1, -1, -1], [1, -1, -1, -1], [-1, -1, 1, 1], [0, 0, 0, 0], [1, 1, 1, -1]], dtype=kind
    )
    for target in ([0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 2, 3, 3]):
        loss = build_loss(name, 4, COUNTS)
        value, gradient = value_and_gradient(loss, logits, torch.tensor(target))
        assert value.isfinite(), (target, value)
        if kind != torch.float16:  # a gradient of ACLS may pass the largest float16, 65504
            assert gradient.isfinite().all(), (target, gradient)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(batch, name, kind):
    logits, target = batch()
    loss = build_loss(name, 4, COUNTS)
    low = logits.to(kind)
    value, gradient = value_and_gradient(loss, low, target)
    expected, expected_gradient = value_and_gradient(loss, low.float(), target)
    assert value.dtype == torch.float32
    assert value == expected
    assert gradient.dtype == kind
    assert torch.equal(gradient, expected_gradient.to(kind))


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_changes_nothing(batch, name):
    logits, target = batch()
    loss = build_loss(name, 4, COUNTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits.float(), target)
    assert value.dtype == torch.float32
    assert value == loss(logits.float(), target)


@pytest.mark.parametrize("name", LOSSES)
def test_float32_agrees_with_float64(batch, name):
    logits, target = batch(64, 4)
    loss = build_loss(name, 4, COUNTS)
    torch.testing.assert_close(
        loss(logits.float(), target).double(), loss(logits.float().double(), target), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", LOSSES)
def test_the_order_of_scans_does_not_matter(batch, name):
    logits, target = batch()
    loss = build_loss(name, 4, COUNTS)
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss(logits[order], target[order]), loss(logits, target))


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("vs", "acls")])
def test_a_constant_added_to_one_scan_changes_nothing(batch, name):
    # Not so for vs, which scales logits class by class, nor for ACLS, which bounds the logit itself.
    logits, target = batch()
    loss = build_loss(name, 4, COUNTS)
    moved = logits.clone()
    moved[3] += 7.5
    torch.testing.assert_close(loss(moved, target), loss(logits, target))


@pytest.mark.parametrize("name", LOSSES)
@LONE_SCANS
def test_coupling_is_declared_truly(batch, name):
    """Only where it is not declared is the loss of a batch the mean of the losses of its scans."""
    logits, target = batch(8, 4, seed=5)
    loss = build_loss(name, 4, COUNTS, **({"weight": 0.5} if name.startswith("gce") else {}))
    alone = torch.stack([loss(logits[i : i + 1], target[i : i + 1]) for i in range(8)]).mean()
    assert LOSSES[name].couples_batch != torch.isclose(alone, loss(logits, target), atol=1e-9).item()


@pytest.mark.parametrize("name", LOSSES)
def test_is_lower_for_the_right_class_than_for_the_wrong(name):
    loss = build_loss(name, 3, [5, 5, 5])
    logits = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]])
    assert loss(logits, torch.tensor([0, 1, 2])) < loss(logits, torch.tensor([1, 2, 0]))


@pytest.mark.parametrize("name", LOSSES)
def test_carries_its_paper(name):
    assert "References" in LOSSES[name].__doc__
