"""The loop learns, repeats itself, survives being killed, and names what went wrong."""

from __future__ import annotations

import pytest

from pipeline.learning.course import CHECKPOINT
from pipeline.learning.inference import predict
from pipeline.learning.trained import WEIGHTS
from pipeline.learning.training import train


class Stop(Exception):  # noqa: N818
    """Stands for a kill: raised between two epochs."""


def stop_after(epochs: int):
    def progress(done, total, metrics):
        if done == epochs:
            raise Stop

    return progress


def weights(folder) -> bytes:
    return (folder / WEIGHTS).read_bytes()


@pytest.mark.parametrize("loss", ["ce", "gce", "adafocal"])
def test_a_killed_training_ends_with_the_same_bytes(volumes, split, study, tmp_path, loss):
    settings = study(loss={"name": loss}, ema_decay=0.9)
    train(volumes, split, settings, tmp_path / "whole")
    for epochs in (1, 3):
        with pytest.raises(Stop):
            train(volumes, split, settings, tmp_path / "killed", stop_after(epochs))
    assert not (tmp_path / "killed" / WEIGHTS).exists()
    train(volumes, split, settings, tmp_path / "killed")
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_it_learns_what_there_is_to_learn(volumes, split, study, tmp_path):
    trained = train(volumes, split, study(epochs=12), tmp_path)
    test = predict(trained.network, volumes.subset(split.test))
    assert (test.logits.argmax(1) == test.labels).all()
    assert trained.history[-1]["loss"] < trained.history[0]["loss"] / 2
    assert trained.prevalence == pytest.approx([2 / 3, 1 / 3])


def test_what_is_done_is_not_done_again(volumes, split, study, tmp_path):
    calls = []
    first = train(volumes, split, study(), tmp_path, lambda *seen: calls.append(seen))
    again = train(volumes, split, study(), tmp_path, lambda *seen: calls.append(seen))
    assert [(done, total) for done, total, _ in calls] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert again.history == first.history
    assert not (tmp_path / CHECKPOINT).exists()
