"""Register a classifier: one bundle per version, code and data, never a pickle."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import models
import pipeline
from pipeline.files import read_json, write_json, write_text
from pipeline.tracking.experiment_page import HEADLINE, NOTE, STUDY_REPORT
from pipeline.tracking.provenance import environment_digest, git_revision, installed
from pipeline.tracking.registry import load_bundle
from pipeline.tracking.store import Store

if TYPE_CHECKING:  # see pipeline.tracking.store
    from mlflow import MlflowClient
    from mlflow.models import Model
    from mlflow.types.schema import Schema

REQUIREMENTS = (
    "torch", "monai", "numpy", "scipy", "filelock", "threadpoolctl", "pandas", "pydantic", "pyyaml",
    "nibabel", "pydicom", "nilearn", "safetensors", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg",
    "pylibjpeg-rle", "mlflow",
)  # fmt: skip
"""What the model needs where it is served."""

EXAMPLE = ["bids/sub-EXAMPLE/ses-EXAMPLE/pet/sub-EXAMPLE_ses-EXAMPLE_trc-18FAV1451_pet.nii.gz"]
"""A path that exists nowhere: MLflow shows it as the example of how to call the model."""

_EXAMPLE_FILES = {"artifact_path": "input_example.json", "serving_input_path": "serving_input_example.json"}


def register(store: Store, run_id: str, bundle: Path, tags: Mapping[str, str], key: str) -> int:
    """Log a saved `CalibratedClassifier` as an MLflow model and register it; return the version.

    The model is code and data: `scan_classifier.py`, the packages `pipeline` and `models`, safetensors and
    JSON, and a model card. Nothing is pickled. A version with the same key is returned as it is.

    Parameters
    ----------
    run_id : str
        The run the classifier came from.
    tags : mapping of str to str
        Hashes of data and split, and the like.
    key : str
        Fingerprint of what the classifier depends on.

    Raises
    ------
    BundleError
        If the bundle is not whole.
    """
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    from pipeline.tracking.model_card import description, model_card  # the metrics take a second to import

    client = store.client()
    known = _version_of(client, store.model_name, key)
    if known is not None:
        return known
    classifier = load_bundle(bundle)
    all_tags = {**_provenance(bundle), **tags}
    card = model_card(classifier, all_tags)
    logged = client.create_logged_model(store.experiment_id(), "classifier", source_run_id=run_id)
    with tempfile.TemporaryDirectory(prefix="taucal-") as staging:
        folder = _write_model(Path(staging), bundle, card, Model(run_id=run_id, model_id=logged.model_id))
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    _log_of_model(client, run_id, logged.model_id)
    store.be_default()
    _log_card(store, run_id, card)
    links = _links(store, run_id)
    version = client.create_model_version(
        store.model_name,
        f"models:/{logged.model_id}",
        run_id=run_id,
        tags={**all_tags, "taucal.key": key},
        description=f"{description(card)}\n\nSee its {links}.",
        model_id=logged.model_id,
    )
    number = int(version.version)
    page = f"[model version {number}](#/models/{quote(store.model_name)}/versions/{number})"
    client.set_tag(run_id, NOTE, f"{description(card)}\n\nSee {page}, its {links}.")
    return number


def _log_card(store: Store, run_id: str, card: str) -> None:
    """Add the card to the files of a run.

    MLflow's client remembers where the files of a run are: in a process that has read both a store and its
    copy, it would write to the other one.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    files = get_artifact_repository(store.client().get_run(run_id).info.artifact_uri, store.uri)
    with tempfile.TemporaryDirectory(prefix="taucal-") as folder:
        files.log_artifact(str(write_text(Path(folder) / _CARD, card)))


def _links(store: Store, run_id: str) -> str:
    """Return links to the study report and the model card in MLflow's pages.

    They are files of the run: MLflow has pages for single files of a run, not of a model.
    """
    files = f"#/experiments/{store.experiment_id()}/runs/{run_id}/artifacts"
    report, results = f"[study report]({files}/{STUDY_REPORT}/study.html)", f"[results]({files}/results.json)"
    return f"{report}, its {results} and its [model card]({files}/{_CARD})"


_CARD = "model_card.md"


def _log_of_model(client: MlflowClient, run_id: str, model_id: str) -> None:
    """Log the headline metrics of a run as those of its model too: MLflow's list of models shows them."""
    from mlflow.entities import Metric

    run, now = client.get_run(run_id), int(time.time() * 1000)
    found = {name: run.data.metrics[name] for name in HEADLINE if name in run.data.metrics}
    if found:
        metrics = [Metric(k, v, now, 0, model_id=model_id, run_id=run_id) for k, v in found.items()]
        client.log_batch(run_id, metrics=metrics)


_MODEL = (
    "Tau PET scans (AV1451) to calibrated diagnostic probabilities; research use only. The version with the "
    "alias champion answers; `taucal audit` shows who decided that, and why."
)


def _version_of(client: MlflowClient, name: str, key: str) -> int | None:
    """Return the version with a key; make the registered model where it is missing."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=_MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = client.search_model_versions(f"name = '{name}' and tags.`taucal.key` = '{key}'")
    return int(found[0].version) if found else None


def _provenance(bundle: Path) -> dict[str, str]:
    stored = read_json(bundle / "classifier.json")
    return {
        "taucal.version": metadata.version("taucal"),
        "git.revision": git_revision(),
        "bundle.format_version": str(stored["format_version"]),
        "bundle.digest": str(stored["sha256"]),
        "environment.digest": environment_digest(),
        "python.version": ".".join(map(str, sys.version_info[:3])),
    }


def _write_model(staging: Path, bundle: Path, card: str, facts: Model) -> Path:
    """Write the model's folder; none of its files names a folder or a user of this machine."""
    import mlflow

    for package in (pipeline, models):
        source = Path(package.__path__[0])
        shutil.copytree(source, staging / source.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    shutil.copytree(bundle, staging / "bundle")
    script = staging / "scan_classifier.py"
    shutil.copyfile(Path(__file__).with_name("scan_classifier.py"), script)
    artifacts = {
        "bundle": staging / "bundle",
        "model_card": write_text(staging / _CARD, card),
        "environment": write_text(staging / "environment.txt", "\n".join(installed()) + "\n"),
    }
    folder = staging / "model"
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=str(script),
        artifacts={name: str(path) for name, path in artifacts.items()},
        code_paths=[str(staging / "pipeline"), str(staging / "models")],
        pip_requirements=[f"{name}=={_version(name)}" for name in REQUIREMENTS],
        mlflow_model=facts,
    )
    _describe(folder)
    return folder


def _describe(folder: Path) -> None:
    """Add what comes out and an example to the model's description, and take out where it was staged.

    The example is written here, since MLflow would ask the model about it: a scan that is not there.
    """
    from mlflow.models import Model

    write_json(folder / _EXAMPLE_FILES["artifact_path"], EXAMPLE)
    write_json(folder / _EXAMPLE_FILES["serving_input_path"], {"inputs": EXAMPLE})
    described = Model.load(str(folder))
    described.signature.outputs = answers_schema()
    described.saved_input_example_info = {"type": "json_object", **_EXAMPLE_FILES}
    flavor = described.flavors["python_function"]
    flavor["model_code_path"] = "scan_classifier.py"
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    described.save(str(folder / "MLmodel"))


def answers_schema() -> Schema:
    """Return what comes back for each scan, see `pipeline.one_scan.Answer`, in MLflow's words."""
    from mlflow.types.schema import Array, ColSpec, DataType, Map, Object, Property, Schema

    words, numbers = Array(DataType.string), Map(DataType.double)
    return Schema(
        [
            ColSpec(
                Object(
                    [
                        Property("decision", DataType.string),
                        Property("reasons", words),
                        Property("rule", DataType.string, required=False),
                        *(
                            Property(name, numbers, required=False)
                            for name in (
                                "probabilities",
                                "lower",
                                "upper",
                                "clinic_probabilities",
                                "clinic_prevalence",
                            )
                        ),
                        Property("prediction_set", words, required=False),
                        Property("most_likely", DataType.string, required=False),
                    ]
                )
            )
        ]
    )


def _version(name: str) -> str:
    # A local build label, as in 2.13.0+cpu, is no part of what another machine can install.
    return metadata.version(name).split("+")[0]
