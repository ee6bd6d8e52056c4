import base64
import hashlib
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reporting.page.html import clean, content_security_policy, number, percent, render, signed


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


def test_the_policy_admits_exactly_the_style_of_the_page():
    style = "p { color: red }"
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = content_security_policy(style)
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "script-src" not in policy


def test_an_unknown_name_in_a_template_is_an_error():
    with pytest.raises(Exception, match="undefined"):
        render("base.html.j2", who="x")


def test_the_style_holds_its_fonts_and_fetches_nothing():
    from pipeline.reporting.page.html import _style

    addresses = re.findall(r"url\(\"?([^)\"]{1,12})", _style())
    assert len(addresses) == 2
    assert set(addresses) == {"data:font/wo"}
    assert "@import" not in _style()
