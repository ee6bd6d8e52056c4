"""The list of reports is written again with every report and every read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.running.console import warn
from pipeline import tracking
from pipeline.config import Study, load_study
from pipeline.errors import TaucalError
from pipeline.evaluation.monitoring.read_labels import labels_from, labels_sentence
from pipeline.evaluation.monitoring.reads import AnsweredRead
from pipeline.files import today
from pipeline.reporting.reading.agreement_page import build_agreement_report, write_agreement_page
from pipeline.reporting.reading.report_list import build_report_list, write_report_list


def list_reports(study: Study, folder: Path | None = None) -> Path | None:
    """Write the list of the reports in a folder, those of the study by default; return its path.

    Beside the reports of the study lies the page of agreement, once there are reads. That a page cannot be
    written is printed: the reports themselves are there.
    """
    place = study.output / "reports" if folder is None else folder
    try:
        reads = tracking.audited_reads(tracking.audit_of(study.output))
        report = build_report_list(place, reads, study.name, blind=study.report.blind_reads)
        if folder is None and reads:
            _write_agreement(study, reads, place, synthetic=report.synthetic)
        own = place.resolve() == (study.output / "reports").resolve()
        return write_report_list(report, place, follows_reads=own)
    except (TaucalError, OSError) as error:
        warn(f"The list of reports is not written: {error}")
        return None


def _write_agreement(study: Study, reads: Sequence[AnsweredRead], place: Path, *, synthetic: bool) -> None:
    from pipeline.evaluation.monitoring.agreement import agreement_of  # statistics: one report needs none

    labels = labels_sentence(labels_from(reads, study.cohort.classes, study.labels), study.labels)
    report = build_agreement_report(agreement_of(reads), study.name, today(), labels, synthetic=synthetic)
    write_agreement_page(report, place)


def list_reports_at(named: Path, folder: Path) -> Path | None:
    """Write the list of a folder, given the YAML file or the output folder of a study, if it has one."""
    file = named if named.is_file() else named / "study.yaml"
    if not file.is_file():
        return None
    study = load_study(file)
    return list_reports(study if named.is_file() else study.model_copy(update={"output": named}), folder)
