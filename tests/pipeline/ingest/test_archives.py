"""Archives are read as the folders they hold."""

from __future__ import annotations

import gzip
import shutil
import zipfile

import nibabel as nib
import numpy as np
import pytest
from packed_scans import PACKERS, pack_zip, read_all

from pipeline.ingest.archives import opened
from pipeline.ingest.convert import read_found
from pipeline.ingest.scan_reading import read_scan
from pipeline.ingest.sources import find_scans, scans_at


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_packed_series_is_read_where_it_is(make_series, tmp_path, suffix):
    series = make_series(tmp_path / "out" / "series")
    archive = tmp_path / "in" / f"scan.{suffix}"
    archive.parent.mkdir()
    PACKERS[suffix](series.folder, archive)
    for source in (archive, archive.parent):
        (array,), found = read_all(source)
        np.testing.assert_allclose(array, series.values, rtol=1e-6)
        assert (found.ignored, found.unopened) == ({}, ())
        assert found.scans[0].origin.startswith(str(archive.parent / "scan."))
    np.testing.assert_allclose(read_scan(archive).array, series.values, rtol=1e-6)
    np.testing.assert_allclose(read_scan(archive.parent).array, series.values, rtol=1e-6)
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


def test_slices_that_are_packed_one_by_one(make_series, tmp_path):
    series = make_series(tmp_path / "in" / "series")
    for path in list(series.folder.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    (array,), _ = read_all(tmp_path / "in")
    np.testing.assert_allclose(array, series.values, rtol=1e-6)


def test_a_slice_that_is_there_packed_and_unpacked_is_taken_once(make_series, tmp_path):
    series = make_series(tmp_path / "in" / "series")
    for path in list(series.folder.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    (array,), found = read_all(tmp_path / "in")
    np.testing.assert_allclose(array, series.values, rtol=1e-6)
    assert (found.unopened, found.ignored) == ((), {"packed copies of a file that is there": 5})


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_packed_slices_in_an_archive(make_series, tmp_path, suffix):
    series = make_series(tmp_path / "out" / "series")
    for path in list(series.folder.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    PACKERS[suffix](series.folder, tmp_path / f"a.{suffix}")
    (array,), _ = read_all(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(array, series.values, rtol=1e-6)


def test_packed_tables_of_bids_make_no_archive_of_it(tmp_path):
    folder = tmp_path / "sub-01" / "pet"
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4)), folder / "sub-01_pet.nii.gz")
    (folder / "sub-01_recording-manual_blood.tsv.gz").write_bytes(gzip.compress(b"time\n0\n"))
    with opened(tmp_path) as view:
        assert view.origins == ()


def test_a_dicomdir_is_the_scans_of_its_medium(make_series, make_header, tmp_path):
    series = make_series(tmp_path / "medium" / "DICOM")
    directory = make_header("1.2.3")
    directory.SOPClassUID = directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.FileSetID = "DISC"
    directory.save_as(tmp_path / "medium" / "DICOMDIR", enforce_file_format=True)
    (scan,) = scans_at(tmp_path / "medium" / "DICOMDIR")
    np.testing.assert_allclose(read_found(scan).array, series.values, rtol=1e-6)
    np.testing.assert_allclose(read_scan(tmp_path / "medium" / "DICOMDIR").array, series.values, rtol=1e-6)


def test_a_download_in_parts_with_its_tables_beside(make_series, tmp_path):
    for n, subject in enumerate(("011_S_4321", "012_S_10001")):
        folder = tmp_path / "raw" / "ADNI" / subject / "AV1451" / "2019-05-10_09_00_00.0" / f"I{n}00000"
        make_series(folder, seed=n)
        (tmp_path / "in").mkdir(exist_ok=True)
        pack_zip(tmp_path / "raw" / "ADNI", tmp_path / "in" / f"AV1451_{n}.zip")
        shutil.rmtree(tmp_path / "raw")
    table = "RID,PTID,EXAMDATE,DIAGNOSIS\n4321,011_S_4321,2019-05-11,1\n10001,012_S_10001,2019-05-12,3\n"
    (tmp_path / "in" / "DXSUM_1Jan2020.csv").write_text(table)
    with opened(tmp_path / "in") as view:
        found = find_scans(tmp_path / "in", view=view)
    assert found.layout == "adni"
    assert [(s.subject_label, s.diagnosis) for s in found.scans] == [
        ("011_S_4321", "CN"),
        ("012_S_10001", "AD"),
    ]


def test_a_packed_bids_dataset(tmp_path):
    image = tmp_path / "ds" / "sub-01" / "pet" / "sub-01_trc-18FAV1451_pet.nii.gz"
    image.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4)), image)
    (tmp_path / "ds" / "dataset_description.json").write_text("{}")
    (tmp_path / "ds" / "participants.tsv").write_text("participant_id\tdx\nsub-01\tHC\n")
    pack_zip(tmp_path / "ds", tmp_path / "ds.zip")
    with opened(tmp_path / "ds.zip") as view:
        found = find_scans(tmp_path / "ds.zip", view=view)
    assert (found.layout, found.scans[0].diagnosis) == ("bids", "CN")


def test_the_name_of_an_archive_is_that_of_its_folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("S001", "S002"):
        folder = tmp_path / "raw" / name
        folder.mkdir(parents=True)
        nib.save(
            nib.Nifti1Image(np.full((3, 3, 3), int(name[1:]), np.float32), np.eye(4)), folder / "pet.nii.gz"
        )
        with zipfile.ZipFile(tmp_path / "in" / f"{name}.zip", "w") as packed:
            packed.write(folder / "pet.nii.gz", "pet.nii.gz")
    with opened(tmp_path / "in") as view:
        assert [s.subject_label for s in find_scans(tmp_path / "in", view=view).scans] == ["S001", "S002"]


def test_a_source_without_archives_is_read_as_it_is(make_series, tmp_path):
    make_series(tmp_path / "in" / "series")
    with opened(tmp_path / "in") as view:
        assert (view.root, view.origins) == (tmp_path / "in", ())
