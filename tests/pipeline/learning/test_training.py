"""The loop learns, repeats itself, survives a kill, and names what went wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from pipeline.errors import CohortError, ConfigError, TrainingError
from pipeline.learning.inference import predict
from pipeline.learning.trained import RECORD, WEIGHTS
from pipeline.learning.training import learning_rate_at, train
from pipeline.learning.training_state import CHECKPOINT


class Stop(Exception):  # noqa: N818 - stands for a kill between two epochs
    pass


def stop_after(epochs: int):
    def progress(done, total, metrics):
        if done == epochs:
            raise Stop

    return progress


def weights(folder) -> bytes:
    return (folder / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    "training",
    [
        {"loss": {"name": "ce"}},
        {"loss": {"name": "gce", "options": {"warmup_epochs": 2}}, "ema_decay": 0.9},
        {"loss": {"name": "adafocal"}, "sampling": "class_balanced"},
        {"loss": {"name": "gamma_ce", "options": {"schedule": "linear"}}, "patience": 3},
    ],
    ids=lambda training: training["loss"]["name"],
)
def test_a_stopped_training_ends_with_the_same_bytes(volumes, split, study, tmp_path, training):
    settings = study(**training)
    whole = train(volumes, split, settings, tmp_path / "whole")
    for epochs in (1, 3):
        with pytest.raises(Stop):
            train(volumes, split, settings, tmp_path / "stopped", stop_after(epochs))
    assert not (tmp_path / "stopped" / WEIGHTS).exists()
    stopped = train(volumes, split, settings, tmp_path / "stopped")
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")
    assert [h | {"seconds": 0} for h in stopped.history] == [h | {"seconds": 0} for h in whole.history]


_KILLED = """
import sys
import time
from pathlib import Path
sys.path.insert(0, {tests!r})
from conftest import make_split, make_study, make_volumes
from pipeline.learning.training import train
volumes = make_volumes()
def never_end(epoch, epochs, metrics):
    if epoch == epochs:
        time.sleep(600)  # killed before, however busy the machine is
train(volumes, make_split(volumes), make_study(Path({folder!r}), epochs=40), Path({folder!r}), never_end)
"""


@pytest.mark.slow
def test_a_training_killed_outright_ends_with_the_same_bytes(  # one whole training, one in two parts
    volumes, split, study, tmp_path, request, wait_for
):
    folder = tmp_path / "killed"
    script = _KILLED.format(tests=str(request.path.parent), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", script], cwd=request.config.rootpath)
    wait_for(lambda: (folder / CHECKPOINT).exists() or process.poll() is not None)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (folder / CHECKPOINT).exists()
    assert not (folder / RECORD).exists()
    for place in (folder, tmp_path / "whole"):
        train(volumes, split, study(epochs=40), place)
    assert weights(folder) == weights(tmp_path / "whole")


def test_another_seed_gives_other_weights(volumes, split, study, tmp_path):
    train(volumes, split, study(), tmp_path / "a")
    train(volumes, split, study().model_copy(update={"seed": 6}), tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "b")


def test_it_learns_what_there_is_to_learn(volumes, split, study, tmp_path):
    trained = train(volumes, split, study(epochs=12), tmp_path)
    test = predict(trained, volumes.subset(split.test))
    assert (test.logits.argmax(1) == test.labels).all()
    assert trained.history[-1]["loss"] < trained.history[0]["loss"] / 2
    assert trained.prevalence == pytest.approx([2 / 3, 1 / 3])


def test_what_is_done_is_not_done_again(volumes, split, study, tmp_path):
    calls = []
    first = train(volumes, split, study(), tmp_path, lambda *seen: calls.append(seen))
    again = train(volumes, split, study(device="auto"), tmp_path, lambda *seen: calls.append(seen))
    assert [(done, total) for done, total, _ in calls] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert again.history == first.history
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_folder_of_other_settings_is_not_used(volumes, split, study, tmp_path):
    train(volumes, split, study(learning_rate=0.02), tmp_path / "used")
    train(volumes, split, study(), tmp_path / "used")
    train(volumes, split, study(), tmp_path / "fresh")
    assert weights(tmp_path / "used") == weights(tmp_path / "fresh")


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_an_unreadable_checkpoint_is_left_behind(volumes, split, study, tmp_path, content, caplog):
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / CHECKPOINT).write_bytes(content)
    train(volumes, split, study(), tmp_path / "torn")
    train(volumes, split, study(), tmp_path / "fresh")
    assert "cannot be read; training starts from the beginning" in caplog.text
    assert weights(tmp_path / "torn") == weights(tmp_path / "fresh")


def test_early_stopping_keeps_the_best_epoch(volumes, split, study, tmp_path):
    trained = train(volumes, split, study(epochs=60, patience=3, learning_rate=0.05), tmp_path)
    nll = [h["validation_nll"] for h in trained.history]
    assert len(nll) < 60
    assert trained.best_epoch == int(np.argmin(nll)) == len(nll) - 4
    best = predict(trained, volumes.subset(split.validation))
    seen = torch.nn.functional.cross_entropy(torch.from_numpy(best.logits), torch.from_numpy(best.labels))
    assert float(seen) == pytest.approx(min(nll), abs=1e-6)


def test_balanced_sampling_is_corrected_in_the_logits(volumes, split, study, tmp_path):
    # With no evidence to learn from, calibrated logits must say the training scans' own class shares.
    blank = replace(volumes, volumes=np.full_like(volumes.volumes, 0.3), content="blank")
    settings = study(sampling="class_balanced", epochs=20)
    trained = train(blank, split, settings, tmp_path)
    probabilities = torch.from_numpy(predict(trained, blank.subset(split.test)).logits).softmax(1).numpy()
    np.testing.assert_allclose(probabilities.mean(0), [2 / 3, 1 / 3], atol=0.07)


def test_a_loss_that_is_not_finite_names_the_scans(volumes, split, study, tmp_path):
    array = volumes.volumes.copy()
    array[11] = np.nan
    broken = replace(volumes, volumes=array, content="broken")
    with pytest.raises(TrainingError, match=r"batch of .*sub-011_ses-M00.*: The loss is nan .* in epoch 1"):
        train(broken, split, study(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_class_without_training_scans_is_named(volumes, split, study, tmp_path):
    only_cn = replace(split, train=tuple(i for i in split.train if int(i[4:7]) % 3))
    with pytest.raises(CohortError, match="training part of the split: There are no scans of AD"):
        train(volumes, only_cn, study(), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": {"loss": {"name": "gcee"}}}, "no 'gcee'. Did you mean 'gce'"),
        ({"training": {"loss": {"name": "gce", "options": {"wieght": 1}}}}, "weight"),
        ({"training": {"loss": {"name": "ce", "options": {"reduction": "sum"}}}}, "reduction is 'sum'"),
        ({"network": {"name": "smal_cnn"}}, "Did you mean 'small_cnn'"),
        (
            {"network": {"name": "resnet10"}, "training": {"micro_batch": 2}},
            r"resnet10 has \d+ layers with batch statistics.*Remove micro_batch",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(volumes, split, study, tmp_path, change, message):
    tree = study().model_dump(mode="json")
    tree["network"]["options"] = {}
    for section, values in change.items():
        tree[section] |= values
    # Names are checked when a study is read, what a network is made of when it is built.
    with pytest.raises((ConfigError, ValidationError), match=message):
        train(volumes, split, type(study()).model_validate(tree), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_training_in_micro_batches_ends_where_whole_batches_end(volumes, split, study, tmp_path):
    for name, size in (("whole", None), ("pieces", 3)):
        settings = study(loss={"name": "gce"}, micro_batch=size, epochs=2, dropout=0.0)
        train(volumes, split, settings, tmp_path / name)
    one, two = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "pieces"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-4)


def test_bfloat16_is_near_float32_and_resumes_to_the_same_bytes(volumes, split, study, tmp_path):
    exact = train(volumes, split, study(), tmp_path / "exact")
    settings = study(precision="bfloat16")
    whole = train(volumes, split, settings, tmp_path / "whole")
    assert weights(tmp_path / "whole") != weights(tmp_path / "exact")
    assert whole.history[-1]["validation_nll"] == pytest.approx(exact.history[-1]["validation_nll"], abs=0.1)
    with pytest.raises(Stop):
        train(volumes, split, settings, tmp_path / "stopped", stop_after(2))
    train(volumes, split, settings, tmp_path / "stopped")
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")


def test_predictions_are_computed_in_float32_whatever_a_gpu_takes_by_default(
    volumes, split, study, tmp_path, monkeypatch
):
    trained = train(volumes, split, study(epochs=1), tmp_path)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = []
    trained.network.body.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    predict(trained, volumes.subset(split.test))
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_fused_optimizer_ends_where_the_other_does(volumes, split, study, tmp_path, optimizer):
    for name, fused in (("plain", False), ("fused", True)):
        # Cross-entropy: where a gradient is nearly 0, AdamW makes steps of full size out of the rounding.
        given = study(optimizer=optimizer, fused=fused, loss={"name": "ce"}, epochs=2)
        train(volumes, split, given, tmp_path / name)
    one, two = (load_file(tmp_path / name / WEIGHTS) for name in ("plain", "fused"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-4)


def test_settings_of_speed_that_are_not_set_leave_fingerprints_as_they_were(study):
    assert {"precision", "tf32", "fused", "deterministic"}.isdisjoint(study().model_dump()["training"])
    assert study(tf32=True).model_dump()["training"]["tf32"]


def test_the_learning_rate_rises_and_falls():
    rates = [learning_rate_at(s, 100, 10, 2.0) for s in range(100)]
    assert rates[9] == max(rates) == 2.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01


_RANK = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from conftest import make_split, make_study, make_volumes
from pipeline.learning.devices import join_ranks
from pipeline.learning.training import train
join_ranks()
volumes = make_volumes()
for loss in ("ce", "gce"):
    folder = Path({folder!r}) / loss
    train(volumes, make_split(volumes), make_study(folder, loss=dict(name=loss), **{settings!r}), folder)
"""


@pytest.mark.slow
def test_two_processes_end_where_one_does(volumes, split, study, tmp_path, request):
    script = tmp_path / "ranks.py"
    # Not AdamW: it makes steps of full size out of the rounding where a gradient of GCE is nearly 0.
    settings = {"optimizer": "sgd", "dropout": 0.0}
    script.write_text(
        _RANK.format(tests=str(request.path.parent), folder=str(tmp_path / "two"), settings=settings)
    )
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(script),
    ]
    environment = os.environ | {"PYTHONPATH": str(request.config.rootpath)}
    subprocess.run(launch, check=True, env=environment, capture_output=True)
    for loss in ("ce", "gce"):
        folder = tmp_path / "one" / loss
        train(volumes, split, study(loss={"name": loss}, **settings), folder)
        one, two = (load_file(tmp_path / number / loss / WEIGHTS) for number in ("one", "two"))
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-6)
