"""What is wrong with a loss is found before anything is read or trained."""

from __future__ import annotations

import pytest

from models.losses import LOSSES
from pipeline.config import LossSettings
from pipeline.errors import ConfigError
from pipeline.learning.training_state import check_losses


def test_every_loss_with_its_defaults_passes():
    check_losses([LossSettings(name=name) for name in LOSSES])


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        (
            "gce",
            {"weight": "heavy"},
            r"training\.loss: weight='heavy' is not valid .*Expected a number from 0",
        ),
        ("gce", {"weight": -3}, r"training\.loss: weight=-3 is not valid"),
        ("focal", {"gamma": "hi"}, r"training\.loss: gamma='hi' is not valid"),
        ("ce", {"reduction": "sum"}, r"training\.loss\.options\.reduction: .*needs the mean"),
    ],
)
def test_a_wrong_value_is_named(name, options, problem):
    with pytest.raises(ConfigError, match=problem):
        check_losses([LossSettings(), LossSettings(name=name, options=options)])


def test_the_settings_that_hold_the_losses_are_named():
    with pytest.raises(ConfigError, match=r"^compare\.losses: weight=2"):
        check_losses([LossSettings(options={"weight": 2})], "compare.losses")
