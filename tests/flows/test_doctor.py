"""The doctor sees what is there and knows the mend for what is not."""

from __future__ import annotations

import os

import pytest

from flows.doctor import examine


@pytest.mark.server
def test_a_sound_machine_is_told_sound(tmp_path):
    checks = {c.name: c for c in examine(tmp_path)}
    assert set(checks) == {
        "Python",
        "torch",
        "CUDA",
        "Prefect server",
        "MLflow store",
        "Pango for PDF",
        "Disk",
        "Memory",
    }
    missing = [c for c in checks.values() if c.required and not c.ok]
    assert not missing
    assert all(c.hint for c in checks.values() if not c.ok)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_folder_without_leave_to_write_is_seen(tmp_path):
    tmp_path.chmod(0o500)
    store = next(c for c in examine(tmp_path / "out") if c.name == "MLflow store")
    assert not store.ok
    assert "writable" in store.seen


def test_looking_makes_no_file(tmp_path):
    examine(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_a_file_is_seen(tmp_path):
    (tmp_path / "out").write_text("")
    store = next(c for c in examine(tmp_path / "out") if c.name == "MLflow store")
    assert not store.ok
    assert "writable" in store.seen
