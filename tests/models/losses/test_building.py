"""Building by name, schedules, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch

from models.losses import LOSSES, Loss, build_loss

TABLE = (
    "ce weighted_ce class_balanced balanced_softmax logit_adjusted ldam vs label_smoothing entropy_penalty "
    "mbls gamma_ce focal flsd53 adafocal dual_focal poly1 mmce mdca acls symmetric_ce brier gce "
    "gce_logit_adjusted"
)


def test_every_loss_of_the_table_is_there():
    assert tuple(LOSSES) == tuple(TABLE.split())
    assert {name for name, loss in LOSSES.items() if loss.couples_batch} == {
        "mmce",
        "mdca",
        "gce",
        "gce_logit_adjusted",
    }


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
