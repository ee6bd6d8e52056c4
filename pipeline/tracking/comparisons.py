"""A comparison in MLflow: one run for all of it, a child run for each cell."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from pipeline.tracking.run_records import KEY_TAG, log_metrics
from pipeline.tracking.store import Store

_PAGE = 1000
_PARENT = "mlflow.parentRunId"
_CONCLUDED = "taucal.concluded"


def logged_cells(store: Store, parent: str) -> frozenset[str]:
    """Return the keys of the finished child runs of a run, by one question."""
    client, experiment = store.client(), store.experiment_id()
    keys: set[str] = set()
    token = None
    wanted = f"tags.`{_PARENT}` = '{parent}' AND attributes.status = 'FINISHED'"
    while True:
        page = client.search_runs([experiment], wanted, max_results=_PAGE, page_token=token)
        keys.update(run.data.tags.get(KEY_TAG, "") for run in page)
        token = page.token
        if not token:
            return frozenset(keys)


def conclude(
    store: Store, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str], key: str, files: Path
) -> None:
    """Add what a comparison found to its run; nothing where the same was added already.

    Parameters
    ----------
    key : str
        Fingerprint of the findings.
    files : Path
        Folder of the page and the tables.
    """
    from mlflow.entities import Metric

    client = store.client()
    if client.get_run(run_id).data.tags.get(_CONCLUDED) == key:
        return
    for name, value in tags.items():
        client.set_tag(run_id, name, value)
    now = int(time.time() * 1000)
    log_metrics(client, run_id, [Metric(name, float(value), now, 0) for name, value in metrics.items()])
    client.log_artifacts(run_id, str(files))
    client.set_tag(run_id, _CONCLUDED, key)
