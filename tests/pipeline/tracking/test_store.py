"""Where runs and models are kept, as a study says it."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3

import pytest

from pipeline import tracking
from pipeline.config import Study, TrackingSettings, without_password
from pipeline.errors import InputError

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"postgresql+psycopg://jo:{SECRET}@db/t", "postgresql+psycopg://jo@db/t"),
        (f"postgresql+psycopg://jo:a:{SECRET}@x@db:5432/t", "postgresql+psycopg://jo@db:5432/t"),
        (f"postgresql+psycopg://jo:a/{SECRET}@db/t", "postgresql+psycopg://jo@db/t"),
        (f"https://jo:{SECRET}@mlflow.local:443", "https://jo@mlflow.local:443"),
        (f"postgresql://db/t?user=jo&password={SECRET}", "postgresql://db/t?user=jo&"),
        (f"postgresql://db/t?sslPassword={SECRET}&user=jo", "postgresql://db/t?user=jo"),
        (f"cannot open mysql://:{SECRET}@db/t today", "cannot open mysql://@db/t today"),
        ("sqlite:////data/a@b/mlflow.db", "sqlite:////data/a@b/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_an_address_is_shown_without_its_password(address, shown):
    assert without_password(address) == shown


def study(tmp_path, uri: str) -> Study:
    tracked = {"uri": uri, "artifacts": str(tmp_path / "models")}
    return Study(name="x", output=tmp_path, cohort={"path": tmp_path}, tracking=tracked)


def test_no_written_study_holds_the_password_and_the_logged_one_no_place(tmp_path):
    given = study(tmp_path, f"postgresql+psycopg://jo:{SECRET}@db/t")
    assert SECRET not in given.to_yaml()
    assert "jo@db/t" in given.to_yaml()
    logged = given.without_places()
    assert (logged.tracking.uri, logged.tracking.artifacts) == (None, None)
    assert logged.tracking.model_name == given.tracking.model_name


def test_a_folder_leads_to_the_store_of_the_study_that_wrote_to_it(tmp_path):
    uri = f"sqlite:///{tmp_path / 'shared' / 'mlflow.db'}"
    (tmp_path / "study.yaml").write_text(study(tmp_path, uri).to_yaml())
    assert tracking.store_at(tmp_path).uri == uri
    (tmp_path / "other").mkdir()
    assert tracking.store_at(tmp_path / "other").uri == f"sqlite:///{tmp_path / 'other' / 'mlflow.db'}"


def test_artifacts_lie_beside_the_file_or_where_they_are_asked_to(tmp_path):
    def artifacts(**settings: str) -> str | None:
        return tracking.store_of(TrackingSettings(**settings), tmp_path / "out").artifacts

    assert artifacts() == (tmp_path / "out" / "mlartifacts").as_uri()
    assert artifacts(uri=f"sqlite:///{tmp_path}/a/mlflow.db") == (tmp_path / "a" / "mlartifacts").as_uri()
    assert artifacts(uri="postgresql+psycopg://db/t") == (tmp_path / "out" / "mlartifacts").as_uri()
    assert artifacts(uri="http://127.0.0.1:5000") is None
    assert artifacts(artifacts="s3://bucket/models") == "s3://bucket/models"
    assert artifacts(artifacts=str(tmp_path / "m")) == (tmp_path / "m").as_uri()


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        (f"postgresql+nodriver://jo:{SECRET}@db/t", "cannot be opened"),
        (f"postgresql://jo:{SECRET}@db/t", r"taucal\[postgresql\].*postgresql\+psycopg"),
        ("no-address-at-all", "cannot be opened"),
    ],
)
def test_an_address_that_makes_no_sense_is_told_without_its_password(tmp_path, uri, told):
    with pytest.raises(InputError, match=told) as error:
        tracking.store_of(TrackingSettings(uri=uri), tmp_path).client()
    assert SECRET not in str(error.value)


def test_looking_for_a_model_makes_no_store(tmp_path):
    with pytest.raises(InputError, match=r"store does not exist yet.*taucal train"):
        tracking.load_classifier(tracking.store_at(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("revision", "hint"),
    [
        (
            "a1b2c3d4e5f6",
            r"An older MLflow made it: copy it as a backup, then run `mlflow db upgrade sqlite:///",
        ),
        ("ffffffffffff", r"A newer MLflow made it: install that one"),
    ],
)
def test_tables_of_another_mlflow_are_named_with_the_command_that_helps(tmp_path, revision, hint):
    tracking.store_of(TrackingSettings(), tmp_path / "made").client()
    (tmp_path / "other").mkdir()
    copy = shutil.copy(tmp_path / "made" / "mlflow.db", tmp_path / "other")
    with contextlib.closing(sqlite3.connect(copy)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    with pytest.raises(InputError, match=hint):
        tracking.store_of(TrackingSettings(), tmp_path / "other").client()
