"""Reports of scans by one classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.files import today
from pipeline.one_scan import Inference
from pipeline.reporting.scan.model_facts import model_facts
from pipeline.reporting.scan.scan_build import MeasuredScan, ReportContext, build_scan_report
from pipeline.reporting.scan.scan_numbers import ScanReport
from pipeline.reporting.scan.scan_page import write_scan_report


@dataclass(frozen=True, eq=False)
class ReportWriter:
    """Writes reports of scans by one classifier.

    Parameters
    ----------
    version : str
        Of the registered model.
    run_id : str
        Of the training run.
    date : str
        Printed on every page.
    """

    classifier: CalibratedClassifier
    version: str
    run_id: str
    date: str

    @classmethod
    def of(cls, store: tracking.Store, model: str) -> ReportWriter:
        """Return a writer for a model of a store, named as in `pipeline.tracking.load_classifier`."""
        name = tracking.pinned(store, model)  # a promotion may come between the next two questions
        return cls(tracking.load_classifier(store, name), *tracking.origin(store, name), today())

    def write_scan(
        self, scan: MeasuredScan, inference: Inference, folder: Path, *, pdf: bool = True
    ) -> tuple[ScanReport, dict[str, Path]]:
        """Write the report of a scan, with the saliency of its prediction; return it and its files."""
        prediction = inference.prediction
        context = ReportContext(
            model=model_facts(self.classifier, self.version),
            report_date=self.date,
            run_id=self.run_id,
            card=self.classifier.card,
        )
        report = build_scan_report(scan, context, prediction, inference.refusal)
        suvr = inference.normalised.suvr if inference.normalised else None
        saliency = self.classifier.saliency(suvr.array) if suvr and prediction else None
        return report, write_scan_report(report, suvr, folder, pdf=pdf, saliency=saliency)
