"""What the values of a PET series are: every defined term of Units, and of an enhanced image's mapping."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipeline.errors import RefusedScan
from pipeline.ingest.dicom import read_series
from pipeline.ingest.headers import SeriesHeader
from pipeline.ingest.sidecar import understand
from pipeline.ingest.units import one_unit_and_factor


def header_of(units: str, *, enhanced: bool = False) -> SeriesHeader:
    ds = Dataset()
    if enhanced:
        code, mapping = Dataset(), Dataset()
        code.CodeValue, code.CodingSchemeDesignator = units, "UCUM"
        mapping.MeasurementUnitsCodeSequence = Sequence([code])
        ds.RealWorldValueMappingSequence = Sequence([mapping])
    else:
        ds.Units = units
    return SeriesHeader.of(ds)


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("BQML", "Bq/mL"), ("GML", "SUV"), ("PROPCNTS", "counts"), ("PROPCPS", "counts"), ("Bq/ml", "Bq/mL"),
        ("g/ml", "SUV"), ("{SUVbw}g/ml", "SUV"), ("{propcounts}", "counts"), ("{propcounts}/s", "counts"),
    ],
)  # fmt: skip
def test_units_that_are_read(units, expected):
    assert one_unit_and_factor([header_of(units, enhanced=not units.isupper())]) == (expected, 1.0)


@pytest.mark.parametrize(
    ("units", "match"),
    [
        ("CNTS", r"CNTS without a Philips activity scale factor\. Export the series with \(7053,1009\)"),
        ("{counts}", r"\{COUNTS\} without a Philips activity scale factor"),
        ("CPS", r"are CPS, not BQML, GML or Philips CNTS\. Export the series as BQML"),
        ("NONE", "are NONE, not BQML"),
        ("CM2ML", "are CM2ML, not BQML"),
        (
            "1CM",
            r"are 1CM, as of an attenuation map\. Take the series of activity of the same study, in BQML",
        ),
        ("MLML", "as of a map of distribution volume"),
        ("MLMINML", "as of a map of flow or influx"),
        ("UMOL/MIN/ML", "as of a map of metabolic rate"),
        ("STDDEV", "as of a map of standard deviations"),
        ("%", "are %, as of a map in percent"),
        ("DOE JANE", "are an unknown value, not BQML"),
    ],
)
def test_units_that_are_no_activity_are_refused_by_name_with_what_to_take(units, match):
    with pytest.raises(RefusedScan, match=match) as refused:
        one_unit_and_factor([header_of(units)])
    assert refused.value.rule == "units-unknown"


def test_images_of_different_units_are_refused():
    with pytest.raises(RefusedScan, match="different units or scale factors: Bq/mL, counts"):
        one_unit_and_factor([header_of("BQML"), header_of("PROPCPS")])


def test_counts_a_second_are_read_as_they_are(make_series):
    def edit(ds, _slice, _frame):
        ds.Units = "PROPCPS"

    series = make_series(edit=edit)
    volume = read_series(series.folder)
    assert volume.unit == "counts"
    assert volume.facts["suv_factor"] is None
    np.testing.assert_allclose(volume.array, series.values, rtol=1e-6)


@pytest.mark.parametrize(
    ("units", "match"),
    [
        ("1/cm", "1/cm, as of an attenuation map"),
        ("mL/cm3", "a map of distribution volume"),
        ("mL/min/100g", "a map of flow or influx"),
        ("mL/(min*mL)", "a map of flow or influx"),
        ("umol/100g/min", "a map of metabolic rate"),
        ("1/min", "a map of rate constants"),
        ("percent", r"are percent\. Take the image of activity, in Bq/mL"),
    ],
)
def test_a_sidecar_of_a_model_s_map_is_refused_by_its_units(units, match):
    with pytest.raises(RefusedScan, match=match) as refused:
        understand({"Units": units})
    assert refused.value.rule == "units-unknown"


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("Bq/mL", "Bq/mL"), ("BQML", "Bq/mL"), ("g/mL", "SUV"), ("SUVR", "SUVR"), ("PROPCPS", "counts"),
        ("unitless", "counts"), ("arbitrary", "counts"), ("", "counts"),
    ],
)  # fmt: skip
def test_units_of_sidecars_that_are_read(units, expected):
    assert understand({"Units": units}).unit == expected
