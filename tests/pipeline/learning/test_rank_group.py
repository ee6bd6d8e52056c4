"""Ranks agree on when to stop, and none waits for ever for one that cannot go on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
_START = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
from conftest import make_split, make_study, make_volumes
from pipeline.errors import ConfigError, TrainingError
from pipeline.learning import rank_group, training
from pipeline.learning.devices import join_ranks, ranks
join_ranks()
volumes, folder = make_volumes(), Path({folder!r})
def tell(text):
    # With its end of line at once: both ranks write to one pipe.
    print(f"rank {{ranks().rank}}: {{text}}\\n", end="", flush=True)
def train(**settings):
    return training.train(volumes, make_split(volumes), make_study(folder, **settings), folder)
"""


@pytest.fixture
def launch(request, tmp_path):
    """A function that runs a script as two ranks, after what all scripts start with."""

    def run(script: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "script.py"
        start = _START.format(tests=str(request.path.parent), folder=str(tmp_path / "out"))
        path.write_text(start + script)
        environment = os.environ | {"PYTHONPATH": str(request.config.rootpath), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *_LAUNCH, str(path)]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return run


@pytest.mark.slow
def test_ranks_that_validate_differently_stop_after_the_same_epoch(launch):
    # Rank 1 sees its validation get worse from the second epoch on, and would stop before rank 0.
    done = launch("""
own = training._logits
def worse(*given):
    return own(*given) * (1 if ranks().rank == 0 else -1)
training._logits = worse
epochs = len(train(patience=2, epochs=12, optimizer="sgd", learning_rate=0.05).history)
tell(f"{epochs} epochs")
""")
    assert done.returncode == 0, done.stderr
    first, second = sorted(line for line in done.stdout.splitlines() if line.startswith("rank "))
    assert first.removeprefix("rank 0") == second.removeprefix("rank 1")


@pytest.mark.slow
def test_an_error_of_one_rank_alone_ends_all_with_its_sentence(launch):
    done = launch("""
rank_group._GRACE_SECONDS = 1.0
def full(*order):
    raise ConfigError("This rank cannot go on", where="training")
if ranks().rank:
    rank_group.follow(full)
else:
    with rank_group.leading():
        train()
""")
    assert done.returncode != 0
    assert "taucal: rank 1: training: This rank cannot go on" in done.stderr


@pytest.mark.slow
def test_scans_of_all_ranks_are_named_where_the_loss_is_not_finite(launch):
    done = launch("""
volumes.volumes[11] = float("nan")
try:
    train()
except TrainingError as error:
    tell(str(error))
""")
    named = [line for line in done.stdout.splitlines() if line.startswith("rank ")]
    assert len(named) == 2, done.stderr
    assert all("sub-011_ses-M00" in line for line in named)
    assert all(line.split(": The loss")[0].count("sub-") == 8 for line in named)


@pytest.mark.slow
def test_a_machine_that_does_not_see_the_volumes_is_named(launch):
    done = launch("""
import numpy as np
from dataclasses import replace
folder.mkdir(exist_ok=True)
if ranks().rank:
    def missing(path, **_):
        raise FileNotFoundError(2, "No such file or directory", str(path))
    np.load = missing
    raise SystemExit(0 if rank_group.follow(training.train) else 3)
np.save(folder / "volumes.npy", volumes.volumes)
volumes = replace(volumes, volumes=np.load(folder / "volumes.npy", mmap_mode="r"))
with rank_group.leading():
    train()
""")
    assert done.returncode != 0
    assert "taucal: rank 1: " in done.stderr
    assert "volumes.npy: The prepared volumes of rank 0 are not on this machine" in done.stderr
    assert "same files, under the same path" in done.stderr
