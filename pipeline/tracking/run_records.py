"""What a run leaves in MLflow: settings, hashes, curves, metrics, files."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import InputError
from pipeline.files import fingerprint, read_json
from pipeline.tracking.experiment_page import NOTE, describe_runs
from pipeline.tracking.provenance import environment_digest, git_revision
from pipeline.tracking.store import Store, nameless

if TYPE_CHECKING:  # see pipeline.tracking.store
    from mlflow import MlflowClient
    from mlflow.entities import Metric

_BATCH = 900
_LONGEST_PARAM = 500
KEY_TAG = "taucal.key"
_PARENT = "mlflow.parentRunId"


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
    cohort : mapping or None
        What is known of the scans, shown as MLflow's dataset: ``digest``, numbers of scans and of classes.
    """

    name: str
    key: str
    params: Mapping[str, object]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Sequence[Mapping[str, float]] = field(default_factory=tuple)
    parent: str | None = None
    cohort: Mapping[str, object] | None = None


@dataclass(frozen=True)
class _OpenRun:
    """A run that is logged while it goes on."""

    store: Store
    key: str
    run_id: str
    epochs: set[int] = field(default_factory=set)


_open: list[_OpenRun] = []
"""The run of the training of this process."""
_live: dict[str, _OpenRun] = {}
"""Runs of trainings in other processes, by key."""


@contextlib.contextmanager
def open_run(store: Store, record: RunRecord) -> Iterator[None]:
    """Show a run in MLflow while the block works on it; `log_run` with the same key finishes it.

    Nothing where a run with the same key is finished already. Metrics of `record` are not logged.
    """
    if _finished(store, record.key) is not None:
        yield
        return
    _open.append(_OpenRun(store, record.key, _begin(store, record)))
    try:
        yield
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        with contextlib.suppress(Exception):  # the first error is the one to report
            # Its text can name a folder or a person; the study's own log has it.
            store.client().set_tag(_open[-1].run_id, NOTE, f"Ended by {type(error).__name__}.")
            store.client().set_terminated(_open[-1].run_id, status)
            for key in tuple(_live):
                end_live(key, status)
        raise
    finally:
        _open.pop()


def log_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
    """Add the metrics of an epoch, counted from 1, to the run that is open, if one is.

    What cannot be logged now is logged when the run is finished.
    """
    if not _open:
        return
    from mlflow.entities import Metric

    run, now = _open[-1], int(time.time() * 1000)
    with contextlib.suppress(Exception):  # training goes on where MLflow does not answer
        values = [Metric(name, float(value), now, epoch - 1) for name, value in metrics.items()]
        log_metrics(run.store.client(), run.run_id, values)
        run.epochs.add(epoch - 1)


def log_live(store: Store, record: RunRecord, epoch: int, metrics: Mapping[str, float]) -> None:
    """Add the metrics of an epoch, counted from 1, to a run whose training goes on in another process.

    The run is begun with its first epoch; `log_run` with the same key finishes it, `end_live` gives it up.
    """
    from mlflow.entities import Metric

    if record.key not in _live:
        if _finished(store, record.key) is not None:
            return
        _live[record.key] = _OpenRun(store, record.key, _begin(store, record))
    run, now = _live[record.key], int(time.time() * 1000)
    if epoch - 1 in run.epochs:  # the training was begun again
        return
    log_metrics(store.client(), run.run_id, [Metric(k, float(v), now, epoch - 1) for k, v in metrics.items()])
    run.epochs.add(epoch - 1)


def end_live(key: str, status: str = "FAILED") -> None:
    """Mark a run that `log_live` has begun as failed, if there is one."""
    run = _live.pop(key, None)
    if run is not None:
        with contextlib.suppress(Exception):  # the error of the training is the one to report
            run.store.client().set_terminated(run.run_id, status)


def log_part(name: str, curves: Sequence[Mapping[str, float]], params: Mapping[str, object]) -> None:
    """Add a nested run, as that of a fold, below the run that is open, if one is."""
    if _open:
        with contextlib.suppress(Exception):  # as above
            log_run(_open[-1].store, _part(name, params, curves))


def log_part_epoch(name: str, params: Mapping[str, object], epoch: int, metrics: Mapping[str, float]) -> None:
    """Add the metrics of an epoch to a nested run while it is trained; `log_part` finishes it."""
    if _open:
        log_live(_open[-1].store, _part(name, params), epoch, metrics)


def _part(name: str, params: Mapping[str, object], curves: Sequence[Mapping[str, float]] = ()) -> RunRecord:
    parent = _open[-1].run_id
    return RunRecord(name, fingerprint(parent, name), params, {}, {}, curves, parent)


def log_run(store: Store, record: RunRecord, files: Path | None = None) -> str:
    """Log a run and the files below a folder; return the run id.

    A finished run with the same key is returned as it is; an unfinished one, left by a killed process, is
    deleted and logged again.
    """
    from mlflow.entities import Metric

    going_on = next((run for run in reversed(_open) if run.key == record.key), _live.pop(record.key, None))
    if going_on is None and (finished := _finished(store, record.key)) is not None:
        return finished
    run_id = going_on.run_id if going_on is not None else _begin(store, record)
    logged = going_on.epochs if going_on is not None else set()
    client, now = store.client(), int(time.time() * 1000)
    metrics = [Metric(k, float(v), now, 0) for k, v in record.metrics.items()]
    missing = [(n, row) for n, row in enumerate(record.curves) if n not in logged]
    metrics += [Metric(k, float(v), now, n) for n, row in missing for k, v in row.items()]
    log_metrics(client, run_id, metrics)
    if files is not None:
        client.log_artifacts(run_id, str(files))
    client.set_terminated(run_id, "FINISHED")
    return run_id


def _finished(store: Store, key: str) -> str | None:
    """Return the finished run with a key; delete what a killed process left unfinished, with its parts."""
    client, experiment = store.client(), store.experiment_id()
    for old in client.search_runs([experiment], filter_string=f"tags.`{KEY_TAG}` = '{key}'"):
        if old.info.status == "FINISHED":
            return str(old.info.run_id)
        for part in client.search_runs([experiment], f"tags.`{_PARENT}` = '{old.info.run_id}'"):
            client.delete_run(part.info.run_id)
        client.delete_run(old.info.run_id)
    return None


def _begin(store: Store, record: RunRecord) -> str:
    """Make a run with its tags, settings and cohort; return its id."""
    from mlflow.entities import Param

    client = store.client()
    tags = {
        KEY_TAG: record.key,
        "mlflow.user": "",
        "mlflow.source.name": "taucal",
        "taucal.version": metadata.version("taucal"),
        "git.revision": git_revision(),
        "environment.digest": environment_digest(),
        **({_PARENT: record.parent} if record.parent else {}),
        **record.tags,
    }
    experiment = store.experiment_id()
    if record.parent is None:
        describe_runs(client, experiment)
    with nameless():
        run = client.create_run(experiment, run_name=record.name, tags=tags)
    run_id = str(run.info.run_id)
    params = [Param(k, str(v)[:_LONGEST_PARAM]) for k, v in _flat(record.params)]
    for start in range(0, len(params), 90):
        client.log_batch(run_id, params=params[start : start + 90])
    if record.cohort is not None:
        _log_cohort(client, run_id, record.name, record.cohort)
    return run_id


def _log_cohort(client: MlflowClient, run_id: str, name: str, cohort: Mapping[str, object]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    # Its source is no address: a folder's name can identify people.
    source = json.dumps({"scans": "known to the study by pseudonym"})
    shown = Dataset(name, str(cohort["digest"])[:36], "local", source, None, json.dumps(dict(cohort)))
    client.log_inputs(run_id, [DatasetInput(shown, [InputTag("mlflow.data.context", "training")])])


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
