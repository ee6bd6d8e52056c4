import gc
import subprocess
import sys

import nibabel as nib
import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.report import Request, report_scans, scans_at
from pipeline.errors import ConfigError, InputError

NOT_AT_THE_START = {
    "alembic", "dask", "distributed", "highdicom", "matplotlib.pyplot", "mlflow.pyfunc", "monai", "prefect",
    "pynetdicom", "scipy.optimize", "scipy.stats", "sklearn", "sympy", "torch._dynamo", "weasyprint",
}  # fmt: skip
"""Slow to import: what needs one of them imports it then."""


@pytest.fixture
def bids(tmp_path):
    """Two images of a dataset, one sidecar for both at its root."""
    root = tmp_path / "bids"
    for subject in ("01", "02"):
        folder = root / f"sub-{subject}" / "ses-02" / "pet"
        folder.mkdir(parents=True)
        image = nib.Nifti1Image(np.ones((2, 2, 2), np.float32), np.eye(4))
        nib.save(image, folder / f"sub-{subject}_ses-02_trc-AV1451_pet.nii.gz")
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    (root / "trc-AV1451_pet.json").write_text('{"TracerName": "AV1451"}')
    return root


def test_an_image_of_a_dataset_brings_its_entities_and_inherited_sidecars(bids):
    path = bids / "sub-02" / "ses-02" / "pet" / "sub-02_ses-02_trc-AV1451_pet.nii.gz"
    (found,) = scans_at(path)
    assert (found.subject_label, found.session_label, found.files) == ("02", "02", (path,))
    assert found.sidecars == (bids / "trc-AV1451_pet.json",)


def test_a_folder_gives_all_its_scans(bids):
    assert [scan.subject_label for scan in scans_at(bids)] == ["01", "02"]


def test_a_file_that_is_no_scan_is_refused(tmp_path):
    (tmp_path / "scan_pet.nii").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"notes.txt: The file is no PET scan\. Name a folder of DICOM"):
        scans_at(tmp_path / "notes.txt")


def test_dicom_is_refused_for_other_scans_before_any_work(bids, tmp_path):
    with pytest.raises(InputError, match="is bids; a DICOM report needs a scan in DICOM"):
        report_scans([bids], Request(tmp_path / "out", "@nobody", tmp_path, dicom=True))
    with pytest.raises(ConfigError, match="'pacs' is no DICOM node"):
        report_scans([bids], Request(tmp_path / "out", "@nobody", tmp_path, send="pacs"))
    assert not (tmp_path / "out").exists()


def test_a_report_starts_without_what_it_does_not_need():
    script = "import sys, flows.cli, flows.report\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert NOT_AT_THE_START & set(run.stdout.split()) == set()


def test_garbage_is_collected_again_once_all_is_imported(tmp_path):
    try:
        CliRunner().invoke(app, ["report", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")])
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


@pytest.mark.slow
def test_a_report_in_dicom_lies_in_the_study_of_its_scan(whole_way, tmp_path):
    folder = sorted(p.parent for p in (whole_way.folder / "adni").rglob("*.dcm"))[0]
    request = Request(tmp_path / "out", "@champion", whole_way.folder, dicom=True)
    (pages,) = report_scans([folder], request)
    source = pydicom.dcmread(next(folder.glob("*.dcm")), stop_before_pixels=True)
    for kind in ("dicom_sr", "dicom_pdf"):
        found = pydicom.dcmread(pages[kind])
        assert found.StudyInstanceUID == source.StudyInstanceUID
        assert found.PatientID == source.PatientID
    for kind in ("html", "json"):
        text = pages[kind].read_text()
        assert source.PatientID not in text
        assert source.StudyInstanceUID not in text
        assert source.AccessionNumber not in text
