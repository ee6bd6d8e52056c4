"""Where runs and models are stored: a SQLite file by default, any MLflow address by setting."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import TrackingSettings, load_study, without_password
from pipeline.errors import InputError
from pipeline.files import exclusive, written_whole
from pipeline.processes import environment

if TYPE_CHECKING:  # MLflow and SQLAlchemy take four seconds: they are imported where the client is needed
    import mlflow

# Hospital networks: nothing phones home. MLflow reads this when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# An error about a server that does not answer comes within seconds, not after minutes of retries.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")

_SQLITE = "sqlite:///"
_DATABASES = ("postgresql", "mysql", "mssql")
_ARTIFACT_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"
_ARTIFACTS = "mlartifacts"
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
"""Columns of MLflow's database that hold addresses of artifacts."""
_OTHER_SCHEMA = re.compile(r"out-of-date database schema \(found version (?P<revision>\w+)")
_LOCK = 0x7A0CA1
"""Key of PostgreSQL's advisory lock: an arbitrary number."""


@dataclass(frozen=True)
class Store:
    """An MLflow tracking address with the experiment and model name used in it.

    Parameters
    ----------
    uri : str
        May hold a password: show `address` instead.
    artifacts : str or None
        Address of the folder of models and files; None where the server decides.
    """

    uri: str = field(repr=False)
    experiment: str
    model_name: str
    artifacts: str | None

    @property
    def address(self) -> str:
        """The address without its password."""
        return without_password(self.uri)

    def is_new(self) -> bool:
        """Return whether it is a SQLite file that does not exist yet."""
        return self.file is not None and not self.file.is_file()

    @property
    def file(self) -> Path | None:
        """The SQLite file, or None for another database."""
        return Path(self.uri.removeprefix(_SQLITE)) if self.uri.startswith(_SQLITE) else None

    def client(self) -> mlflow.MlflowClient:
        """Return a client; a new database is initialised by one process at a time.

        Raises
        ------
        InputError
            If the store cannot be opened.
        """
        import mlflow
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            # MLflow would write the folder it happens to be started in into a new database.
            root = {_ARTIFACT_ROOT: self.artifacts} if self.artifacts else {}
            with self._alone(), environment(root):
                self._make()
                client = mlflow.MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
                known = client.get_experiment_by_name(self.experiment)
                if known is None:
                    client.create_experiment(self.experiment, artifact_location=self.artifacts)
                elif known.artifact_location != self.artifacts:
                    self.follow_move(known.artifact_location)
        except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
            first = without_password(str(error).partition("\n")[0].partition(". Take a backup")[0])
            raise InputError(
                f"The MLflow store cannot be opened ({type(error).__name__}: {first})",
                where=self.address,
                hint=self._hint(error),
            ) from error
        return client

    def experiment_id(self) -> str:
        """Return the id of the experiment, made where it is missing."""
        return str(self.client().get_experiment_by_name(self.experiment).experiment_id)

    def be_default(self) -> None:
        """Make this the store of the process: MLflow asks the default one about ``models:/`` addresses."""
        import mlflow

        self.client()  # a store that was moved gets its addresses corrected
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)

    def _without_encoding(self) -> InputError:
        return InputError(
            "The database has no encoding (SQL_ASCII), so that text cannot be read from it; UTF8 is expected",
            where=self.address,
            hint="make another one, `createdb --encoding UTF8 --template template0 NAME`, and name it in "
            "tracking.uri",
        )

    def _hint(self, error: Exception) -> str:
        if isinstance(error, ImportError):
            return "install taucal[postgresql]; an address looks like postgresql+psycopg://USER@HOST/DATABASE"
        if found := _OTHER_SCHEMA.search(str(error)):
            return _upgrade(found["revision"], self.address)
        if self.uri.startswith("postgresql"):
            return "correct tracking.uri; a password is read from PGPASSWORD or ~/.pgpass"
        return "correct tracking.uri, or choose a writable output folder"

    def _make(self) -> None:
        """Make a new SQLite file under another name first: killed halfway, its tables could not be used."""
        import mlflow

        if self.file is not None and not self.file.is_file():
            with written_whole(self.file) as beside:
                uri = f"{_SQLITE}{beside}"
                mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri).get_experiment_by_name(
                    self.experiment
                )

    def follow_move(self, before: str) -> None:
        """Correct the addresses in a SQLite file that was moved or copied together with its files."""
        if self.file is None or not self.came_along(before):
            return
        with contextlib.closing(sqlite3.connect(self.file)) as connection, connection:
            for table, column in _ADDRESSES:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (self.artifacts, len(before) + 1, before, len(before) + 1, before + "/"),
                )

    def came_along(self, before: str) -> bool:
        """Return whether the artifacts lie beside the SQLite file, where they are not recorded to be."""
        if self.file is None or before == self.artifacts:
            return False
        beside = self.file.resolve().parent / _ARTIFACTS
        # Otherwise the files are where a setting put them.
        return (
            before.rpartition("/")[2] == _ARTIFACTS and beside.is_dir() and self.artifacts == beside.as_uri()
        )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the store; a database that does not answer fails at once: MLflow would try for minutes."""
        if self.file is not None:
            with exclusive(self.file.with_suffix(".lock"), "MLflow store"):
                yield
        elif self.uri.startswith(_DATABASES):
            from sqlalchemy import create_engine, text
            from sqlalchemy.pool import NullPool

            engine = create_engine(self.uri, poolclass=NullPool)
            try:
                opened = engine.connect()
            except TypeError as error:  # psycopg reads no text, but bytes, where there is no encoding
                raise self._without_encoding() from error
            with opened as connection:
                if self.uri.startswith("postgresql"):
                    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
                yield
        else:
            yield


def _upgrade(revision: str, address: str) -> str:
    """Return what to do about a database whose tables another version of MLflow has made."""
    import mlflow

    known = Path(mlflow.__file__).parent.glob(f"store/db_migrations/versions/{revision}_*.py")
    if any(known):
        return f"an older MLflow made it: copy it as a backup, then run `mlflow db upgrade {address}`"
    return f"a newer MLflow made it: install that one (this is {mlflow.__version__}), or restore a backup"


def store_of(settings: TrackingSettings, output: Path) -> Store:
    """Resolve the settings of a study: without an address, ``mlflow.db`` in its output folder.

    Raises
    ------
    InputError
        If the folder's name has a question mark.

    Examples
    --------
    >>> settings = TrackingSettings(uri="postgresql+psycopg://jo:secret@db/taucal")
    >>> store = store_of(settings, Path("/data/study"))
    >>> store.address, store.artifacts
    ('postgresql+psycopg://jo@db/taucal', 'file:///data/study/mlartifacts')
    """
    folder = output.resolve()
    if settings.uri is None and "?" in str(folder):
        raise InputError(
            "The folder's name has a question mark, which an address of a SQLite file cannot hold",
            where=str(folder),
            hint="rename the folder, or set tracking.uri to a database elsewhere",
        )
    uri = settings.uri or f"{_SQLITE}{folder / 'mlflow.db'}"
    return Store(uri, settings.experiment, settings.model_name, _artifacts(settings.artifacts, uri, folder))


def store_at(place: Path) -> Store:
    """Return the store of a study.

    Parameters
    ----------
    place : Path
        The study's YAML file, or its output folder, whose ``study.yaml`` says where the store is.
    """
    if place.is_file():
        study = load_study(place)
        return store_of(study.tracking, study.output)
    inside = place / "study.yaml"
    return store_of(load_study(inside).tracking if inside.is_file() else TrackingSettings(), place)


def _artifacts(given: str | None, uri: str, folder: Path) -> str | None:
    if given is not None:
        return given if "://" in given else Path(given).resolve().as_uri()
    if uri.startswith(_SQLITE):
        return (Path(uri.removeprefix(_SQLITE)).resolve().parent / _ARTIFACTS).as_uri()
    return (folder / _ARTIFACTS).as_uri() if uri.startswith(_DATABASES) else None


@contextlib.contextmanager
def nameless() -> Iterator[None]:
    """Let MLflow read no user name: it writes the login name into tags of runs and models."""
    with environment({"LOGNAME": "taucal"}):  # what getpass asks first
        yield
