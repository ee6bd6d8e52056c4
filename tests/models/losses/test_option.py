"""Options of losses: defaults, help, and what is refused."""

from __future__ import annotations

import inspect

import pytest

from models.losses import LOSSES, build_loss

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
    "gce": {"weight": 1, "warmup_epochs": 0},
    "gce_logit_adjusted": {"tau": 1, "weight": 1, "warmup_epochs": 0},
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
        ("ce", {"reduction": "avg"}, "reduction='avg' is not valid .*'mean' or 'sum' or 'none'"),
        ("focal", {"gamma": "high"}, "gamma='high' is not valid .*a number of at least 0"),
        ("mmce", {"width": 0}, "width=0 is not valid"),
        ("ldam", {"s": 0}, r"s=0 is not valid for .*Expected a number above 0: the scale of the logits"),
    ],
)
def test_values_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_loss(name, 3, [1, 2, 3], **options)
