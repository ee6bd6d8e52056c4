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
    options = {parameter.name: parameter.default for parameter in parameters[2:]}
    assert options == DEFAULTS.get(name, {}) | {"reduction": "mean"}


@pytest.mark.parametrize("name", LOSSES)
def test_the_help_lists_every_option_with_its_range_and_meaning(name):
    head, _, rest = LOSSES[name].__doc__.partition("\n\nParameters\n----------\n")
    assert head
    assert "\nReferences\n" in rest
    for option in LOSSES[name].options().values():
        assert f"\n{option.name} : {option.expected}, default {option.default!r}\n" in rest
        assert option.meaning[1:] in rest


@pytest.mark.parametrize("name", LOSSES)
def test_reduction_gives_mean_sum_or_one_value_a_scan(batch, name):
    logits, target = batch(9)
    mean, total, each = (
        build_loss(name, 4, [4, 3, 2, 1], reduction=how)(logits, target) for how in ("mean", "sum", "none")
    )
    assert each.shape == (9,)
    torch.testing.assert_close(each.mean(), mean)
    torch.testing.assert_close(total, 9 * mean)


def test_printing_a_loss_shows_its_options():
    assert repr(build_loss("focal", 3, gamma=2)) == "Focal(gamma=2.0, reduction='mean')"


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
    with pytest.raises(ValueError, match=r"needs class_counts, .*They are missing"):
        build_loss(name, 3)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("count", [0, -1, float("nan"), float("inf")])
def test_a_class_without_training_scans_is_named(name, count):
    with pytest.raises(
        ValueError, match=r"is (0|-1|nan|inf) for class 2\..*count those of the training split"
    ):
        build_loss(name, 4, [10, 5, count, 0])


def test_counts_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"has 2 entries. Expected one for each of 3 classes"):
        build_loss("vs", 3, [1, 2])


@pytest.mark.parametrize(
    ("wrong", "near"), [("focall", "focal"), ("GCE", "gce"), ("dualfocal", "dual_focal")]
)
def test_an_unknown_name_brings_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"No loss is named '{wrong}'. Did you mean '{near}'"):
        build_loss(wrong, 3)


def test_an_unknown_option_brings_the_nearest():
    with pytest.raises(
        ValueError, match=r"GenerativeCrossEntropy has no option 'wieght'. Did you mean 'weight'"
    ):
        build_loss("gce", 3, wieght=0.5)
    with pytest.raises(ValueError, match=r"Focal has no option 'q'. Known: gamma, reduction"):
        build_loss("focal", 3, q=1)
    with pytest.raises(ValueError, match=r"CrossEntropy has no option 'gamma'. Known: reduction"):
        build_loss("ce", 3, gamma=1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "gce",
            {"weight": 1.5},
            "weight=1.5 is not valid for Generative.* Expected a number from 0 to 1: w, the",
        ),
        ("gce", {"warmup_epochs": -1}, "warmup_epochs=-1 is not valid .*a number of at least 0"),
        ("focal", {"gamma": -1}, "gamma=-1 is not valid for Focal. Expected a number of at least 0"),
        ("focal", {"gamma": float("nan")}, "gamma=nan is not valid"),
        (
            "class_balanced",
            {"beta": 1},
            "beta=1 is not valid .* from 0 to below 1: .*weighted_ce is the limit",
        ),
        ("label_smoothing", {"alpha": 1.1}, "alpha=1.1 is not valid"),
        (
            "gamma_ce",
            {"schedule": "cosine"},
            "schedule='cosine' is not valid .*Expected 'constant' or 'linear'",
        ),
        ("gamma_ce", {"gamma": 2}, "gamma=2 is not valid"),
        ("adafocal", {"gamma": 21}, "gamma=21 is not valid .*-2 <= gamma <= 20"),
        ("adafocal", {"bins": 0}, "bins=0 is not valid .*a whole number of at least 1"),
        ("adafocal", {"bins": 2.5}, "bins=2.5 is not valid .*a whole number"),
        ("adafocal", {"clip": (1, 2)}, r"clip=\(1.0, 2.0\) is not valid .*low <= 0 <= high"),
        ("adafocal", {"clip": 3}, "clip=3 is not valid .*two numbers"),
        ("gce", {"include_self": "yes"}, "include_self='yes' is not valid .*True or False"),
        ("ce", {"reduction": "avg"}, "reduction='avg' is not valid .*'mean' or 'sum' or 'none'"),
        ("focal", {"gamma": "high"}, "gamma='high' is not valid .*a number of at least 0"),
        ("mmce", {"width": 0}, "width=0 is not valid"),
    ],
)
def test_values_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_loss(name, 3, [1, 2, 3], **options)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match=r"num_classes=1. A loss needs at least 2 classes"):
        build_loss("ce", 1)


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (torch.zeros(2, 4), torch.tensor([0, 1]), r"shape \(2, 4\). Expected \(N, 3\)"),
        (torch.zeros(3), torch.tensor([0, 1, 2]), r"shape \(3,\). Expected \(N, 3\)"),
        (
            torch.zeros(2, 3, dtype=torch.int64),
            torch.tensor([0, 1]),
            "Logits are torch.int64. Expected a floating-point type",
        ),
        (
            torch.zeros(2, 3),
            torch.tensor([0.0, 1.0]),
            r"Targets are torch.float32 .*Expected torch.int64 of shape \(2,\)",
        ),
        (
            torch.zeros(2, 3),
            torch.tensor([0]),
            r"torch.int64 of shape \(1,\). Expected torch.int64 of shape \(2,\)",
        ),
        (torch.zeros(2, 3), torch.tensor([0, 3]), "range from 0 to 3. Expected class indices 0 to 2"),
        (torch.zeros(2, 3), torch.tensor([-1, 2]), "range from -1 to 2. Expected class indices 0 to 2"),
        (
            torch.zeros(0, 3),
            torch.zeros(0, dtype=torch.int64),
            "batch is empty. A loss needs at least one scan",
        ),
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
