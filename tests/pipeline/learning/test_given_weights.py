"""Training starts from given weights, which are known by their content; what does not fit is named."""

from __future__ import annotations

import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.networks import build_network
from pipeline.errors import ConfigError
from pipeline.files import sha256_of_file
from pipeline.learning.given_weights import load_given
from pipeline.learning.trained import WEIGHTS
from pipeline.learning.training import train

SHAPE = (12, 14, 12)


@pytest.fixture
def given(study, tmp_path):
    """The function that writes weights of the study's network, changed by a function; returns the path."""

    def write(change=lambda state: state, classes=2):
        torch.manual_seed(99)
        network = build_network("small_cnn", classes, SHAPE, **study().network.options)
        path = tmp_path / "given.safetensors"
        save_file(change({n: v.clone() for n, v in network.state_dict().items()}), path)
        return path

    return write


def starting_from(settings, path, **more):
    network = settings.network.model_copy(update={"weights": path, **more})
    return settings.model_copy(update={"network": network})


def state_of(study, path, **more):
    settings = starting_from(study(), path, **more).network
    torch.manual_seed(1)
    network = build_network("small_cnn", 2, SHAPE, **settings.options)
    load_given(network, settings)
    return network.state_dict()


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state,
        lambda state: {n.removeprefix("body."): v for n, v in state.items()},
        lambda state: {n.removeprefix("body."): v for n, v in state.items() if n.startswith("body.")},
    ],
    ids=["whole", "bare names", "body alone"],
)
def test_the_body_is_that_of_the_file(study, given, change):
    whole = load_file(given())
    found = state_of(study, given(change))
    assert all(torch.equal(found[n], v) for n, v in whole.items() if n.startswith("body."))


def test_a_head_of_other_classes_starts_anew_and_says_so(study, given, caplog):
    with caplog.at_level(logging.WARNING):
        found = state_of(study, given(classes=5))
    assert (
        found["head.weight" if "head.weight" in found else next(n for n in found if "head" in n)].shape[0]
        == 2
    )
    assert "head keeps its random weights" in caplog.text


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: dict(list(s.items())[1:]), r"1 missing: body\."),
        (lambda s: {**s, "body.extra": torch.zeros(2)}, r"1 unknown: body\.extra"),
        (
            lambda s: {n: v[:1].clone() if v.ndim > 3 else v for n, v in s.items()},
            "of another shape: body.* for",
        ),
        (lambda s: {f"swinViT.{n}": v for n, v in s.items()}, "missing: .*unknown: "),
    ],
)
def test_names_and_shapes_that_do_not_fit_are_listed(study, given, change, match):
    path = given(change)
    with pytest.raises(ConfigError, match=match) as error:
        state_of(study, path)
    assert str(path) in error.value.where


def test_a_file_that_is_not_there_or_another_is_refused(study, given, tmp_path):
    path = given()
    with pytest.raises(ConfigError, match="no such file of weights"):
        state_of(study, tmp_path / "none.safetensors")
    with pytest.raises(ConfigError, match=r"SHA-256 is [0-9a-f]{64}, expected a{64}"):
        state_of(study, path, weights_sha256="a" * 64)
    state_of(study, path, weights_sha256=sha256_of_file(path))
    path.write_bytes(b"\x08" + b"\x00" * 30)
    with pytest.raises(ConfigError, match="cannot be read as safetensors"):
        state_of(study, path)


def test_a_training_is_known_by_the_content_of_its_weights(volumes, split, study, given, tmp_path):
    settings = study(epochs=1)
    plain = train(volumes, split, settings, tmp_path / "plain")
    path = given()
    started = train(volumes, split, starting_from(settings, path), tmp_path / "started")
    moved = shutil.copy(path, tmp_path / "moved.safetensors")
    again = train(
        volumes, split, starting_from(settings, tmp_path / "moved.safetensors"), tmp_path / "started"
    )
    assert moved
    assert plain.made_of != started.made_of == again.made_of
    assert (tmp_path / "started" / WEIGHTS).read_bytes() != (tmp_path / "plain" / WEIGHTS).read_bytes()
    other = given(lambda s: {n: v + 1 for n, v in s.items()})
    assert (
        starting_from(settings, other).learning_settings()
        != starting_from(settings, moved).learning_settings()
    )
    # Studies without given weights keep the key they had.
    assert "weights" not in settings.learning_settings()["network"]


def test_the_folder_of_the_weights_is_stored_with_no_model(study, given):
    path = given()
    stored = starting_from(study(), path).without_places().network
    assert str(stored.weights) == path.name
    assert stored.weights_sha256 == sha256_of_file(path)
    assert stored.learned() == starting_from(study(), path).network.learned()


def test_a_process_that_trains_gets_the_file_of_the_weights_and_no_other_place(study, given):
    path = given()
    whole = starting_from(study(), path)
    notify = whole.notify.model_copy(update={"webhook": "https://x"})
    sent = whole.model_copy(update={"notify": notify}).for_worker()
    assert sent.network.weights_file() == path
    assert sent.notify.webhook is None
    assert sent.learning_settings() == whole.learning_settings()
