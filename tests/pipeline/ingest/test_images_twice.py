"""The same images twice: copies, second exports, conversions and reconstructions are one scan, or refused."""

from __future__ import annotations

import shutil
from copy import deepcopy

import numpy as np
import pydicom
import pytest
from changed_series import change, read_all

from pipeline.errors import RefusedScan
from pipeline.ingest.convert import read_found
from pipeline.ingest.dicom import read_series
from pipeline.ingest.sources import find_scans


def test_a_copy_is_taken_once_and_another_image_of_one_uid_is_refused(make_series):
    series = make_series()
    path = sorted(series.folder.iterdir())[0]
    shutil.copy(path, series.folder / "copy.dcm")
    assert find_scans(series.folder).ignored == {"duplicates of an image": 1}
    ds = pydicom.dcmread(path)
    ds.ImageComments = "sent again"  # another header, the same image
    ds.save_as(series.folder / "copy.dcm")
    assert [type(one) for one in read_all(series.folder)] == [np.ndarray]
    ds.PixelData = ds.PixelData[:-2] + b"\1\2"
    ds.save_as(series.folder / "copy.dcm")
    assert read_all(series.folder) == ["conflicting-duplicates"]
    with pytest.raises(RefusedScan, match="Two different images have the same SOP Instance UID"):
        read_series(series.folder)


def exported_again(series, folder, **values):
    """Copy a series as an anonymiser writes it that is run once more: all UIDs are new."""
    shutil.copytree(series.folder, folder)
    for n, path in enumerate(sorted(folder.iterdir())):
        ds = pydicom.dcmread(path)
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.SOPInstanceUID = "1.9", "1.8", f"1.7.{n}"
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        ds.save_as(path)


def test_a_scan_that_was_exported_twice_is_taken_once(make_series, tmp_path):
    series = make_series(folder=tmp_path / "in" / "a")
    exported_again(series, tmp_path / "in" / "b")
    found = find_scans(tmp_path / "in")
    assert len(found.scans) == 1
    assert found.ignored == {"copies of a scan that is taken": 1}
    np.testing.assert_allclose(read_all(tmp_path / "in")[0], series.values, rtol=1e-6)


def test_the_same_images_of_two_people_are_refused(make_series, tmp_path):
    series = make_series(folder=tmp_path / "in" / "a")
    exported_again(series, tmp_path / "in" / "b", PatientID="ANON7", PatientName="ANON7")
    assert read_all(tmp_path / "in") == ["whose-scan"] * 2


def test_the_same_images_on_another_day_are_taken_with_a_warning(make_series, tmp_path):
    series = make_series(folder=tmp_path / "in" / "a")
    exported_again(series, tmp_path / "in" / "b", AcquisitionDate="20200101", SeriesDate="20200101")
    notes = [scan.notes for scan in find_scans(tmp_path / "in").scans]
    assert sorted(notes) == [(), ("the same images are there with another date",)]


def converted(series, folder, uid="1.9", **values):
    """Write the slices of a series as one legacy converted enhanced image, as archives do."""
    slices = [pydicom.dcmread(path) for path in sorted(series.folder.iterdir())]
    ds = deepcopy(slices[0])
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.128.1"
    ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.NumberOfFrames = uid, f"{uid}.1", len(slices)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(ds, keyword)
    frames = []
    for one in slices:
        groups, place, turn, measures, scale, content = (pydicom.Dataset() for _ in range(6))
        place.ImagePositionPatient = one.ImagePositionPatient
        turn.ImageOrientationPatient = one.ImageOrientationPatient
        measures.PixelSpacing = one.PixelSpacing
        scale.RescaleSlope, scale.RescaleIntercept = one.RescaleSlope, one.RescaleIntercept
        content.FrameAcquisitionDateTime = f"{one.AcquisitionDate}{one.AcquisitionTime}"
        groups.PlanePositionSequence, groups.PlaneOrientationSequence = [place], [turn]
        groups.PixelMeasuresSequence, groups.PixelValueTransformationSequence = [measures], [scale]
        groups.FrameContentSequence = [content]
        frames.append(groups)
    ds.PerFrameFunctionalGroupsSequence = frames
    ds.PixelData = b"".join(one.PixelData for one in slices)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    folder.mkdir(parents=True)
    ds.save_as(folder / "converted.dcm")


@pytest.mark.parametrize("frames", [1, 3])
def test_slices_and_the_enhanced_image_they_were_converted_to_are_one_scan(make_series, tmp_path, frames):
    series = make_series(folder=tmp_path / "in" / "a", frames=frames)
    converted(series, tmp_path / "in" / "b")
    found = find_scans(tmp_path / "in")
    assert len(found.scans) == 1
    assert found.ignored == {"copies of a scan that is taken": 1}


def test_slices_and_their_conversion_under_another_id_are_refused(make_series, tmp_path):
    series = make_series(folder=tmp_path / "in" / "a")
    converted(series, tmp_path / "in" / "b", PatientID="ANON7", PatientName="ANON7")
    assert read_all(tmp_path / "in") == ["whose-scan"] * 2


def test_an_enhanced_image_of_another_reconstruction_is_another_scan(make_series, tmp_path):
    one = make_series(folder=tmp_path / "in" / "a")
    other = make_series(folder=tmp_path / "other", seed=5)
    converted(other, tmp_path / "in" / "b")
    assert len(find_scans(tmp_path / "in").scans) == 2
    assert one.values.shape == other.values.shape


def test_images_sent_twice_under_new_uids_are_taken_once(make_series):
    series = make_series(frames=2)
    for n, path in enumerate(sorted(series.folder.iterdir())):
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID, ds.InstanceNumber, ds.ImageIndex = f"1.7.{n}", 90 + n, 90 + n
        ds.save_as(series.folder / f"again{n}.dcm")
    volume = read_series(series.folder)
    np.testing.assert_allclose(volume.array, series.values, rtol=1e-6)
    assert len(volume.frames) == 2


def test_one_image_too_many_is_named(make_series):
    series = make_series()
    path = next(p for p in series.folder.iterdir() if pydicom.dcmread(p).InstanceNumber == 3)
    ds = pydicom.dcmread(path)
    ds.SOPInstanceUID, ds.InstanceNumber, ds.PixelData = "1.7", 90, bytes(len(ds.PixelData))
    ds.save_as(series.folder / "other.dcm")
    with pytest.raises(RefusedScan, match=r"more images than elsewhere at z = 46\.0 mm") as refusal:
        read_series(series.folder)
    assert refusal.value.rule == "mixed-geometry"


def test_an_enhanced_image_under_the_uid_of_slices_is_refused(make_series, make_enhanced):
    series = make_series()
    make_enhanced(series.folder)
    path = series.folder / "enhanced.dcm"
    ds = pydicom.dcmread(path)
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID"):
        setattr(ds, keyword, series.datasets[0][keyword].value)
    ds.save_as(path)
    with pytest.raises(RefusedScan, match=r"2 different values of SOP Class UID") as refusal:
        read_series(series.folder)
    assert refusal.value.rule == "mixed-geometry"


def test_two_reconstructions_of_one_acquisition_are_one_scan_and_either_can_be_taken(two):
    change(two[1], StudyInstanceUID=two[0].datasets[0].StudyInstanceUID, ReconstructionMethod="FBP")
    for prefer, series in (((), two[0]), (("fbp",), two[1])):
        (scan,) = find_scans(two[0].folder.parent, prefer=prefer).scans
        np.testing.assert_allclose(read_found(scan).array, series.values, rtol=1e-6)


def test_two_reconstructions_under_one_series_uid_are_not_averaged(two):
    first = two[0].datasets[0]
    uids = {k: first[k].value for k in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")}
    change(two[1], **uids, ReconstructionMethod="FBP", InstanceNumber=lambda n: n + 6, ImageIndex=None)
    with pytest.raises(RefusedScan, match="2 images of each place at the same time") as refusal:
        read_series(two[0].folder.parent)
    assert refusal.value.rule == "overlapping-frames"


@pytest.mark.parametrize("spread", [False, True], ids=["twice", "in parts"])
def test_an_adni_series_in_two_folders_is_one_scan(make_series, tmp_path, spread):
    folder = tmp_path / "in" / "002_S_1234" / "AV1451" / "2019-05-10_10_00_00.0" / "I1"
    series = make_series(folder=folder)
    shutil.copytree(folder, folder.with_name("I2"))
    for n, path in enumerate(sorted(folder.iterdir())):
        if spread:
            (folder.with_name("I2") / path.name if n % 2 else path).unlink()
    assert find_scans(tmp_path / "in").layout == "adni"
    (read,) = read_all(tmp_path / "in")
    np.testing.assert_allclose(read, series.values, rtol=1e-6)


def test_the_same_pixels_in_two_orientations_are_refused(make_series, tmp_path):
    for name, row in (("a", "1"), ("b", "-1")):
        series = make_series(folder=tmp_path / "in" / name)
        change(series, ImageOrientationPatient=[row, "0", "0", "0", "1", "0"])
    assert read_all(tmp_path / "in") == ["mixed-geometry"] * 2
