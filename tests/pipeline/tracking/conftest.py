"""A small classifier in a real registry, shared by the tests of this folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline import tracking
from pipeline.config import TrackingSettings
from pipeline.processes import environment
from pipeline.tracking import RunRecord, Store


@dataclass(frozen=True)
class Registered:
    """A registered version, the folder MLflow keeps it in, and who registered it."""

    store: Store
    run_id: str
    version: int
    bundle: Path
    folder: Path
    person: str


@pytest.fixture(scope="session")
def registered(tmp_path_factory, small_classifier) -> Registered:
    """The small classifier, registered by a person whose name must be found nowhere."""
    person = "jane.q.doe"
    home = tmp_path_factory.mktemp("homes") / person
    home.mkdir()
    store = tracking.store_of(TrackingSettings(), home / "study")
    bundle = small_classifier.save(home / "study" / "classifier")
    with environment({"LOGNAME": person, "USER": person, "HOME": str(home)}):
        run_id = tracking.log_run(store, RunRecord("small", "k", {"loss": "gce"}, {}, {"nll": 0.8}))
        version = tracking.register(store, run_id, bundle, {"data.digest": "d1", "split.digest": "s1"}, "k")
        tracking.promote(store, version)
    (folder,) = (home / "study" / "mlartifacts" / "models").glob("m-*/artifacts")
    return Registered(store, run_id, version, bundle, folder, person)
