"""What MLflow's pages show first: a view of the runs with the headline metrics, and what an experiment holds.

MLflow's list of runs has no column of a metric until a person chooses one. So a view is stored with the
experiment: MLflow lists it under "Views", and the description above the list links to it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # see pipeline.tracking.store
    from mlflow import MlflowClient

HEADLINE = (
    "negative_log_likelihood", "classwise_ece", "expected_calibration_error", "macro_auroc",
    "balanced_accuracy",
)  # fmt: skip
"""Metrics of a run that a person reads; all others are in the run's ``metrics.json``."""
STUDY_REPORT = "study_report"
"""Folder of the study report among the artifacts of a run."""
NOTE = "mlflow.note.content"
"""Tag with the description of an experiment or a run."""
_KIND = "mlflow.experimentKind"
_SHOWN = ("negative_log_likelihood", "classwise_ece", "macro_auroc")
_KEY = "taucal"
_VIEW = f"mlflow.sharedViewState.{_KEY}"
_NAME = "NLL, calibration error, AUROC"


def runs_page(experiment: str) -> str:
    """Return the address, below MLflow's own, of the runs of an experiment with their headline metrics.

    Examples
    --------
    >>> runs_page("1")
    '#/experiments/1/runs?viewStateShareKey=taucal&workflowType=machine_learning'
    """
    return f"#/experiments/{experiment}/runs?viewStateShareKey={_KEY}&workflowType=machine_learning"


def describe_runs(client: MlflowClient, experiment: str) -> None:
    """Give the experiment of the runs its view and, where it has none, its description."""
    known = client.get_experiment(experiment).tags
    note = f"Trainings and comparisons. [Runs with {_NAME}]({runs_page(experiment)})."
    wanted = {_VIEW: _view(), _KIND: "custom_model_development", NOTE: known.get(NOTE) or note}
    for key, value in wanted.items():
        if known.get(key) != value:
            client.set_experiment_tag(experiment, key, value)


def _view() -> str:
    columns = [f"metrics.`{name}`" for name in _SHOWN]
    state = {
        "searchFilter": "", "orderByKey": "attributes.start_time", "orderByAsc": False, "startTime": "ALL",
        "lifecycleFilter": "Active", "modelVersionFilter": "All Runs", "datasetsFilter": [],
        "selectedColumns": columns, "columnWidths": dict.fromkeys(columns, 150),
    }  # fmt: skip
    return json.dumps({"name": _NAME, "createdAt": 0, "state": json.dumps(state)})


REPORTS = {
    _KIND: "genai_development",  # MLflow's pages of traces
    NOTE: "Answered scans: the report is among the outputs of a trace, a later diagnosis its assessment.",
}
"""Tags of the experiment of the answered scans."""
