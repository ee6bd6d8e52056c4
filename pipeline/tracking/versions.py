"""Register a classifier: one bundle per version, code and data, never a pickle."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

import models
import pipeline
from pipeline.tracking.store import Store, nameless

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
