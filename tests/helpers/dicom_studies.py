"""PET slices of a study, the DICOM objects that are written to it, and what they hold."""

from datetime import datetime
from pathlib import Path

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

from pipeline.reporting.dicom_objects import read_source, write_dicom_objects

CREATED = datetime(2026, 11, 21, 9, 30)  # noqa: DTZ001 - DICOM dates are local
PDF = b"%PDF-1.7 nothing to see\n%%EOF "  # an odd number of bytes: DICOM wants an even one
PATIENT = {
    "PatientName": "Müller^Jörg",
    "PatientID": "MRN 0815",
    "PatientBirthDate": "19400903",
    "PatientSex": "M",
}
STUDY = {
    "AccessionNumber": "ACC0099",
    "StudyDate": "20190510",
    "StudyTime": "101500",
    "StudyDescription": "PET Hirn",
    "ReferringPhysicianName": "House^Gregory",
    "PatientWeight": "77.8",
}


def pet_slice(number: int, study: str, series: str, frame: str) -> FileDataset:
    """A slice of 2 x 2 pixels of the study, with what a hospital writes and what must not be copied."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SpecificCharacterSet = "ISO_IR 100"
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    for keyword, value in (PATIENT | STUDY).items():
        setattr(image, keyword, value)
    image.StudyID = "longer than sixteen characters"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
    image.Modality, image.SeriesNumber, image.InstanceNumber = "PT", 1, number
    image.AcquisitionDate, image.AcquisitionTime = "20190510", "102000"
    image.Rows = image.Columns = 2
    image.PixelSpacing, image.SliceThickness = ["2", "2"], "3"
    image.ImagePositionPatient = ["0", "0", str(3 * number)]
    image.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.PixelData = bytes(8)
    image.private_block(0x0009, "SECRET NOTES", create=True).add_new(1, "LO", "private, not to be copied")
    return image


def write_objects(report, series, folder, pdf=None) -> dict[str, Path]:
    """Write the objects of a report of the images in a folder."""
    source = read_source(sorted(series.iterdir()))
    return write_dicom_objects(report, source, folder, pdf=pdf, created=CREATED)


def items_of(node, name: str) -> list:
    """Every content item below a node whose concept has this meaning."""
    found = []
    for item in node.get("ContentSequence", []):
        if item.ConceptNameCodeSequence[0].CodeMeaning == name:
            found.append(item)
        found += items_of(item, name)
    return found
