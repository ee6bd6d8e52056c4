"""What would stop a training after the cohort was read is refused before: network, weights and device."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from models.names import NETWORK_NAMES
from models.networks import build_network
from pipeline.config import LossSettings, Study
from pipeline.errors import ConfigError
from pipeline.learning.learning_checks import check_comparison, check_learning

CIFAR = {"cohort": {"kind": "cifar10", "path": "c"}, "network": {"name": "resnet32", "spatial_dims": 2}}
WITHOUT_BATCHES = {"norm": "instance"}
NO_GPU = r"^training\.device: The device is cuda, but there is no CUDA device"


def study(name="small_cnn", options=None, *, spacing_mm=4, **sections) -> Study:
    """A study whose cohort is nowhere: it is not read."""
    settings = {
        "name": "checked",
        "output": "nowhere",
        "cohort": {"path": "nowhere/bids"},
        "preprocessing": {"spacing_mm": spacing_mm},
        "network": {"name": name, "options": options or {}},
        "training": {"device": "cpu"},
    }
    return Study.model_validate(settings | sections)


@pytest.mark.parametrize("name", NETWORK_NAMES)
def test_every_network_passes_with_its_defaults_at_the_default_size(name):
    check_learning(study(name))


def test_networks_of_images_pass_where_their_size_is_known_and_where_only_the_data_know_it():
    check_comparison(study(**CIFAR))
    folder = {"kind": "image_folder", "path": "p"}
    for size in ({}, {"image_size": 32}):
        check_comparison(study(**CIFAR | {"cohort": folder | size}))
    check_comparison(study("densenet121", cohort={"kind": "medmnist", "path": "organ.npz"}))


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("small_cnn", {"width": "x"}, r"width: 'x' on volumes of 48 x 56 x 48: .*whole number from 1"),
        ("small_cnn", {"width": 0}, "width=0 is not valid for small_cnn"),
        ("small_cnn", {"dropout": 1.5}, "dropout=1.5 is not valid for small_cnn"),
        ("small_cnn", {"pooling": "max"}, "Expected 'place' or 'mean'"),
        ("densenet121", {"norm": "foo"}, "Unsupported option 'FOO', Available options are"),
        ("densenet121", {"init_features": -3}, "init_features: -3"),
        ("densenet121", {"block_config": 4}, "block_config: 4"),
        ("resnet18", {"pretrained": True}, "pretrained: True"),
        ("swinunetr", {"feature_size": 25}, "feature_size should be divisible by 12"),
        ("swinunetr", {"depths": [2]}, r"depths: \[2\]"),
        ("segresnet", {"blocks_down": [1] * 9}, "Expected more than 1 spatial element"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(name, options, problem):
    (key,) = options
    with pytest.raises(ConfigError, match=rf"^network\.options\.{key}: .*{problem}.*orrect it or remove it"):
        check_learning(study(name, options))


def test_the_one_option_that_is_wrong_is_named_among_others():
    with pytest.raises(ConfigError, match=r"^network\.options\.growth_rate: .*with growth_rate: 'x'"):
        check_learning(study("densenet121", {"init_features": 32, "growth_rate": "x"}))


def test_several_wrong_options_are_all_named():
    with pytest.raises(ConfigError, match=r"^network\.options: .*width: 'a', dropout: 2"):
        check_learning(study("small_cnn", {"width": "a", "dropout": 2}))


def test_a_network_too_deep_for_the_volumes_is_refused_with_the_spacing_that_fits():
    too_deep = r"^network: densenet121 .* on volumes of 24 x 28 x 24: .*Set preprocessing.spacing_mm to 4"
    with pytest.raises(ConfigError, match=too_deep):
        check_learning(study("densenet121", spacing_mm=8))
    check_learning(study("densenet121", spacing_mm=4))
    finer = r"^network\.options\.norm: .*or remove it, or set preprocessing.spacing_mm to 2"
    with pytest.raises(ConfigError, match=finer):
        check_learning(study("densenet121", WITHOUT_BATCHES, spacing_mm=4))
    check_learning(study("densenet121", WITHOUT_BATCHES, spacing_mm=2))


def test_micro_batches_of_a_network_with_batch_statistics_are_refused():
    training = {"device": "cpu", "micro_batch": 2}
    with pytest.raises(ConfigError, match=r"^training\.micro_batch: resnet10 has \d+ layers.*segresnet"):
        check_learning(study("resnet10", training=training))
    check_learning(study("segresnet", training=training))


def test_weights_that_are_missing_or_of_another_network_are_refused(tmp_path):
    path = tmp_path / "given.safetensors"
    network = {"name": "small_cnn", "options": {"width": 4}, "weights": str(path)}
    with pytest.raises(ConfigError, match=r"^network\.weights .*no such file"):
        check_learning(study(network=network))
    save_file(build_network("small_cnn", 3, (48, 56, 48), width=4).state_dict(), path)
    check_learning(study(network=network))
    with pytest.raises(ConfigError, match=r"^network\.weights .*of another shape"):
        check_learning(study(network=network | {"options": {"width": 8}}))


def test_a_gpu_that_is_not_there_is_refused_but_not_for_the_workers_of_a_cluster(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = {"training": {"device": "cuda"}}
    for check in (check_learning, check_comparison):
        with pytest.raises(ConfigError, match=NO_GPU):
            check(study(**asked))
    local = {"compare": {"runner": "dask"}}
    with pytest.raises(ConfigError, match=NO_GPU):
        check_comparison(study(**asked, **local))
    cluster = local | {"dask": {"address": "tcp://10.0.0.1:8786"}}
    check_comparison(study(**asked, **cluster))
    with pytest.raises(ConfigError, match=NO_GPU):  # networks of one study are trained on this machine
        check_learning(study(**asked, **cluster))


def test_every_loss_of_a_comparison_is_checked_and_the_study_s_own_where_it_is_named():
    losses = (LossSettings(name="ce"), LossSettings(options={"weight": 2}, label="b"))
    compare = {"compare": {"losses": [one.model_dump() for one in losses]}}
    with pytest.raises(ConfigError, match=r"^compare\.losses: weight=2"):
        check_comparison(study(**compare))
    with pytest.raises(ConfigError, match=r"^training\.loss: weight=2"):
        check_comparison(study(**compare), "training.loss")


def test_a_network_that_reads_values_while_it_runs_is_left_to_the_training(monkeypatch):
    class Reads(torch.nn.Module):
        def forward(self, x):
            return x * x.max().item()

    monkeypatch.setattr("pipeline.learning.learning_checks.build_network", lambda *_, **__: Reads())
    check_learning(study())
