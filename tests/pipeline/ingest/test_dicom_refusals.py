"""A PET series that cannot be read as it stands is refused by a rule, or set right and said."""

from __future__ import annotations

import os

import pydicom
import pytest
from changed_series import setting
from pydicom.sequence import Sequence

from pipeline.errors import InputError, RefusedScan
from pipeline.ingest.dicom import read_series


def _only_in(frame, **values):
    def edit(ds, _slice, t):
        if t == frame:
            setting(**values)(ds, 0, 0)

    return edit


@pytest.mark.parametrize(
    ("how", "rule", "match"),
    [
        ({"edit": setting(CorrectedImage=["DECY"])}, "not-attenuation-corrected", "lacks ATTN"),
        ({"edit": setting(Units="PCNT")}, "units-unknown", "are PCNT"),
        ({"edit": setting(Units="DOE JANE")}, "units-unknown", "are an unknown value"),
        ({"edit": setting(RescaleSlope="0")}, "units-unknown", "Rescale Slope"),
        ({"edit": setting(PixelSpacing=None)}, "no-geometry", "place of a slice is not known"),
        ({"frames": 2, "edit": _only_in(1, DecayCorrection="ADMIN")}, "decay-reference-differs",
         "corrected to 2 different times"),
        ({"frames": 2, "edit": _only_in(1, SeriesTime="103000.00")}, "decay-reference-differs",
         "corrected to 2 different times"),
        ({"frames": 2, "edit": setting(AcquisitionTime="102000", FrameReferenceTime="0", ImageIndex=1)},
         "mixed-geometry", "one place and time"),
        ({"shape": (5, 5, 1)}, "missing-slices", "a single slice"),
    ],
)  # fmt: skip
def test_refusals_name_their_rule(make_series, how, rule, match):
    with pytest.raises(RefusedScan, match=match) as refusal:
        read_series(make_series(**how).folder)
    assert refusal.value.rule == rule


def test_injection_after_the_scan_is_never_decayed_backwards(make_series, make_drug):
    late = make_drug(start="20190510102500.00")

    def edit(ds, _slice, _frame):
        ds.RadiopharmaceuticalInformationSequence = Sequence([late])

    with pytest.raises(RefusedScan, match=r"injection is 5\.0 min after the scan") as refusal:
        read_series(make_series(edit=edit).folder)
    assert refusal.value.rule == "injection-after-scan"


@pytest.mark.parametrize("start", ["20190509090000.00", "20190511090000.00", "19000101090000.00"])
def test_a_date_of_injection_that_is_days_off_is_set_right_and_said(make_series, make_drug, start):
    def edit(ds, _slice, _frame):
        ds.RadiopharmaceuticalInformationSequence = Sequence([make_drug(start=start)])

    facts = read_series(make_series(edit=edit).folder).facts
    assert facts["scan_after_injection_s"] == 80 * 60
    assert facts["time_note"] == "date of injection ignored"


@pytest.mark.parametrize("lost", [[2], [1, 2], [3]])
def test_missing_slices_are_named_in_millimetres(make_series, lost):
    series = make_series(shape=(4, 4, 8))
    heights = {40 + 3.0 * k for k in lost}
    for path in series.folder.iterdir():
        if float(pydicom.dcmread(path).ImagePositionPatient[2]) in heights:
            path.unlink()
    with pytest.raises(RefusedScan, match="missing at z = ") as refusal:
        read_series(series.folder)
    assert refusal.value.rule == "missing-slices"
    for height in heights:
        assert f"{height:.1f}" in str(refusal.value)


def test_a_frame_that_lacks_a_slice_is_refused(make_series):
    series = make_series(frames=3)
    doomed = next(p for p in series.folder.iterdir() if pydicom.dcmread(p).InstanceNumber == 7)
    doomed.unlink()
    with pytest.raises(RefusedScan, match=r"1 slices are missing at z = 43\.0 mm"):
        read_series(series.folder)


def test_slices_of_another_size_are_refused(make_series, rewrite):
    series = make_series()

    def shrink(ds, n):
        if n == 2:
            ds.Columns = 5
            ds.PixelData = ds.PixelData[: 5 * 6 * 2]

    rewrite(series.folder, shrink)
    with pytest.raises(RefusedScan, match="not share one grid") as refusal:
        read_series(series.folder)
    assert refusal.value.rule == "mixed-geometry"


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(make_series, keep):
    series = make_series(shape=(32, 32, 4))
    path = sorted(series.folder.iterdir())[1]
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(RefusedScan, match="is incomplete") as refusal:
        read_series(series.folder)
    assert refusal.value.rule == "truncated-file"


@pytest.mark.parametrize("syntax", ["rle", "jpegls"])
def test_a_truncated_compressed_file_is_refused(shared_data, tmp_path, syntax):
    for path in sorted(shared_data("pet_transcodes").joinpath(syntax).iterdir()):
        data = path.read_bytes()
        (tmp_path / path.name).write_bytes(data[: len(data) * 4 // 5] if path.name == "000003.dcm" else data)
    with pytest.raises(RefusedScan, match="is incomplete") as refusal:
        read_series(tmp_path)
    assert refusal.value.rule == "truncated-file"


def test_a_codec_that_cannot_be_read_is_refused(make_series, rewrite):
    series = make_series()

    def claim(ds, _):
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2
        ds.PixelData = pydicom.encaps.encapsulate([b"\0" * 64])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True

    rewrite(series.folder, claim)
    with pytest.raises(RefusedScan, match="cannot be decoded: MPEG2") as refusal:
        read_series(series.folder)
    assert refusal.value.rule == "unreadable-codec"


def test_an_empty_folder_and_no_folder(tmp_path):
    with pytest.raises(RefusedScan, match="No PET image here: found no file") as refusal:
        read_series(tmp_path)
    assert refusal.value.rule == "empty"
    with pytest.raises(InputError, match="none: No such folder"):
        read_series(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "corrections", "refused"),
    [
        ("AV1451 PET NAC", None, True),
        ("AV1451 no attenuation", None, True),
        ("AV1451 NAC", ["DECY", "ATTN"], False),
        ("AV1451 AC", None, False),
    ],
)
def test_a_series_named_as_uncorrected_is_refused_unless_the_header_states_otherwise(
    make_series, name, corrections, refused
):
    def edit(ds, _slice, _frame):
        ds.SeriesDescription = name
        if corrections is None:
            del ds.CorrectedImage
        else:
            ds.CorrectedImage = corrections

    series = make_series(edit=edit)
    if not refused:
        assert read_series(series.folder).array.size
        return
    with pytest.raises(RefusedScan, match="are not corrected for attenuation: Series Description") as error:
        read_series(series.folder)
    assert error.value.rule == "not-attenuation-corrected"


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("which", [1, 2, 3])
def test_a_slice_of_one_value_between_others_is_a_missing_one(make_series, frames, which):
    def edit(ds, k, t):
        if k == which and t == frames - 1:
            ds.PixelData = bytes(len(ds.PixelData))

    series = make_series(frames=frames, edit=edit)
    with pytest.raises(RefusedScan, match=f"1 slices along z, the first is number {which + 1}") as error:
        read_series(series.folder)
    assert error.value.rule == "missing-slices"


@pytest.mark.parametrize("where", [{0, 1}, {4}, {0, 4}])
def test_empty_slices_outside_of_the_head_are_read(make_series, where):
    def edit(ds, k, _t):
        if k in where:
            ds.PixelData = bytes(len(ds.PixelData))

    assert read_series(make_series(edit=edit).folder).array.shape == (7, 6, 5)


@pytest.mark.parametrize("kind", ["MIP IMAGE", "SCREEN SAVE", "LOCALIZER", "TOPOGRAM"])
def test_projections_and_screenshots_are_left_alone(make_series, kind):
    def edit(ds, _k, _t):
        ds.ImageType = ["DERIVED", "SECONDARY", kind]

    with pytest.raises(RefusedScan, match=r"found PET projections and localisers \(5\)"):
        read_series(make_series(edit=edit).folder)
