"""The script for a GPU runs end to end where there is none, so that the minutes of one are not lost to it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def parts(monkeypatch):
    """The module of the parts, without the networks that `gpu.py` loads."""
    spec = importlib.util.spec_from_file_location("gpu_parts", ROOT / "tests" / "benchmarks" / "gpu_parts.py")
    found = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_parts", found)  # where dataclasses look themselves up
    spec.loader.exec_module(found)
    return found


def test_a_part_ends_with_its_time_and_all_before_it_is_written(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_SHORTEST", 0.0)
    size = parts.Size(("n",), (2,), 8, 4, 1, (), ())
    run = parts.Run(torch.device("cpu"), size, time.monotonic() + 60, tmp_path)
    started = time.monotonic()

    def no_memory() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    run.part("measured", 30, lambda: 7)
    run.part("stuck", 0.2, lambda: time.sleep(30))
    run.part("too large", 30, no_memory)
    run.ends = time.monotonic() - 1
    run.part("late", 30, lambda: 8)
    assert time.monotonic() - started < 20
    run.write()
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["measured"] == {"measured": 7}
    assert found["left_out"] == [
        "stuck: TimeoutError: longer than 0 s",
        "too large: OutOfMemoryError: CUDA out of memory",
        "late: no time left",
    ]
    assert "| left out | late: no time left |" in (tmp_path / "gpu.md").read_text()


@pytest.mark.slow
def test_every_part_runs_small_on_the_cpu(tmp_path):
    call = [sys.executable, str(ROOT / "tests" / "benchmarks" / "gpu.py"), "--out", str(tmp_path), "--tiny"]
    call += ["--minutes", "19"]  # a busy machine
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'benchmarks'}"}
    done = subprocess.run(call, capture_output=True, text=True, timeout=1190, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["left_out"] == []
    parts = ("peak_flops", "speed resnet10, 2", "augmentation", "gce_over_ce", "micro_batches")
    assert set(found["measured"]) == {
        *(*parts, "speed small_cnn compiled, 2", "inference_ms resnet10", "gpu_tests"),
        "long tail: digits, perceptron, 100, batch 32",
    }
    assert all(found["measured"]["augmentation"].values())
    speed = found["measured"]["speed resnet10, 2"]
    assert speed["ours_scans_per_second"] > 0
    assert speed["share_of_peak"] > 0
    assert 0 < speed["device_busy"] <= 1
    assert found["measured"]["speed small_cnn compiled, 2"]["compile_seconds"] > 0
    assert "these figures mean nothing" in (tmp_path / "gpu.md").read_text()
    help_text = subprocess.run(
        [*call[:2], "--help"], capture_output=True, text=True, check=True, env=environment
    )
    assert "--minutes" in help_text.stdout
