"""The page of a learning curve: sentences, table and figure have the same numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pipeline.config import Study
from pipeline.evaluation.comparison.sample_size import Projection, SampleSizeCurve, SizePoint
from pipeline.evaluation.inference.intervals import Interval
from pipeline.reporting.comparison.curve_page import curve_report, curve_rows, write_curve

NLL, ECE, ABOVE = "negative_log_likelihood", "classwise_ece", "classwise_ece_above_noise"


def point(title: str, scans: float, nll: float) -> SizePoint:
    metrics = {NLL: nll, ECE: nll / 10, ABOVE: nll / 20, "macro_auroc": 1 - nll / 5}
    return SizePoint(
        title, scans, {n: Interval(v, v - 0.02, v + 0.02) for n, v in metrics.items()}, {ECE: 0.03}
    )


@pytest.fixture
def found() -> SampleSizeCurve:
    return SampleSizeCurve(
        loss="gce",
        calibration="adaptive temperature scaling",
        level=0.95,
        scans=120,
        subjects=100,
        seeds=(0, 1),
        folds=5,
        points=(point("25 %", 20, 0.9), point("50 %", 40, 0.8), point("100 %", 80, 0.73)),
        projections=(
            Projection(NLL, 160, 0.55, 1.6, Interval(-0.05, -0.08, -0.02), Interval(0.0, -0.01, 0.01)),
            Projection(ABOVE, 160, 0.01, 0.2, Interval(-0.01, -0.02, 0.01), Interval(0.0, -0.01, 0.01)),
            Projection("macro_auroc", 160, 0.9, -0.2, Interval(0.01, 0.005, 0.02), Interval(0.1, 0.05, 0.2)),
        ),
        cautions=("Two seeds are few.",),
    )


@pytest.fixture
def written(found, tmp_path) -> dict[str, Path]:
    study = Study(name="mine", output=tmp_path, cohort={"path": tmp_path})
    report = curve_report(
        study, found, {"gce, seed 1, fold 0": "loss <nan>"}, run_id="r" * 32, synthetic=True
    )
    return write_curve(report, tmp_path, pdf=False)


def test_the_page_states_what_is_known_and_what_is_not(written):
    page = written["html"].read_text()
    for words in (
        "Twice the training scans (about 160) would probably lower the NLL by 0.050 (interval 0.020 to "
        "0.080), to about 0.68.",
        "The curve does not show what twice the training scans would bring in classwise ECE above noise: "
        "the interval of the change is −2.0 to +1.0 percentage points.",
        "The curve does not show what twice the training scans would bring in macro AUROC: "
        "the smaller sizes do not predict what was measured with all scans",
        "gce, adaptive temperature scaling: 120 test scans of 100 subjects at every size, seeds 0, 1, 5 "
        "folds, 95 % intervals",
        "Two seeds are few.",
        "loss &lt;nan&gt;",
        "SYNTHETIC",
    ):
        assert words in page
    assert page.count("<td>no</td>") == 2, "two of three checks do not speak against a projection"
    assert page.count("<td>yes</td>") == 1
    assert "−1.0 to +1.0" in page, "the check of an error in percent is in percentage points"
    assert "0.0 points" in page


def test_one_scan_of_one_subject_is_singular(found, tmp_path):
    study = Study(name="mine", output=tmp_path, cohort={"path": tmp_path})
    one = replace(found, scans=1, subjects=1, seeds=(3,), folds=1)
    lead = curve_report(study, one, {}, run_id="none", synthetic=False).lead
    assert "1 test scan of 1 subject at every size, seed 3, 1 fold," in lead


def test_page_table_json_and_figure_have_the_same_numbers(found, written):
    table = pd.read_csv(written["csv"]).set_index(["subjects", "metric"])
    facts = json.loads(written["json"].read_text())
    drawn = pd.read_csv(written["figures"] / "curve.csv")
    for size, mine in zip(facts["sizes"], found.points, strict=True):
        for name, interval in mine.metrics.items():
            assert size["metrics"][name]["low"] == table.loc[(mine.title, name), "low"] == interval.low
        assert table.loc[(mine.title, ECE), "noise"] == 0.03
    measured = drawn[(drawn["what"] == "measured") & (drawn["metric"] == NLL)]
    assert measured["value"].tolist() == [0.9, 0.8, 0.73]
    # What the smaller sizes do not predict is not drawn at twice the scans.
    assert set(drawn.loc[drawn["what"] != "measured", "metric"]) == {NLL, ABOVE}
    (twice,) = drawn[(drawn["what"] != "measured") & (drawn["metric"] == NLL)].to_dict("records")
    assert (twice["training_scans"], twice["low"], twice["high"]) == (pytest.approx(160), -0.08, -0.02)


def test_the_console_has_a_row_a_size(found, tmp_path):
    study = Study(name="mine", output=tmp_path, cohort={"path": tmp_path})
    header, rows = curve_rows(curve_report(study, found, {}, run_id="none", synthetic=False))
    assert header == ["subjects", "training scans", "NLL", "classwise ECE", "macro AUROC"]
    assert rows[0][:3] == ["25 %", "20", "0.90\n0.88 to 0.92"]
    assert rows[2][3] == "7.3 %\n5.3 to 9.3\nnoise 3.0 %"
