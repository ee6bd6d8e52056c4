"""The card of a model in Markdown: calibration errors beside their noise, headlines above it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from models.card import Card, MetricInterval
from pipeline.tracking.model_card import description, model_card

METRICS = {
    "negative_log_likelihood": MetricInterval(value=0.81, low=0.52, high=1.14),
    "classwise_ece": MetricInterval(value=0.12, low=0.1, high=0.16),
    "balanced_accuracy": MetricInterval(value=0.61, low=0.5, high=0.7),
    "prior_corrected_balanced_accuracy": MetricInterval(value=0.66, low=0.55, high=0.75),
}


@pytest.fixture
def classifier() -> SimpleNamespace:
    """What a card reads of a classifier."""
    return SimpleNamespace(
        card=Card(metrics=METRICS, noise={"classwise_ece": 0.08}),
        class_names=("CN", "AD"),
        prevalence=(0.7, 0.3),
        network_title="15 x small_cnn",
        conformal=SimpleNamespace(coverage=0.8),
        operating_point=0.5,
    )


def test_calibration_errors_stand_beside_their_noise_and_are_headlined_above_it(classifier):
    card = model_card(classifier, {})
    assert "| Classwise ECE ↓ | 12.0 % [10.0 to 16.0] | 8.0 % |" in card
    assert "| NLL ↓ | 0.81 [0.52 to 1.14] |  |" in card
    assert "only what lies above it is an error" in card
    assert "The intervals are over subjects, at 95 %." in card
    first = description(card)
    assert "classwise ECE above noise 4.0 % [2.0 to 8.0]" in first
    assert "prior-corrected balanced accuracy 0.66 [0.55 to 0.75]" in first
    assert "; balanced accuracy" not in first


def test_the_card_of_an_older_bundle_states_what_is_known(classifier):
    known = {n: m for n, m in METRICS.items() if not n.startswith("prior")}
    classifier.card = Card(metrics=known)
    card = model_card(classifier, {})
    assert "| Classwise ECE ↓ | 12.0 % [10.0 to 16.0] |\n" in card
    assert "noise" not in card
    assert "classwise ECE 12.0 % [10.0 to 16.0]; balanced accuracy 0.61" in description(card)
