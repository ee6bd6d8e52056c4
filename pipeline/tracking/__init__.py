"""All uses of MLflow: where runs are stored, what is logged, which model is the champion."""

from pipeline.tracking.answer_trace import AnsweredScan
from pipeline.tracking.audit import Audit, Entry, audit_of
from pipeline.tracking.comparisons import conclude, logged_cells
from pipeline.tracking.experiment_page import HEADLINE, STUDY_REPORT, describe_runs, runs_page
from pipeline.tracking.ledger import (
    LedgerEntry,
    answered_scans,
    forget_answers,
    record_answer,
    reports_experiment,
    set_diagnosis,
)
from pipeline.tracking.read_ledger import audited_reads, record_read
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
    end_live,
    log_epoch,
    log_live,
    log_part,
    log_part_epoch,
    log_run,
    open_run,
    read_artifact,
)
from pipeline.tracking.store import Store, store_at, store_of
from pipeline.tracking.versions import register

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "HEADLINE",
    "PREVIOUS",
    "STUDY_REPORT",
    "AnsweredScan",
    "Audit",
    "Entry",
    "LedgerEntry",
    "RunRecord",
    "Store",
    "add_artifacts",
    "answered_scans",
    "audit_of",
    "audited_reads",
    "challenge",
    "champion_and_previous",
    "champion_version",
    "check_stored",
    "conclude",
    "decision_of",
    "describe_runs",
    "end_live",
    "forget_answers",
    "load_classifier",
    "log_epoch",
    "log_live",
    "log_part",
    "log_part_epoch",
    "log_run",
    "logged_cells",
    "open_run",
    "origin",
    "pinned",
    "point",
    "promote",
    "read_artifact",
    "record_answer",
    "record_read",
    "register",
    "registered_ms",
    "reports_experiment",
    "runs_page",
    "set_decision",
    "set_diagnosis",
    "store_at",
    "store_of",
    "try_store",
]
