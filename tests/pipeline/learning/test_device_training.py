"""What a training promises on the CPU, on a GPU too where there is one."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.learning.inference import predict
from pipeline.learning.trained import WEIGHTS
from pipeline.learning.training import train
from pipeline.learning.training_state import CHECKPOINT

NEEDS_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])


class StoppedError(Exception):
    """Raised in place of a kill."""


def stop(done, total, metrics) -> None:
    raise StoppedError


@DEVICES
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_stopped_training_in_micro_batches_ends_with_the_same_bytes(
    volumes, split, study, tmp_path, device, precision
):
    settings = study(
        device=device, precision=precision, deterministic=True, micro_batch=3, loss={"name": "gce"}
    )
    train(volumes, split, settings, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(volumes, split, settings, tmp_path / "stopped", stop)
    train(volumes, split, settings, tmp_path / "stopped")
    whole, stopped = ((tmp_path / name / WEIGHTS).read_bytes() for name in ("whole", "stopped"))
    assert whole == stopped


@DEVICES
def test_a_checkpoint_of_any_device_is_resumed_on_the_cpu(volumes, split, study, tmp_path, device):
    settings = {"ema_decay": 0.9, "patience": 9, "loss": {"name": "adafocal"}}
    with pytest.raises(StoppedError):
        train(volumes, split, study(device=device, **settings), tmp_path, stop)
    assert (tmp_path / CHECKPOINT).is_file()
    trained = train(volumes, split, study(device="cpu", **settings), tmp_path)
    assert len(trained.history) == 4


@DEVICES
def test_it_learns_from_volumes(volumes, split, study, tmp_path, device):
    trained = train(volumes, split, study(device=device, epochs=12), tmp_path)
    test = predict(trained, volumes.subset(split.test), device=device)
    assert (test.logits.argmax(1) == test.labels).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_refuses_to_be_deterministic_with_pooling(volumes, split, study, tmp_path):
    settings = study(device="cuda", deterministic=True)
    network = settings.network.model_copy(update={"name": "resnet10", "options": {}})
    with pytest.raises(ConfigError, match=r"training\.deterministic: A layer has no deterministic"):
        train(volumes, split, settings.model_copy(update={"network": network}), tmp_path)
