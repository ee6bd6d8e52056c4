"""Reasons to refer a scan, and the entropy that networks share."""

from __future__ import annotations

import pytest

from models.prediction import reasons_to_refer

FINE = (("AD",), 0.9, (3.0, 9.0), (-2.0, -1.0), (0.95, 0.7))


def test_a_typical_confident_scan_is_reported():
    assert reasons_to_refer(*FINE) == ()


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (0, ("CN", "AD"), "prediction set contains more than one class: CN, AD"),
        (0, (), "prediction set is empty"),
        (2, (9.1, 9.0), "distance 9.1, limit 9.0"),
        (3, (-0.5, -1.0), "energy -0.50, limit -1.00"),
        (4, (0.69, 0.7), "Confidence 69.0 % is below the operating point of 70.0 %"),
    ],
)
def test_each_finding_is_a_reason_of_its_own(place, value, reason):
    found = [*FINE]
    found[place] = value
    (only,) = reasons_to_refer(*found)
    assert reason in only


def test_values_at_their_limit_are_no_reason():
    assert reasons_to_refer(("AD",), 0.9, (9.0, 9.0), (-1.0, -1.0), (0.7, 0.7)) == ()
