"""The SQLite file answers as MLflow's own client does, and MLflow reads what is written to it."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys

import pytest

from pipeline import tracking
from pipeline.config import TrackingSettings
from pipeline.errors import InputError
from pipeline.tracking import registered as registries
from pipeline.tracking.registered import SCHEMA, file_problem, registry_of, try_store


@pytest.fixture
def store(registered, tmp_path):
    """A copy of the small classifier's store."""
    folder = shutil.copytree(registered.bundle.parent, tmp_path / "study")
    return tracking.store_at(folder)


@pytest.fixture
def both(store, monkeypatch):
    """The two ways to one registry."""
    by_file = registry_of(store)
    monkeypatch.setattr(registries, "SCHEMA", "another")
    by_client = registry_of(store)
    assert type(by_file) is not type(by_client)
    return by_file, by_client


def test_a_new_store_has_the_schema_the_statements_are_for(tmp_path):
    store = tracking.store_of(TrackingSettings(), tmp_path)
    store.client()
    assert file_problem(store) is None, f"write the statements for MLflow's new tables, not {SCHEMA}"


def test_file_and_client_give_the_same_answers(both, store, registered):
    by_file, by_client = both
    for alias in (tracking.CHAMPION, tracking.PREVIOUS, "nobody"):
        assert by_file.aliased(alias) == by_client.aliased(alias)
    assert by_client.version(99) is by_file.version(99) is None
    here, there = by_file.version(registered.version), by_client.version(registered.version)
    assert (here.registered_ms, here.run_id, here.tags) == (there.registered_ms, there.run_id, there.tags)
    assert here.files == store.client().get_model_version_download_uri(store.model_name, registered.version)


@pytest.mark.parametrize("first", [0, 1], ids=["file first", "client first"])
def test_each_reads_what_the_other_wrote(both, store, registered, first):
    writer, reader = both[first], both[1 - first]
    for _ in range(2):  # a second time replaces
        writer.set_alias("tried", registered.version)
        writer.set_tag(registered.version, "key", "it's ü")
    assert reader.aliased("tried") == registered.version
    assert reader.version(registered.version).tags["key"] == "it's ü"
    assert store.client().get_model_version(store.model_name, registered.version).aliases == [
        "champion",
        "tried",
    ]
    reader.delete_alias("tried")
    assert writer.aliased("tried") is None


def test_an_alias_of_a_version_that_does_not_exist_is_an_error(both):
    for registry in both:
        with pytest.raises(Exception, match=r"99 is not registered|version=99\) not found"):
            registry.set_alias("tried", 99)


def test_a_version_deleted_in_mlflow_is_gone(both, store, registered):
    store.client().delete_model_version(store.model_name, str(registered.version))
    for registry in both:
        assert registry.version(registered.version) is registry.aliased(tracking.CHAMPION) is None


def test_reading_leaves_the_folder_as_it_is(store):
    def files():
        return {p: p.stat().st_mtime_ns for p in store.file.parent.rglob("*")}

    store.file.with_suffix(".lock").unlink()
    before = files()
    assert try_store(store) is None
    tracking.load_classifier(store)
    tracking.origin(store, "@champion")
    assert files() == before


def test_a_store_that_cannot_be_written_is_an_error_with_its_fix(store, registered):
    with sqlite3.connect(store.file) as database:
        database.execute("CREATE TRIGGER full BEFORE INSERT ON registered_model_aliases BEGIN "
                         "SELECT RAISE(ABORT, 'database or disk is full'); END")  # fmt: skip
    with pytest.raises(InputError, match=r"cannot be written \(database or disk is full\)\. Free disk space"):
        registry_of(store).set_alias("tried", registered.version)


def test_a_file_that_is_no_store_is_left_to_mlflow(tmp_path):
    store = tracking.store_of(TrackingSettings(), tmp_path)
    store.file.write_bytes(b"not a database" * 100)
    assert "cannot be opened" in try_store(store)
    store.file.unlink()
    with sqlite3.connect(store.file) as database:
        database.execute("CREATE TABLE alembic_version (version_num)")
        database.execute("INSERT INTO alembic_version VALUES ('from the future')")
    assert "from the future" in file_problem(store)


def test_importing_the_room_imports_no_mlflow():
    code = (
        "import sys, pipeline.tracking; print({'mlflow', 'sqlalchemy', 'pandas', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
