"""Scanners by the headers they write, and enhanced PET images as the standard describes them."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from pipeline.errors import RefusedScan
from pipeline.ingest.convert import convert_scan
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.dicom import read_series
from pipeline.ingest.sources import find_scans


def quadra(shared_data, folder, edit):
    """Write the first three slices of a Vision Quadra, edited, as a series that is whole."""
    folder.mkdir()
    for n in range(3):
        ds = pydicom.dcmread(shared_data(f"siemens_quadra_header/{n}.dcm"))
        ds.NumberOfSlices = 3
        ds.Rows = ds.Columns = 6
        ds.PixelData = np.arange(36, dtype="<u2").tobytes()
        edit(ds)
        ds.save_as(folder / f"{n}.dcm")
    return folder


def flortaucipir(ds):
    """Put the tracer in place of the germanium of a phantom."""
    item = ds.RadiopharmaceuticalInformationSequence[0]
    item.Radiopharmaceutical = "Flortaucipir"
    item.RadionuclideHalfLife = "6586.2"
    item.RadionuclideCodeSequence[0].CodeValue = "C-111A1"
    item.RadionuclideCodeSequence[0].CodeMeaning = "^18^Fluorine"
    item.RadiopharmaceuticalCodeSequence[0].CodeValue = "879808000"
    ds.ProtocolName, ds.AcquisitionTime, ds.SeriesTime = "Brain", "161000.000000", "161000.000000"


def test_a_vision_quadra_is_read(shared_data, tmp_path):
    folder = quadra(shared_data, tmp_path / "q", flortaucipir)
    volume = read_series(folder)
    assert volume.array.shape == (6, 6, 3)
    np.testing.assert_allclose(np.abs(np.diag(volume.affine)[:3]), [1.65, 1.65, 2.0])
    np.testing.assert_allclose(volume.array[:, :, 1].T.ravel(), np.arange(36) * 0.46850314889981, rtol=1e-6)
    expected = {
        "tracer": "AV1451", "radionuclide": "F18", "manufacturer": "Siemens", "model": "Vision Quadra Edge",
        "reconstruction": "WB PSF+TOF 4i5s", "attenuation_corrected": True, "decay_correction": "START",
        "injected_activity_bq": 85_740_000.0, "weight_kg": 75.0,
    }  # fmt: skip
    assert {name: volume.facts[name] for name in expected} == expected
    assert volume.facts["scan_after_injection_s"] == 80 * 60 + 18
    (scan,) = find_scans(folder).scans
    converted = convert_scan(scan, tmp_path / "bids", Pseudonymiser(bytes(32)), "AV1451")
    written = "".join(path.read_text() for path in converted.path.parent.glob("*.json"))
    assert not any(word in written for word in ("Session", "institute", "Sydney", "987654321", "10016"))


def test_a_quadra_whose_slices_are_not_all_there_names_them(shared_data):
    with pytest.raises(RefusedScan, match=r"524 slices are missing at z = -889\.5, .* \.\.\. mm"):
        read_series(shared_data("siemens_quadra_header"))


def test_a_phantom_of_germanium_under_the_protocol_of_the_tracer_is_refused(shared_data, tmp_path):
    def edit(ds):
        ds.ProtocolName = "Tau AV1451"

    folder = quadra(shared_data, tmp_path / "q", edit)
    match = (
        r"The tracer is AV1451, but the radionuclide is GE68, expected F18\. Leave it out if it is a phantom"
    )
    with pytest.raises(RefusedScan, match=match) as refused:
        read_series(folder)
    assert refused.value.rule == "wrong-tracer"


@pytest.mark.parametrize(
    ("manufacturer", "model", "expected"),
    [
        ("UIH", "uMI 780", ("United Imaging", "uMI 780")),
        ("UIH", "uMI Panorama 28", ("United Imaging", "uMI Panorama 28")),
        ("United Imaging Healthcare", "uEXPLORER", ("United Imaging", "uEXPLORER")),
        ("UIH", "uPMR 790", ("United Imaging", "uPMR 790")),
        ("CANON_MEC", "Cartesion Prime", ("Canon", "Cartesion Prime")),
        ("TOSHIBA_MEC", "Celesteion PCA-9000A", ("Canon", "Celesteion PCA-9000A")),
        ("GE MEDICAL SYSTEMS", "Omni Legend", ("GE", "Omni Legend")),
        ("SIEMENS", "Biograph64", ("Siemens", "Biograph 64")),
        ("Some Hospital", "Jane's scanner", (None, None)),
    ],
)
def test_makers_and_models_are_known_by_their_names(make_series, manufacturer, model, expected):
    """Standard PET images need nothing of their own: Bq/mL, one decay reference, a slope a slice."""

    def edit(ds, _slice, _frame):
        ds.Manufacturer, ds.ManufacturerModelName = manufacturer, model

    series = make_series(edit=edit)
    volume = read_series(series.folder)
    assert (volume.facts["manufacturer"], volume.facts["model"]) == expected
    np.testing.assert_allclose(volume.array, series.values, rtol=1e-6)


@pytest.mark.parametrize("manufacturer", ["UIH", "CANON_MEC", "TOSHIBA_MEC", "SIEMENS"])
def test_counts_of_another_maker_are_not_sent_for_the_factor_of_philips(make_series, manufacturer):
    def edit(ds, _slice, _frame):
        ds.Manufacturer, ds.Units = manufacturer, "CNTS"

    with pytest.raises(RefusedScan, match=r"are CNTS .*\. Export the series as BQML") as refused:
        read_series(make_series(edit=edit).folder)
    assert "7053" not in str(refused.value)


def test_private_groups_of_united_imaging_and_canon_change_nothing(make_series):
    """What public code knows of them: values and units are those of the standard elements.

    (0065,xx50) of "Image Private Header" counts the tiles of an MR volume (GDCM calls it
    MRNumberOfSliceInVolume). (7065,xx2D) says "SUVbw(X100)" in PET series of Toshiba's that a public
    program of radiomics reads; its creator is not known, so the one here is made up.
    """

    def edit(ds, _slice, _frame):
        ds.Manufacturer = "UIH"
        ds.private_block(0x0065, "Image Private Header", create=True).add_new(0x50, "DS", "60")
        ds.private_block(0x7065, "TOSHIBA_MEC_PET", create=True).add_new(0x2D, "LO", "SUVbw(X100)")

    series = make_series(edit=edit)
    volume = read_series(series.folder)
    assert volume.unit == "Bq/mL"
    np.testing.assert_allclose(volume.array, series.values, rtol=1e-6)


PICTURE = r"found secondary captures of PET, pictures without values \(5\)"


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, PICTURE),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, PICTURE),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, PICTURE),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66"}, r"found PET objects that are no images \(5\)"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.4"}, r"found PET objects that are no images \(5\)"),
        ({"CountsSource": "TRANSMISSION"}, r"found PET transmission images \(5\)"),
        ({"SeriesType": ["STATIC", "REPROJECTION"]}, r"found PET projections and localisers \(5\)"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_pet_objects_without_activity_are_left_alone_and_named(make_series, edit, match):
    def change(ds, _slice, _frame):
        for name, value in edit.items():
            setattr(ds, name, value)

    series = make_series(edit=change)
    with pytest.raises(RefusedScan, match=match):
        read_series(series.folder)
    beside = make_series(folder=series.folder, seed=3)
    np.testing.assert_allclose(read_series(series.folder).array, beside.values, rtol=1e-6)
    (scan,) = find_scans(series.folder).scans
    assert len(scan.files) == 5


def as_the_standard_says(path, mappings):
    """Add to an enhanced image what PS3.3 A.56 requires of an original one, in the groups it belongs to."""
    ds = pydicom.dcmread(path)
    shared = ds.SharedFunctionalGroupsSequence[0]
    ds.AcquisitionDateTime, ds.AcquisitionDuration = "20190510102000.000000", 600.0
    ds.ContentQualification, ds.ImageType = "RESEARCH", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.VolumetricProperties, ds.TypeOfDetectorMotion = "VOLUME", "STATIONARY"
    for name in ("ScatterCorrected", "RandomsCorrected", "DeadTimeCorrected", "SensitivityCalibrated"):
        setattr(ds, name, "YES")
    drug = ds.RadiopharmaceuticalInformationSequence[0]
    drug.RadiopharmaceuticalAgentNumber = 1
    usage, recon, acquired, anatomy = Dataset(), Dataset(), Dataset(), Dataset()
    usage.RadiopharmaceuticalAgentNumber = 1
    recon.ReconstructionType, recon.ReconstructionAlgorithm = "3D", "OSEM"
    recon.IterativeReconstructionMethod = "YES"
    acquired.TableHeight, acquired.TypeOfDetectorMotion = 100.0, "STATIONARY"
    anatomy.FrameLaterality = "U"
    shared.RadiopharmaceuticalUsageSequence = Sequence([usage])
    shared.PETReconstructionSequence = Sequence([recon])
    shared.PETFrameAcquisitionSequence = Sequence([acquired])
    shared.FrameAnatomySequence = Sequence([anatomy])
    for n, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
        content, kind, factors = frame.FrameContentSequence[0], Dataset(), Dataset()
        content.StackID, content.InStackPositionNumber = "1", n % 3 + 1
        content.DimensionIndexValues = [1, n % 3 + 1, content.TemporalPositionIndex]
        content.FrameReferenceDateTime = content.FrameAcquisitionDateTime
        kind.FrameType, kind.VolumetricProperties = ds.ImageType, "VOLUME"
        factors.PrimaryPromptsCountsAccumulated, factors.ScatterFractionFactor = 1000, 0.3
        frame.PETFrameTypeSequence = Sequence([kind])
        frame.PETFrameCorrectionFactorsSequence = Sequence([factors])
        slope = frame.RealWorldValueMappingSequence[0].RealWorldValueSlope
        frame.RealWorldValueMappingSequence = Sequence([_mapping(*one, slope) for one in mappings])
    ds.save_as(path)


def _mapping(units, factor, slope):
    mapping, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = units, "UCUM", units
    mapping.MeasurementUnitsCodeSequence = Sequence([code])
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = factor * slope, 0.0
    mapping.RealWorldValueFirstValueMapped, mapping.RealWorldValueLastValueMapped = 0, 32767
    mapping.LUTLabel, mapping.LUTExplanation = units[:16], units
    return mapping


@pytest.mark.parametrize(
    ("mappings", "unit", "factor"),
    [
        ([("Bq/ml", 1.0)], "Bq/mL", 1.0),
        ([("{SUVbw}g/ml", 0.001)], "SUV", 0.001),
        ([("{SUVbw}g/ml", 0.001), ("Bq/ml", 1.0)], "SUV", 0.001),
        ([("Bq/ml", 1.0), ("{SUVlbm}g/ml", 0.0008)], "Bq/mL", 1.0),
        ([("{propcounts}/s", 2.0)], "counts", 2.0),
    ],
    ids=lambda value: "+".join(name for name, _ in value) if isinstance(value, list) else "",
)
def test_an_enhanced_image_with_all_groups_of_the_standard_is_read(
    make_enhanced, tmp_path, mappings, unit, factor
):
    series = make_enhanced(tmp_path)
    as_the_standard_says(tmp_path / "enhanced.dcm", mappings)
    volume = read_series(tmp_path)
    assert volume.unit == unit
    np.testing.assert_allclose(volume.array, series.values * factor, rtol=1e-6)
    np.testing.assert_allclose(volume.affine, series.affine, atol=1e-6)
    assert [(f.start_s, f.duration_s) for f in volume.frames] == [(0, 300), (300, 300)]
    assert volume.facts["scan_after_injection_s"] == 80 * 60


def test_an_enhanced_map_of_a_model_is_refused_by_its_unit(make_enhanced, tmp_path):
    make_enhanced(tmp_path)
    as_the_standard_says(tmp_path / "enhanced.dcm", [("ml/min/ml", 1.0)])
    with pytest.raises(RefusedScan, match="are ML/MIN/ML, as of a map of flow or influx"):
        read_series(tmp_path)


def test_an_enhanced_image_that_is_not_corrected_for_attenuation_is_refused(make_enhanced, tmp_path):
    make_enhanced(tmp_path)
    ds = pydicom.dcmread(tmp_path / "enhanced.dcm")
    ds.AttenuationCorrected = "NO"
    ds.save_as(tmp_path / "enhanced.dcm")
    with pytest.raises(RefusedScan, match="not corrected for attenuation"):
        read_series(tmp_path)


def test_an_image_that_was_split_into_a_concatenation_is_read_as_one(make_enhanced, tmp_path):
    series = make_enhanced(tmp_path)
    whole = pydicom.dcmread(tmp_path / "enhanced.dcm")
    groups, size = list(whole.PerFrameFunctionalGroupsSequence), len(whole.PixelData) // 6
    pixels, uid = whole.PixelData, generate_uid()
    for part, (first, last) in enumerate(((0, 4), (4, 6))):
        whole.SOPInstanceUID = whole.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        whole.ConcatenationUID, whole.InConcatenationNumber = uid, part + 1
        whole.ConcatenationFrameOffsetNumber, whole.NumberOfFrames = first, last - first
        whole.PerFrameFunctionalGroupsSequence = Sequence(groups[first:last])
        whole.PixelData = pixels[first * size : last * size]
        whole.save_as(tmp_path / f"part{part}.dcm", enforce_file_format=True)
    (tmp_path / "enhanced.dcm").unlink()
    np.testing.assert_allclose(read_series(tmp_path).array, series.values, rtol=1e-6)
    (scan,) = find_scans(tmp_path).scans
    assert len(scan.files) == 2
