import json
import re

import pandas as pd
import pytest

from pipeline.reporting.comparison_report import (
    ComparisonReport,
    Difference,
    LossRow,
    Stage,
    comparison_html,
    write_comparison_report,
)
from pipeline.reporting.study_numbers import Measured


def _loss(name: str, stage: str, **differences: Difference) -> LossRow:
    metrics = {
        "balanced_accuracy": Measured(value=0.7, low=0.6, high=0.8),
        "negative_log_likelihood": Measured(value=0.5, low=0.4, high=0.6),
        "classwise_ece": Measured(value=0.051, low=0.03, high=0.08),
        "set_coverage": Measured(value=0.91, low=0.85, high=0.95),
    }
    return LossRow(
        name=name,
        seeds=3,
        metrics=metrics,
        difference=differences,
        recall={
            "normal": Measured(value=0.9, low=0.8, high=0.95),
            "mass": Measured(value=0.5, low=0.3, high=0.7),
        },
        coverage={"normal": Measured(value=0.93, low=0.9, high=0.96)},
        sentence=f"{name} is told about {stage}.",
    )


@pytest.fixture
def report() -> ComparisonReport:
    better = Difference(value=0.05, low=0.02, high=0.08, p=0.01, verdict="better")
    stages = tuple(
        Stage(
            name=stage,
            losses=(
                _loss("ce", stage),
                _loss("gce", stage, balanced_accuracy=better),
                _loss("<i>focal</i>", stage),
            ),
        )
        for stage in ("uncalibrated", "one temperature")
    )
    return ComparisonReport(
        title="adrenal",
        report_date="2026-11-21",
        run_id="4f1c",
        class_names=("normal", "mass"),
        baseline="ce",
        test_scans=298,
        test_subjects=298,
        stages=stages,
        published=("GCE, error rate %: 24.10; published 23.75",),
    )


def test_the_page_tells_of_every_loss_at_every_stage(report):
    html = comparison_html(report)
    for stage in ("uncalibrated", "one temperature"):
        assert f"gce is told about {stage}." in html
    assert html.count("gce is told about one temperature.") == 1
    assert "5.1 %" in html  # calibration errors are shown in percent
    assert "published 23.75" in html
    assert "Share of each class whose 90 % prediction set holds it" in html


def test_names_are_escaped_and_nothing_is_fetched(report):
    html = comparison_html(report)
    assert "&lt;i&gt;focal&lt;/i&gt;" in html
    assert "<i>focal" not in html
    assert "<script" not in html
    assert not re.search(r"https?://", html)


def test_the_table_has_a_row_for_each_loss_stage_and_metric(report, tmp_path):
    written = write_comparison_report(report, tmp_path, pdf=False)
    table = pd.read_csv(written["csv"])
    assert len(table) == 2 * 3 * (4 + 2 + 1)
    gain = table[
        (table.loss == "gce")
        & (table.calibration == "one temperature")
        & (table.metric == "balanced_accuracy")
    ]
    assert gain.difference_value.item() == 0.05
    assert gain.difference_p.item() == 0.01
    assert gain.difference_verdict.item() == "better"
    assert table[table.metric == "recall: mass"].value.tolist() == [0.5] * 6


def test_the_json_holds_the_same_facts(report, tmp_path):
    written = write_comparison_report(report, tmp_path, pdf=False)
    assert ComparisonReport.model_validate(json.loads(written["json"].read_text())) == report


def test_the_same_comparison_gives_the_same_bytes(report):
    assert comparison_html(report) == comparison_html(report)


@pytest.mark.slow
def test_axe_finds_no_violation(report, violations):
    assert violations(comparison_html(report)) == []
