"""What a walk below a folder takes, counts, and never waits for."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.errors import InputError, RefusedScan
from pipeline.ingest.convert import read_found
from pipeline.ingest.dicom import read_series
from pipeline.ingest.sources import find_scans


@pytest.fixture
def shut(monkeypatch):
    """The function that takes the permission to read a file, also from root, who may read everything."""
    closed: dict[str, OSError] = {}
    access, opened = os.access, Path.open

    def may(path, mode, **how):
        return not (mode == os.R_OK and os.fspath(path) in closed) and access(path, mode, **how)

    def open_(self, *args, **how):
        if str(self) in closed:
            raise closed[str(self)]
        return opened(self, *args, **how)

    monkeypatch.setattr(os, "access", may)
    monkeypatch.setattr(Path, "open", open_)
    return lambda path, error=None: closed.update({str(path): error or PermissionError(13, "denied")})


@pytest.mark.parametrize("which", [0, 2, 4])
def test_a_scan_with_a_slice_that_may_not_be_read_is_refused_and_named(make_series, shut, which):
    series = make_series()
    shut(sorted(series.folder.iterdir())[which])
    found = find_scans(series.folder)
    assert found.unopened == (sorted(series.folder.iterdir())[which],)
    assert found.ignored == {"files that may not be read": 1}
    with pytest.raises(RefusedScan, match="may not be read by this user") as refused:
        read_found(found.scans[0])
    assert refused.value.rule == "no-permission"
    with pytest.raises(RefusedScan, match="may not be read by this user"):
        read_series(series.folder)


def test_a_slice_on_a_drive_that_fails_refuses_its_scan(make_series, shut):
    series = make_series()
    shut(max(series.folder.iterdir()), OSError(116, "Stale file handle"))
    (scan,) = find_scans(series.folder).scans
    with pytest.raises(RefusedScan, match="cannot be read") as refused:
        read_found(scan)
    assert refused.value.rule == "vanished"


def test_files_that_may_not_be_read_are_never_called_something_else(make_series, shut):
    series = make_series()
    for path in series.folder.iterdir():
        shut(path)
    with pytest.raises(InputError, match="Correct the permissions of"):
        find_scans(series.folder)


@pytest.mark.parametrize("name", ["pipe", "pipe.dcm", "pipe.nii.gz"])
def test_a_pipe_is_counted_and_never_read(make_series, name):
    series = make_series()
    os.mkfifo(series.folder / name)
    found = find_scans(series.folder)
    assert found.ignored == {"pipes, sockets and devices": 1}
    np.testing.assert_allclose(read_found(found.scans[0]).array, series.values, rtol=1e-6)
    np.testing.assert_allclose(read_series(series.folder).array, series.values, rtol=1e-6)


@pytest.mark.parametrize(
    "folder",
    [
        "$RECYCLE.BIN/S-1-5-21",
        "#recycle",
        "@eaDir",
        "~snapshot/daily",
        "System Volume Information",
        "lost+found",
    ],
)
def test_what_was_deleted_or_is_the_systems_is_no_scan(tmp_path, folder):
    image = nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4))
    for place in (tmp_path, tmp_path / folder):
        place.mkdir(parents=True, exist_ok=True)
        nib.save(image, place / f"S{len(place.parts):03}.nii.gz")
    found = find_scans(tmp_path)
    assert [scan.files[0].parent for scan in found.scans] == [tmp_path]
    assert found.ignored == {"folders of the system (bins, snapshots, thumbnails)": 1}


@pytest.mark.parametrize(
    "names", [("S001.img", "S001.hdr"), ("S001.mgz",), ("S001.nrrd",), ("S001.v",), ("S001.MNC",)]
)
def test_images_of_other_formats_are_counted_as_such(tmp_path, names):
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4)), tmp_path / "S002.nii.gz")
    for name in names:
        (tmp_path / name).write_bytes(b"image")
    assert find_scans(tmp_path).ignored == {
        "images of other formats, which are to be converted to NIfTI": len(names)
    }
