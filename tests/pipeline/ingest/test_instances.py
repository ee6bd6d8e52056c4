"""The fast walk over a file gives what pydicom gives, whatever a header holds."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pipeline.errors import RefusedScan
from pipeline.ingest.dicom import read_series
from pipeline.ingest.headers import SeriesHeader
from pipeline.ingest.instances import read_file

TEXT = st.text("abc 123^\\", max_size=20)
ITEM = st.fixed_dictionaries({"CodeValue": TEXT, "CodeMeaning": TEXT})


def _items(written, undefined, depth):
    items = []
    for values in written:
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        if depth:
            item.RadiopharmaceuticalCodeSequence = Sequence(_items(written, undefined, depth - 1))
            item["RadiopharmaceuticalCodeSequence"].is_undefined_length = undefined
        item.is_undefined_length_sequence_item = undefined
        items.append(item)
    return items


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    codes=st.lists(ITEM, max_size=3),
    undefined=st.booleans(),
    depth=st.integers(0, 2),
    name=TEXT,
    comment=st.text(max_size=1500),
    numbers=st.lists(st.integers(-9999, 9999), max_size=4),
)
def test_every_element_is_read_as_pydicom_reads_it(
    make_header, tmp_path_factory, syntax, codes, undefined, depth, name, comment, numbers
):
    ds = make_header("1.2.3", syntax)
    ds.SpecificCharacterSet, ds.PatientName, ds.ImageComments = "ISO_IR 192", name, comment
    ds.AxialMash = numbers
    ds.RadiopharmaceuticalInformationSequence = Sequence(_items(codes, undefined, depth))
    ds["RadiopharmaceuticalInformationSequence"].is_undefined_length = undefined
    ds.private_block(0x0009, "GEMS_PETD_01", create=True).add_new(0x0D, "DT", "20190510101900.00")
    ds.Rows, ds.Columns, ds.PixelData = 2, 2, b"\0\1\2\3\4\5\6\7"
    ds["PixelData"].VR = "OW"
    path = tmp_path_factory.mktemp("d") / "a.dcm"
    ds.save_as(path, enforce_file_format=True)
    slow = SeriesHeader.of(pydicom.dcmread(path))
    for pixels in (False, True):
        with mock.patch("pydicom.dcmread", side_effect=AssertionError("the walk needs no pydicom")):
            fast = read_file(path, pixels=pixels)
        lacking = set() if pixels else {0x7FE00010}
        assert fast.layers[0].keys() == slow.layers[0].keys() - lacking
        assert (fast.syntax, fast.encodings) == (slow.syntax, slow.encodings)
        for tag in fast.layers[0]:
            assert fast.get(tag) == slow.get(tag) or not slow.get(tag)
            assert fast.text(tag) == slow.text(tag)


def test_a_header_longer_than_what_is_read_first_is_read_whole(make_header, tmp_path):
    ds = make_header("1.2.3")
    for n in range(1, 40):
        ds.add_new(0x00091000 + n, "UN", b"\1" * 4000)
    ds.Rows = ds.Columns = 2
    ds.PixelData = np.zeros(4, "<i2").tobytes()
    ds["PixelData"].VR = "OW"
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    header = read_file(tmp_path / "a.dcm")
    assert (header.whole("Rows"), header.get("PixelData")) == (2, None)
    assert read_file(tmp_path / "a.dcm", pixels=True).get("PixelData") == ds.PixelData


def test_a_thousand_nested_sequences_are_refused_by_name(make_header, tmp_path):
    make_header("1.2.3", ImplicitVRLittleEndian).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    opened = b"\x00\x54\x00\x01\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with (tmp_path / "a.dcm").open("ab") as stream:
        stream.write(opened * 5000)
    with pytest.raises(RefusedScan, match="breaks off"):
        read_file(tmp_path / "a.dcm")


def test_a_slope_beyond_every_number_is_refused(make_series):
    def edit(ds, _slice, _frame):
        ds.RescaleSlope = "1e39"

    with pytest.raises(RefusedScan, match=r"Rescale Slope \(0028,1053\) 1e\+39") as refusal:
        read_series(make_series(edit=edit).folder)
    assert refusal.value.rule == "invalid-scale"


@pytest.mark.parametrize("cut", [0, 1, 64, 130, 132, 134, 150, 250, 350, 600, 900])
def test_a_slice_cut_anywhere_never_makes_a_shorter_scan(make_series, cut):
    series = make_series()
    last = max(series.folder.iterdir(), key=lambda path: pydicom.dcmread(path).InstanceNumber)
    last.write_bytes(last.read_bytes()[:cut])
    with pytest.raises(RefusedScan, match="is incomplete") as refused:
        read_series(series.folder)
    assert refused.value.rule == "truncated-file"
