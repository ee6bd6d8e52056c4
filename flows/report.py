"""Reports of scans that need not be in any cohort: find the scans, predict, write, send.

Light to import, for one report must be quick.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.reports.earlier_visits import visits_until
from flows.reports.report_lists import list_reports_at
from flows.reports.report_names import named_reports, under_known_names
from flows.reports.scan_reports import ReportWriter, study_at
from flows.running.console import say, warn
from pipeline import tracking
from pipeline.config import dataset_hint
from pipeline.errors import InputError, OutputError, RefusedScan, TaucalError
from pipeline.ingest.acquisition import is_synthetic
from pipeline.ingest.archives import opened
from pipeline.ingest.deidentify import (
    Pseudonymiser,
    dataset_of_study,
    key_beside,
    key_of_study,
    load_or_make_key,
)
from pipeline.ingest.found import FoundScan
from pipeline.ingest.instances import read_file
from pipeline.ingest.source_map import place_of, remember_sources
from pipeline.ingest.sources import scans_at
from pipeline.one_scan import Inference, check_prevalence, infer
from pipeline.reporting.scan.scan_build import MeasuredScan
from pipeline.reporting.scan.scan_numbers import ScanReport, Visit
from pipeline.scan import Cohort

__all__ = ["Request", "ScanPages", "report_scans", "scans_at"]


@dataclass(frozen=True)
class Request:
    """Options of `report_scans`.

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
        Secret of the pseudonyms; that of the study's dataset where not given, so that a person has one
        pseudonym, else the one beside `out`.
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


class ScanPages(dict[str, Path]):
    """The files of a report by kind; `refusal` states why the scan of the report has no prediction."""

    refusal: RefusedScan | None = None


def report_scans(scans: Sequence[Path], request: Request) -> list[ScanPages]:
    """Write a report for each scan, which need not be in any cohort.

    Parameters
    ----------
    scans : sequence of Path
        Folders of DICOM, or single files: NIfTI or DICOM, in a BIDS dataset or anywhere; or archives.

    Returns
    -------
    list of ScanPages
        For each scan the written files by kind, as in `write_scan_report` and `write_dicom_objects`; a copy
        of a scan has no report of its own.

    Raises
    ------
    InputError
        If a path or the model is not there, no path holds a scan, the prevalence does not name the model's
        classes, or DICOM objects are requested for a scan of another format.
    TaucalError
        If a report failed or a path holds no scan, once all others are written; or if the node does not
        store the report, whose files are written nevertheless.
    """
    with ExitStack() as archives:
        return _report_found(*_find_all(scans, archives), request)


def _report_found(
    places: list[tuple[FoundScan, ...]], failed: list[tuple[str, Exception]], request: Request
) -> list[ScanPages]:
    _check_dicom([scan for place in places for scan in place], request)
    writer = ReportWriter.of(tracking.store_at(request.output), request.model, study_at(request.output))
    shares = None if request.prevalence is None else check_prevalence(writer.classifier, request.prevalence)
    key_file = key_for(request)
    pseudonymiser = Pseudonymiser(load_or_make_key(key_file, _protected_by(key_file, request)))
    found = under_known_names(places, key_file, pseudonymiser, request.output)
    remember_sources(key_file, found, pseudonymiser)
    written, cohort = [], _cohort_of(request.output)
    named = list(named_reports(found, pseudonymiser, request.out))
    for scan, _, label, images in named:
        try:
            inference = infer(writer.classifier, scan, shares, partial_volume=writer.partial_volume)
            measured = _measured(scan, label, inference, pseudonymiser)
            measured = replace(measured, visits=_visits(measured, inference, writer, cohort, shares))
            report, pages = writer.write_scan(
                measured,
                inference,
                request.out / label,
                pdf=request.pdf,
                digest=_digest(scan),
                images=images,
            )
            written.append(ScanPages(pages | _dicom_objects(scan, report, inference, pages, request)))
            written[-1].refusal = inference.refusal
            refused = f" (no prediction: {inference.refusal.rule})" if inference.refusal else ""
            say(f"Report: {pages['html']}{refused}")
        except Exception as error:
            if (len(named) == 1 and not failed) or isinstance(error, OutputError):
                raise
            failed.append((place_of(scan), error))
    list_reports_at(request.output, request.out)
    if failed:
        listed = "; ".join(_why(place, error) for place, error in failed)
        total = len(written) + len(failed)
        raise TaucalError(f"{len(failed)} of {total} scans or paths have no complete report: {listed}")
    return written


def _why(place: str, error: Exception) -> str:
    """Return what is wrong with a path; one that the error names itself is named once."""
    if isinstance(error, TaucalError):
        return str(error) if place in error.where else f"{place}: {error}"
    return f"{place} ({type(error).__name__}: {error})"


def key_for(request: Request) -> Path:
    """Return the key of the pseudonyms; it is printed where another one takes the place of the study's."""
    known = request.key_file or key_of_study(request.output)
    study = study_at(request.output) if known is None else None
    if study is not None and study.cohort.kind == "bids" and not study.cohort.path.is_dir():
        file = request.output if request.output.is_file() else request.output / "study.yaml"
        warn(
            f"The dataset of the study and its key are not at {study.cohort.path}, so persons get other "
            f"pseudonyms here, by {key_beside(request.out)}: {dataset_hint(study, file)}, or name the key by "
            "--key-file."
        )
    return known or key_beside(request.out)


def _protected_by(key_file: Path, request: Request) -> Path:
    """Return the folder that a key must not lie in; reports may lie around a dataset and its key."""
    known = key_of_study(request.output)
    dataset = dataset_of_study(request.output)
    same = known is not None and known.resolve() == key_file.resolve()
    return dataset if same and dataset is not None else request.out


def _digest(scan: FoundScan) -> str:
    try:
        return scan.fingerprint()
    except RefusedScan:  # it cannot be read, as its report states
        return ""


def _find_all(
    paths: Sequence[Path], archives: ExitStack
) -> tuple[list[tuple[FoundScan, ...]], list[tuple[str, Exception]]]:
    """Return the scans at each path, and the paths without one; raise where none has one."""
    found: list[tuple[FoundScan, ...]] = []
    failed: list[tuple[str, Exception]] = []
    for path in paths:
        try:
            found.append(scans_at(path, archives.enter_context(opened(path))))
        except InputError as error:
            if len(paths) == 1 or not path.exists():
                raise
            failed.append((str(path), error))
    if not found:
        raise failed[0][1]
    return found, failed


def _header_facts(scan: FoundScan, pseudonymiser: Pseudonymiser) -> dict[str, Any]:
    """Return what a page states of a scan although it is refused: its study, and that it is synthetic.

    The study's UID is a pseudonym; whoever has the key can link the two.
    """
    try:
        header = read_file(scan.files[0]) if scan.format == "dicom" else None
    except RefusedScan:  # a broken file: reading the scan reports it
        header = None
    if header is None:
        return {}
    uid = header.text("StudyInstanceUID")
    return {
        "study_instance_uid": pseudonymiser.uid(uid) if uid else None,
        "synthetic": is_synthetic(header) or None,
    }


def _measured(
    scan: FoundScan, label: str, inference: Inference, pseudonymiser: Pseudonymiser
) -> MeasuredScan:
    """Return what is known of a scan, under its label ``sub-<subject>_ses-<session>``."""
    subject, _, session = label.removeprefix("sub-").partition("_ses-")
    normalised, volume = inference.normalised, inference.volume
    read = normalised.suvr if normalised else volume
    own = {"age": scan.age, "sex": scan.sex, **_header_facts(scan, pseudonymiser)}
    return MeasuredScan.of(subject, session, {**own, **(read.facts if read else {})}, normalised)


def _cohort_of(output: Path) -> Cohort | None:
    """Return the cohort of the study, whose earlier scans of a person a report shows; None without one."""
    from flows.ingestion.ingest_tables import COHORT_TABLE  # with what an ingest needs

    dataset = dataset_of_study(output)
    table = None if dataset is None else dataset / COHORT_TABLE
    try:
        return Cohort.read_tsv(table) if table is not None and table.is_file() else None
    except (TaucalError, ValueError) as error:
        warn(f"Reports show no earlier scans: the cohort table cannot be read ({error})")
        return None


def _visits(
    measured: MeasuredScan,
    inference: Inference,
    writer: ReportWriter,
    cohort: Cohort | None,
    shares: Mapping[str, float] | None,
) -> tuple[Visit, ...]:
    """Return the visits of the person of a scan that was predicted, where the study knows some."""
    normalised, prediction = inference.normalised, inference.prediction
    if cohort is None or normalised is None or prediction is None:
        return ()
    label, predicted = (measured.subject, measured.session), (writer.classifier, prediction)
    return visits_until(label, normalised, cohort, predicted, shares)


def _check_dicom(scans: Sequence[FoundScan], request: Request) -> None:
    """Raise before any work is done where the requested DICOM objects cannot be made."""
    if not request.dicom and request.send is None:
        return
    from pipeline.reporting import dicom_objects  # slow to import, and seldom needed

    if request.send is not None:
        dicom_objects.parse_destination(request.send)
    other = [scan for scan in scans if scan.format != "dicom"]
    if other:
        raise InputError(
            f"The scan is in the format {other[0].format}. A DICOM report needs a DICOM scan",
            where=other[0].files[0].name,
            hint="leave out --dicom and --send, or name the DICOM folder",
        )


def _dicom_objects(
    scan: FoundScan, report: ScanReport, inference: Inference, pages: Mapping[str, Path], request: Request
) -> dict[str, Path]:
    """Write and send the DICOM objects of a report as far as they were requested."""
    if not request.dicom and request.send is None:
        return {}
    from pipeline.imaging.scan_regions import ScanRegions
    from pipeline.reporting import dicom_objects

    source, normalised = dicom_objects.read_source(scan.files), inference.normalised
    labels_at = None if normalised is None else ScanRegions(normalised.registration).labels_at
    created = datetime.now(UTC).astimezone()
    with tempfile.TemporaryDirectory(prefix="taucal-") as place:
        folder = pages["html"].parent if request.dicom else Path(place)
        files = dicom_objects.write_dicom_objects(
            report, source, folder, pdf=pages.get("pdf"), created=created, labels_at=labels_at
        )
        if request.send is not None:
            dicom_objects.send(list(files.values()), dicom_objects.parse_destination(request.send))
    return files if request.dicom else {}
