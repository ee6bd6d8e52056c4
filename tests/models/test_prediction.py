"""Reasons to refer a scan, and which probabilities are shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.prediction import Prediction, reasons_to_refer

FINE = Prediction(
    class_names=("CN", "MCI", "AD"),
    probabilities=(0.01, 0.04, 0.95),
    lower=(0.005, 0.02, 0.9),
    upper=(0.02, 0.08, 0.98),
    prediction_set=("AD",),
    coverage=0.9,
    mahalanobis=3.0,
    mahalanobis_limit=9.0,
    energy=-2.0,
    energy_limit=-1.0,
    confidence=0.95,
    operating_point=0.7,
    prevalence=(0.5, 0.3, 0.2),
    clinic_prevalence=None,
    clinic_probabilities=None,
    decision="report",
    reasons=(),
    largest_set=2,
    ood_quantile=0.99,
)


def test_a_typical_confident_scan_is_reported():
    assert reasons_to_refer(FINE) == ()
    assert reasons_to_refer(replace(FINE, prediction_set=("CN", "AD"))) == ()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"prediction_set": ("CN", "MCI", "AD")}, "set contains more than 2 classes: CN, MCI, AD"),
        ({"prediction_set": ("CN", "AD"), "largest_set": 1}, "set contains more than one class: CN, AD"),
        (
            {"mahalanobis": 9.1},
            "The scan is unlike those the classifier was trained on: at most about 1 of 100 accepted scans "
            "is this far from them",
        ),
        ({"mahalanobis": 9.1, "ood_quantile": 0.995}, "at most about 1 of 200 accepted scans is this far"),
        ({"mahalanobis": 9.1, "ood_quantile": None}, "it is farther from them than the limit"),
        (
            {"energy": -0.5},
            "little evidence for any class: at most about 1 of 100 accepted scans has this little",
        ),
        ({"energy": -0.5, "ood_quantile": None}, "it is below the limit"),
        ({"confidence": 0.69}, "The highest probability, 69.0 %, is below 70.0 %, the least for a finding"),
        ({"confidence": 0.69996}, "The highest probability, 69.996 %, is below 70.000 %, the least"),
        ({"operating_point": 1.0}, "not been shown to be right often enough, so every scan is referred"),
    ],
)
def test_each_finding_is_a_reason_of_its_own(changed, reason):
    (only,) = reasons_to_refer(replace(FINE, **changed))
    assert reason in only


def test_values_at_their_limit_are_no_reason():
    limits = {"mahalanobis": 9.0, "energy": -1.0, "confidence": 0.7}
    assert reasons_to_refer(replace(FINE, **limits)) == ()


def test_a_clinic_decides_what_is_shown():
    assert FINE.shown == FINE.probabilities
    assert FINE.most_likely == "AD"
    here = replace(FINE, clinic_probabilities=(0.6, 0.3, 0.1))
    assert here.shown == (0.6, 0.3, 0.1)
    assert here.most_likely == "CN"
