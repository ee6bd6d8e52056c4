"""What a header states plainly is taken at its word: no correction, a phantom, an animal, an age, a sex."""

from __future__ import annotations

import json
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipeline.errors import RefusedScan
from pipeline.ingest.convert import convert_scan, read_found
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.dicom import read_series
from pipeline.ingest.sources import find_scans
from tests.helpers.changed_series import setting


def without(keyword, **values):
    """Return an edit that removes an element of every slice and sets others."""

    def edit(ds, slice_, frame):
        delattr(ds, keyword)
        setting(**values)(ds, slice_, frame)

    return edit


@pytest.mark.parametrize("method", ["NONE", "none", "NAC", "not corrected"])
def test_a_method_of_attenuation_correction_that_is_none_refuses_the_scan(make_series, method):
    series = make_series(edit=without("CorrectedImage", AttenuationCorrectionMethod=method))
    with pytest.raises(RefusedScan, match=r"Attenuation Correction Method \(0054,1101\) is none") as refused:
        read_series(series.folder)
    assert refused.value.rule == "not-attenuation-corrected"


@pytest.mark.parametrize(("method", "corrected"), [("measured,CT", True), ("CTAC", True), ("unknown", None)])
def test_a_method_states_the_correction_where_nothing_else_does(make_series, method, corrected):
    series = make_series(edit=without("CorrectedImage", AttenuationCorrectionMethod=method))
    assert read_series(series.folder).facts["attenuation_corrected"] is corrected


def species(meaning):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "SCT", meaning
    return Sequence([code])


@pytest.mark.parametrize(
    ("stated", "what"),
    [
        ({"QualityControlSubject": "YES"}, "a phantom"),
        ({"PatientSpeciesDescription": "Macaca mulatta"}, "an animal"),
        ({"PatientSpeciesCodeSequence": species("Mus musculus")}, "an animal"),
    ],
)
def test_phantoms_and_animals_are_refused(make_series, stated, what):
    with pytest.raises(RefusedScan, match=f"The scan is of {what}") as refused:
        read_series(make_series(edit=setting(**stated)).folder)
    assert refused.value.rule == "not-a-person"
    assert "musculus" not in str(refused.value)


@pytest.mark.parametrize(
    "stated",
    [
        {"QualityControlSubject": "NO"}, {"PatientSpeciesDescription": "Homo Sapiens"},
        {"PatientSpeciesDescription": "Human"}, {"PatientSpeciesCodeSequence": species("homo sapiens")},
    ],
)  # fmt: skip
def test_people_are_read(make_series, stated):
    assert read_series(make_series(edit=setting(**stated)).folder).array.size


@pytest.mark.parametrize(
    ("keyword", "values", "age"),
    [
        ("PatientAge", {"PatientBirthDate": "19480511"}, 70.0),
        ("PatientAge", {"PatientBirthDate": "19480510"}, 71.0),
        ("PatientAge", {"PatientBirthDate": "19220101"}, 89.0),
        ("PatientAge", {"PatientBirthDate": "19000101"}, None),
        ("PatientAge", {"PatientBirthDate": "18500101"}, None),
        ("PatientAge", {"PatientBirthDate": "20200101"}, None),
        ("PatientSize", {"PatientAge": "006M"}, 0.5),
        ("PatientSize", {"PatientAge": "000Y"}, None),
    ],
)
def test_the_age_is_as_stated_or_by_birth_date(make_series, keyword, values, age):
    edit = without(keyword, **values) if keyword == "PatientAge" else setting(**values)
    (scan,) = find_scans(make_series(edit=edit).folder).scans
    assert scan.age == age


def test_a_slice_of_zeros_with_a_slope_of_zero_is_read(make_series):
    def empty_ends(ds, slice_, _frame):
        if slice_ in (0, 4):
            ds.RescaleSlope, ds.PixelData = "0", bytes(len(ds.PixelData))

    series = make_series(edit=empty_ends)
    volume = read_series(series.folder)
    np.testing.assert_array_equal(volume.array[..., [0, 4]], 0.0)
    np.testing.assert_allclose(volume.array[..., 1:4], series.values[..., 1:4], rtol=1e-6)
    with pytest.raises(RefusedScan, match=r"Rescale Slope \(0028,1053\) is 0, expected a positive number"):
        read_series(make_series(series.folder.parent / "other", edit=setting(RescaleSlope="0")).folder)


@pytest.mark.parametrize("stated", ["01", "00", None])
def test_values_that_were_compressed_with_loss_are_a_warning(make_series, tmp_path, stated):
    how = {"LossyImageCompression": stated} if stated else {}
    (scan,) = find_scans(make_series(edit=setting(**how)).folder).scans
    converted = convert_scan(scan, tmp_path / "bids", Pseudonymiser(bytes(32)), "AV1451")
    assert [note for note in converted.warnings if "with loss" in note] == (
        ["the images were compressed with loss (0028,2110): values differ from the scanner's"]
        if stated == "01"
        else []
    )


def test_a_transfer_syntax_with_loss_is_known_by_itself(make_series, tmp_path):
    dcmcjpeg = shutil.which("dcmcjpeg")
    if dcmcjpeg is None:
        pytest.skip("needs dcmcjpeg (Debian: dcmtk)")

    def in_bytes(ds, _slice, _frame):
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
        ds.PixelData = bytes(range(ds.Rows * ds.Columns))

    series = make_series(shape=(16, 16, 3), edit=in_bytes)
    (tmp_path / "lossy").mkdir()
    for path in series.folder.iterdir():
        subprocess.run([dcmcjpeg, "+eb", path, tmp_path / "lossy" / path.name], check=True)
    assert "with loss" in str(read_series(tmp_path / "lossy").facts["values_note"])


@pytest.fixture
def dataset(tmp_path):
    """The function that writes a BIDS dataset of one image and its tables; returns its scan."""

    def write(sidecar=None, **tables):
        folder = tmp_path / "sub-01" / "pet"
        folder.mkdir(parents=True)
        image = nib.Nifti1Image(np.random.default_rng(0).random((3, 3, 3), np.float32), np.eye(4))
        nib.save(image, folder / "sub-01_pet.nii.gz")
        (folder / "sub-01_pet.json").write_text(json.dumps(sidecar or {}))
        for name, text in tables.items():
            (tmp_path / f"participants.{name}").write_text(text)
        (scan,) = find_scans(tmp_path).scans
        return scan

    return write


@pytest.mark.parametrize("general", [{}, {"AttenuationCorrection": "n/a"}])
def test_a_sidecar_of_dcm2niix_states_the_correction_as_its_method(dataset, general):
    with pytest.raises(RefusedScan, match="AttenuationCorrectionMethod is NONE") as refused:
        read_found(dataset(general | {"AttenuationCorrectionMethod": "NONE"}))
    assert refused.value.rule == "not-attenuation-corrected"


@pytest.mark.parametrize(
    ("table", "words", "sex"),
    [
        ("participant_id\tGender\nsub-01\tFemale\n", "{}", "F"),
        ("participant_id\tgender\nsub-01\t1\n", '{"gender": {"Levels": {"1": "male", "2": "female"}}}', "M"),
        ("participant_id\tsex\nsub-01\t2\n", '{"sex": {"Levels": {"1": "male", "2": "female"}}}', "F"),
        ("participant_id\tsex\tgender\nsub-01\tn/a\tm\n", "{}", "M"),
        ("participant_id\tsex\nsub-01\t2\n", "{}", None),
    ],
)
def test_the_sex_by_either_column_in_words_or_explained_codes(dataset, table, words, sex):
    assert dataset(tsv=table, json=words).sex == sex


@pytest.mark.parametrize(
    ("stated", "refused"), [("mus musculus", True), ("homo sapiens", False), ("n/a", False)]
)
def test_an_animal_of_a_dataset_is_refused(dataset, stated, refused):
    scan = dataset(tsv=f"participant_id\tspecies\nsub-01\t{stated}\n")
    assert (scan.refused or ("",))[0] == ("not-a-person" if refused else "")
