"""What a clinic states as its prevalence: shares, percentages, or a clear error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.shares import read_shares


@given(
    st.lists(st.integers(0, 1000), min_size=2, max_size=6).filter(lambda n: sum(map(bool, n)) > 1),
    st.sampled_from([1, 100]),
)
def test_shares_and_percentages_are_the_same(parts, whole):
    stated = {f"c{n}": whole * part / sum(parts) for n, part in enumerate(parts)}
    found = read_shares(stated)
    assert list(found) == list(stated)
    assert sum(found.values()) == pytest.approx(1)
    assert list(found.values()) == pytest.approx([part / sum(parts) for part in parts])


def test_rounded_shares_are_made_to_sum_to_one():
    assert read_shares({"CN": 33.3, "MCI": 33.3, "AD": 33.3})["AD"] == pytest.approx(1 / 3)
    assert read_shares({"CN": 0.333, "MCI": 0.333, "AD": 0.333})["AD"] == pytest.approx(1 / 3)


def test_a_class_may_have_no_share():
    assert read_shares([0.5, 0.5, 0], ("CN", "MCI", "AD")) == {"CN": 0.5, "MCI": 0.5, "AD": 0.0}


def test_a_single_class_is_refused_as_it_would_be_the_answer_to_every_scan():
    with pytest.raises(ValueError, match=r"Only CN has a share above 0, .*every answer would be CN"):
        read_shares({"CN": 100, "MCI": 0, "AD": 0})


def test_the_order_is_that_of_the_classes():
    assert list(read_shares({"AD": 10, "CN": 60, "MCI": 30}, ("CN", "MCI", "AD"))) == ["CN", "MCI", "AD"]


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"CN": 60, "MCI": 30, "AD": 5}, r"are CN 60, MCI 30, AD 5; their sum is 95\. Expected numbers"),
        ({"CN": 0.6, "AD": 0.5}, r"their sum is 1\.1\."),
        ({"CN": 1.2, "AD": -0.2}, r"are CN 1\.2, AD -0\.2; their sum is 1\."),
        ({"CN": float("nan"), "AD": 0.5}, "their sum is nan"),
        ({"CN": float("inf"), "AD": 0.5}, "their sum is inf"),
        ({"CN": 2}, "CN 2; their sum is 2"),
        ({"CN": 0, "AD": 0}, "their sum is 0"),
        ({}, "are missing; their sum is 0"),
        ({"CN": "60 %", "AD": 40}, r"are CN '60 %', AD 40\. Expected a number for each"),
        ({"CN": None, "AD": 1}, r"are CN None, AD 1\. Expected a number for each"),
    ],
)
def test_anything_else_is_an_error_with_the_values(stated, message):
    with pytest.raises(ValueError, match=message):
        read_shares(stated)


def test_the_classes_must_be_those_of_the_classifier():
    with pytest.raises(ValueError, match=r"names CN, FTD\. Expected a share for each of CN, AD"):
        read_shares({"CN": 0.5, "FTD": 0.5}, ("CN", "AD"))
    with pytest.raises(ValueError, match=r"has 2 shares\. Expected one for each of CN, MCI, AD"):
        read_shares([0.5, 0.5], ("CN", "MCI", "AD"))
