"""Reports of scans by one classifier."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from flows.running.console import warn
from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.config import ReportSettings, Study, TauThresholds, load_study
from pipeline.files import today
from pipeline.one_scan import Inference, answer_of, imaging_of, measured_of
from pipeline.reporting.scan.centaur_status import CentaurReader
from pipeline.reporting.scan.model_facts import model_facts
from pipeline.reporting.scan.scan_build import MeasuredScan, ReportContext, build_scan_report
from pipeline.reporting.scan.scan_numbers import ScanReport
from pipeline.reporting.scan.scan_page import write_scan_report
from pipeline.reporting.scan.viewer_page import remove_viewer, write_viewer
from pipeline.scan import Volume


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
    store : Store or None
        Where what is answered is recorded; None records nothing.
    thresholds : TauThresholds
        From which a scan is tau-positive.
    centaur : CentaurReader
        Measures in CenTauR's masks, where the study names some.
    viewer : bool
        Whether reports get a viewer of the scan beside them.
    partial_volume : bool
        Whether reports show a second SUVR of each region, corrected for blur.
    """

    classifier: CalibratedClassifier
    version: str
    run_id: str
    date: str
    store: tracking.Store | None = None
    thresholds: TauThresholds = field(default_factory=TauThresholds)
    centaur: CentaurReader = field(default_factory=CentaurReader)
    viewer: bool = True
    partial_volume: bool = False

    @classmethod
    def of(cls, store: tracking.Store, model: str, study: Study | None) -> ReportWriter:
        """Return a writer for a model of a store, named as in `pipeline.tracking.load_classifier`.

        Parameters
        ----------
        study : Study or None
            Whose thresholds and CenTauR's masks are used; the defaults where there is none.
        """
        name = tracking.pinned(store, model)  # a promotion may come between the next two questions
        return cls(
            tracking.load_classifier(store, name),
            *tracking.origin(store, name),
            today(),
            store,
            TauThresholds() if study is None else study.report.tau,
            CentaurReader() if study is None else CentaurReader.of(study.imaging, study.output, warn),
            ReportSettings().viewer if study is None else study.report.viewer,
            study is not None and study.imaging.partial_volume,
        )

    def write_scan(
        self,
        scan: MeasuredScan,
        inference: Inference,
        folder: Path,
        *,
        pdf: bool = True,
        digest: str = "",
        images: str | None = None,
    ) -> tuple[ScanReport, dict[str, Path]]:
        """Write the report of a scan, with the saliency of its prediction; return it and its files.

        Parameters
        ----------
        digest : str
            Fingerprint of what was read, for the record in MLflow.
        images : str, optional
            What the images are known by; see `ScanReport.images`.
        """
        prediction = inference.prediction
        suvr = inference.normalised.suvr if inference.normalised else None
        context = ReportContext(
            model=model_facts(self.classifier, self.version),
            report_date=self.date,
            run_id=self.run_id,
            card=self.classifier.card,
            thresholds=self.thresholds,
            centaur=self.centaur.read(suvr, imaging_of(self.classifier)),
        )
        report = build_scan_report(scan, context, prediction, inference.refusal)
        report = report.model_copy(update={"images": images})
        saliency = self.classifier.saliency(suvr.array) if suvr and prediction else None
        typical = self.classifier.typical_scans
        viewer = self._write_viewer(report, suvr, folder)  # first, since the report links to it
        pages = write_scan_report(report, suvr, folder, pdf=pdf, saliency=saliency, typical=typical) | viewer
        label = f"sub-{scan.subject}_ses-{scan.session}"
        answered = tracking.AnsweredScan(
            "report",
            label,
            digest,
            self.version,
            self.run_id,
            answer_of(inference),
            pages,  # with the viewer, to which a page that is read from MLflow links too
            measured_of(inference),
        )
        record(self.store, answered)
        return report, pages

    def _write_viewer(self, report: ScanReport, suvr: Volume | None, folder: Path) -> dict[str, Path]:
        if self.viewer and suvr is not None:
            return {"viewer": write_viewer(report, suvr, folder)}
        remove_viewer(folder)
        return {}


def study_at(place: Path) -> Study | None:
    """Return the study of a YAML file or output folder; None where there is none."""
    file = place if place.is_file() else place / "study.yaml"
    return load_study(file) if file.is_file() else None


def record(store: tracking.Store | None, answered: tracking.AnsweredScan) -> None:
    """Record an answer in MLflow; that this failed is printed, and takes no report away."""
    if store is None or store.is_new():
        return
    try:
        tracking.record_answer(store, answered)
    except Exception as error:  # noqa: BLE001 - the answer itself is there
        warn(f"{answered.scan} is not recorded in MLflow ({type(error).__name__}): {error}")
