"""Reading PET series: real ones against independent readings, written ones against what was written."""

from __future__ import annotations

import json
import os
import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from pipeline.errors import InputError, RefusedScan
from pipeline.ingest.dicom import assemble, read_series, stack_images
from pipeline.ingest.headers import SeriesHeader
from pipeline.ingest.instances import read_file


def test_the_real_ge_series_equals_its_published_nifti(shared_data):
    folder = shared_data("pet_ge_suv_crop")
    volume = read_series(folder / "dicom")
    published = nib.load(folder / "nifti" / "image.nii.gz")
    truth = published.get_fdata()
    assert np.abs(volume.array - truth).max() <= 2e-6 * truth.max()
    np.testing.assert_allclose(volume.affine, published.affine, atol=2e-5)
    assert volume.unit == "SUV"
    assert volume.frames[0].duration_s == 240.0
    facts = volume.facts
    assert (facts["tracer"], facts["manufacturer"], facts["model"]) == ("FDG", "GE", "Discovery ST")
    assert facts["scan_after_injection_s"] == 45 * 60 + 11  # 10:35:00 to 11:20:11


def test_three_transfer_syntaxes_give_equal_pixels(shared_data):
    folder = shared_data("pet_transcodes")
    native, rle, jpegls = (read_series(folder / name).array for name in ("native", "rle", "jpegls"))
    assert native.std() > 0
    np.testing.assert_array_equal(native, rle)
    np.testing.assert_array_equal(native, jpegls)


def test_the_multi_frame_phantom_equals_its_nifti(shared_data):
    folder = shared_data("multiframe_ibsi")
    volume = stack_images([read_file(folder / "dicom" / "image" / "phantom.dcm", pixels=True)])
    published = nib.load(folder / "nifti" / "image" / "phantom.nii.gz").get_fdata()
    # The NIfTI was written with coronal planes laid along its y; its spacing of 2 mm is not the DICOM's.
    np.testing.assert_array_equal(volume.array.transpose(0, 2, 1), published)
    np.testing.assert_allclose(volume.spacing_mm, (1, 1, 1))


def test_an_enhanced_image_is_read_frame_by_frame(make_enhanced, tmp_path):
    series = make_enhanced(tmp_path)
    volume = read_series(tmp_path)
    np.testing.assert_allclose(volume.array, series.values, rtol=1e-6)
    np.testing.assert_allclose(volume.affine, series.affine, atol=1e-6)
    assert volume.unit == "Bq/mL"
    assert [(f.start_s, f.duration_s) for f in volume.frames] == [(0, 300), (300, 300)]
    assert volume.facts["scan_after_injection_s"] == 80 * 60
    assert (volume.facts["decay_correction"], volume.facts["attenuation_corrected"]) == ("START", True)


@pytest.mark.parametrize(
    ("vendor", "delay_s"),
    [
        ("SIEMENS", 8264.0),
        ("GE_MEDICAL_AND_BQML", 4281.0),
        ("PHILIPS_BQML", 3657.0),
        # Reconstructed again: its series time is 46 minutes late, and its frame reference time 0.
        ("CPS_AND_BQML_AC_DT_-_S_DT", 3791.234),
    ],
)
def test_the_suv_factor_of_real_headers(shared_data, make_series, vendor, delay_s):
    told = json.loads((shared_data("pet_headers") / f"{vendor}-instances.json").read_text())[0]
    private = told.pop("PhilipsPETPrivateGroup")
    drug = Dataset()
    for keyword in [k for k in told if k.startswith("Radio")]:
        setattr(drug, keyword, str(told.pop(keyword)))

    def edit(ds, *_):
        for keyword, value in told.items():
            setattr(ds, keyword, value if isinstance(value, list) else str(value))
        ds.RadiopharmaceuticalInformationSequence = Sequence([drug])

    factor = read_series(make_series(edit=edit).folder).facts["suv_factor"]
    dose, half_life = float(drug.RadionuclideTotalDose), float(drug.RadionuclideHalfLife)
    assert factor == pytest.approx(
        told["PatientWeight"] * 1000 / (dose * 2 ** (-delay_s / half_life)), rel=1e-4
    )
    if private:  # Philips wrote its own: what makes SUV of a count, over what makes Bq/mL of it
        own = float(private["SUVScaleFactor"]) / float(private["ActivityConcentrationScaleFactor"])
        assert factor == pytest.approx(own, rel=1e-3)


@pytest.mark.parametrize(
    ("correction", "private", "delay_s"),
    [
        ("ADMIN", None, 0.0),
        # The series time is late; GE keeps the true start, else the frame reference time leads back to it.
        ("START", "20190510101900.00", 4740.0),
        ("START", None, 4800 - 148 + 149.606),
        ("NONE", None, None),
    ],
)
def test_what_the_suv_factor_decays_to(make_series, correction, private, delay_s):
    def edit(ds, *_):
        ds.DecayCorrection, ds.SeriesTime = correction, "120000.00"
        if private:
            ds.Manufacturer = "GE MEDICAL SYSTEMS"
            ds.private_block(0x0009, "GEMS_IDEN_01", create=True).add_new(0x0D, "LO", "not a time")
            ds.private_block(0x0009, "GEMS_PETD_01", create=True).add_new(0x0D, "DT", private)

    factor = read_series(make_series(edit=edit).folder).facts["suv_factor"]
    expected = None if delay_s is None else 70_000 / (3.7e8 * 2 ** (-delay_s / 6586.2))
    assert factor == (expected if expected is None else pytest.approx(expected, rel=1e-6))


@pytest.mark.parametrize("angles", [(0, 0, 0), (90, 0, 0), (0, 90, 0), (12, -7, 25), (0, 0, 180)])
@pytest.mark.parametrize("backwards", [False, True])
def test_values_and_affine_come_back_whatever_the_orientation(make_series, angles, backwards):
    series = make_series(angles=angles, backwards=backwards)
    volume = read_series(series.folder)
    np.testing.assert_allclose(volume.array, series.values, rtol=1e-6)
    np.testing.assert_allclose(volume.affine, series.affine, atol=1e-6)
    assert volume.unit == "Bq/mL"


def test_a_dynamic_series_has_its_frames_in_order_of_time(make_series):
    series = make_series(frames=4, backwards=True)
    volume = read_series(series.folder)
    np.testing.assert_allclose(volume.array, series.values, rtol=1e-6)
    assert [(f.start_s, f.duration_s) for f in volume.frames] == [(300.0 * n, 300.0) for n in range(4)]


def test_frames_without_times_of_their_own_are_placed_by_their_reference_time(make_series):
    def same_clock(ds, _slice, _frame):
        ds.AcquisitionTime = "102000.00"

    volume = read_series(make_series(frames=3, edit=same_clock).folder)
    assert [f.start_s for f in volume.frames] == pytest.approx([0, 300, 600])


def test_the_facts_of_a_header(make_series):
    facts = read_series(make_series().folder).facts
    assert facts["tracer"] == "AV1451"
    assert facts["radionuclide"] == "F18"
    assert facts["scan_after_injection_s"] == 80 * 60
    assert facts["injected_activity_bq"] == 3.7e8
    assert facts["weight_kg"] == 70
    # Decay corrected to the start of the series, 80 minutes after the dose was measured.
    assert facts["suv_factor"] == pytest.approx(70_000 / (3.7e8 * 2 ** (-4800 / 6586.2)))
    assert facts["attenuation_corrected"] is True


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda s: s.name,
)
def test_uncompressed_transfer_syntaxes(make_series, syntax):
    series = make_series(syntax=syntax)
    np.testing.assert_allclose(read_series(series.folder).array, series.values, rtol=1e-6)


def test_jpeg_2000_is_read(make_series, rewrite):
    series = make_series(shape=(32, 32, 3))
    rewrite(series.folder, lambda ds, _: ds.compress(pydicom.uid.JPEG2000Lossless))
    np.testing.assert_allclose(read_series(series.folder).array, series.values, rtol=1e-6)


def test_icons_and_private_junk_do_no_harm(make_series, rewrite):
    series = make_series()

    def clutter(ds, _):
        icon = Dataset()
        icon.Rows = icon.Columns = 2
        icon.BitsAllocated, icon.SamplesPerPixel, icon.PixelRepresentation = 8, 1, 0
        icon.PixelData = b"\1\2\3\4"
        ds.IconImageSequence = Sequence([icon])
        ds.add_new(0x00091001, "DS", "1.5")
        ds.add_new(0x00091010, "UN", b"\xff\xfe\x00junk")
        ds[0x00091001]._value = "no number at all"

    rewrite(series.folder, clutter)
    np.testing.assert_allclose(read_series(series.folder).array, series.values, rtol=1e-6)


def test_bed_joins_may_be_uneven_by_hundredths_of_a_millimetre(make_series):
    def jitter(ds, k, _):
        ds.ImagePositionPatient = [
            *ds.ImagePositionPatient[:2],
            f"{40 + 3.0 * k + (0.03 if k > 2 else 0):.4f}",
        ]

    assert read_series(make_series(edit=jitter).folder).spacing_mm[2] == pytest.approx(3.0, abs=0.02)


def test_the_same_image_under_another_name_is_taken_once(make_series):
    series = make_series()
    shutil.copy(next(series.folder.iterdir()), series.folder / "copy.dcm")
    np.testing.assert_allclose(read_series(series.folder).array, series.values, rtol=1e-6)


def test_what_is_not_pet_is_not_read(make_series):
    series = make_series()
    for n, (sop_class, modality) in enumerate(
        (("1.2.840.10008.5.1.4.1.1.2", "CT"), ("1.2.840.10008.5.1.4.1.1.4", "MR"))
    ):
        ds = pydicom.dcmread(next(iter(sorted(series.folder.iterdir()))))
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
        ds.Modality, ds.SOPInstanceUID = modality, generate_uid()
        ds.save_as(series.folder / f"other{n}.dcm")
    (series.folder / "notes.txt").write_text("read me")
    np.testing.assert_allclose(read_series(series.folder).array, series.values, rtol=1e-6)


def test_two_series_in_a_folder_are_read_by_name_only(make_series):
    first = make_series()
    second = make_series(seed=1)
    with pytest.raises(RefusedScan, match="There are 2 PET series"):
        read_series(first.folder)
    uid = second.datasets[0].SeriesInstanceUID
    np.testing.assert_allclose(read_series(first.folder, uid).array, second.values, rtol=1e-6)


class TestPhilips:
    """Counts become quantities by a private factor only."""

    @staticmethod
    def edit(**private):
        def change(ds, _slice, _frame):
            ds.Units, ds.Manufacturer = "CNTS", "Philips Medical Systems"
            block = ds.private_block(0x7053, "Philips PET Private Group", create=True)
            for name, value in private.items():
                block.add_new({"suv": 0x00, "activity": 0x09}[name], "DS", value)

        return change

    def test_activity_factor_gives_becquerel(self, make_series):
        series = make_series(edit=self.edit(suv="0.0035", activity="4.709921"))
        volume = read_series(series.folder)
        assert volume.unit == "Bq/mL"
        np.testing.assert_allclose(volume.array, series.values * 4.709921, rtol=1e-6)

    def test_suv_factor_alone_gives_suv(self, make_series):
        series = make_series(edit=self.edit(suv="0.0035", activity="0"))
        volume = read_series(series.folder)
        assert volume.unit == "SUV"
        np.testing.assert_allclose(volume.array, series.values * 0.0035, rtol=1e-6)

    def test_neither_is_refused(self, make_series):
        with pytest.raises(RefusedScan, match="are CNTS without a Philips activity scale factor") as refusal:
            read_series(make_series(edit=self.edit()).folder)
        assert refusal.value.rule == "units-unknown"


def _set(**values):
    def edit(ds, _slice, _frame):
        for name, value in values.items():
            setattr(ds, name, value)

    return edit


def _only_in(frame, **values):
    def edit(ds, _slice, t):
        if t == frame:
            _set(**values)(ds, 0, 0)

    return edit


@pytest.mark.parametrize(
    ("how", "rule", "match"),
    [
        ({"edit": _set(CorrectedImage=["DECY"])}, "not-attenuation-corrected", "lacks ATTN"),
        ({"edit": _set(Units="PCNT")}, "units-unknown", "are PCNT"),
        ({"edit": _set(Units="DOE JANE")}, "units-unknown", "are an unknown value"),
        ({"edit": _set(RescaleSlope="0")}, "units-unknown", "Rescale Slope"),
        ({"edit": _set(PixelSpacing=None)}, "no-geometry", "place of a slice is not known"),
        ({"frames": 2, "edit": _only_in(1, DecayCorrection="ADMIN")}, "decay-reference-differs",
         "corrected to 2 different times"),
        ({"frames": 2, "edit": _only_in(1, SeriesTime="103000.00")}, "decay-reference-differs",
         "corrected to 2 different times"),
        ({"frames": 2, "edit": _set(AcquisitionTime="102000", FrameReferenceTime="0", ImageIndex=1)},
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


def test_frames_without_decay_correction_are_corrected_by_their_times(make_series):
    series = make_series(frames=2, edit=_set(DecayCorrection="NONE"))
    volume = read_series(series.folder)
    # The mean over a 5 min frame stands for a moment just before its middle.
    for n, middle in enumerate((149.606, 449.606)):
        factor = np.median(volume.array[..., n] / series.values[..., n])
        assert factor == pytest.approx(2 ** (middle / 6586.2), rel=1e-5)
    assert volume.facts["decay_correction"] == "START"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(5)),
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.5, 8)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
)
def test_slice_order_and_affine_do_not_depend_on_the_order_of_files(
    tmp_path_factory, make_series, order, angles, spacing, origin
):
    folder = tmp_path_factory.mktemp("s")
    series = make_series(folder=folder, angles=angles, spacing=spacing, origin=origin, shape=(3, 4, 5))
    volume = assemble(
        [SeriesHeader.of(pydicom.dcmread(p)) for p in np.array(sorted(folder.iterdir()))[list(order)]]
    )
    np.testing.assert_allclose(volume.array, series.values, rtol=1e-6)
    np.testing.assert_allclose(volume.affine, series.affine, atol=1e-4)


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

    with pytest.raises(RefusedScan, match="found 5 PET projections and localisers"):
        read_series(make_series(edit=edit).folder)
