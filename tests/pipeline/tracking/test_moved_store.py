"""A study's folder is moved, copied and renamed: its models come along, and the original stays as it was."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from pipeline import tracking
from pipeline.config import TrackingSettings
from pipeline.errors import InputError
from pipeline.tracking import RunRecord


def addresses(folder: Path) -> set[str]:
    """Return every artifact address in a store's database."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        columns = (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "storage_location"),
        )
        return {row[0] for t, c in columns for row in database.execute(f"SELECT {c} FROM {t}") if row[0]}


@pytest.fixture
def copied(registered, tmp_path) -> Path:
    """A copy of the study's folder, whose original is there too."""
    return Path(shutil.copytree(registered.bundle.parent, tmp_path / "copy"))


@pytest.mark.parametrize("name", ["moved", "Study #1, 50 %", "été & it's; a=b+c"])
def test_a_renamed_study_loads_registers_and_promotes(copied, registered, small_classifier, name):
    before = addresses(registered.bundle.parent)
    folder = copied.rename(copied.with_name(name))
    store = tracking.store_at(folder)
    assert tracking.load_classifier(store).card == small_classifier.card
    assert addresses(folder) == before, "reading writes nothing"
    tracking.promote(store, registered.version)
    assert all(address.startswith((folder / "mlartifacts").as_uri() + "/") for address in addresses(folder)
               if address != store.artifacts)  # fmt: skip
    run_id = tracking.log_run(store, RunRecord("again", "k2", {}, {}, {}), folder / "classifier")
    version = tracking.register(store, run_id, folder / "classifier", {}, "k2")
    tracking.promote(store, version)
    assert tracking.champion_and_previous(store) == (version, registered.version)
    assert tracking.load_classifier(store).card == small_classifier.card
    assert [p.name for p in folder.parent.iterdir()] == [name], "nothing is made beside it"
    assert addresses(registered.bundle.parent) == before


def test_a_copy_reads_its_own_files_and_not_the_original(copied):
    shutil.rmtree(copied / "mlartifacts" / "models")
    with pytest.raises(InputError, match="The registered model was not found"):
        tracking.load_classifier(tracking.store_at(copied))


def test_artifacts_elsewhere_stay_where_they_are(registered, tmp_path):
    settings = TrackingSettings(artifacts=str(tmp_path / "elsewhere" / "mlartifacts"))
    folder = tmp_path / "study"
    store = tracking.store_of(settings, folder)
    tracking.log_run(store, RunRecord("r", "k", {}, {}, {}), registered.bundle)
    before = addresses(folder)
    (folder / "mlartifacts").mkdir()
    tracking.store_of(settings, folder.rename(tmp_path / "renamed")).client()
    assert addresses(tmp_path / "renamed") == before


def test_a_question_mark_in_the_folder_is_an_error_before_anything_is_made(tmp_path):
    with pytest.raises(InputError, match=r"question mark.*Rename the folder") as error:
        tracking.store_of(TrackingSettings(), tmp_path / "what?" / "study")
    assert "what?" in str(error.value)
    assert not list(tmp_path.iterdir())
