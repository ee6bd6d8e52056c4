"""The registered classifier: one bundle per version, aliases that move in one step."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

import models
import pipeline
from models.classifier import BundleError as StoredBundleError
from models.classifier import CalibratedClassifier
from pipeline.errors import BundleError, InputError
from pipeline.tracking.store import Store, nameless

CHAMPION = "champion"
PREVIOUS = "previous"

_REQUIREMENTS = (
    "torch", "monai", "numpy", "scipy", "pandas", "pydantic", "pyyaml", "nibabel", "pydicom", "nilearn",
    "safetensors", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle",
    "scikit-learn", "mlflow",
)  # fmt: skip
"""What the model needs where it is served."""


def register(store: Store, run_id: str, bundle: Path, tags: Mapping[str, str], key: str) -> int:
    """Log a saved `CalibratedClassifier` as an MLflow model and register it; return the version.

    The model is code and data: `scan_classifier.py`, the packages `pipeline` and `models`, safetensors and
    JSON. Nothing is pickled. A version with the same key is returned as it is.
    """
    client = store.client()
    try:
        for version in client.search_model_versions(f"name = '{store.model_name}'"):
            if version.tags.get("taucal.key") == key:
                return int(version.version)
    except MlflowException:
        pass  # no such registered model yet
    mlflow.set_tracking_uri(store.uri)
    mlflow.set_registry_uri(store.uri)
    staged = tempfile.TemporaryDirectory(prefix="taucal-")
    with staged as staging, nameless(), mlflow.start_run(run_id):
        model = _log_model(Path(staging), bundle)
    registered = mlflow.register_model(model.model_uri, store.model_name, tags={**tags, "taucal.key": key})
    return int(registered.version)


def _log_model(staging: Path, bundle: Path) -> Any:
    # Staged copies: MLflow writes the absolute path of what it is given into the model's files.
    for package in (pipeline, models):
        source = Path(package.__path__[0])
        shutil.copytree(source, staging / source.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    shutil.copytree(bundle, staging / "bundle")
    script = staging / "scan_classifier.py"
    shutil.copyfile(Path(__file__).with_name("scan_classifier.py"), script)
    return mlflow.pyfunc.log_model(
        name="classifier",
        python_model=str(script),
        artifacts={"bundle": str(staging / "bundle")},
        code_paths=[str(staging / "pipeline"), str(staging / "models")],
        pip_requirements=[f"{name}=={_version(name)}" for name in _REQUIREMENTS],
    )


def _version(name: str) -> str:
    # A local build label, as in 2.13.0+cpu, is no part of what another machine can install.
    return metadata.version(name).split("+")[0]


def champion_version(store: Store, alias: str = CHAMPION) -> int | None:
    """Return the version an alias points to, or None."""
    try:
        return int(store.client().get_model_version_by_alias(store.model_name, alias).version)
    except MlflowException:
        return None


def origin(store: Store, name: str) -> tuple[str, str]:
    """Return version and run id of a model named as in `load_classifier`, as reports print them."""
    if Path(name).is_dir():
        return "unregistered", "none"
    client, place = store.client(), name.removeprefix("models:/").removeprefix(store.model_name)
    if place.startswith("@"):
        found = client.get_model_version_by_alias(store.model_name, place[1:])
    else:
        found = client.get_model_version(store.model_name, place.strip("/"))
    return str(found.version), str(found.run_id)


def promote(store: Store, version: int) -> None:
    """Make a version the champion; the champion before becomes `previous`."""
    before = champion_version(store)
    if before == version:
        return
    if before is not None:
        _set_alias(store, PREVIOUS, before)
    _set_alias(store, CHAMPION, version)


def rollback(store: Store) -> int:
    """Swap champion and previous; return the version that is champion now.

    Raises
    ------
    InputError
        If there is no previous champion.
    """
    now, before = champion_version(store), champion_version(store, PREVIOUS)
    if now is None or before is None:
        raise InputError(
            "A rollback needs a previous champion, got none",
            culprit=store.model_name,
            mend="promote a second version first",
        )
    _set_alias(store, CHAMPION, before)
    _set_alias(store, PREVIOUS, now)
    return before


def _set_alias(store: Store, alias: str, version: int, tries: int = 5) -> None:
    # Two processes that set an alias at once can fail once on SQLite.
    for left in reversed(range(tries)):
        try:
            store.client().set_registered_model_alias(store.model_name, alias, str(version))
        except MlflowException:
            if not left:
                raise
            time.sleep(0.2)
        else:
            return


def load_classifier(store: Store, name: str = f"@{CHAMPION}") -> CalibratedClassifier:
    """Load a registered classifier by the code of this program.

    Parameters
    ----------
    name : str
        ``"models:/taucal@champion"``, ``"models:/taucal/3"``, ``"@champion"``, or a bundle's folder.

    Raises
    ------
    InputError
        If there is no such model.
    """
    if Path(name).is_dir():
        return _load(Path(name))
    uri = f"models:/{store.model_name}{name}" if name.startswith("@") else name
    mlflow.set_tracking_uri(store.uri)
    mlflow.set_registry_uri(store.uri)
    try:
        with tempfile.TemporaryDirectory(prefix="taucal-") as place:
            local = mlflow.artifacts.download_artifacts(
                artifact_uri=uri, dst_path=place, tracking_uri=store.uri
            )
            return _load(Path(local) / "artifacts" / "bundle")
    except MlflowException as error:
        raise InputError(
            f"A registered model must exist, got {str(error).splitlines()[0]}",
            culprit=f"{uri} at {store.uri}",
            mend="run `taucal train` or `taucal demo` first, or name another with --model and --output",
        ) from error


def _load(folder: Path) -> CalibratedClassifier:
    try:
        return CalibratedClassifier.load(folder)
    except StoredBundleError as error:
        raise BundleError(str(error), mend="register the classifier again from its study") from error
