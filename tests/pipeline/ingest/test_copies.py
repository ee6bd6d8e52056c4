"""The same images are known again however they are packed, and nothing else is taken for them."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import replace

import pydicom
import pytest
from pydicom.uid import generate_uid

from pipeline.ingest.archives import opened
from pipeline.ingest.copies import content_of
from pipeline.ingest.sources import scans_at


@pytest.fixture
def series(make_series, tmp_path):
    """A folder with the slices of a series."""
    make_series(tmp_path / "in")
    return tmp_path / "in"


def scan_in(place):
    (found,) = scans_at(place)
    return found


def test_archives_and_packed_slices_hold_the_same_images(series, tmp_path):
    whole = scan_in(series)
    for kind in ("zip", "gztar"):
        archive = shutil.make_archive(str(tmp_path / "packed"), kind, series)
        with opened(tmp_path / archive) as view:
            (unpacked,) = scans_at(tmp_path / archive, view)
            assert content_of(whole) == content_of(unpacked) != ""
    (tmp_path / "gz").mkdir()
    for path in series.iterdir():
        (tmp_path / "gz" / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    with opened(tmp_path / "gz") as view:
        (unpacked,) = scans_at(tmp_path / "gz", view)
        assert content_of(whole) == content_of(unpacked) != ""


def test_an_export_under_other_uids_and_names_holds_the_same_images(series, tmp_path):
    shutil.copytree(series, tmp_path / "export")
    uid = generate_uid()
    for number, path in enumerate(sorted((tmp_path / "export").iterdir())):
        slice_ = pydicom.dcmread(path)
        slice_.SeriesInstanceUID, slice_.SOPInstanceUID = uid, generate_uid()
        path.unlink()
        slice_.save_as(tmp_path / "export" / f"{number}.dcm")
    assert content_of(scan_in(series)) == content_of(scan_in(tmp_path / "export")) != ""


@pytest.mark.parametrize("change", ["pixel", "scale", "direction", "slice", "zeros"])
def test_what_differs_in_anything_that_is_shown_is_another_scan(series, tmp_path, change):
    shutil.copytree(series, tmp_path / "other")
    paths = sorted((tmp_path / "other").iterdir())
    changed = paths if change in ("direction", "zeros") else paths[:1]
    for path in changed:
        slice_ = pydicom.dcmread(path)
        pixels = bytearray(slice_.PixelData)
        if change == "pixel":
            pixels[0] ^= 1
        if change == "zeros":
            pixels = bytearray(len(pixels))
        if change == "scale":
            slice_.RescaleSlope = str(2 * float(slice_.RescaleSlope))
        if change == "direction":
            slice_.ImageOrientationPatient = ["-1", "0", "0", "0", "1", "0"]
        slice_.PixelData = bytes(pixels)
        slice_.save_as(path)
    if change == "slice":
        paths[0].unlink()
    whole, other = scan_in(series), scan_in(series)
    other = replace(other, files=tuple(sorted((tmp_path / "other").iterdir())))
    assert content_of(whole) == content_of(scan_in(series)) != content_of(other)
    assert bool(content_of(other)) == (change != "zeros"), "zeros are no evidence"
