"""Reports: a clinician's page for one scan, a reviewer's page for the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.cohorts import load_cohort, split_of
from flows.ingest import read_outcomes
from flows.train import Trained
from models.classifier import CalibratedClassifier, Prediction
from pipeline import tracking
from pipeline.config import Study, TrackingSettings
from pipeline.errors import ConfigError
from pipeline.evaluation.selection import select_calibrator
from pipeline.imaging.process import Normalised, read_derivative
from pipeline.ingest.deidentify import Pseudonymiser, load_or_make_key
from pipeline.ingest.found import FoundScan
from pipeline.ingest.sources import find_scans
from pipeline.learning.prediction import Predictions
from pipeline.learning.trained import TrainedNetwork
from pipeline.one_scan import Inference, infer
from pipeline.reporting.page import Named
from pipeline.reporting.scan_build import MeasuredScan, ReportContext, build_scan_report
from pipeline.reporting.scan_numbers import Likeness, MetricRow, ModelFacts, Visit
from pipeline.reporting.scan_report import write_scan_report
from pipeline.reporting.study_report import StudySources, build_study_report, write_study_report
from pipeline.scan import Cohort, Scan, Split


@dataclass(frozen=True, eq=False)
class Teller:
    """A classifier with what its reports say about it.

    Parameters
    ----------
    classifier : CalibratedClassifier
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

    def context(self, prediction: Prediction | None) -> ReportContext:
        """Return what the report of one scan stands in."""
        card = self.classifier.card
        norms = pd.DataFrame(card.get("norms", []), columns=["region", "side", "mean", "sd", "n"])
        likeness = None if prediction is None else _likeness(card, prediction.confidence)
        return ReportContext(self._model_facts(), self.date, self.run_id, norms, likeness)

    def _model_facts(self) -> ModelFacts:
        card, split = self.classifier.card, self.classifier.card.get("split", {})
        kind = "synthetic AV1451 scans" if card.get("synthetic") else f"{card.get('tracer', 'PET')} scans"
        counts = ", ".join(f"{n} {name}" for name, n in card.get("class_counts", {}).items())
        subjects = card.get("subjects", {})
        return ModelFacts(
            name="taucal",
            version=self.version,
            trained_on=f"{split.get('train')} {kind} ({counts}) of {subjects.get('train')} subjects",
            tested_on=f"{split.get('test')} {kind} of {subjects.get('test')} other subjects",
            metrics=tuple(
                MetricRow(name=name, value=m["value"], low=m["low"], high=m["high"])
                for name, m in card.get("metrics", {}).items()
            ),
            versions=tuple(Named(label=name, value=value) for name, value in self.versions().items()),
        )

    def versions(self) -> dict[str, str]:
        """Return versions and hashes of what the classifier was made from."""
        card = self.classifier.card
        return {
            "taucal": metadata.version("taucal"),
            "model version": self.version,
            "network": self.classifier.network_name,
            "loss": str(card.get("loss", {}).get("name", "unknown")),
            "calibrator": str(card.get("calibrator", {}).get("name", "unknown")),
            "data digest": str(card.get("data_digest", "unknown")),
            "split digest": str(card.get("split_digest", "unknown")),
        }


def _likeness(card: Mapping[str, Any], confidence: float) -> Likeness | None:
    for low, high, count, right in card.get("likeness", []):
        if low < confidence <= high or (low == 0 == confidence):
            return Likeness(low=low, high=high, count=count, right=right)
    return None


def today() -> str:
    """Return the date of today as reports print it."""
    return datetime.now(UTC).date().isoformat()


@dataclass(frozen=True)
class Request:
    """What is asked of `report_scans`.

    Parameters
    ----------
    out : Path
        One folder per scan is made in it, named by pseudonym.
    model : str
        As in `pipeline.tracking.load_classifier`.
    output : Path
        Folder of the study whose MLflow store holds the model.
    prevalence : mapping of str to float, optional
        The clinic's class shares.
    key_file : Path, optional
        Secret of the pseudonyms; beside `out` where not given.
    pdf : bool
    """

    out: Path
    model: str
    output: Path
    prevalence: Mapping[str, float] | None = None
    key_file: Path | None = None
    pdf: bool = True


def report_scans(scans: Sequence[Path], request: Request) -> list[dict[str, Path]]:
    """Write a report for each scan, which need not be in any cohort.

    Parameters
    ----------
    scans : sequence of Path
        DICOM folders or NIfTI files.
    request : Request

    Raises
    ------
    InputError
        If a path or the model is not there, or the prevalence does not name the model's classes.
    """
    found = [found_at(path) for path in scans]
    store = tracking.store_of(TrackingSettings(), request.output)
    classifier = tracking.load_classifier(store, request.model)
    if request.prevalence is not None and set(request.prevalence) != set(classifier.class_names):
        raise ConfigError(
            f"A prevalence must name the classes {', '.join(classifier.class_names)}, "
            f"got {', '.join(request.prevalence)}",
            culprit="--prevalence",
        )
    version = tracking.champion_version(store) if request.model.startswith("@") else None
    teller = Teller(
        classifier, str(version or request.model), str(classifier.card.get("run_key", "")), today()
    )
    key_file = request.key_file or request.out.with_name(request.out.name + ".key")
    pseudonymiser = Pseudonymiser(load_or_make_key(key_file, request.out))
    written = []
    for path, scan in zip(scans, found, strict=True):
        inference = infer(classifier, path, None if request.prevalence is None else dict(request.prevalence))
        folder = request.out / scan.label(pseudonymiser)
        written.append(write_report(teller, scan.label(pseudonymiser), inference, folder, pdf=request.pdf))
    return written


def found_at(path: Path) -> FoundScan:
    """Return what is known of the scan at a path: a DICOM folder, or a NIfTI file by its BIDS entities.

    Raises
    ------
    InputError
        If there is no scan.
    """
    if path.is_file():
        entities = dict(part.partition("-")[::2] for part in path.name.split(".")[0].split("_"))
        return FoundScan(
            (path,), "nifti", entities.get("sub", path.name), session_label=entities.get("ses", "")
        )
    return find_scans(path).scans[0]


def write_report(
    teller: Teller, label: str, inference: Inference, folder: Path, *, pdf: bool
) -> dict[str, Path]:
    """Write the report of one inference into a folder; `label` is ``sub-<subject>_ses-<session>``."""
    normalised, volume = inference.normalised, inference.volume
    subject, _, session = label.removeprefix("sub-").partition("_ses-")
    scan = MeasuredScan(
        subject=subject,
        session=session,
        facts=normalised.suvr.facts if normalised else (volume.facts if volume else {}),
        regions=normalised.regions if normalised else None,
        composites=normalised.composites if normalised else {},
        findings=normalised.findings if normalised else (),
    )
    return _write(teller, scan, inference, folder, pdf=pdf)


def _write(
    teller: Teller, scan: MeasuredScan, inference: Inference, folder: Path, *, pdf: bool
) -> dict[str, Path]:
    context = teller.context(inference.prediction)
    report = build_scan_report(scan, context, inference.prediction, inference.refusal)
    suvr = inference.normalised.suvr if inference.normalised else None
    saliency = None
    if suvr is not None and inference.prediction is not None:
        saliency = teller.classifier.saliency(suvr.array)
    return write_scan_report(report, suvr, folder, pdf=pdf, saliency=saliency)


def report_cohort_scan(teller: Teller, cohort: Cohort, scan: Scan, folder: Path) -> dict[str, Path]:
    """Write the report of a scan of the cohort from its derivatives, with its subject's earlier visits."""
    normalised = derivative_of(scan)
    warnings = normalised.warnings
    prediction = teller.classifier.predict(normalised.suvr.array, quality_reasons=warnings)
    measured = MeasuredScan(
        subject=scan.subject,
        session=scan.session,
        facts={**normalised.suvr.facts, "synthetic": scan.posterior is not None},
        regions=normalised.regions,
        composites=normalised.composites,
        findings=normalised.findings,
        visits=_visits(cohort, scan),
    )
    return _write(teller, measured, Inference(None, normalised, prediction, None), folder, pdf=True)


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
    """Return the shifted date a session label starts with; None where it tells another thing."""
    try:
        return datetime.strptime(session[:8], "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None


@dataclass(frozen=True, eq=False)
class Shipped:
    """What the reports of a trained study are made from, read back from its files."""

    teller: Teller
    cohort: Cohort
    split: Split
    test: Predictions
    probabilities: NDArray[np.float64]


def read_shipped(study: Study, trained: Trained) -> Shipped:
    """Read the classifier, the cohort and the test predictions of a trained study."""
    files = trained.files
    classifier = CalibratedClassifier.load(files.bundle)
    cohort, _, official = load_cohort(study)
    test = Predictions.load(files.predictions("test"))
    return Shipped(
        Teller(classifier, str(trained.version), trained.run_id, today()),
        cohort,
        official or split_of(study, cohort),
        test,
        classifier.calibrator.transform(test.logits),
    )


def report_study(study: Study, trained: Trained, shipped: Shipped) -> dict[str, Path]:
    """Write the study report and log it, with every figure and its numbers, to the MLflow run."""
    files = trained.files
    calibration = Predictions.load(files.predictions("calibration"))
    selection = select_calibrator(
        calibration, study.calibration.candidates, study.calibration.folds, study.seed
    )
    outcomes, ignored = read_outcomes(study.cohort.path)
    sources = StudySources(
        title=study.name,
        run_id=trained.run_id,
        report_date=shipped.teller.date,
        results=trained.results,
        selection=selection,
        test=shipped.test,
        shipped=shipped.probabilities,
        cohort=shipped.cohort,
        split=shipped.split,
        history=TrainedNetwork.load(files.network).history,
        posterior=shipped.cohort.subset(shipped.test.scan_ids).posterior,
        operating_point=shipped.teller.classifier.operating_point,
        outcomes=outcomes,
        ignored=ignored,
        versions=shipped.teller.versions(),
        synthetic=bool(shipped.teller.classifier.card.get("synthetic")),
    )
    folder = files.folder / "reports" / "study"
    pages = write_study_report(build_study_report(sources), folder)
    tracking.add_artifacts(
        tracking.store_of(study.tracking, study.output), trained.run_id, folder, "study_report"
    )
    return pages


def three_kinds(shipped: Shipped) -> dict[str, Scan]:
    """Choose one clear, one uncertain and one scan to refer among the test scans.

    Clear is the most confident of those reported; uncertain the least confident of those whose prediction
    set holds several classes; to refer the strangest of the others, by its distance to the calibration scans.
    """
    by_id = {s.scan_id: s for s in shipped.cohort.scans}
    confidence = shipped.probabilities.max(axis=1)
    sets = shipped.teller.classifier.conformal.sets(shipped.probabilities).sum(axis=1)
    strangeness = shipped.teller.classifier.outliers.mahalanobis(shipped.test.features)
    order = np.argsort(-confidence, kind="stable")
    quality = np.array([by_id[i].facts.get("quality") == "accepted" for i in shipped.test.scan_ids])
    calm = quality & (strangeness <= shipped.teller.classifier.outliers.mahalanobis_limit)
    clear = next((i for i in order if sets[i] == 1 and calm[i]), order[0])
    left = [i for i in order[::-1] if i != clear]
    uncertain = next((i for i in left if sets[i] > 1 and calm[i]), left[0])
    refer = max((i for i in left if i != uncertain), key=lambda i: (not quality[i], strangeness[i]))
    ids = shipped.test.scan_ids
    return {"clear": by_id[ids[clear]], "uncertain": by_id[ids[uncertain]], "refer": by_id[ids[refer]]}
