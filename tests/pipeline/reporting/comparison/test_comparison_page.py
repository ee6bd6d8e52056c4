import json
import re

import pandas as pd
import pytest
from page_losses import comparison_contradictions

from pipeline.evaluation.comparison.stages import TESTED
from pipeline.reporting.comparison.comparison_figures import DRAWN, comparison_figures
from pipeline.reporting.comparison.comparison_numbers import (
    ComparisonReport,
    DifferenceRow,
    LossReliability,
    LossRisk,
    LossRow,
    PooledPoint,
    Stage,
)
from pipeline.reporting.comparison.comparison_page import (
    TESTED_COLUMNS,
    comparison_page,
    write_comparison_report,
)
from pipeline.reporting.page.facts import Measured


def comparison_html(report: ComparisonReport) -> str:
    return comparison_page(report, comparison_figures(report)).html()


def _loss(name: str, stage: str, **differences: DifferenceRow) -> LossRow:
    metrics = {
        "balanced_accuracy": Measured(value=0.7, low=0.6, high=0.8),
        "negative_log_likelihood": Measured(value=0.5, low=0.4, high=0.6),
        "classwise_ece": Measured(value=0.051, low=0.03, high=0.08),
        "classwise_ece_above_noise": Measured(value=0.008, low=-0.013, high=0.037),
        "risk_coverage_area": Measured(value=0.164, low=0.12, high=0.21),
        "macro_f1": Measured(value=0.63, low=0.55, high=0.7),
        "set_coverage": Measured(value=0.91, low=0.85, high=0.95),
    }
    return LossRow(
        name=name,
        seeds=3,
        metrics=metrics,
        noise={"classwise_ece": 0.043},
        difference=differences,
        recall={
            "normal": Measured(value=0.9, low=0.8, high=0.95),
            "mass": Measured(value=0.5, low=0.3, high=0.7),
        },
        coverage={"normal": Measured(value=0.93, low=0.9, high=0.96)},
        sentence=f"{name} is told about {stage}.",
    )


def _curves(stage: str, names: tuple[str, ...]) -> tuple[list[LossReliability], list[LossRisk]]:
    point = PooledPoint(bin=1, stated=0.8, came_true=0.6, low=0.3, high=0.85, scans=12.5, trials=9.6)
    reliability = [LossReliability(name=n, stage=stage, edges=(0, 0.5, 1), points=(point,)) for n in names]
    risk = [LossRisk(name=n, stage=stage, coverage=(0.5, 1), risk=(0.1, 0.3), area=0.2) for n in names]
    return reliability, risk


@pytest.fixture
def report() -> ComparisonReport:
    better = DifferenceRow(value=0.05, low=0.02, high=0.08, p=0.01, verdict="better")
    curves = [_curves(s, ("ce", "gce", "<i>focal</i>")) for s in ("uncalibrated", "temperature scaling")]
    stages = tuple(
        Stage(
            name=stage,
            losses=(
                _loss("ce", stage),
                _loss("gce", stage, balanced_accuracy=better),
                _loss("<i>focal</i>", stage),
            ),
        )
        for stage in ("uncalibrated", "temperature scaling")
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
        reliability=tuple(panel for found, _ in curves for panel in found),
        risk=tuple(curve for _, found in curves for curve in found),
        published=("GCE, error rate %: 24.10; published 23.75",),
    )


def test_the_page_tells_of_every_loss_at_every_stage(report):
    html = comparison_html(report)
    for stage in ("uncalibrated", "temperature scaling"):
        assert f"gce is told about {stage}." in html
    assert html.count("gce is told about temperature scaling.") == 1
    assert "5.1 %" in html  # calibration errors are shown in percent
    assert html.count("noise\u00a04.3\u00a0%") == 6  # three losses at two stages
    assert "compared with ce by the error above noise" in html
    assert "published 23.75" in html
    assert "Coverage: share of each class whose 90 % prediction set contains it" in html
    assert "AURC" in html
    assert "Further metrics, measured but not tested" in html


@pytest.fixture
def fuller(report) -> ComparisonReport:
    """The same report with two tests at each stage, tuned options and cautions."""
    unclear = DifferenceRow(
        value=-0.02, low=-0.05, high=0.01, p=0.2, verdict="not significant", detectable=0.04
    )
    nll = {"negative_log_likelihood": Measured(value=0.61, low=0.5, high=0.7)}

    def row(name: str, **difference: DifferenceRow) -> LossRow:
        return LossRow(name=name, seeds=3, metrics=nll, difference=difference, sentence=f"{name}.")

    tests = {
        shares: (row("ce"), row("gce", negative_log_likelihood=unclear), row("ce, prior-corrected"))
        for shares in ("class shares of training", "balanced")
    }
    stages = tuple(stage.model_copy(update={"tests": tests}) for stage in report.stages)
    more = {"cautions": ("There is one split.",), "choices": ("focal: gamma=1, 2, 3 tried; chosen gamma=2",)}
    return report.model_copy(update={"stages": stages, **more})


def test_both_tests_the_choices_and_what_the_run_cannot_show_are_on_the_page(fuller):
    html = comparison_html(fuller)
    assert html.count("Balanced test, and test at the class shares of training") == 2
    assert html.count("ce, prior-corrected</th>") == 4
    assert html.count("80 % power: 0.040") == 4
    assert "<li>There is one split.</li>" in html
    assert "<li>focal: gamma=1, 2, 3 tried; chosen gamma=2</li>" in html
    facts = fuller.model_dump(mode="json")
    for written, other in (
        ("0.61<br>", "0.62<br>"),
        ("power: 0.040", "power: 0.050"),
        ("p = 0.200", "p = 0.3"),
    ):
        assert written in html
        assert comparison_contradictions(html.replace(written, other, 1), facts)


def test_differences_of_a_metric_in_percent_are_in_percentage_points(report):
    worse = DifferenceRow(value=0.029, low=0.011, high=0.047, p=0.002, verdict="worse", detectable=0.02)
    loss = _loss("gce", "temperature scaling", classwise_ece_above_noise=worse)
    losses = (report.stages[1].losses[0], loss)
    changed = report.model_copy(update={"stages": (report.stages[1].model_copy(update={"losses": losses}),)})
    html, facts = comparison_html(changed), changed.model_dump(mode="json")
    assert "<strong>+2.9 points worse</strong><br>" in html
    assert "+1.1 to +4.7<br>" in html
    for written, other in (("+2.9 points", "+2.9"), ("+2.9 points", "+2.8 points"), ("+1.1 to", "+1.2 to")):
        assert comparison_contradictions(html.replace(written, other, 1), facts)


def test_that_no_significant_difference_is_no_equality_is_stated_with_the_power(report):
    note = "Not significantly different does not mean equal"
    assert note not in comparison_html(report)
    row = report.stages[-1].losses[1]
    told = row.model_copy(update={"sentence": "gce differs (80 % power for 0.1) as to ce."})
    last = report.stages[-1].model_copy(update={"losses": (report.stages[-1].losses[0], told)})
    assert note in comparison_html(report.model_copy(update={"stages": (report.stages[0], last)}))


def test_a_run_that_is_no_comparison_states_it_before_what_it_found(report):
    doubt, other = "This is no comparison: there are results of one loss only.", "There is one split."
    changed = report.model_copy(update={"cautions": (doubt, other)})
    html, facts = comparison_html(changed), changed.model_dump(mode="json")
    box = html.index('<div class="decision refer">')
    assert box < html.index(doubt) < html.index("<ul>", box)
    assert html.count(doubt) == 1
    assert f"<li>{other}</li>" in html
    assert comparison_contradictions(html.replace("decision refer", "decision report"), facts)
    assert "decision report" in comparison_html(report)


def test_one_seed_has_no_intervals_over_seeds(report):
    assert "bootstrap over subjects and seeds." in comparison_html(report)
    losses = tuple(loss.model_copy(update={"seeds": 1}) for loss in report.stages[-1].losses)
    one = report.model_copy(update={"stages": (report.stages[1].model_copy(update={"losses": losses}),)})
    html = comparison_html(one)
    assert "bootstrap over subjects." in html
    assert "interval over subjects." in html
    assert "shows nothing of the randomness of training; they are adjusted" in html


def test_metrics_have_one_order_in_figure_tables_and_sentences():
    order = [name.removesuffix("_above_noise") for name in TESTED]
    for shown in (DRAWN, TESTED_COLUMNS):
        mine = [n.removesuffix("_above_noise") for n in shown if n in TESTED]
        assert mine == [name for name in order if name in mine]
        assert len(mine) == len(TESTED)


def test_only_what_a_test_told_apart_is_bold(report):
    html = comparison_html(report)
    assert html.count("<strong>+0.050 better</strong>") == 2
    assert "p = 0.010" in html
    assert "variance over subjects and that over seeds" in html
    losses = [loss.model_copy(update={"folds": 5}) for loss in report.stages[-1].losses]
    folds = report.model_copy(update={"stages": (Stage(name="temperature scaling", losses=tuple(losses)),)})
    assert "corrected resampled t-test over folds (Nadeau and Bengio)" in comparison_html(folds)


def test_every_loss_has_a_diagram_and_each_end_a_chart_of_risks(report):
    html = comparison_html(report)
    assert html.count('alt="Reliability of ') == 3
    assert 'alt="Reliability of gce: uncalibrated, temperature scaling"' in html
    assert html.count('alt="Wrong answers against scans answered, ') == 2
    assert "each test scan counts once" in html


def test_figures_are_files_with_their_numbers(report, tmp_path):
    written = write_comparison_report(report, tmp_path, pdf=False)
    names = {path.name for path in written["figures"].iterdir()}
    assert names == {
        f"{name}.{kind}"
        for name in ("forest", "reliability", "risk_coverage")
        for kind in ("svg", "png", "csv")
    }
    rated = pd.read_csv(written["figures"] / "reliability.csv")
    assert len(rated) == 6
    assert rated.iloc[1].to_dict() == {
        "loss": "gce", "calibration": "uncalibrated", "bin_low": 0.5, "bin_high": 1.0, "stated": 0.8,
        "came_true": 0.6, "low": 0.3, "high": 0.85, "scans": 12.5, "trials": 9.6,
    }  # fmt: skip
    risks = pd.read_csv(written["figures"] / "risk_coverage.csv")
    assert len(risks) == 2 * 3 * 2
    assert risks.iloc[1].tolist() == ["ce", "uncalibrated", 1.0, 0.3]
    forest = pd.read_csv(written["figures"] / "forest.csv")
    assert set(forest["metric"]) == {
            "balanced_accuracy", "negative_log_likelihood", "classwise_ece_above_noise",
        }  # fmt: skip


def test_a_report_of_the_format_before_is_read_and_drawn(report):
    newer = {"reliability", "risk", "cautions", "choices", "tuned", "cross_fitted"}
    stored = report.model_dump(mode="json", exclude=newer) | {"format_version": 2}
    for stage in stored["stages"]:
        del stage["tests"]
    before = ComparisonReport.model_validate(stored)
    assert "Reliability of each loss" not in comparison_html(before)


def test_names_are_escaped_and_nothing_is_fetched(report):
    html = comparison_html(report)
    assert "&lt;i&gt;focal&lt;/i&gt;" in html
    assert "<i>focal" not in html
    assert "<script" not in html
    assert not re.search(r"https?://", html)


def test_a_sentence_that_losses_share_is_held_against_their_verdicts_and_powers(report):
    unclear = DifferenceRow(value=0.0, low=-0.1, high=0.1, p=1.0, verdict="not significant")
    losses = [
        _loss(name, "the end", balanced_accuracy=unclear.model_copy(update={"detectable": power}))
        for name, power in (("gce", 0.04), ("focal", 0.016), ("mbls", 0.03))
    ]
    own = "ce is told about the end."
    shared = "No significant difference from ce in accuracy (80 % power for 0.016 to 0.04, by loss): "
    shared += "gce, focal and mbls (3 seeds x 1 fold, Holm over 3 losses)."
    last = Stage(name="the end", losses=(_loss("ce", "the end"), *losses), summary=(own, shared))
    found = report.model_copy(update={"stages": (report.stages[0], last)})
    html, facts = comparison_html(found), found.model_dump(mode="json")
    assert comparison_contradictions(html, facts) == []
    for wrong in (shared.replace("0.016", "0.017"), shared.replace("gce, focal", "focal")):
        facts["stages"][-1]["summary"] = [own, wrong]
        assert comparison_contradictions(html.replace(shared, wrong), facts), wrong
    facts["stages"][-1]["summary"] = [own, shared]
    facts["stages"][-1]["losses"][2]["difference"]["balanced_accuracy"]["verdict"] = "worse"
    assert any("The verdicts are" in text for text in comparison_contradictions(html, facts))


def test_the_table_has_a_row_for_each_loss_stage_and_metric(report, tmp_path):
    written = write_comparison_report(report, tmp_path, pdf=False)
    table = pd.read_csv(written["csv"])
    assert len(table) == 2 * 3 * (7 + 2 + 1)
    assert table[table.metric == "classwise_ece"].noise.tolist() == [0.043] * 6
    gain = table[
        (table.loss == "gce")
        & (table.calibration == "temperature scaling")
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
def test_charts_before_and_after_calibration_stand_side_by_side(report, browser, tmp_path):
    (tmp_path / "page.html").write_text(comparison_html(report))
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto((tmp_path / "page.html").as_uri())
    boxes = [image.bounding_box() for image in page.locator("figure.risk_coverage img").all()]
    assert len({box["y"] for box in boxes}) == 1
    assert len({box["x"] for box in boxes}) == 2


@pytest.mark.slow
def test_axe_finds_no_violation(report, violations):
    assert violations(comparison_html(report)) == []


@pytest.mark.parametrize(
    ("written", "other"),
    [
        ("0.70<br>", "0.71<br>"),
        ("0.60 to 0.80", "0.50 to 0.80"),
        ("noise\u00a04.3\u00a0%", "noise\u00a04.4\u00a0%"),
        ("+0.050 better", "+0.060 better"),
        ("+0.050 better", "+0.050 worse"),
        ("p = 0.010", "p = 0.020"),
        ("<li>gce is told about temperature scaling.", "<li>gce is better."),
    ],
)
def test_a_figure_of_the_page_that_is_changed_is_found(report, written, other):
    html, facts = comparison_html(report), report.model_dump(mode="json")
    assert comparison_contradictions(html, facts) == []
    assert written in html
    assert comparison_contradictions(html.replace(written, other, 1), facts)


def test_a_sentence_that_its_differences_do_not_bear_is_found(report):
    facts = report.model_dump(mode="json")
    html = comparison_html(report)
    loss = facts["stages"][0]["losses"][1]
    right = (
        "gce is better than ce in balanced accuracy (+0.050 [+0.020, +0.080], p = 0.010) (3 seeds x 1 fold)."
    )
    for sentence in (right, right.replace("better", "worse"), right.replace("0.020", "0.010")):
        loss["sentence"] = sentence
        assert bool(comparison_contradictions(html, facts)) == (sentence != right)
