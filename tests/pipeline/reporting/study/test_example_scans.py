from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.learning.predictions import Predictions
from pipeline.reporting.study.example_scans import example_scans
from pipeline.scan import Cohort, Scan

CLASSES = ("CN", "AD")
#               confidence, distance, quality
SCANS = {
    "sub-a_ses-1": (0.95, 1.0, "accepted"),
    "sub-b_ses-1": (0.99, 9.0, "accepted"),  # confident, but unusual
    "sub-c_ses-1": (0.55, 1.0, "accepted"),
    "sub-d_ses-1": (0.60, 2.0, "accepted"),
    "sub-e_ses-1": (0.80, 3.0, "warned"),
}


@pytest.fixture
def classifier():
    """Stated probabilities are the logits; a set holds both classes below 70 %; unusual is beyond 5."""
    return SimpleNamespace(
        calibrator=SimpleNamespace(transform=lambda logits: logits),
        conformal=SimpleNamespace(sets=lambda p: np.stack([p[:, 0] > 0, p.max(axis=1) < 0.7], axis=1)),
        outliers=SimpleNamespace(mahalanobis=lambda features: features[:, 0], mahalanobis_limit=5.0),
    )


def chosen(classifier, names) -> dict[str, str]:
    rows = [SCANS[name] for name in names]
    subjects = tuple(name[4] for name in names)
    scans = tuple(
        Scan(s, "1", Path("x"), diagnosis="CN", facts={"quality": quality})
        for s, (_, _, quality) in zip(subjects, rows, strict=True)
    )
    test = Predictions(
        tuple(names),
        subjects,
        np.array([[p, 1 - p] for p, _, _ in rows]),
        np.zeros(len(rows), dtype=int),
        np.array([[d, 0] for _, d, _ in rows], dtype=np.float32),
        CLASSES,
    )
    found = example_scans(classifier, test, Cohort(scans, CLASSES))
    return {kind: scan.scan_id for kind, scan in found.items()}


def test_an_unusual_scan_is_no_example_of_a_clear_one_and_a_warning_is_one_to_refer(classifier):
    assert chosen(classifier, SCANS) == {
        "clear": "sub-a_ses-1",
        "uncertain": "sub-c_ses-1",
        "refer": "sub-e_ses-1",
    }


def test_without_a_warning_the_most_unusual_is_to_refer(classifier):
    found = chosen(classifier, [name for name in SCANS if name != "sub-e_ses-1"])
    assert found["refer"] == "sub-b_ses-1"


def test_where_no_scan_fits_three_others_are_shown(classifier):
    found = chosen(classifier, ["sub-b_ses-1", "sub-e_ses-1", "sub-d_ses-1"])
    assert len(set(found.values())) == 3
