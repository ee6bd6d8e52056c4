"""Reports of a trained study: a reviewer's page, and a clinician's page for scans of its cohort."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.ingestion.ingest_tables import read_outcomes
from flows.learning.build_classifier import TrainingResult, read_selection
from flows.learning.cohorts import whole_cohort
from flows.reports.earlier_visits import derivative_of, visits_until
from flows.reports.scan_reports import ReportWriter
from flows.running.console import warn
from flows.running.task_runs import in_flow_run, log_shared, run_in_mlflow, step
from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.config import Study
from pipeline.files import read_json, sha256_of_file, today
from pipeline.learning.ensemble_training import TrainedEnsemble
from pipeline.learning.predictions import Predictions
from pipeline.one_scan import Inference
from pipeline.reporting.comparison.comparison_numbers import ComparisonReport
from pipeline.reporting.scan.centaur_status import CentaurReader
from pipeline.reporting.scan.model_facts import model_versions
from pipeline.reporting.scan.scan_build import MeasuredScan
from pipeline.reporting.study.study_build import StudySources, build_study_report
from pipeline.reporting.study.study_page import write_study_report
from pipeline.scan import Cohort, Scan, Split


def report_cohort_scan(writer: ReportWriter, cohort: Cohort, scan: Scan, folder: Path) -> dict[str, Path]:
    """Write the report of a scan of the cohort from its derivatives, with its subject's earlier visits."""
    normalised = derivative_of(scan)
    warnings = normalised.warnings
    prediction = writer.classifier.predict(normalised.suvr.array, quality_reasons=warnings)
    facts = {**normalised.suvr.facts, "synthetic": scan.posterior is not None}
    label, predicted = (scan.subject, scan.session), (writer.classifier, prediction)
    visits = visits_until(label, normalised, cohort, predicted)
    measured = MeasuredScan.of(scan.subject, scan.session, facts, normalised, visits)
    inference, digest = Inference(None, normalised, prediction, None), sha256_of_file(scan.path)[:16]
    return writer.write_scan(measured, inference, folder, digest=digest)[1]


@dataclass(frozen=True, eq=False)
class StudyMaterial:
    """What the reports of a trained study are made from, read back from its files."""

    writer: ReportWriter
    cohort: Cohort
    split: Split
    test: Predictions


def read_material(study: Study, trained: TrainingResult) -> StudyMaterial:
    """Read the classifier, the cohort and the test predictions of a trained study."""
    files = trained.files
    classifier = CalibratedClassifier.load(files.bundle)
    _, test = files.read_predictions()
    store = tracking.store_of(study.tracking, study.output)
    return StudyMaterial(
        ReportWriter(
            classifier,
            str(trained.version),
            trained.run_id,
            today(),
            store,
            study.report.tau,
            CentaurReader.of(study.imaging, study.output, warn),
            study.report.viewer,
        ),
        whole_cohort(study),
        files.read_split(),
        test,
    )


@step("write the study report", retries=1)
def report_study(study: Study, trained: TrainingResult) -> dict[str, Path]:
    """Write the study report and log it, with every figure and its numbers, to the MLflow run."""
    material = read_material(study, trained)
    files, classifier = trained.files, material.writer.classifier
    outcomes, ignored = read_outcomes(study.cohort.path)
    sources = StudySources(
        title=study.name,
        run_id=trained.run_id,
        report_date=material.writer.date,
        results=trained.results,
        selection=read_selection(study, files),
        test=material.test,
        probabilities=classifier.calibrator.transform(material.test.logits),
        cohort=material.cohort,
        split=material.split,
        history=TrainedEnsemble.load(files.network).history,
        posterior=material.cohort.subset(material.test.scan_ids).posterior,
        operating_point=classifier.operating_point,
        outcomes=outcomes,
        ignored=ignored,
        versions=model_versions(classifier, material.writer.version),
        synthetic=classifier.card.synthetic,
        target=study.cohort.target,
        **_losses_compared(study),
    )
    folder = files.folder / "reports" / "study"
    pages = write_study_report(build_study_report(sources), folder)
    store = tracking.store_of(study.tracking, study.output)
    tracking.add_artifacts(store, trained.run_id, folder, tracking.STUDY_REPORT)
    return pages


def report_challenger(study: Study, trained: TrainingResult) -> None:
    """Write the study report, which a person reads before an approval; without it the gate still decides."""
    try:
        report_study(study, trained)
    except Exception as error:  # noqa: BLE001 - the model and its results are there
        warn(f"Version {trained.version} has no study report: {error}")
        log_shared(f"Version {trained.version} has no study report ({type(error).__name__}).")


def challenger_in_mlflow(study: Study, version: int | None) -> list[str]:
    """Return where the run and the report of a challenger are, in Markdown; nothing where there is none."""
    if version is None or not in_flow_run():
        return []
    store = tracking.store_of(study.tracking, study.output)
    run_id = tracking.origin(store, f"models:/{store.model_name}/{version}")[1]
    return [run_in_mlflow(store.experiment_id(), run_id, version)]


def _losses_compared(study: Study) -> dict[str, Any]:
    """Return what `taucal compare` found in the same output folder, after the last calibration."""
    path = study.output / "comparison" / "comparison.json"
    if not path.is_file():
        return {}
    stage = ComparisonReport.model_validate(read_json(path)).stages[-1]
    return {"losses": {loss.name: loss.sentence for loss in stage.losses}, "losses_stage": stage.name}
