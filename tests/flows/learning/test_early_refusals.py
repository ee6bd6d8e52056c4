"""Every door that trains refuses what no training could use, before it reads, ingests or makes a scan."""

from __future__ import annotations

import pytest
import torch

from flows.compare import compare_losses
from flows.curve import learning_curve
from flows.demo import run_demo
from flows.retrain import retrain_study
from flows.train import train_study
from flows.year import run_year
from pipeline.config import load_study, shipped_study
from pipeline.errors import ConfigError

DOORS = {
    "train": train_study,
    "compare": compare_losses,
    "curve": learning_curve,
    "retrain": lambda study: retrain_study(study, "anna"),
    "demo": run_demo,
    "year": run_year,
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("network.options.width=wide", r"^network\.options\.width: "),
        ("training.device=cuda", r"^training\.device: "),
    ],
)
def test_a_wrong_network_and_a_missing_gpu_are_refused_before_anything_is_written(
    tmp_path, monkeypatch, door, wrong, problem
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    places = {
        "output": tmp_path / "out",
        "cohort.path": tmp_path / "bids",
        "ingest.source": tmp_path / "adni",
    }
    study = load_study(shipped_study("year" if door == "year" else "demo"), (wrong,), places)
    with pytest.raises(ConfigError, match=problem):
        DOORS[door](study)
    assert list(tmp_path.iterdir()) == []
