"""Reading PET series: real ones against independent readings, written ones against what was written."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
from changed_series import setting
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

from pipeline.errors import RefusedScan
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


def test_frames_without_decay_correction_are_corrected_by_their_times(make_series):
    series = make_series(frames=2, edit=setting(DecayCorrection="NONE"))
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
