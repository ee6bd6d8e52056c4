"""Reports of a trained study: a reviewer's page, and a clinician's page for scans of its cohort."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from flows.ingestion.ingest_tables import read_outcomes
from flows.learning.build_classifier import TrainingResult, read_selection
from flows.learning.cohorts import whole_cohort
from flows.reports.scan_reports import ReportWriter
from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.config import Study
from pipeline.files import read_json, sha256_of_file, today
from pipeline.imaging.process import Normalised, read_derivative
from pipeline.learning.ensemble_training import TrainedEnsemble
from pipeline.learning.predictions import Predictions
from pipeline.one_scan import Inference
from pipeline.reporting.comparison.comparison_numbers import ComparisonReport
from pipeline.reporting.scan.model_facts import model_versions
from pipeline.reporting.scan.scan_build import MeasuredScan
from pipeline.reporting.scan.scan_numbers import Visit
from pipeline.reporting.study.study_build import StudySources, build_study_report
from pipeline.reporting.study.study_page import write_study_report
from pipeline.scan import Cohort, Scan, Split


def report_cohort_scan(writer: ReportWriter, cohort: Cohort, scan: Scan, folder: Path) -> dict[str, Path]:
    """Write the report of a scan of the cohort from its derivatives, with its subject's earlier visits."""
    normalised = derivative_of(scan)
    warnings = normalised.warnings
    prediction = writer.classifier.predict(normalised.suvr.array, quality_reasons=warnings)
    facts = {**normalised.suvr.facts, "synthetic": scan.posterior is not None}
    measured = MeasuredScan.of(scan.subject, scan.session, facts, normalised, _visits(cohort, scan))
    inference, digest = Inference(None, normalised, prediction, None), sha256_of_file(scan.path)[:16]
    return writer.write_scan(measured, inference, folder, digest=digest)[1]


def derivative_of(scan: Scan) -> Normalised:
    """Read the SUVR derivative of a scan of the cohort."""
    return read_derivative(scan.path.parent, scan.path.name.split("_space-")[0])


def _visits(cohort: Cohort, scan: Scan) -> tuple[Visit, ...]:
    mine = sorted((s for s in cohort.scans if s.subject == scan.subject), key=lambda s: s.session)
    dated = [(day, s) for s in mine if s.session <= scan.session and (day := _day_of(s.session))]
    visits = []
    for n, (day, visited) in enumerate(dated, start=1):
        suvr = visited.facts.get("meta_roi")
        if isinstance(suvr, float):
            visits.append(Visit(label=f"visit {n}", months=(day - dated[0][0]).days / 30.44, meta_roi=suvr))
    return tuple(visits)


def _day_of(session: str) -> date | None:
    """Return the shifted date a session label starts with; None where it is no date."""
    try:
        return datetime.strptime(session[:8], "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None


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
        ReportWriter(classifier, str(trained.version), trained.run_id, today(), store),
        whole_cohort(study),
        files.read_split(),
        test,
    )


def report_study(study: Study, trained: TrainingResult, material: StudyMaterial) -> dict[str, Path]:
    """Write the study report and log it, with every figure and its numbers, to the MLflow run."""
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
        **_losses_compared(study),
    )
    folder = files.folder / "reports" / "study"
    pages = write_study_report(build_study_report(sources), folder)
    tracking.add_artifacts(
        tracking.store_of(study.tracking, study.output), trained.run_id, folder, "study_report"
    )
    return pages


def _losses_compared(study: Study) -> dict[str, Any]:
    """Return what `taucal compare` found in the same output folder, after the last calibration."""
    path = study.output / "comparison" / "comparison.json"
    if not path.is_file():
        return {}
    stage = ComparisonReport.model_validate(read_json(path)).stages[-1]
    return {"losses": {loss.name: loss.sentence for loss in stage.losses}, "losses_stage": stage.name}
