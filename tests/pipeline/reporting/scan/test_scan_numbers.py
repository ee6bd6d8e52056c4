import pytest

from pipeline.reporting.scan.regional_numbers import MetaRoi
from pipeline.reporting.scan.scan_numbers import Likeness


@pytest.mark.parametrize(
    ("suvr", "words"),
    [
        (1.18, "1.18: below the uncertain zone (1.19 to 1.34)"),
        (1.189, "1.189: below"),
        (1.19, "1.19: in the uncertain zone"),
        (1.3399, "1.3399: in the uncertain zone"),
        (1.34, "1.34: above"),
    ],
)
def test_the_meta_roi_is_compared_with_two_thresholds(suvr, words):
    assert words in MetaRoi(definition="Mayo", suvr=suvr, band_low=1.19, band_high=1.34).sentence


@pytest.mark.parametrize(
    ("count", "right", "words"),
    [
        (40, 34, "Of 40 test scans with a highest probability of 80 to 90 %, 34 were classified correctly."),
        (
            1,
            1,
            "Of 1 test scan with a highest probability of 80 to 90 %, 1 was classified correctly. "
            "These are few scans: read the counts, not a percentage.",
        ),
        (
            0,
            0,
            "No test scan had a highest probability of 80 to 90 %: "
            "how often such an answer is right is unknown.",
        ),
    ],
)
def test_likeness_is_stated_in_counts(count, right, words):
    stated = Likeness(low=0.8, high=0.9, count=count, right=right).sentence
    assert stated.replace("\u00a0", " ") == words


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        Likeness(low=float("nan"), high=0.9, count=1, right=1)
