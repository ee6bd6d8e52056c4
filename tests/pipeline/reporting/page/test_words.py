import pytest

from pipeline.atlas import load_regions
from pipeline.reporting.page.facts import Measured
from pipeline.reporting.page.words import GROUP_ORDER, acquisition_facts, interval_text, region_group


def test_every_region_of_the_atlas_has_a_heading_in_the_order():
    for region in load_regions():
        assert region_group(region.name, region.kind) in GROUP_ORDER
    assert region_group("putamen", "offtarget").startswith("Off-target")
    assert region_group("cerebral_white", "reference") == "Background"


def test_only_listed_facts_are_shown():
    rows = acquisition_facts({"tracer": "AV1451", "PatientName": "Doe^Jane", "age": 71.4, "sex": ""})
    assert {row.label: row.value for row in rows} == {"Tracer": "AV1451", "Age": "71 years"}


@pytest.mark.parametrize(("age", "shown"), [(89.4, "89 years"), (90, "90 years or more"), ("old", "old")])
def test_an_age_that_could_identify_is_not_shown(age, shown):
    (row,) = acquisition_facts({"age": age})
    assert row.value == shown


def test_calibration_errors_are_written_in_percent():
    found = Measured(value=0.0512, low=0.03, high=0.08)
    assert interval_text(found, "classwise_ece") == ("5.1 %", "3.0 to 8.0")
    assert interval_text(found, "negative_log_likelihood") == ("0.05", "0.03 to 0.08")
