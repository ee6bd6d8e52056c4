"""What the model registry holds: read and written in MLflow's SQLite file itself, or by MLflow's client.

MLflow takes four seconds of processor time to import, which a question about the champion need not wait for.
Any other database, and a file of another schema, is left to MLflow.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import InputError
from pipeline.tracking.store import Store

SCHEMA = "dc11669786a5"
"""Revision of MLflow's tables that the statements below are for."""
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
"""MLflow's codes of a model, version or alias that does not exist; other codes are failures."""
_WAIT_SECONDS = 20  # as MLflow
_VERSION = "workspace = 'default' AND name = ? AND version = ?"


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of the study's model.

    Parameters
    ----------
    registered_ms : int
        When it was registered, in milliseconds since 1970.
    files : str or None
        Address of the folder of its files; None where only MLflow knows it.
    """

    registered_ms: int
    run_id: str
    tags: Mapping[str, str]
    files: str | None


class Registry(Protocol):
    """The versions of one model, and the aliases that point to them."""

    def aliased(self, alias: str) -> int | None:
        """Return the version an alias points to, or None."""

    def version(self, number: int) -> RegisteredVersion | None:
        """Return a version, or None where it does not exist."""

    def set_alias(self, alias: str, version: int) -> None:
        """Let an alias point to a version; an error where it does not exist."""

    def delete_alias(self, alias: str) -> None:
        """Remove an alias."""

    def set_tag(self, version: int, key: str, value: str) -> None:
        """Set a tag of a version."""


def registry_of(store: Store) -> Registry:
    """Return what answers about a store's models; nothing is written."""
    return _RegistryFile(store) if file_problem(store) is None else _RegistryClient(store)


def file_problem(store: Store) -> str | None:
    """Return why a store is not a SQLite file of the known schema, or None where it is."""
    if store.file is None:
        return "it is not a SQLite file"
    try:
        with opened_file(store.file) as database:
            revision = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        return str(error)
    return None if revision == (SCHEMA,) else f"its schema is {revision}, not {SCHEMA}"


def try_store(store: Store) -> str | None:
    """Return why runs and models cannot be stored, or None; nothing is written."""
    if store.file is not None and file_problem(store) is None:
        try:
            with opened_file(store.file, writes=True) as database:
                database.execute("BEGIN IMMEDIATE")
                database.rollback()
        except sqlite3.Error as error:
            return f"{store.address} cannot be written to ({error})"
        return None
    from mlflow.exceptions import MlflowException

    try:
        store.client().search_registered_models(max_results=1)
    except (InputError, MlflowException) as error:
        return str(error)
    return None


@contextlib.contextmanager
def opened_file(path: Path, *, writes: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a SQLite file of MLflow's, which is not made where it is missing."""
    address = f"{path.resolve().as_uri()}?mode={'rw' if writes else 'ro'}"
    with contextlib.closing(sqlite3.connect(address, timeout=_WAIT_SECONDS, uri=True)) as database, database:
        database.execute("PRAGMA foreign_keys = ON")
        yield database


class _RegistryFile:
    """The registry in a SQLite file of MLflow's."""

    def __init__(self, store: Store) -> None:
        assert store.file is not None
        self._file, self._name, self._store = store.file, store.model_name, store

    def aliased(self, alias: str) -> int | None:
        found = self._ask(
            "SELECT version FROM registered_model_aliases "
            "WHERE workspace = 'default' AND name = ? AND alias = ?",
            self._name, alias,
        )  # fmt: skip
        return found[0][0] if found and self.version(found[0][0]) else None

    def version(self, number: int) -> RegisteredVersion | None:
        rows = self._ask(
            "SELECT creation_time, run_id, storage_location FROM model_versions "
            f"WHERE {_VERSION} AND current_stage != 'Deleted_Internal'",
            self._name, number,
        )  # fmt: skip
        if not rows:
            return None
        tags = self._ask(f"SELECT key, value FROM model_version_tags WHERE {_VERSION}", self._name, number)
        return RegisteredVersion(rows[0][0], str(rows[0][1]), dict(tags), self._place(rows[0][2]))

    def _place(self, address: str | None) -> str | None:
        """Follow files that were moved with the database, whose addresses the next write corrects."""
        before = self._artifacts()
        if address is None or before is None or not self._store.came_along(before):
            return address
        return address.replace(f"{before}/", f"{self._store.artifacts}/", 1)

    def _artifacts(self) -> str | None:
        found = self._ask(
            "SELECT artifact_location FROM experiments WHERE workspace = 'default' AND name = ?",
            self._store.experiment,
        )
        return found[0][0] if found else None

    def set_alias(self, alias: str, version: int) -> None:
        if self.version(version) is None:
            raise InputError(f"Version {version} is not registered", where=f"model {self._name}")
        self._write("registered_model_aliases (workspace, name, alias, version)", self._name, alias, version)

    def delete_alias(self, alias: str) -> None:
        with self._database(writes=True) as database:
            database.execute(
                "DELETE FROM registered_model_aliases WHERE workspace = 'default' AND name = ? AND alias = ?",
                (self._name, alias),
            )

    def set_tag(self, version: int, key: str, value: str) -> None:
        self._write(
            "model_version_tags (workspace, name, version, key, value)", self._name, version, key, value
        )

    def _ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._database() as database:
            return database.execute(statement, values).fetchall()

    def _write(self, columns: str, *values: Any) -> None:
        before, places = self._artifacts(), ", ".join("?" * len(values))
        with self._database(writes=True) as database:
            database.execute(f"INSERT OR REPLACE INTO {columns} VALUES ('default', {places})", values)
        if before is not None:
            self._store.follow_move(before)

    @contextlib.contextmanager
    def _database(self, *, writes: bool = False) -> Iterator[sqlite3.Connection]:
        try:
            with opened_file(self._file, writes=writes) as database:
                yield database
        except sqlite3.Error as error:
            raise InputError(
                f"The MLflow store cannot be {'written' if writes else 'read'} ({error})",
                where=self._store.address,
                hint="free disk space, correct its permissions, or restore a copy from a backup",
            ) from error


class _RegistryClient:
    """The registry that MLflow's client asks."""

    def __init__(self, store: Store) -> None:
        self._client, self._name = store.client(), store.model_name

    def aliased(self, alias: str) -> int | None:
        found = self._found(lambda: self._client.get_model_version_by_alias(self._name, alias))
        return None if found is None else int(found.version)

    def version(self, number: int) -> RegisteredVersion | None:
        found = self._found(lambda: self._client.get_model_version(self._name, str(number)))
        if found is None:
            return None
        return RegisteredVersion(int(found.creation_timestamp), str(found.run_id), dict(found.tags), None)

    def _found(self, ask: Callable[[], Any]) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return ask()
        except MlflowException as error:
            if error.error_code not in _ABSENT:
                raise
            return None

    def set_alias(self, alias: str, version: int) -> None:
        self._patiently(lambda: self._client.set_registered_model_alias(self._name, alias, str(version)))

    def delete_alias(self, alias: str) -> None:
        self._patiently(lambda: self._client.delete_registered_model_alias(self._name, alias))

    def set_tag(self, version: int, key: str, value: str) -> None:
        self._patiently(lambda: self._client.set_model_version_tag(self._name, str(version), key, value))

    def _patiently(self, write: Callable[[], object], tries: int = 5) -> None:
        # Two processes that write to the registry at once can fail once.
        from mlflow.exceptions import MlflowException

        for left in reversed(range(tries)):
            try:
                write()
            except MlflowException:
                if not left:
                    raise
                time.sleep(0.2)
            else:
                return
