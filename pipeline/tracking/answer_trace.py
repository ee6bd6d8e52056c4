"""An answered scan in the form of an MLflow trace: what its list shows, and the one span with everything."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.tracking.reported_scans import KIND, SCAN

if TYPE_CHECKING:  # see pipeline.tracking.store
    from uuid import UUID

    from mlflow.entities import Span, TraceInfo

SUBJECT, VERSION = "taucal.subject", "taucal.model_version"
"""Tags of an answer: the subject's pseudonym, and the model's version."""
MEASURED = "taucal.measured"
"""Attribute of the span: what the weekly check compares."""


@dataclass(frozen=True)
class AnsweredScan:
    """What a model answered about a scan.

    Parameters
    ----------
    kind : str
        ``"report"``, ``"predict"`` or ``"served"``.
    scan : str
        Pseudonym, ``sub-<subject>_ses-<session>``.
    input_digest : str
        Fingerprint of what was read.
    version, run_id : str
        Of the registered model, and of its training run.
    answer : mapping
        JSON-able: decision, probabilities, prediction set, reasons.
    files : mapping of str to Path
        Files of the report by kind.
    measured : mapping
        JSON-able: what the weekly check compares, see `pipeline.one_scan.measured_of`.
    """

    kind: str
    scan: str
    input_digest: str
    version: str
    run_id: str
    answer: Mapping[str, Any]
    files: Mapping[str, Path] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)


def info_of(answered: AnsweredScan, number: UUID, now_ns: int, experiment: str) -> TraceInfo:
    """Return the head of a trace: what MLflow lists, and the tags by which it is found."""
    from mlflow.entities import TraceInfo, TraceLocation, TraceState

    return TraceInfo(
        trace_id=_id_of(number),
        trace_location=TraceLocation.from_experiment_id(experiment),
        request_time=now_ns // 1_000_000,
        state=TraceState.OK,
        request_preview=answered.scan,
        response_preview=_in_short(answered.answer)[:1000],
        client_request_id=answered.scan,
        execution_duration=0,
        trace_metadata={"mlflow.trace_schema.version": "3", "taucal.run_id": answered.run_id},
        tags={
            "mlflow.traceName": answered.kind,
            KIND: answered.kind,
            SCAN: answered.scan,
            SUBJECT: answered.scan.partition("_")[0],
            VERSION: answered.version,
        },
    )


def span_of(answered: AnsweredScan, number: UUID, now_ns: int, files: Mapping[str, str]) -> Span:
    """Return the one span of a trace: what was asked, what was answered, what was measured.

    Parameters
    ----------
    number : UUID
        That of the trace, as in `info_of`.
    files : mapping of str to str
        MLflow's reference to each file of the report, by kind.
    """
    from mlflow.entities import Span

    asked = {"scan": answered.scan, "input_digest": answered.input_digest}
    span: dict[str, Any] = {
        "trace_id": base64.b64encode(number.bytes).decode(),
        "span_id": base64.b64encode(os.urandom(8)).decode(),
        "parent_span_id": None,
        "name": answered.kind,
        "start_time_unix_nano": now_ns,
        "end_time_unix_nano": now_ns,
        "events": [],
        "status": {"code": "STATUS_CODE_OK", "message": ""},
        "attributes": {
            "mlflow.traceRequestId": json.dumps(_id_of(number)),
            "mlflow.spanType": json.dumps("CHAIN"),
            "mlflow.spanInputs": json.dumps(asked),
            "mlflow.spanOutputs": json.dumps(_in_order({**answered.answer, **files}), default=float),
            MEASURED: json.dumps(dict(answered.measured), default=float),
        },
    }
    return Span.from_dict(span)


def _id_of(number: UUID) -> str:
    return f"tr-{number.hex}"


def _in_order(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Put the decision and the page of the report first: MLflow shows them in this order."""
    first = [key for key in ("decision", "html") if key in outputs]
    return {key: outputs[key] for key in (*first, *outputs)}


def _in_short(answer: Mapping[str, Any]) -> str:
    """Return decision, probabilities and reasons as one line, for MLflow's list."""
    shares = (answer.get("probabilities") or {}).items()
    stated = ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares)
    reasons = "; ".join(map(str, answer.get("reasons") or ()))
    return ". ".join(filter(None, (f"{answer.get('decision', '')}: {stated}".rstrip(": "), reasons)))
