"""The loop that trains on volumes trains on images: it learns, survives being stopped, and fits its data."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.optim import SGD, AdamW

from models.preprocessing import ImagePreprocessing
from pipeline.config import Study
from pipeline.errors import ConfigError
from pipeline.learning.inference import predict
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.trained import RECORD, WEIGHTS, TrainedNetwork
from pipeline.learning.training import train
from pipeline.learning.training_state import initial_state
from pipeline.scan import Split

SHAPE = (3, 16, 16)


class Stop(Exception):  # noqa: N818 - stands for a kill between two epochs
    pass


def stop_at(epoch: int):
    def progress(done, total, metrics):
        if done == epoch:
            raise Stop

    return progress


def make_stripes(n: int = 120, seed: int = 1) -> LabelledVolumes:
    """Images of stripes that lie or stand, at a random phase: no pixel alone tells which."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    phase = rng.uniform(0, 2 * np.pi, (n, 1, 1))
    waves = np.sin(np.arange(16) * 1.6 + phase)  # (n, 1, 16)
    stripes = np.where(labels[:, None, None] == 1, waves.transpose(0, 2, 1), waves)
    noisy = 128 + 60 * stripes[:, None] + rng.normal(0, 20, (n, *SHAPE))
    ids = tuple(f"image-{i:03d}" for i in range(n))
    return LabelledVolumes(
        ids,
        ids,
        noisy.clip(0, 255).astype(np.uint8),
        labels,
        ("lying", "standing"),
        ImagePreprocessing(SHAPE, (0.5,) * 3, (0.2,) * 3),
        content=f"stripes-{n}-{seed}",
    )


@pytest.fixture
def stripes() -> LabelledVolumes:
    return make_stripes()


@pytest.fixture
def parts(stripes) -> Split:
    ids = stripes.scan_ids
    return Split(ids[:60], ids[60:80], ids[80:100], ids[100:], {i: i for i in ids})


@pytest.fixture
def image_study(study):
    """A function that returns a tiny study of images, with network and training settings on top."""

    def make(network: dict | None = None, **training) -> Study:
        tree = study().model_dump(mode="json")
        tree["network"] = network or {
            "name": "small_cnn",
            "options": {"width": 4, "pooling": "mean", "dropout": 0.0},
        }
        tree["network"] = {"spatial_dims": 2} | tree["network"]
        tree["cohort"] |= {"kind": "image_folder"}
        tree["augmentation"] |= {"crop_pixels": 2, "flip": True}
        tree["training"] |= {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 5e-4} | training
        return Study.model_validate(tree)

    return make


@pytest.mark.parametrize(
    ("network", "training"),
    [
        ({"name": "small_cnn", "options": {"dropout": 0.3}}, {"epochs": 3, "loss": {"name": "adafocal"}}),
        ({"name": "resnet32"}, {"epochs": 2, "batch_size": 30}),
        ({"name": "resnet32"}, {"epochs": 2, "batch_size": 30, "ema_decay": 0.9, "optimizer": "adamw"}),
    ],
    ids=["small_cnn", "resnet32", "averaged"],
)
def test_a_stopped_training_ends_with_the_same_bytes(
    stripes, parts, image_study, tmp_path, network, training
):
    settings = image_study(network, **training)
    train(stripes, parts, settings, tmp_path / "whole")
    with pytest.raises(Stop):
        train(stripes, parts, settings, tmp_path / "stopped", stop_at(1))
    assert not (tmp_path / "stopped" / WEIGHTS).exists()
    train(stripes, parts, settings, tmp_path / "stopped")
    assert (tmp_path / "stopped" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    ("network", "training"),
    [
        (None, {"epochs": 20, "batch_size": 10}),
        ({"name": "resnet32"}, {"epochs": 6, "batch_size": 20}),
    ],
    ids=["small_cnn", "resnet32"],
)
def test_it_learns_what_there_is_to_learn(stripes, parts, image_study, tmp_path, network, training):
    trained = train(stripes, parts, image_study(network, **training), tmp_path)
    test = predict(trained, stripes.subset(parts.test))
    # Of 20 images; who guesses gets 18 right once in five thousand times.
    assert (test.logits.argmax(1) == test.labels).sum() >= 18
    assert trained.history[-1]["loss"] < trained.history[0]["loss"] / 2


def test_a_trained_network_of_images_comes_back_from_its_files(stripes, parts, image_study, tmp_path):
    trained = train(stripes, parts, image_study({"name": "resnet32"}, epochs=1), tmp_path)
    loaded = TrainedNetwork.load(tmp_path)
    assert loaded.preprocessing == trained.preprocessing == stripes.preprocessing
    one, two = (predict(t, stripes) for t in (trained, loaded))
    np.testing.assert_array_equal(one.logits, two.logits)


def test_images_are_predicted_the_same_in_batches_of_any_size(stripes, parts, image_study, tmp_path):
    trained = train(stripes, parts, image_study(epochs=1), tmp_path)
    few, all_at_once = (predict(trained, stripes, batch_size=size) for size in (7, None))
    np.testing.assert_allclose(few.logits, all_at_once.logits, atol=1e-5)


def test_a_record_of_an_older_program_is_not_used(stripes, parts, image_study, tmp_path):
    settings = image_study(epochs=1)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / RECORD).write_text(json.dumps({"made_of": "what it was made of then"}))
    for folder in ("used", "fresh"):
        train(stripes, parts, settings, tmp_path / folder)
    assert (tmp_path / "used" / WEIGHTS).read_bytes() == (tmp_path / "fresh" / WEIGHTS).read_bytes()


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.0, False)])
def test_sgd_has_nesterov_momentum_where_it_has_momentum(stripes, image_study, momentum, nesterov):
    optimizer = initial_state(stripes, image_study(momentum=momentum), torch.device("cpu")).optimizer
    assert isinstance(optimizer, SGD)
    assert {(g["momentum"], g["nesterov"]) for g in optimizer.param_groups} == {(momentum, nesterov)}


@pytest.mark.parametrize(("name", "kind"), [("sgd", SGD), ("adamw", AdamW)])
def test_kernels_are_decayed_and_norms_and_biases_are_not(stripes, image_study, name, kind):
    state = initial_state(stripes, image_study({"name": "resnet32"}, optimizer=name), torch.device("cpu"))
    assert isinstance(state.optimizer, kind)
    decay_of = {id(p): g["weight_decay"] for g in state.optimizer.param_groups for p in g["params"]}
    for key, parameter in state.network.named_parameters():
        assert decay_of[id(parameter)] == (5e-4 if parameter.ndim > 1 else 0.0), key


def test_a_network_of_volumes_is_refused_for_images(stripes, parts, image_study, tmp_path):
    with pytest.raises(ValidationError, match=r"network\.spatial_dims: 3 does not fit .*image_folder.* to 2"):
        image_study({"name": "small_cnn", "spatial_dims": 3})
    settings = image_study()
    volumetric = settings.network.model_copy(update={"name": "small_cnn", "spatial_dims": 3})
    with pytest.raises(ConfigError, match=r"network has 3 dimensions, but the data have 2\. Set it to 2"):
        train(stripes, parts, settings.model_copy(update={"network": volumetric}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_network_of_images_is_refused_for_volumes(volumes, split, image_study, tmp_path):
    with pytest.raises(ConfigError, match=r"network has 2 dimensions, but the data have 3\. Set it to 3"):
        train(volumes, split, image_study(), tmp_path / "out")


def test_volumes_are_neither_flipped_nor_cropped(volumes, split, study, tmp_path):
    for change in ({"flip": True}, {"crop_pixels": 2}):
        tree = study().model_dump(mode="json")
        tree["augmentation"] |= change
        with pytest.raises(ValidationError, match="only images may be flipped or cropped"):
            Study.model_validate(tree)
        augmentation = study().augmentation.model_copy(update=change)
        with pytest.raises(ConfigError, match="Only images can be flipped or cropped"):
            train(volumes, split, study().model_copy(update={"augmentation": augmentation}), tmp_path / "out")


def test_micro_batches_of_a_network_with_batch_statistics_are_refused(stripes, parts, image_study, tmp_path):
    with pytest.raises(ConfigError, match=r"resnet32 has 31 layers with batch statistics"):
        train(stripes, parts, image_study({"name": "resnet32"}, micro_batch=4), tmp_path / "out")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_learns_it_too(stripes, parts, image_study, tmp_path):
    settings = image_study({"name": "resnet32"}, epochs=6, batch_size=20, device="cuda")
    trained = train(stripes, parts, settings, tmp_path)
    test = predict(trained, stripes.subset(parts.test))
    assert (test.logits.argmax(1) == test.labels).sum() >= 18
