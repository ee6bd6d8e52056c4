"""A process killed while it makes a new store leaves none, so the next one can make it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from pipeline import tracking
from pipeline.config import TrackingSettings


@pytest.mark.slow
def test_a_store_is_there_whole_or_not_at_all(tmp_path, wait_for):
    script = f"""
from pathlib import Path
from pipeline import tracking
from pipeline.config import TrackingSettings
tracking.store_of(TrackingSettings(), Path({str(tmp_path)!r})).client()
"""
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)

    def has_begun() -> bool:
        assert process.poll() is None
        return any(path.stat().st_size for path in tmp_path.glob(".tmp-*mlflow.db"))

    # Killed while tables are being made: there is a file of another name, and something in it.
    wait_for(has_begun, pause=0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "mlflow.db").exists()
    store = tracking.store_of(TrackingSettings(), tmp_path)
    assert store.client().get_experiment_by_name(store.experiment) is not None
    assert (tmp_path / "mlflow.db").is_file()
