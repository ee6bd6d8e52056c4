"""All uses of MLflow: where runs are stored, what is logged, which model is the champion."""

from pipeline.tracking.audit import Audit, Entry, audit_of
from pipeline.tracking.comparisons import conclude, logged_cells
from pipeline.tracking.ledger import (
    AnsweredScan,
    LedgerEntry,
    answered_scans,
    forget_answers,
    record_answer,
    set_diagnosis,
)
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
from pipeline.tracking.run_records import (
    RunRecord,
    add_artifacts,
    log_epoch,
    log_part,
    log_run,
    open_run,
    read_artifact,
)
from pipeline.tracking.store import Store, store_at, store_of
from pipeline.tracking.versions import register

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "PREVIOUS",
    "AnsweredScan",
    "Audit",
    "Entry",
    "LedgerEntry",
    "RunRecord",
    "Store",
    "add_artifacts",
    "answered_scans",
    "audit_of",
    "challenge",
    "champion_and_previous",
    "champion_version",
    "check_stored",
    "conclude",
    "decision_of",
    "forget_answers",
    "load_classifier",
    "log_epoch",
    "log_part",
    "log_run",
    "logged_cells",
    "open_run",
    "origin",
    "pinned",
    "point",
    "promote",
    "read_artifact",
    "record_answer",
    "register",
    "registered_ms",
    "set_decision",
    "set_diagnosis",
    "store_at",
    "store_of",
    "try_store",
]
