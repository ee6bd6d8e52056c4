"""A store with three versions, shared by the tests of this folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline import tracking
from pipeline.config import TrackingSettings


@pytest.fixture(scope="session")
def three_versions(tmp_path_factory) -> Path:
    """The database of such a store; MLflow takes seconds to make one, so each test gets a copy."""
    folder = tmp_path_factory.mktemp("store")
    store = tracking.store_of(TrackingSettings(), folder)
    client = store.client()
    client.create_registered_model(store.model_name)
    for n in (1, 2, 3):
        client.create_model_version(store.model_name, f"file:///nowhere/{n}")
    return folder / "mlflow.db"


@pytest.fixture
def output(three_versions, tmp_path, monkeypatch):
    shutil.copyfile(three_versions, tmp_path / "mlflow.db")
    monkeypatch.setenv("TAUCAL_WHO", "operator")
    return tmp_path


@pytest.fixture
def store(output):
    return tracking.store_of(TrackingSettings(), output)
