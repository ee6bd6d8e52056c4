"""All that touches MLflow: where runs are kept, what is logged, which model is the champion."""

from pipeline.tracking.registry import (
    CHAMPION,
    PREVIOUS,
    champion_version,
    load_classifier,
    origin,
    promote,
    rollback,
)
from pipeline.tracking.runs import RunRecord, add_artifacts, log_run, read_artifact
from pipeline.tracking.store import Store, store_at, store_of, try_store
from pipeline.tracking.versions import register

__all__ = [
    "CHAMPION",
    "PREVIOUS",
    "RunRecord",
    "Store",
    "add_artifacts",
    "champion_version",
    "load_classifier",
    "log_run",
    "origin",
    "promote",
    "read_artifact",
    "register",
    "rollback",
    "store_at",
    "store_of",
    "try_store",
]
