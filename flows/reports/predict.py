"""Predictions of scans, printed; no file is written."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.report import scans_at
from flows.reports.report_names import under_known_names
from flows.reports.scan_reports import record
from flows.running.console import progress
from pipeline import tracking
from pipeline.errors import InputError, TaucalError
from pipeline.evaluation.monitoring.read_words import DECISIONS
from pipeline.files import digest_of_path
from pipeline.ingest.archives import opened
from pipeline.ingest.deidentify import (
    Pseudonymiser,
    dataset_of_study,
    key_of_study,
    load_or_make_key,
)
from pipeline.one_scan import Answer, answer_with_measures, check_prevalence
from pipeline.reporting.page.facts import listed


def predict_scans(
    scans: Sequence[Path], model: str, output: Path, prevalence: Mapping[str, float] | None = None
) -> list[Answer]:
    """Predict each scan with the registered model.

    Parameters
    ----------
    scans : sequence of Path
        Folders of DICOM files, or NIfTI files.
    model : str
        As in `pipeline.tracking.load_classifier`.
    output : Path
        Folder of the study whose store holds the model.
    prevalence : mapping of str to float, optional
        The clinic's class shares.

    Returns
    -------
    list of Answer
        One for each scan; that of a refused scan has the reasons.

    Raises
    ------
    InputError
        If a path or the model is not there, or the prevalence does not name the model's classes.
    """
    for path in scans:
        if not path.exists():
            raise InputError(
                "There is no such file or folder",
                where=str(path),
                hint="name a folder of DICOM files or a NIfTI file",
            )
    store = tracking.store_at(output)
    model = tracking.pinned(store, model)
    classifier = tracking.load_classifier(store, model)
    version, run_id = tracking.origin(store, model)
    key = key_of_study(output)
    shares = None if prevalence is None else check_prevalence(classifier, prevalence)
    answers = []
    with progress("predict") as tick:
        for n, path in enumerate(scans, start=1):
            given, measured = answer_with_measures(classifier, path, shares)
            answers.append(given)
            label, digest = identify(path, key, output)
            answered = tracking.AnsweredScan(
                "predict", label, digest, version, run_id, {**given}, measured=measured
            )
            record(store, answered)
            tick(n, len(scans), "")
    return answers


def identify(path: Path, key_file: Path | None, study: Path) -> tuple[str, str]:
    """Return pseudonym and digest of a scan; the pseudonym is made of the digest where there is no key.

    Parameters
    ----------
    key_file : Path or None
        Of the dataset of the study.
    study : Path
        Output folder of the study.
    """
    digest = digest_of_path(path)
    if key_file is not None:
        with contextlib.suppress(TaucalError, OSError):  # as the answer states
            names = Pseudonymiser(load_or_make_key(key_file, dataset_of_study(study) or study))
            with opened(path) as view:
                found = under_known_names([scans_at(path, view)], key_file, names, study)
            if len(found) == 1:
                return found[0].label(names), digest
    return f"scan-{digest}", digest


def rows_of(scans: Sequence[Path], answers: Sequence[Answer]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of answers; the clinic's probabilities first, where it has any."""
    names = next((list(a["probabilities"]) for a in answers if a["probabilities"] is not None), [])
    stated = any(a["clinic_probabilities"] for a in answers)
    columns = [f"{name}, {where}" for where in ("clinic", "training") for name in names] if stated else names
    return ["scan", "decision", *columns, "set", "reasons"], [
        [path.name, *_cells(a, names, stated=stated)] for path, a in zip(scans, answers, strict=True)
    ]


def _cells(found: Answer, names: Sequence[str], *, stated: bool) -> list[str]:
    columns = [found["clinic_probabilities"], found["probabilities"]] if stated else [found["probabilities"]]
    shown = [_percent((column or {}).get(name)) for column in columns for name in names]
    in_set = listed(found["prediction_set"] or (), "or")
    return [DECISIONS[found["decision"]], *shown, in_set, "; ".join(found["reasons"])]


def _percent(probability: float | None) -> str:
    return "-" if probability is None else f"{100 * probability:.1f} %"
