"""Every tuned loss tries as many values; the validation scans choose."""

from __future__ import annotations

from models.losses import LOSSES, build_loss
from pipeline.config import LossSettings
from pipeline.evaluation.comparison.tuning import GRIDS, TunedOption, values_to_try


def test_every_loss_with_a_main_option_tries_three_values_that_it_accepts():
    without = {"ce", "weighted_ce", "balanced_softmax", "brier"}
    assert set(GRIDS) == set(LOSSES) - without
    for name, (option, values) in GRIDS.items():
        assert len(set(values)) == 3
        for value in values:
            build_loss(name, 3, [9, 5, 3], **{option: value})


def test_a_stated_option_is_used_as_it_is():
    stated = LossSettings(name="focal", options={"gamma": 5}, label="five")
    assert [value.loss for value in values_to_try(stated, tune=True)] == [stated]
    unstated = LossSettings(name="focal")
    assert [value.loss for value in values_to_try(unstated, tune=False)] == [unstated]
    tried = values_to_try(unstated, tune=True)
    assert [value.loss.options["gamma"] for value in tried] == [1.0, 2.0, 3.0]
    assert {value.loss.title for value in tried} == {"focal"}


def test_the_least_validation_nll_chooses_and_a_failed_training_never_does():
    tried = ("gamma=1", "gamma=2", "gamma=3")
    assert TunedOption("focal", 0, None, tried, (0.5, None, 0.4)).chosen == "gamma=3"
    assert TunedOption("focal", 0, None, tried, (0.4, 0.4, 0.5)).chosen == "gamma=1"
    assert TunedOption("focal", 0, None, tried, (None, None, None)).chosen is None
