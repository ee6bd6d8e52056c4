"""The scans that have a recorded report, wherever its files lie; read without MLflow if possible."""

from __future__ import annotations

import sqlite3

from pipeline.errors import InputError
from pipeline.tracking.registered import file_problem, opened_file
from pipeline.tracking.store import Store

SCAN, KIND = "taucal.scan", "taucal.kind"
"""Tags of an answer: the scan's pseudonym, and what was asked for."""
_REPORT = "report"
"""The kind of an answer whose report was written."""
_REPORTED = """SELECT DISTINCT scan.value FROM trace_info AS answer
JOIN experiments USING (experiment_id)
JOIN trace_tags AS kind ON kind.request_id = answer.request_id AND kind."key" = ? AND kind.value = ?
JOIN trace_tags AS scan ON scan.request_id = answer.request_id AND scan."key" = ?
WHERE experiments.workspace = 'default' AND experiments.name = ?"""


def reported_scans(store: Store) -> frozenset[str]:
    """Return the pseudonyms of the scans whose report the ledger holds; nothing is written.

    Raises
    ------
    InputError
        If the store cannot be read.
    """
    if store.is_new():
        return frozenset()
    if store.file is not None and file_problem(store) is None:
        try:
            with opened_file(store.file) as database:
                found = database.execute(_REPORTED, (KIND, _REPORT, SCAN, answers_experiment(store)))
                return frozenset(scan for (scan,) in found)
        except sqlite3.Error as error:
            raise InputError(
                f"The recorded reports cannot be read ({error})",
                where=store.address,
                hint="correct the file's permissions, or restore a copy from a backup",
            ) from error
    return _asked_of_mlflow(store)


def _asked_of_mlflow(store: Store) -> frozenset[str]:
    client = store.client()
    experiment = client.get_experiment_by_name(answers_experiment(store))
    scans: set[str] = set()
    token = None
    while experiment is not None:
        page = client.search_traces(
            locations=[experiment.experiment_id], filter_string=f"tags.`{KIND}` = '{_REPORT}'",
            max_results=500, page_token=token, include_spans=False,
        )  # fmt: skip
        scans.update(trace.info.tags.get(SCAN, "") for trace in page)
        token = page.token
        if not token:
            break
    return frozenset(scans - {""})


def answers_experiment(store: Store) -> str:
    """Return the name of the experiment of the answers."""
    return f"{store.experiment} reports"
