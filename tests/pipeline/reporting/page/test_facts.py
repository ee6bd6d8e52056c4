import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.reporting.page.facts import Measured, clean, number, percent, percent_range, signed


@given(st.text(max_size=600))
def test_clean_text_has_no_control_marks_and_is_one_short_line(text):
    cleaned = clean(text)
    assert not any(unicodedata.category(c)[0] == "C" for c in cleaned)
    assert len(cleaned) <= 400
    assert "\n" not in cleaned
    assert cleaned == cleaned.strip()


@given(st.text(max_size=600))
def test_cleaning_twice_changes_nothing(text):
    assert clean(clean(text)) == clean(text)


@given(st.floats(0, 1))
def test_a_percentage_never_claims_certainty(share):
    assert percent(share).split("\u00a0")[0] not in ("0", "100")


@given(st.floats(0.0051, 0.99))
def test_a_percentage_is_whole_and_near(share):
    shown = percent(share).removesuffix("\u00a0%")
    assert abs(int(shown) - 100 * share) <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("value", "shown"), [(-0.0, "0.0"), (0.04, "0.0"), (-2.0, "−2.0"), (2.0, "+2.0"), (None, "–")]
)
def test_signed_numbers(value, shown):
    assert signed(value) == shown


def test_a_minus_is_a_minus_sign():
    assert number(-1.5) == "−1.50"


def test_a_range_within_one_percent_is_one_number():
    assert percent_range(0.861, 0.863).replace("\u00a0", " ") == "86 %"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_measured_value_is_finite(value):
    with pytest.raises(ValidationError, match="finite"):
        Measured(value=value, low=0, high=1)
