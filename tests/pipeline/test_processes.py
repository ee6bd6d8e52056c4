"""Worker processes: one thread each, the parent's places to import from, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipeline.processes import worker_pool

ASKS = """
from pipeline.files import fingerprint
from pipeline.processes import preload, worker_pool

if __name__ == "__main__":
    preload("pipeline.files")
    with worker_pool(1) as pool:
        assert pool.submit(fingerprint, 1).result() == fingerprint(1)
"""


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "PYTHONPATH"])
def test_the_environment_of_workers_is_not_left_behind(name, monkeypatch):
    monkeypatch.delenv(name, raising=False)
    with worker_pool(1) as first, worker_pool(1) as second:
        assert [pool.submit(os.getenv, "OMP_NUM_THREADS").result() for pool in (first, second)] == ["1", "1"]
        assert name not in os.environ
    assert name not in os.environ


def test_a_folder_with_packages_of_the_same_name_is_not_imported_from(tmp_path):
    for package in ("pipeline", "models", "flows"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('a package of somebody else')\n")
    script = tmp_path / "scripts" / "asks.py"
    script.parent.mkdir()
    script.write_text(ASKS)
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
