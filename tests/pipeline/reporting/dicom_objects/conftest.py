"""A scan's report, and the PET series and PDF that belong to it."""

from pathlib import Path

import pytest
from dicom_studies import PDF, pet_slice
from pydicom.uid import generate_uid

from pipeline.reporting.scan.scan_build import build_scan_report


@pytest.fixture
def series(tmp_path) -> Path:
    folder = tmp_path / "series"
    folder.mkdir()
    uids = [generate_uid() for _ in range(3)]
    for number in (3, 1, 2):
        pet_slice(number, *uids).save_as(folder / f"{number}.dcm", enforce_file_format=True)
    (folder / "readme.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def report(scan, context, prediction, at_clinic):
    return build_scan_report(scan, context, at_clinic(prediction, (0.3, 0.3, 0.4)))


@pytest.fixture
def pdf(tmp_path) -> Path:
    path = tmp_path / "report.pdf"
    path.write_bytes(PDF)
    return path
