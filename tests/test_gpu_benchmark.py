"""The script for a GPU runs end to end where there is none, so that the minutes of one are not lost to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_every_part_runs_small_on_the_cpu(tmp_path):
    call = [sys.executable, str(ROOT / "tests" / "benchmarks" / "gpu.py"), "--out", str(tmp_path), "--tiny"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'benchmarks'}"}
    done = subprocess.run(call, capture_output=True, text=True, timeout=900, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["left_out"] == []
    parts = ("peak_flops", "speed resnet10, 2", "augmentation", "gce_over_ce", "micro_batches")
    assert set(found["measured"]) == {
        *(*parts, "inference_ms resnet10", "gpu_tests", "long tail: digits, perceptron, 100, batch 32"),
    }
    assert all(found["measured"]["augmentation"].values())
    speed = found["measured"]["speed resnet10, 2"]
    assert speed["ours_scans_per_second"] > 0
    assert speed["share_of_peak"] > 0
    assert 0 < speed["device_busy"] <= 1
    assert "these figures mean nothing" in (tmp_path / "gpu.md").read_text()
    help_text = subprocess.run(
        [*call[:2], "--help"], capture_output=True, text=True, check=True, env=environment
    )
    assert "--minutes" in help_text.stdout
