import json
import re

import pandas as pd
import pytest

from pipeline.reporting.comparison_report import (
    ComparisonReport,
    Difference,
    LossRow,
    comparison_html,
    sentence,
    write_comparison_report,
)
from pipeline.reporting.study_numbers import Measured


def _loss(name: str, **differences: Difference) -> LossRow:
    metrics = {
        "balanced_accuracy": Measured(value=0.7, low=0.6, high=0.8),
        "negative_log_likelihood": Measured(value=0.5, low=0.4, high=0.6),
        "classwise_ece": Measured(value=0.051, low=0.03, high=0.08),
    }
    recall = {"normal": 0.9, "mass": 0.5}
    return LossRow(name=name, seeds=3, before=metrics, after=metrics, difference=differences, recall=recall)


@pytest.fixture
def report() -> ComparisonReport:
    better = Difference(value=0.05, low=0.02, high=0.08, p=0.01)
    return ComparisonReport(
        title="adrenal",
        report_date="2026-11-21",
        run_id="4f1c",
        class_names=("normal", "mass"),
        baseline="ce",
        test_scans=298,
        test_subjects=298,
        losses=(_loss("ce"), _loss("gce", balanced_accuracy=better), _loss("<i>focal</i>")),
    )


@pytest.mark.parametrize(
    ("low", "high", "p", "higher", "told"),
    [
        (0.01, 0.05, None, True, "better"),
        (0.01, 0.05, None, False, "worse"),
        (-0.05, -0.01, 0.01, False, "better"),
        (-0.05, -0.01, 0.01, True, "worse"),
        (-0.01, 0.05, None, True, "not told apart"),
        (0.01, 0.05, 0.06, True, "not told apart"),
        (0.0, 0.05, None, True, "not told apart"),
    ],
)
def test_better_needs_an_interval_off_zero_and_a_test(low, high, p, higher, told):
    difference = Difference(value=(low + high) / 2, low=low, high=high, p=p)
    assert difference.told(higher_is_better=higher) == told


def test_a_sentence_names_every_judged_metric(report):
    row = _loss(
        "gce",
        balanced_accuracy=Difference(value=0.05, low=0.02, high=0.08),
        negative_log_likelihood=Difference(value=0.1, low=0.05, high=0.2),
        classwise_ece=Difference(value=0.0, low=-0.1, high=0.1),
    )
    assert sentence(row, "ce") == (
        "gce is better than ce by balanced accuracy (+0.050, +0.020 to +0.080); worse than ce by negative "
        "log likelihood (+0.100, +0.050 to +0.200); not told apart from ce by classwise ECE."
    )


def test_the_baseline_is_not_compared_with_itself(report):
    assert sentence(report.losses[0], "ce") == "ce is the baseline."


def test_the_page_shows_table_sentences_and_recall(report):
    html = comparison_html(report)
    assert "gce is better than ce by balanced accuracy" in html
    assert "5.1 %" in html  # calibration errors are shown in percent
    assert "&lt;i&gt;focal&lt;/i&gt;" in html
    assert "<i>focal" not in html
    assert "<script" not in html
    assert not re.search(r"https?://", html)


def test_the_table_has_a_row_for_each_loss_stage_and_metric(report, tmp_path):
    written = write_comparison_report(report, tmp_path, pdf=False)
    table = pd.read_csv(written["csv"])
    assert len(table) == 3 * 2 * 3
    gain = table[
        (table.loss == "gce") & (table.calibration == "after") & (table.metric == "balanced_accuracy")
    ]
    assert gain.difference_value.item() == 0.05
    assert gain.difference_p.item() == 0.01


def test_the_json_holds_the_same_facts(report, tmp_path):
    written = write_comparison_report(report, tmp_path, pdf=False)
    assert ComparisonReport.model_validate(json.loads(written["json"].read_text())) == report


def test_the_same_comparison_gives_the_same_bytes(report):
    assert comparison_html(report) == comparison_html(report)


@pytest.mark.slow
def test_axe_finds_no_violation(report, violations):
    assert violations(comparison_html(report)) == []
