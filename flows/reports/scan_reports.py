"""The clinician's page for one scan that need not be in any cohort; light to import, for it must be quick."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from models.card import ConfidenceBin
from models.classifier import CalibratedClassifier, Prediction
from pipeline import tracking
from pipeline.errors import InputError, RefusedScan
from pipeline.ingest.deidentify import Pseudonymiser, load_or_make_key
from pipeline.ingest.found import FoundScan
from pipeline.ingest.headers import Layers, is_dicom, read_file
from pipeline.ingest.sources import find_scans
from pipeline.one_scan import Inference, check_prevalence, infer
from pipeline.reporting.page.facts import Named
from pipeline.reporting.scan.scan_build import MeasuredScan, ReportContext, build_scan_report
from pipeline.reporting.scan.scan_numbers import Likeness, MetricRow, ModelFacts, ScanReport
from pipeline.reporting.scan.scan_page import write_scan_report


@dataclass(frozen=True, eq=False)
class ReportWriter:
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

    @classmethod
    def of(cls, store: tracking.Store, model: str) -> ReportWriter:
        """Return who tells of a model of a store, named as in `pipeline.tracking.load_classifier`."""
        name = tracking.pinned(store, model)  # a promotion may come between the next two questions
        return cls(tracking.load_classifier(store, name), *tracking.origin(store, name), today())

    def context(self, prediction: Prediction | None) -> ReportContext:
        """Return what the report of one scan stands in."""
        card = self.classifier.card
        columns = ["region", "side", "mean", "sd", "n"]
        norms = pd.DataFrame([dict(norm) for norm in card.norms], columns=columns)
        likeness = None if prediction is None else _likeness(card.bin_of(prediction.confidence))
        return ReportContext(self._model_facts(), self.date, self.run_id, norms, likeness)

    def _model_facts(self) -> ModelFacts:
        card = self.classifier.card
        kind = f"{'synthetic ' if card.synthetic else ''}{card.tracer} scans"
        counts = ", ".join(f"{n} {name}" for name, n in card.class_counts.items())
        return ModelFacts(
            name="taucal",
            version=self.version,
            trained_on=f"{card.split.train} {kind} ({counts}) of {card.subjects.train} subjects",
            tested_on=f"{card.split.test} {kind} of {card.subjects.test} other subjects",
            metrics=tuple(
                MetricRow(name=name, value=m.value, low=m.low, high=m.high)
                for name, m in card.metrics.items()
            ),
            versions=tuple(Named(label=name, value=value) for name, value in self.versions().items()),
        )

    def versions(self) -> dict[str, str]:
        """Return versions and hashes of what the classifier was made from."""
        card = self.classifier.card
        return {
            "taucal": metadata.version("taucal"),
            "model version": self.version,
            "network": self.classifier.network_title,
            "loss": card.loss.name,
            "calibrator": card.calibrator.name,
            "data digest": card.data_digest,
            "split digest": card.split_digest,
        }


def _likeness(bin_: ConfidenceBin | None) -> Likeness | None:
    if bin_ is None:
        return None
    return Likeness(low=bin_.low, high=bin_.high, count=bin_.scans, right=bin_.right)


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
    dicom : bool
        Also write the DICOM objects, which carry the patient's identity.
    send : str, optional
        Send the DICOM objects to this node, ``AET@HOST:PORT``.
    """

    out: Path
    model: str
    output: Path
    prevalence: Mapping[str, float] | None = None
    key_file: Path | None = None
    pdf: bool = True
    dicom: bool = False
    send: str | None = None


def report_scans(scans: Sequence[Path], request: Request) -> list[dict[str, Path]]:
    """Write a report for each scan, which need not be in any cohort.

    Parameters
    ----------
    scans : sequence of Path
        Folders of DICOM, or single files: NIfTI or DICOM, in a BIDS dataset or anywhere.
    request : Request

    Returns
    -------
    list of dict
        For each scan the written files by kind, as in `write_scan_report` and `write_dicom_objects`.

    Raises
    ------
    InputError
        If a path or the model is not there, the prevalence does not name the model's classes, or DICOM is
        asked for a scan that is none.
    TaucalError
        If the node does not store the report; the report stands nevertheless.
    """
    found = [scan for path in scans for scan in scans_at(path)]
    _check_dicom(found, request)
    writer = ReportWriter.of(tracking.store_at(request.output), request.model)
    shares = None if request.prevalence is None else check_prevalence(writer.classifier, request.prevalence)
    key_file = request.key_file or request.out.with_name(request.out.name + ".key")
    pseudonymiser = Pseudonymiser(load_or_make_key(key_file, request.out))
    written = []
    for scan, label in zip(found, _labels(found, pseudonymiser), strict=True):
        inference = infer(writer.classifier, scan, shares)
        own = {"age": scan.age, "sex": scan.sex, "study_instance_uid": _study(scan, pseudonymiser)}
        report, pages = write_report(writer, label, own, inference, request.out / label, pdf=request.pdf)
        written.append(pages | _as_dicom(scan, report, pages, request))
    return written


def scans_at(path: Path) -> tuple[FoundScan, ...]:
    """Return the scans at a path: all of a folder, or the one a file is or belongs to.

    Raises
    ------
    InputError
        If there is none.
    """
    if not path.is_file():
        return find_scans(path).scans
    root = next((p for p in path.parents if (p / "dataset_description.json").is_file()), None)
    if is_dicom(path):
        around = find_scans(path.parent, "dicom").scans
    elif root is not None and "derivatives" not in path.parts:
        around = find_scans(root, "bids").scans
    else:
        around = find_scans(path.parent, "nifti").scans
    mine = tuple(scan for scan in around if path in scan.files)
    if not mine:
        raise InputError(
            "The file is no PET scan",
            where=str(path),
            hint="name a folder of DICOM files, a DICOM file or a NIfTI file",
        )
    return mine


def _labels(scans: Iterable[FoundScan], pseudonymiser: Pseudonymiser) -> Iterator[str]:
    """Yield a label for each scan; one that was used before in this call gets a number."""
    used: dict[str, int] = {}
    for scan in scans:
        label = scan.label(pseudonymiser)
        used[label] = used.get(label, 0) + 1
        yield label if used[label] == 1 else f"{label}n{used[label]}"


def _study(scan: FoundScan, pseudonymiser: Pseudonymiser) -> str | None:
    """Return the UID that stands for the study's; whoever has the key can tell that they belong together."""
    try:
        header = read_file(scan.files[0], tags=("StudyInstanceUID",)) if scan.format == "dicom" else None
    except RefusedScan:  # a broken file: reading the scan will say so
        return None
    uid = None if header is None else Layers((header,)).text("StudyInstanceUID")
    return pseudonymiser.uid(uid) if uid else None


def write_report(
    writer: ReportWriter,
    label: str,
    known: Mapping[str, Any],
    inference: Inference,
    folder: Path,
    *,
    pdf: bool = True,
) -> tuple[ScanReport, dict[str, Path]]:
    """Write the report of one inference into a folder.

    Parameters
    ----------
    label : str
        ``sub-<subject>_ses-<session>``.
    known : mapping
        What is known of the scan beside its header.
    """
    normalised, volume = inference.normalised, inference.volume
    subject, _, session = label.removeprefix("sub-").partition("_ses-")
    facts = normalised.suvr.facts if normalised else (volume.facts if volume else {})
    scan = MeasuredScan(
        subject=subject,
        session=session,
        facts={**known, **facts},
        regions=normalised.regions if normalised else None,
        composites=normalised.composites if normalised else {},
        findings=normalised.findings if normalised else (),
    )
    return tell(writer, scan, inference, folder, pdf=pdf)


def tell(
    writer: ReportWriter, scan: MeasuredScan, inference: Inference, folder: Path, *, pdf: bool
) -> tuple[ScanReport, dict[str, Path]]:
    """Write the report of a measured scan with the saliency of its answer."""
    report = build_scan_report(
        scan, writer.context(inference.prediction), inference.prediction, inference.refusal
    )
    suvr = inference.normalised.suvr if inference.normalised else None
    saliency = None
    if suvr is not None and inference.prediction is not None:
        saliency = writer.classifier.saliency(suvr.array)
    return report, write_scan_report(report, suvr, folder, pdf=pdf, saliency=saliency)


def _check_dicom(scans: Sequence[FoundScan], request: Request) -> None:
    """Refuse what can't be answered in DICOM before any work is done."""
    if not request.dicom and request.send is None:
        return
    from pipeline.reporting import dicom_objects  # slow to import, and seldom asked for

    if request.send is not None:
        dicom_objects.parse_destination(request.send)
    other = [scan for scan in scans if scan.format != "dicom"]
    if other:
        raise InputError(
            f"The scan is {other[0].format}; a DICOM report needs a scan in DICOM",
            where=other[0].files[0].name,
            hint="leave out --dicom and --send, or name the DICOM folder",
        )


def _as_dicom(
    scan: FoundScan, report: ScanReport, pages: Mapping[str, Path], request: Request
) -> dict[str, Path]:
    """Write and send the DICOM objects of a report as far as they were asked for."""
    if not request.dicom and request.send is None:
        return {}
    from pipeline.reporting import dicom_objects

    source = dicom_objects.read_source(scan.files)
    with tempfile.TemporaryDirectory(prefix="taucal-") as place:
        folder = pages["html"].parent if request.dicom else Path(place)
        files = dicom_objects.write_dicom_objects(
            report, source, folder, pdf=pages.get("pdf"), created=datetime.now(UTC).astimezone()
        )
        if request.send is not None:
            dicom_objects.send(list(files.values()), dicom_objects.parse_destination(request.send))
    return files if request.dicom else {}
