import pytest

from pipeline.reporting.page.facts import Measured


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        ((-0.2, -0.3, -0.1), "Calibration lowered the negative log-likelihood of the test scans"),
        ((0.2, 0.1, 0.3), "raised the negative log-likelihood of the test scans, which is worse"),
        (
            (0.0, -0.1, 0.1),
            "Whether calibration changed the negative log-likelihood of the test scans is not clear",
        ),
    ],
)
def test_the_conclusion_follows_the_interval(report, gain, words):
    value, low, high = gain
    measured = {"negative_log_likelihood": Measured(value=value, low=low, high=high)}
    told = report.model_copy(update={"gain": measured, "chosen": "temperature"}).conclusion
    assert words in told


def test_identity_claims_no_gain(report):
    assert "No calibration was applied" in report.model_copy(update={"chosen": "identity"}).conclusion
