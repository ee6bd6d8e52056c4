import re
import subprocess
import sys

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_studies import pet_slice
from typer.testing import CliRunner

from flows.cli import app
from flows.report import Request, report_scans, scans_at
from flows.reports.predict import identify
from pipeline.errors import ConfigError, InputError, TaucalError
from pipeline.ingest.deidentify import Pseudonymiser, load_or_make_key
from pipeline.ingest.found import FoundScan
from pipeline.ingest.source_map import remember_sources

NOT_AT_THE_START = {
    "alembic", "dask", "distributed", "fontTools", "highdicom", "matplotlib.pyplot", "mlflow", "monai",
    "nilearn.image", "prefect", "pynetdicom", "scipy.interpolate", "scipy.optimize", "scipy.signal",
    "scipy.spatial", "scipy.stats", "sklearn", "sqlalchemy", "sympy", "torch._dynamo", "torch._inductor",
    "weasyprint",
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
    with pytest.raises(InputError, match=r"notes.txt: The file is not a PET scan\. Name a folder of DICOM"):
        scans_at(tmp_path / "notes.txt")


def test_dicom_is_refused_for_other_scans_before_any_work(bids, tmp_path):
    with pytest.raises(InputError, match=r"in the format bids\. A DICOM report needs a DICOM scan"):
        report_scans([bids], Request(tmp_path / "out", "@nobody", tmp_path, dicom=True))
    with pytest.raises(ConfigError, match="'pacs' is no DICOM node"):
        report_scans([bids], Request(tmp_path / "out", "@nobody", tmp_path, send="pacs"))
    assert not (tmp_path / "out").exists()


def test_a_report_starts_without_what_it_does_not_need():
    script = "import sys, flows.cli, flows.report\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=600
    )
    assert NOT_AT_THE_START & set(run.stdout.split()) == set()


@pytest.mark.slow
def test_a_report_in_dicom_lies_in_the_study_of_its_scan(whole_way, tmp_path):
    folder = sorted(p.parent for p in (whole_way.folder / "adni").rglob("*.dcm"))[0]
    request = Request(tmp_path / "out", "@champion", whole_way.folder, dicom=True)
    (pages,) = report_scans([folder], request)
    source = pydicom.dcmread(next(folder.glob("*.dcm")), stop_before_pixels=True)
    for kind in ("dicom_sr", "dicom_seg", "dicom_pdf"):
        found = pydicom.dcmread(pages[kind])
        assert found.StudyInstanceUID == source.StudyInstanceUID
        assert found.PatientID == source.PatientID
    for kind in ("html", "json", "viewer"):
        text = pages[kind].read_text()
        assert source.PatientID not in text
        assert source.StudyInstanceUID not in text
        assert source.AccessionNumber not in text


class TestOnePatientHasOnePseudonym:
    def labels(self, written) -> set[str]:
        return {files["html"].parent.name for files in written}

    @pytest.fixture
    def trained(self, tmp_path, monkeypatch, small_classifier):
        """The output folder of a study with a dataset and its key."""
        import flows.report as door

        output = tmp_path / "study"
        output.mkdir()
        key = tmp_path / "data.key"
        key.write_text("ab" * 32)
        key.chmod(0o600)
        (output / "study.yaml").write_text(
            f"name: clinic\ncohort:\n  path: {tmp_path / 'data'}\noutput: {output}\n"
        )
        writer = door.ReportWriter(small_classifier, "1", "run", "2026-11-28")
        monkeypatch.setattr(door.ReportWriter, "of", lambda *_: writer)
        monkeypatch.setattr(door.tracking, "store_at", lambda _: None)
        return output

    def test_as_the_key_of_the_study_is_used_by_every_call(self, bids, tmp_path, trained):
        names = [
            self.labels(report_scans([bids], Request(tmp_path / out, "@x", trained, pdf=False)))
            for out in "ab"
        ]
        assert names[0] == names[1]
        assert len(names[0]) == 2
        assert not (tmp_path / "a.key").exists()

    def test_and_may_lie_around_the_reports_with_its_dataset(self, bids, tmp_path, trained):
        beside = self.labels(report_scans([bids], Request(tmp_path / "a", "@x", trained, pdf=False)))
        assert self.labels(report_scans([bids], Request(tmp_path, "@x", trained, pdf=False))) == beside
        (tmp_path / "b").mkdir()
        own = (tmp_path / "data.key").rename(tmp_path / "b" / "own.key")
        with pytest.raises(InputError, match=r"own\.key: The key file is inside the folder \S+/b"):
            report_scans([bids], Request(tmp_path / "b", "@x", trained, key_file=own, pdf=False))

    def test_and_the_way_back_is_found_by_the_command(self, bids, tmp_path, trained):
        label = min(self.labels(report_scans([bids], Request(tmp_path / "a", "@x", trained, pdf=False))))
        answer = CliRunner().invoke(app, ["who", label, "--study", str(trained), "--json"])
        assert answer.exit_code == 0, answer.output
        assert "_pet.nii.gz" in answer.stdout
        assert label in answer.stdout
        lost = CliRunner().invoke(app, ["who", "sub-NOBODY", "--study", str(trained)])
        assert "does not hold sub-NOBODY" in str(lost.exception)

    def test_one_bad_scan_does_not_stop_the_others(self, bids, tmp_path, trained, monkeypatch):
        import flows.report as door
        from pipeline.ingest import scan_reading

        def broken(found):
            if found.subject_label == "01":
                raise ZeroDivisionError
            return read_found(found)

        read_found = scan_reading.read_found
        monkeypatch.setattr(scan_reading, "read_found", broken)
        written = report_scans([bids], Request(tmp_path / "a", "@x", trained, pdf=False))
        assert sum("unexpected" in files["html"].read_text() for files in written) == 1
        write, seen = door.ReportWriter.write_scan, []

        def full(self, *args, **options):
            seen.append(1)
            if len(seen) == 1:
                raise ValueError("no page")
            return write(self, *args, **options)

        monkeypatch.setattr(door.ReportWriter, "write_scan", full)
        with pytest.raises(
            TaucalError, match=r"1 of 2 scans or paths have no complete report: .*ValueError: no page"
        ):
            report_scans([bids], Request(tmp_path / "b", "@x", trained, pdf=False))
        assert len(list((tmp_path / "b").glob("*/*.html"))) == 1

    def test_a_path_without_a_scan_does_not_stop_the_others(self, bids, tmp_path, trained, capsys):
        empty = tmp_path / "empty"
        empty.mkdir()
        with pytest.raises(
            TaucalError, match=r"1 of 3 scans .* no complete report: \S*empty: No PET scan"
        ) as error:
            report_scans([empty, bids], Request(tmp_path / "a", "@x", trained, pdf=False))
        assert error.value.exit_code == 1
        pages = sorted((tmp_path / "a").glob("*/*.html"))
        assert len(pages) == 2
        assert sorted(re.findall(r"Report: (\S+)", capsys.readouterr().err)) == [str(page) for page in pages]
        with pytest.raises(InputError, match="No PET scan"):
            report_scans([empty], Request(tmp_path / "a", "@x", trained, pdf=False))

    def test_a_refused_scan_is_exit_code_1_and_its_page_says_why(self, bids, tmp_path, trained):
        call = ["report", str(bids), "--out", str(tmp_path / "a"), "--study", str(trained), "--no-pdf"]
        answer = CliRunner().invoke(app, call)
        assert answer.exit_code == 1, answer.output
        assert answer.stderr.count("(no prediction: ") == 2
        assert len(list((tmp_path / "a").glob("*/*.html"))) == 2

    @pytest.mark.parametrize("synthetic", [True, False])
    def test_the_page_of_a_phantom_that_cannot_be_read_says_so(self, tmp_path, trained, synthetic):
        folder = tmp_path / "series"
        folder.mkdir()
        for number in (1, 2):
            image = pet_slice(number, "1.2.3", "1.2.3.4", "1.2.3.5")
            image.ImageComments = "SYNTHETIC" if synthetic else "routine"
            image.save_as(folder / f"{number}.dcm")
        (pages,) = report_scans([folder], Request(tmp_path / "a", "@x", trained, pdf=False))
        assert pages.refusal
        (html,) = (tmp_path / "a").glob("*/report.html")
        assert ("SYNTHETIC: a computed phantom" in html.read_text()) == synthetic


def test_predict_gives_a_person_the_pseudonym_of_the_ingest(bids, tmp_path):
    key_file = tmp_path / "bids.key"
    names = Pseudonymiser(load_or_make_key(key_file, bids))
    known = FoundScan((tmp_path / "x.nii",), "bids", "2")
    remember_sources(key_file, [known], names)
    path = bids / "sub-02" / "ses-02" / "pet" / "sub-02_ses-02_trc-AV1451_pet.nii.gz"
    label, digest = identify(path, key_file, tmp_path / "study")
    assert label.startswith(f"sub-{names.subject('2')}_")
    assert identify(path, None, tmp_path / "study") == (f"scan-{digest}", digest)
    around = f"name: x\noutput: {tmp_path}\ncohort: {{path: {bids}}}\n"
    (tmp_path / "study.yaml").write_text(around)  # as in the demo, dataset and key are in the study's folder
    assert identify(path, key_file, tmp_path) == (label, digest)
