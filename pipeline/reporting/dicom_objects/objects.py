"""The report as DICOM, for the study the scan came from: structured report, Segmentation, Encapsulated PDF.

These objects carry the patient's identity, copied from the scan itself, because a PACS files them by it. That
identity is read here, goes into these objects, and nowhere else.

References
----------
DICOM PS3.3 A.45.1 (Encapsulated PDF), A.35.13 (Comprehensive 3D SR); PS3.16 TID 1500 (Measurement Report).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pydicom
from highdicom.base import SOPClass
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import Comprehensive3DSR
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from pipeline.errors import InputError
from pipeline.files import written_whole
from pipeline.reporting.dicom_objects.codes import PRIVATE_SCHEME, PRIVATE_SCHEME_NAME, uid
from pipeline.reporting.dicom_objects.content import MAKER, SegmentReferences, measurement_report
from pipeline.reporting.dicom_objects.segmentation import (
    LabelsAt,
    references_to,
    region_segments,
    segmentation_of,
)
from pipeline.reporting.page.facts import RESEARCH_USE_ONLY, SYNTHETIC
from pipeline.reporting.scan.scan_numbers import ScanReport

SERIES_DESCRIPTION = "AI - research use only"
SERIES_NUMBERS = {"pdf": 9901, "sr": 9902, "seg": 9903}
_NEEDED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_LONGEST_STUDY_ID = 16


def read_source(files: Iterable[Path]) -> tuple[Dataset, ...]:
    """Read the headers of the images a scan consists of, pixels left out, each image once.

    Parameters
    ----------
    files : iterable of Path
        The DICOM files of one series.

    Raises
    ------
    InputError
        If none is a DICOM image, or they belong to several studies.
    """
    images: dict[str, Dataset] = {}
    for path in files:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            images.setdefault(str(header.SOPInstanceUID), _completed(header))
        except (pydicom.errors.InvalidDicomError, AttributeError, OSError):
            continue  # a readme beside the images
    studies = {str(image.get("StudyInstanceUID", "")) for image in images.values()}
    if len(studies) != 1 or "" in studies:
        raise InputError(
            f"The images belong to {len(studies - {''})} DICOM studies, expected one: a DICOM report is "
            "filed under the study of its scan",
            hint="point to the folder of one DICOM series",
        )
    return tuple(sorted(images.values(), key=lambda i: (int(i.get("InstanceNumber") or 0), i.SOPInstanceUID)))


def _completed(header: Dataset) -> Dataset:
    """Return a header with every attribute that must be there, empty where the source left it out."""
    header.remove_private_tags()
    header.decode()
    for keyword in _NEEDED:
        if keyword not in header or not _is_valid(keyword, str(header[keyword].value)):
            setattr(header, keyword, "")
    # A longer one is not valid; it only labels the study, which its UID identifies.
    header.StudyID = str(header.StudyID)[:_LONGEST_STUDY_ID]
    return header


def _is_valid(keyword: str, value: str) -> bool:
    """Return whether DICOM allows a value: errors of the source are not copied."""
    if keyword.endswith("Date"):
        return value == "" or (len(value) == 8 and value.isdigit())
    return keyword != "PatientSex" or value in ("", "M", "F", "O")


def write_dicom_objects(
    report: ScanReport,
    source: Sequence[Dataset],
    folder: Path,
    *,
    pdf: Path | None,
    created: datetime,
    labels_at: LabelsAt | None = None,
) -> dict[str, Path]:
    """Write ``report_sr.dcm``; ``report_seg.dcm`` and ``report_pdf.dcm`` where there are regions and a PDF.

    Parameters
    ----------
    source : sequence of Dataset
        From `read_source`.
    folder : Path
        The files carry the patient's identity; their names don't.
    pdf : Path or None
        The report as PDF.
    created : datetime
        Passed in, so that the same report of the same scan gives the same bytes, with the same UIDs.
    labels_at : callable, optional
        Where the regions of the atlas lie in the scan, as `pipeline.imaging.scan_regions` finds it. Without
        it, or where the images do not state where they lie, there is no Segmentation.

    Returns
    -------
    dict of str to Path
        ``"dicom_sr"``; ``"dicom_seg"`` and ``"dicom_pdf"`` where they were written.
    """
    written, segmentation = {"dicom_sr": folder / "report_sr.dcm"}, None
    segments = None if labels_at is None else region_segments(report, source, labels_at)
    if segments is not None:
        written["dicom_seg"] = folder / "report_seg.dcm"
        made = _made(report, source[0], "seg", created, segments.pixels.tobytes())
        segmentation = _in_study(segmentation_of(report, segments, made), source[0], created)
        _save(segmentation, written["dicom_seg"])
    references = {} if segmentation is None or segments is None else references_to(segmentation, segments)
    _save(structured_report(report, source, created, segmentation, references), written["dicom_sr"])
    if pdf is not None:
        written["dicom_pdf"] = folder / "report_pdf.dcm"
        _save(encapsulated_pdf(report, source, pdf.read_bytes(), created), written["dicom_pdf"])
    return written


def _save(dataset: Dataset, path: Path) -> None:
    with written_whole(path) as beside:
        dataset.save_as(beside, enforce_file_format=True)


def encapsulated_pdf(
    report: ScanReport, source: Sequence[Dataset], content: bytes, created: datetime
) -> Dataset:
    """Return the PDF as an object of the patient's study; see `write_dicom_objects`."""
    first = source[0]
    document = SOPClass(
        sop_class_uid=EncapsulatedPDFStorage,
        modality="DOC",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        study_instance_uid=first.StudyInstanceUID,
        patient_id=first.PatientID,
        patient_name=first.PatientName,
        patient_birth_date=first.PatientBirthDate,
        patient_sex=first.PatientSex,
        accession_number=first.AccessionNumber,
        study_id=first.StudyID,
        study_date=first.StudyDate,
        study_time=first.StudyTime,
        referring_physician_name=first.ReferringPhysicianName,
        **_made(report, first, "pdf", created, content),
    )
    document.ConversionType = "WSD"
    acquired = str(first.get("AcquisitionDate") or ""), str(first.get("AcquisitionTime") or "")
    document.AcquisitionDateTime = "".join(acquired) if acquired[0] else ""
    document.BurnedInAnnotation = "NO"  # the page shows the pseudonym, never the patient
    document.SourceInstanceSequence = [_reference(image) for image in source]
    document.DocumentTitle = f"Tau PET report. {RESEARCH_USE_ONLY}" + (f". {SYNTHETIC}" * report.synthetic)
    document.ConceptNameCodeSequence = []
    document.VerificationFlag = "UNVERIFIED"
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocumentLength = len(content)
    document.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return _in_study(document, first, created)


def structured_report(
    report: ScanReport,
    source: Sequence[Dataset],
    created: datetime,
    segmentation: Dataset | None = None,
    references: SegmentReferences | None = None,
) -> Dataset:
    """Return probabilities and regional SUVR as a Comprehensive 3D SR (TID 1500), unverified.

    Groups of regions refer to their segments in the Segmentation, where there is one.
    """
    first, device = source[0], uid("device", report.model.name, report.model.version)
    document = Comprehensive3DSR(
        evidence=[*source, *([] if segmentation is None else [segmentation])],
        content=measurement_report(report, source, device, references),
        is_complete=True,
        is_final=False,
        is_verified=False,
        coding_schemes=[CodingSchemeIdentificationItem(PRIVATE_SCHEME, name=PRIVATE_SCHEME_NAME)],
        **_made(report, first, "sr", created, report.model_dump_json().encode()),
    )
    return _in_study(document, first, created)


def _made(report: ScanReport, first: Dataset, kind: str, created: datetime, content: bytes) -> dict[str, Any]:
    """Return the series and maker attributes of both objects; the UIDs follow from study and content."""
    root = (kind, str(first.StudyInstanceUID), created.isoformat(), hashlib.sha256(content).hexdigest())
    return {
        "series_instance_uid": uid("series", *root),
        "sop_instance_uid": uid("instance", *root),
        "series_number": SERIES_NUMBERS[kind],
        "instance_number": 1,
        "series_description": SERIES_DESCRIPTION,
        "manufacturer": MAKER,
        "manufacturer_model_name": _line(report.model.name),
        "device_serial_number": _line(report.run_id),
        "software_versions": _line(report.model.version),
        "content_date": created.date(),
        "content_time": created.time(),
        "specific_character_set": "ISO_IR 192",
    }


def _line(text: str) -> str:
    """Return text as a DICOM long string: 64 characters, and no backslash, which parts values."""
    return text.replace("\\", "/")[:64].strip() or "unknown"


def _in_study(document: Dataset, first: Dataset, created: datetime) -> Dataset:
    """Return the object with the rest of the patient's and the study's attributes, and a fixed date."""
    document.copy_patient_and_study_information(first)
    document.InstanceCreationDate = created.strftime("%Y%m%d")
    document.InstanceCreationTime = created.strftime("%H%M%S")
    for equipment in document.get("ContributingEquipmentSequence", []):
        if equipment.get("ManufacturerModelName") == "highdicom":  # it writes the time of its own clock
            equipment.ContributionDateTime = created.strftime("%Y%m%d%H%M%S")
    if "FrameOfReferenceUID" in first:
        document.FrameOfReferenceUID = first.FrameOfReferenceUID
    return document


def _reference(image: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = image.SOPClassUID
    reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
    return reference
