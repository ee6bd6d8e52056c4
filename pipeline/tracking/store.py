"""Where runs and models are kept: a SQLite file by default, any MLflow address by setting."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Hospital networks: nothing phones home. MLflow reads this when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.config import TrackingSettings
from pipeline.errors import InputError
from pipeline.files import exclusive
from pipeline.processes import environment


@dataclass(frozen=True)
class Store:
    """An MLflow tracking address with the experiment and model name used in it.

    `artifacts` is None where the server decides where artifacts go.
    """

    uri: str
    experiment: str
    model_name: str
    artifacts: Path | None

    def client(self) -> mlflow.MlflowClient:
        """Return a client; a new SQLite file is initialised by one process at a time.

        Raises
        ------
        InputError
            If the store cannot be opened.
        """
        with exclusive(self._lock_file(), "MLflow store"):
            try:
                client = mlflow.MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
                if client.get_experiment_by_name(self.experiment) is None:
                    place = self.artifacts.resolve().as_uri() if self.artifacts else None
                    client.create_experiment(self.experiment, artifact_location=place)
            except (MlflowException, SQLAlchemyError, OSError) as error:
                seen = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                raise InputError(
                    f"The MLflow store must be reachable, got {seen}",
                    culprit=self.uri,
                    mend="mend tracking.uri or choose a writable output folder",
                ) from error
        return client

    def experiment_id(self) -> str:
        """Return the id of the experiment, made where it is missing."""
        return str(self.client().get_experiment_by_name(self.experiment).experiment_id)

    def _lock_file(self) -> Path | None:
        if not self.uri.startswith("sqlite:///"):
            return None
        return Path(self.uri.removeprefix("sqlite:///")).with_suffix(".lock")


def store_of(settings: TrackingSettings, output: Path) -> Store:
    """Resolve the settings of a study: without an address, ``mlflow.db`` in its output folder."""
    folder = output.resolve()
    uri = settings.uri or f"sqlite:///{folder / 'mlflow.db'}"
    artifacts = folder / "mlartifacts" if uri.startswith("sqlite:") else None
    return Store(uri, settings.experiment, settings.model_name, artifacts)


def try_store(store: Store) -> str | None:
    """Return what is wrong with a store, or None."""
    try:
        store.client().search_registered_models(max_results=1)
    except (InputError, MlflowException) as error:
        return str(error)
    return None


@contextlib.contextmanager
def nameless() -> Iterator[None]:
    """Let MLflow read no user name: it writes the login name into tags of runs and models."""
    with environment({"LOGNAME": "taucal"}):  # what getpass asks first
        yield
