"""What lies beside the slices, how they are linked, and files that lack what DICOM puts before them."""

from __future__ import annotations

import gzip
import json
import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.fileset import FileSet
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pipeline.errors import InputError, RefusedScan
from pipeline.ingest.convert import read_found
from pipeline.ingest.dicom import read_series
from pipeline.ingest.sources import find_scans

PTID = "002_S_1234"


def _dicomdir(folder, tmp_path):
    """Return the DICOMDIR of a medium with the slices of a folder."""
    files = FileSet()
    for path in sorted(folder.iterdir()):
        ds = pydicom.dcmread(path)
        ds.StudyTime, ds.StudyID, ds.SeriesNumber = "101500", "1", 1
        files.add(ds)
    files.write(tmp_path / "medium")
    return tmp_path / "medium" / "DICOMDIR"


@pytest.mark.parametrize("layout", ["dicom", "adni"])
@pytest.mark.parametrize("name", ["DICOMDIR", "0000_first.dcm"])
def test_a_dicomdir_beside_the_slices_is_left_alone(make_series, tmp_path, layout, name):
    folder = tmp_path / "in" / (PTID if layout == "adni" else "x") / "AV1451" / "2019-05-10" / "I1"
    series = make_series(folder=folder)
    shutil.copy(_dicomdir(folder, tmp_path), folder / name)
    np.testing.assert_allclose(read_series(folder).array, series.values, rtol=1e-6)
    found = find_scans(tmp_path / "in")
    assert found.layout == layout
    assert len(found.scans) == 1
    if layout == "dicom" or name.startswith("0"):
        assert found.ignored == {"DICOM directories": 1}
    np.testing.assert_allclose(read_found(found.scans[0]).array, series.values, rtol=1e-6)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_dicomdir_does_no_harm(make_series, tmp_path, share):
    series = make_series()
    whole = _dicomdir(series.folder, tmp_path).read_bytes()
    (series.folder / "DICOMDIR").write_bytes(whole[: int(len(whole) * share)])
    np.testing.assert_allclose(read_series(series.folder).array, series.values, rtol=1e-6)


def _store(layout, tmp_path, make_series):
    """Write one scan of a layout outside the source; return the source, its folder to link to, and where."""
    source, store = tmp_path / "in", tmp_path / "store"
    if layout in ("dicom", "adni"):
        make_series(folder=store)
        inside = f"{PTID}/AV1451/2019-05-10/I1" if layout == "adni" else "scanner/series"
        return source, store, source / inside
    store.mkdir()
    stem = "sub-01_pet" if layout == "bids" else "scan"
    nib.save(
        nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.diag([2, 2, 2, 1.0])), store / f"{stem}.nii.gz"
    )
    (store / f"{stem}.json").write_text(json.dumps({"TracerName": "AV1451", "Units": "Bq/mL"}))
    if layout == "bids":
        source.mkdir()
        (source / "dataset_description.json").write_text("{}")
    return source, store, source / ("sub-01/pet" if layout == "bids" else "deep/down")


LAYOUTS = ["dicom", "adni", "bids", "nifti"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", ["the folder", "the folder above", "each file"])
def test_links_are_followed_in_every_layout(make_series, tmp_path, layout, what):
    source, store, place = _store(layout, tmp_path, make_series)
    if what == "the folder":
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(store)
    elif what == "the folder above":
        above = tmp_path / "above"
        shutil.move(store, above / place.name)
        place.parent.parent.mkdir(parents=True, exist_ok=True)
        place.parent.symlink_to(above)
    else:
        place.mkdir(parents=True)
        for path in store.iterdir():
            (place / path.name).symlink_to(path)
    found = find_scans(source, layout)
    assert len(found.scans) == 1
    assert read_found(found.scans[0]).array.size > 50


@pytest.mark.parametrize("layout", LAYOUTS)
def test_circles_and_dead_links_are_counted_and_nothing_is_read_twice(make_series, tmp_path, layout):
    source, store, place = _store(layout, tmp_path, make_series)
    shutil.copytree(store, place)
    (place / "up").symlink_to(place.parent)
    (place / "self").symlink_to(place / "self")
    (place / "again").symlink_to(place)
    (place / "gone.nii").symlink_to(tmp_path / "nowhere")
    first = sorted(path for path in place.iterdir() if path.is_file())[0]
    (place / f"twin_{first.name}").symlink_to(first)
    found = find_scans(source, layout)
    assert len(found.scans) == 1
    assert found.ignored["links to folders that are read already"] == 2
    assert found.ignored["links that lead nowhere"] == 2
    assert found.ignored["links to files that are read already"] == 1
    assert read_found(found.scans[0]).array.size > 50


def test_a_folder_of_dead_links_says_so(tmp_path):
    (tmp_path / "a.dcm").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RefusedScan, match=r"links that lead nowhere \(1\)"):
        read_series(tmp_path)


def _without_preamble(data):
    return data[132:]


def _without_meta(data):
    """Cut the file meta out: a prefix, then the data set."""
    return data[:132] + data[_start(data) :]


def _bare(data):
    return data[_start(data) :]


def _start(data):
    return 144 + int.from_bytes(data[140:144], "little")


CUTS = {
    "no preamble": _without_preamble,
    "no preamble, but the prefix": lambda data: data[128:],
    "no prefix": lambda data: data[:128] + data[132:],
    "no file meta": _without_meta,
    "bare": _bare,
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_files_without_preamble_or_meta_are_read(make_series, syntax, cut):
    series = make_series(syntax=syntax)
    for path in series.folder.iterdir():
        path.write_bytes(CUTS[cut](path.read_bytes()))
    if cut in ("bare", "no file meta"):
        assert pydicom.dcmread(path, force=True).file_meta.get("TransferSyntaxUID") is None
    np.testing.assert_allclose(read_series(series.folder).array, series.values, rtol=1e-6)
    assert len(find_scans(series.folder).scans) == 1


@pytest.mark.parametrize("name", ["last.dcm", "last.IMA", "IM0005", "1.2.840.5"])
@pytest.mark.parametrize("content", ["empty", "zeros"])
def test_a_slice_whose_copy_broke_off_is_not_lost(make_series, name, content):
    series = make_series()
    last = next(p for p in series.folder.iterdir() if pydicom.dcmread(p).InstanceNumber == 5)
    (series.folder / name).write_bytes(bytes(last.stat().st_size) if content == "zeros" else b"")
    last.unlink()
    (found,) = find_scans(series.folder).scans
    for read in (lambda: read_series(series.folder), lambda: read_found(found)):
        with pytest.raises(RefusedScan, match=r"is incomplete: it (is empty|holds zeros)") as refusal:
            read()
        assert refusal.value.rule == "truncated-file"


def test_a_series_of_which_no_slice_can_be_read_is_refused_where_its_folders_name_it(make_series, tmp_path):
    place = tmp_path / "in" / PTID / "AV1451"
    make_series(folder=place / "2019-05-10" / "I1")
    broken = make_series(folder=place / "2020-06-11" / "I2").folder
    for path in broken.iterdir():
        path.write_bytes(b"")
    found = find_scans(tmp_path / "in")
    assert (found.layout, len(found.scans)) == ("adni", 2)
    (lost,) = [scan for scan in found.scans if broken in {path.parent for path in scan.files}]
    with pytest.raises(RefusedScan, match="is incomplete: it is empty") as refusal:
        read_found(lost)
    assert refusal.value.rule == "truncated-file"


def test_a_series_of_which_no_slice_can_be_read_is_counted_where_nothing_names_it(make_series, tmp_path):
    make_series(folder=tmp_path / "in" / "a")
    broken = make_series(folder=tmp_path / "in" / "b").folder
    for path in broken.iterdir():
        path.write_bytes(b"")
    found = find_scans(tmp_path / "in")
    assert len(found.scans) == 1
    assert found.ignored == {"broken DICOM files": len(list(broken.iterdir()))}


def test_what_systems_leave_beside_slices_does_no_harm(make_series):
    series = make_series()
    left = {".DS_Store": b"\0\0\0\1Bud1", "._IM0001": b"", "Thumbs.db": b"\xd0\xcf", "Icon\r": b"",
            "VERSION": b"", "README.txt": b"read me", "desktop.ini": b"[x]", "LOCKFILE": b""}  # fmt: skip
    for name, content in left.items():
        (series.folder / name).write_bytes(content)
    np.testing.assert_allclose(read_series(series.folder).array, series.values, rtol=1e-6)
    assert find_scans(series.folder).ignored == {"files that are not DICOM": 6}


def test_compressed_slices_are_named_as_such(make_series):
    series = make_series()
    for path in list(series.folder.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    with pytest.raises(RefusedScan, match=r"compressed files that are to be unpacked \(5\)"):
        read_series(series.folder)
    with pytest.raises(InputError, match=r"compressed files that are to be unpacked \(5\)"):
        find_scans(series.folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=300) | st.text(max_size=300).map(str.encode), dicom=st.booleans())
def test_any_file_beside_the_slices_is_left_alone_or_named(make_series, tmp_path_factory, junk, dicom):
    folder = tmp_path_factory.mktemp("s")
    series = make_series(folder=folder)
    (folder / "beside").write_bytes(bytes(128) + b"DICM" + junk if dicom else junk)
    try:
        read = read_series(folder).array
    except RefusedScan as refusal:
        # DICOM without its preamble, or without its prefix.
        assert dicom or junk[:4] == b"DICM" or junk[:2] in (b"\x08\x00", b"\x00\x08", b"\x02\x00")
        assert refusal.rule == "truncated-file"  # noqa: PT017
    else:
        np.testing.assert_allclose(read, series.values, rtol=1e-6)
