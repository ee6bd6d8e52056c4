"""What a run leaves in MLflow: settings, hashes, curves, metrics, files."""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import InputError
from pipeline.files import fingerprint, read_json
from pipeline.tracking.store import Store, nameless

if TYPE_CHECKING:  # see pipeline.tracking.store
    from mlflow import MlflowClient
    from mlflow.entities import Metric

_BATCH = 900
_LONGEST_PARAM = 500
KEY_TAG = "taucal.key"


@dataclass(frozen=True)
class RunRecord:
    """One run to log.

    Parameters
    ----------
    key : str
        Fingerprint of what the run depends on: the same key is logged once.
    params : mapping
        Settings; those of a section are logged as ``section.name``.
    tags : mapping
        Data and split hashes and the like.
    metrics : mapping of str to float
        Final values.
    curves : sequence of mapping
        One mapping of metric to value per epoch.
    parent : str or None
        Run id of the parent run.
    """

    name: str
    key: str
    params: Mapping[str, object]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Sequence[Mapping[str, float]] = field(default_factory=tuple)
    parent: str | None = None


def log_run(store: Store, record: RunRecord, files: Path | None = None) -> str:
    """Log a run and the files below a folder; return the run id.

    A finished run with the same key is returned as it is; an unfinished one, left by a killed process, is
    deleted and logged again.
    """
    from mlflow.entities import Metric, Param

    client = store.client()
    experiment = store.experiment_id()
    for old in client.search_runs([experiment], filter_string=f"tags.`{KEY_TAG}` = '{record.key}'"):
        if old.info.status == "FINISHED":
            return str(old.info.run_id)
        client.delete_run(old.info.run_id)
    tags = {
        KEY_TAG: record.key,
        "mlflow.user": "",
        "mlflow.source.name": "taucal",
        "taucal.version": metadata.version("taucal"),
        "git.revision": git_revision(),
        "environment.digest": environment_digest(),
        **({"mlflow.parentRunId": record.parent} if record.parent else {}),
        **record.tags,
    }
    with nameless():
        run = client.create_run(experiment, run_name=record.name, tags=tags)
    run_id = str(run.info.run_id)
    params = [Param(k, str(v)[:_LONGEST_PARAM]) for k, v in _flat(record.params)]
    for start in range(0, len(params), 90):
        client.log_batch(run_id, params=params[start : start + 90])
    now = int(time.time() * 1000)
    metrics = [Metric(k, float(v), now, 0) for k, v in record.metrics.items()]
    metrics += [Metric(k, float(v), now, n) for n, row in enumerate(record.curves) for k, v in row.items()]
    log_metrics(client, run_id, metrics)
    if files is not None:
        client.log_artifacts(run_id, str(files))
    client.set_terminated(run_id, "FINISHED")
    return run_id


def log_metrics(client: MlflowClient, run_id: str, metrics: Sequence[Metric]) -> None:
    """Log metrics, as many at once as MLflow takes."""
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])


def _flat(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def add_artifacts(store: Store, run_id: str, folder: Path, place: str) -> None:
    """Add the files below a folder to a run, under `place`."""
    store.client().log_artifacts(run_id, str(folder), place)


def read_artifact(store: Store, run_id: str, name: str) -> Any:
    """Return a JSON file that was logged to a run.

    Raises
    ------
    InputError
        If the run has no such file.
    """
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="taucal-") as place:
        try:
            return read_json(Path(store.client().download_artifacts(run_id, name, place)))
        except (MlflowException, OSError) as error:
            raise InputError(
                f"The run has no file {name}",
                where=f"run {run_id} at {store.address}",
                hint="train the study again",
            ) from error


def git_revision() -> str:
    """Return the commit of the code that runs, or ``"unknown"`` outside a checkout."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return answer.stdout.strip() or "unknown"


def installed() -> list[str]:
    """Return every installed distribution as ``name==version``, sorted; no paths."""
    found = {d.name.lower().replace("_", "-"): d.version for d in metadata.distributions() if d.name}
    return [f"{name}=={version}" for name, version in sorted(found.items())]


@functools.cache  # hundreds of runs of a comparison have one environment
def environment_digest() -> str:
    """Return sixteen hex digits for the interpreter and every installed distribution."""
    return fingerprint(sys.version_info[:3], installed())
