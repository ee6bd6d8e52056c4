"""All uses of MLflow: where runs are stored, what is logged, which model is the champion."""

from pipeline.tracking.audit import Audit, Entry, audit_of
from pipeline.tracking.comparisons import conclude, logged_cells
from pipeline.tracking.registered import try_store
from pipeline.tracking.registry import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    challenge,
    champion_and_previous,
    champion_version,
    check_stored,
    decision_of,
    load_classifier,
    origin,
    pinned,
    point,
    promote,
    registered_ms,
    set_decision,
)
from pipeline.tracking.run_records import RunRecord, add_artifacts, log_run, read_artifact
from pipeline.tracking.store import Store, store_at, store_of
from pipeline.tracking.versions import register

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "PREVIOUS",
    "Audit",
    "Entry",
    "RunRecord",
    "Store",
    "add_artifacts",
    "audit_of",
    "challenge",
    "champion_and_previous",
    "champion_version",
    "check_stored",
    "conclude",
    "decision_of",
    "load_classifier",
    "log_run",
    "logged_cells",
    "origin",
    "pinned",
    "point",
    "promote",
    "read_artifact",
    "register",
    "registered_ms",
    "set_decision",
    "store_at",
    "store_of",
    "try_store",
]
