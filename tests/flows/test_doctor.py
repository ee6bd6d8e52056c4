"""The doctor sees what is there and knows the fix for what is not."""

from __future__ import annotations

import os

import pytest

from flows import doctor
from flows.doctor import examine


def test_a_machine_that_has_everything_is_found_to(tmp_path):
    checks = {c.name: c for c in examine(tmp_path)}
    assert set(checks) == {
        "Python",
        "Packages",
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


def test_a_package_that_does_not_fit_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_version", {"torch": "9.9", "fastapi": "0.150"}.get)
    packages = next(c for c in examine(tmp_path) if c.name == "Packages")
    assert packages.state == "missing"
    assert "torch 9.9 is not ==2.13.0" in packages.seen
    assert "pydicom is not installed" in packages.seen
    assert "fastapi" not in packages.seen
    assert "pytest" not in packages.seen  # an extra


def test_a_prefect_server_that_does_not_answer_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    prefect = next(c for c in examine(tmp_path) if c.name == "Prefect server")
    assert (prefect.state, "http://127.0.0.1:9/api does not answer" in prefect.seen) == ("missing", True)
    assert "PREFECT_API_URL" in prefect.hint


def test_a_graphics_card_is_counted_by_its_driver(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_cuda_devices", lambda: 2)
    for build, state, seen in (("12.8", "ok", "torch for CUDA 12.8"), (None, "optional", "without CUDA")):
        monkeypatch.setattr(doctor, "_cuda_build", lambda build=build: build)
        cuda = next(c for c in examine(tmp_path) if c.name == "CUDA")
        assert (cuda.state, seen in cuda.seen) == (state, True)
