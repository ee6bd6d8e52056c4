"""What the images of a series state: one tracer, dose and unit for all; dates and ages as written."""

from __future__ import annotations

from copy import deepcopy

import pydicom
import pytest
from changed_series import change, read_all

from pipeline.errors import RefusedScan
from pipeline.ingest.dicom import read_series
from pipeline.ingest.sources import find_scans


def drugs(series, **values):
    """Set elements of the injection in slices from the third on."""
    item = series.datasets[0].RadiopharmaceuticalInformationSequence[0]
    other = deepcopy(item)
    for keyword, value in values.items():
        setattr(other, keyword, value)
    change(series, RadiopharmaceuticalInformationSequence=lambda n: [other if n > 2 else item])


def test_a_series_of_two_doses_is_refused(make_series):
    series = make_series()
    drugs(series, RadionuclideTotalDose="2.0e8")
    with pytest.raises(RefusedScan, match=r"disagree on Radionuclide Total Dose") as refusal:
        read_series(series.folder)
    assert refusal.value.rule == "two-people"


def test_a_series_of_two_units_is_refused(make_series):
    series = make_series()
    change(series, Units=lambda n: "GML" if n == 3 else "BQML")
    with pytest.raises(RefusedScan, match="different units or scale factors: Bq/mL, SUV") as refusal:
        read_series(series.folder)
    assert refusal.value.rule == "units-unknown"


def test_what_one_image_alone_states_is_found(make_series):
    series = make_series()
    whole = read_series(series.folder).facts
    for n, path in enumerate(sorted(series.folder.iterdir())):
        ds = pydicom.dcmread(path)
        if n != 3:
            del ds.PatientWeight, ds.RadiopharmaceuticalInformationSequence
        ds.save_as(path)
    assert read_series(series.folder).facts == whole


def test_an_original_whose_header_states_its_tracer_is_no_level_of_another(two, make_drug):
    change(two[0], SeriesDescription="PET Brain AC")
    change(
        two[1],
        SeriesDescription="FDG Coreg, Avg",
        RadiopharmaceuticalInformationSequence=[make_drug("Fluorodeoxyglucose")],
    )
    scans = find_scans(two[0].folder.parent).scans
    assert {scan.tracer for scan in scans} == {"AV1451", "FDG"}


@pytest.mark.parametrize(("tracer", "rule"), [("FDG", "mixed-tracers"), ("Florbetapir", "mixed-tracers")])
def test_a_series_whose_images_state_two_tracers_is_refused(make_series, make_drug, tracer, rule):
    series = make_series()
    other = [make_drug(tracer)]
    path = sorted(series.folder.iterdir())[3]
    ds = pydicom.dcmread(path)
    ds.RadiopharmaceuticalInformationSequence = other
    ds.save_as(path)
    with pytest.raises(RefusedScan, match=r"state 2 tracers: AV1451, |state 2 tracers: .*AV1451") as refusal:
        read_series(series.folder)
    assert refusal.value.rule == rule
    assert read_all(series.folder) == [rule]


def test_an_image_that_states_no_tracer_agrees_with_the_others(make_series, make_drug):
    series = make_series()
    path = sorted(series.folder.iterdir())[3]
    ds = pydicom.dcmread(path)
    ds.RadiopharmaceuticalInformationSequence = [make_drug("Solution")]
    ds.save_as(path)
    assert read_series(series.folder).facts["tracer"] == "AV1451"


@pytest.mark.parametrize("blank", ["19000101", "19010101", "18000101", "00010101", ""])
def test_a_date_that_a_deidentifier_left_is_none(make_series, blank):
    series = make_series()
    change(series, AcquisitionDate=blank, SeriesDate=blank)
    (scan,) = find_scans(series.folder).scans
    assert str(scan.scan_date) == "2019-05-10"
    change(series, StudyDate=blank)
    assert find_scans(series.folder).scans[0].scan_date is None


@pytest.mark.parametrize(
    ("written", "age"), [("071Y", 71), ("71Y", 71), ("71", 71), ("099Y", 89), ("", None)]
)
def test_ages_as_they_are_written(make_series, written, age):
    series = make_series()
    change(series, PatientAge=written)
    assert find_scans(series.folder).scans[0].age == age


def test_early_frames_beside_a_scan_are_left_alone_and_counted(two):
    change(two[0], SeriesDescription="AV1451 PET Early Frames")
    found = find_scans(two[0].folder.parent)
    assert [scan.description for scan in found.scans] == ["AV1451 PET Brain"]
    assert found.ignored == {"early-frame series": 1}


@pytest.mark.parametrize(("second", "rule"), [("Fluorodeoxyglucose", "mixed-tracers"), ("AV-1451", None)])
def test_a_second_injection_of_another_tracer_in_one_header_is_refused(make_series, make_drug, second, rule):
    series = make_series()
    change(series, RadiopharmaceuticalInformationSequence=[make_drug(), make_drug(second)])
    if rule is None:
        assert read_series(series.folder).array.size
        return
    with pytest.raises(RefusedScan, match="state 2 tracers: AV1451, FDG") as refused:
        read_series(series.folder)
    assert refused.value.rule == rule
