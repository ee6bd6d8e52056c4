"""Building by name, schedules, and what is refused."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest
import torch

from models.losses import LOSSES, Loss, build_loss

TABLE = (
    "ce weighted_ce class_balanced balanced_softmax logit_adjusted ldam vs label_smoothing entropy_penalty "
    "mbls gamma_ce focal flsd53 adafocal dual_focal poly1 mmce mdca acls symmetric_ce brier gce "
    "gce_logit_adjusted"
)
DEFAULTS = {
    "class_balanced": {"beta": 0.9999},
    "logit_adjusted": {"tau": 1},
    "ldam": {"max_m": 0.5, "s": 30},
    "vs": {"gamma": 0.3, "tau": 1},
    "label_smoothing": {"alpha": 0.05},
    "entropy_penalty": {"alpha": 0.1},
    "mbls": {"margin": 10, "alpha": 0.1},
    "gamma_ce": {"gamma": 0.1, "threshold": 0, "schedule": "constant"},
    "focal": {"gamma": 3},
    "flsd53": {"gamma": 3, "gamma_hard": 5, "threshold": 0.2},
    "adafocal": {"bins": 15, "gamma": 1, "lam": 1, "clip": (-2, 20), "switch": 0.2},
    "dual_focal": {"gamma": 5},
    "poly1": {"epsilon": 1},
    "mmce": {"lam": 2, "width": 0.4},
    "mdca": {"beta": 1},
    "acls": {"alpha": 0.1, "lam1": 1, "lam2": 0.1, "margin": 10},
    "symmetric_ce": {"alpha": 0.1, "beta": 1},
    "gce": {"weight": 1, "warmup_epochs": 0, "include_self": True},
    "gce_logit_adjusted": {"tau": 1, "weight": 1, "warmup_epochs": 0, "include_self": True},
}


def test_every_loss_of_the_table_is_there():
    assert tuple(LOSSES) == tuple(TABLE.split())
    assert {name for name, loss in LOSSES.items() if loss.couples_batch} == {
        "mmce",
        "mdca",
        "gce",
        "gce_logit_adjusted",
    }


@pytest.mark.parametrize("name", LOSSES)
def test_defaults_are_the_papers(name):
    parameters = list(inspect.signature(LOSSES[name]).parameters.values())
    assert [parameter.name for parameter in parameters[:2]] == ["num_classes", "class_counts"]
    assert {parameter.name: parameter.default for parameter in parameters[2:]} == DEFAULTS.get(name, {})


@pytest.mark.parametrize("name", LOSSES)
def test_is_a_module_that_copies_and_moves(batch, name):
    loss = build_loss(name, 4, [40, 30, 20, 10])
    assert isinstance(loss, Loss)
    assert not list(loss.parameters())
    logits, target = batch()
    assert copy.deepcopy(loss).to("cpu", torch.float32)(logits, target) == pytest.approx(
        loss(logits, target).item(), rel=1e-6
    )


@pytest.mark.parametrize("counts", [[3, 5], (3, 5), np.array([3, 5]), torch.tensor([3, 5])])
def test_counts_come_in_any_sequence(counts):
    assert build_loss("weighted_ce", 2, counts).weights.tolist() == pytest.approx([1.25, 0.75])


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.needs_counts])
def test_missing_counts_are_refused(name):
    with pytest.raises(ValueError, match="needs class_counts, got none"):
        build_loss(name, 3)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("count", [0, -1, float("nan"), float("inf")])
def test_a_class_without_training_scans_is_named(name, count):
    with pytest.raises(ValueError, match=r"got (0|-1|nan|inf) for class 2: count the training split"):
        build_loss(name, 4, [10, 5, count, 0])


def test_counts_of_another_length_are_refused():
    with pytest.raises(ValueError, match="must hold 3 classes, got 2"):
        build_loss("vs", 3, [1, 2])


@pytest.mark.parametrize(
    ("wrong", "near"), [("focall", "focal"), ("GCE", "gce"), ("dualfocal", "dual_focal")]
)
def test_an_unknown_name_brings_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"No loss is named '{wrong}': .*{near}"):
        build_loss(wrong, 3)


def test_an_unknown_option_brings_the_nearest():
    with pytest.raises(ValueError, match="'gce' has no option 'wieght': did you mean 'weight'"):
        build_loss("gce", 3, wieght=0.5)
    with pytest.raises(ValueError, match="'focal' has no option 'q': it must be one of gamma"):
        build_loss("focal", 3, q=1)
    with pytest.raises(ValueError, match="'ce' has no option 'gamma': it has none"):
        build_loss("ce", 3, gamma=1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gce", {"weight": 1.5}, r"weight must be finite and lie in \[0, 1\], got 1.5"),
        ("gce", {"warmup_epochs": -1}, "warmup_epochs must be finite"),
        ("focal", {"gamma": -1}, r"gamma must be finite and lie in \[0, inf\], got -1"),
        ("focal", {"gamma": float("nan")}, "gamma must be finite"),
        ("class_balanced", {"beta": 1}, "beta must be below 1, got 1: weighted_ce is that limit"),
        ("label_smoothing", {"alpha": 1.1}, "alpha must be finite"),
        ("gamma_ce", {"schedule": "cosine"}, "schedule must be 'constant' or 'linear', got 'cosine'"),
        ("gamma_ce", {"gamma": 2}, "gamma must be finite"),
        ("adafocal", {"gamma": 21}, r"gamma must be finite and lie in \[-2, 20\], got 21"),
        ("adafocal", {"bins": 0}, "bins must be finite"),
        ("focal", {"gamma": "high"}, "gamma must be a number, got 'high'"),
        ("mmce", {"width": 0}, "width must be finite"),
    ],
)
def test_values_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_loss(name, 3, [1, 2, 3], **options)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        build_loss("ce", 1)


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (torch.zeros(2, 4), torch.tensor([0, 1]), r"shape \(N, 3\), got \(2, 4\)"),
        (torch.zeros(3), torch.tensor([0, 1, 2]), r"shape \(N, 3\), got \(3,\)"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.tensor([0, 1]), "floating point, got torch.int64"),
        (torch.zeros(2, 3), torch.tensor([0.0, 1.0]), "int64 of shape .2,., got torch.float32"),
        (torch.zeros(2, 3), torch.tensor([0]), r"int64 of shape \(2,\), got torch.int64 of \(1,\)"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), r"lie in 0..2, got 0..3"),
        (torch.zeros(2, 3), torch.tensor([-1, 2]), r"lie in 0..2, got -1..2"),
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), "at least one scan, got none"),
    ],
)
@pytest.mark.parametrize("name", ["ce", "gce"])
def test_batches_that_do_not_fit_are_refused(name, logits, target, message):
    with pytest.raises(ValueError, match=message):
        build_loss(name, 3)(logits, target)


def test_linear_schedule_moves_gamma_from_nought_to_its_value():
    loss = build_loss("gamma_ce", 3, gamma=0.6, schedule="linear")
    gammas = [loss.current_gamma]
    for epoch in range(4):
        loss.start_epoch(epoch, 4)
        gammas.append(loss.current_gamma)
    assert gammas == pytest.approx([0, 0, 0.2, 0.4, 0.6])


def test_constant_schedule_stays():
    loss = build_loss("gamma_ce", 3)
    loss.start_epoch(0, 4)
    assert loss.current_gamma == 0.1


def test_the_gradient_form_of_gamma_ce_has_the_closed_forms_gradient(batch):
    logits, target = batch(spread=1.0)
    closed = logits.clone().requires_grad_()
    build_loss("gamma_ce", 4, gamma=0.3)(closed, target).backward()
    weighted = logits.clone().requires_grad_()
    build_loss("gamma_ce", 4, gamma=0.3, threshold=1e-9)(weighted, target).backward()
    torch.testing.assert_close(weighted.grad, closed.grad)


@pytest.mark.parametrize("gamma", [0.0, 1e-6, 0.4999, 0.5, 0.5001, 0.999999, 1.0])
def test_gamma_ce_is_exact_over_the_whole_range_in_float32(gamma):
    logits = torch.tensor([[0.0, 3.0, 1.0]])
    exact = build_loss("gamma_ce", 3, gamma=gamma)(logits.double(), torch.tensor([0])).item()
    assert build_loss("gamma_ce", 3, gamma=gamma)(logits, torch.tensor([0])).item() == pytest.approx(
        exact, rel=1e-5
    )
