"""Processes that share every step: the command line with two equals one, and a lost one ends the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from clinics import Clinic, study_of
from safetensors.torch import load_file

from flows.learning.rank_processes import follows, sharing_ranks
from pipeline.config import Study
from pipeline.errors import ConfigError

SGD = {"optimizer": "sgd", "loss": {"name": "gce"}, "device": "cpu", "learning_rate": 0.01}
"""Not AdamW: it makes steps of full size out of the rounding where a gradient of GCE is nearly 0."""


@pytest.fixture
def clinic(tmp_path) -> Clinic:
    """Thirty scans, so that batches have odd sizes."""
    found = Clinic(tmp_path / "bids")
    found.bids.mkdir()
    found.add(30)
    return found


def written(clinic: Clinic, name: str, epochs: int = 2) -> tuple[Study, Path]:
    """Return a study with an output folder of its own, and its file."""
    study = study_of(
        clinic,
        network={"options": {"width": 4, "dropout": 0.0}},
        training=SGD | {"epochs": epochs, "batch_size": 7, "micro_batch": 2},
        calibration={"scheme": "split"},
    ).model_copy(update={"output": clinic.bids.parent / name})
    path = clinic.bids.parent / f"{name}.yaml"
    path.write_text(study.to_yaml())
    return study, path


def environment() -> dict[str, str]:
    places = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1"}


def ran(*command: str) -> subprocess.CompletedProcess[str]:
    started = [sys.executable, "-m", *command]
    return subprocess.run(
        started, env=environment(), capture_output=True, text=True, timeout=1800, check=False
    )


def weights_of(study: Study) -> Path:
    return study.output / "network" / "member-0" / "network.safetensors"


def assert_same_weights(one: Study, two: Study) -> None:
    first, second = (load_file(weights_of(study)) for study in (one, two))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_two_or_three_processes_of_the_command_line_give_the_classifier_of_one(clinic):
    one, path = written(clinic, "one")
    assert ran("flows.cli", "train", str(path)).returncode == 0
    launched, path = written(clinic, "launched")
    launch = ("torch.distributed.run", "--standalone", "--nproc-per-node=3", "-m", "flows.cli", "train")
    answer = ran(*launch, str(path))
    assert answer.returncode == 0, answer.stderr
    assert "3 processes share every training step." in answer.stderr + answer.stdout
    assert (answer.stderr + answer.stdout).count("MLflow run") == 1
    assert_same_weights(one, launched)
    started, path = written(clinic, "started")
    answer = ran("flows.cli", "train", str(path), "--gpus", "2")
    assert answer.returncode == 0, answer.stderr
    assert_same_weights(one, started)
    assert sorted(p.name for p in started.output.iterdir()) == sorted(p.name for p in one.output.iterdir())


@pytest.mark.slow
def test_a_lost_process_ends_the_run_with_a_sentence_and_the_next_one_resumes(clinic):
    whole, path = written(clinic, "whole", epochs=40)
    assert ran("flows.cli", "train", str(path), "--gpus", "2").returncode == 0
    broken, path = written(clinic, "broken", epochs=40)
    command = [sys.executable, "-m", "flows.cli", "train", str(path), "--gpus", "2"]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        checkpoint = broken.output / "training" / "member-0" / "checkpoint.pt"
        while not checkpoint.is_file() and process.poll() is None:
            time.sleep(0.01)
        for other in psutil.Process(process.pid).children(recursive=True):
            if "flows.cli" in other.cmdline() and "flows.running.lifetime" not in other.cmdline():
                other.send_signal(signal.SIGKILL)
        _, errors = process.communicate(timeout=1800)
    assert process.returncode == 1
    assert "was lost" in errors
    assert "resumes after the last finished epoch" in errors
    assert "Traceback" not in errors
    assert checkpoint.is_file()
    assert ran("flows.cli", "train", str(path), "--gpus", "2").returncode == 0
    first, second = (weights_of(made).read_bytes() for made in (whole, broken))
    assert first == second


def test_more_gpus_than_there_are_are_refused(clinic, monkeypatch):
    monkeypatch.setattr("pipeline.learning.rank_group.gpu_count", lambda: 1)
    study, path = written(clinic, "out")
    asked = study.model_copy(update={"training": study.training.model_copy(update={"device": "auto"})})
    with (
        pytest.raises(ConfigError, match=r"--gpus: 2 GPUs are asked for, found 1\. Set it to 1"),
        sharing_ranks(asked, path, 2),
    ):
        pass
    monkeypatch.setenv("WORLD_SIZE", "4")
    with (
        pytest.raises(ConfigError, match="Torchrun has started 4 processes already"),
        sharing_ranks(study, path, 2),
    ):
        pass


def test_one_process_shares_nothing_and_rank_zero_does_not_follow(clinic, monkeypatch):
    study, path = written(clinic, "out")
    with sharing_ranks(study, path, None), sharing_ranks(study, path, 1):
        assert not torch.distributed.is_initialized()
    assert not follows()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert not follows()
    monkeypatch.setenv("RANK", "1")
    assert follows()
