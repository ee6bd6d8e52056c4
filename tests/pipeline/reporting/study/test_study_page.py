import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.calibrators import softmax
from pipeline.config import EvaluationSettings
from pipeline.evaluation.classifier.results import evaluate
from pipeline.evaluation.classifier.rivals import Rivals
from pipeline.evaluation.classifier.selection import select_calibrator
from pipeline.learning.predictions import Predictions
from pipeline.reporting.page.facts import Measured
from pipeline.reporting.study.study_build import SMALL_SLICE, StudySources, build_study_report
from pipeline.reporting.study.study_figures import study_figures
from pipeline.reporting.study.study_numbers import StudyReport
from pipeline.reporting.study.study_page import study_page, write_study_report
from pipeline.scan import PARTS, Cohort, Scan, Split

CLASSES = ("CN", "MCI", "AD")
SHARES = np.array([0.55, 0.33, 0.12])
SIZES = {"train": 60, "validation": 20, "calibration": 40, "test": 45}


@dataclass(frozen=True)
class _Outcome:
    verdict: str
    rule: str = ""
    message: str = ""


def _part(name: str, size: int, rng: np.random.Generator) -> tuple[Predictions, np.ndarray]:
    labels = rng.choice(3, size, p=SHARES)
    evidence = rng.normal(size=(size, 3)) + 1.6 * np.eye(3)[labels]
    posterior = softmax(1.6 * evidence + np.log(SHARES))
    subjects = tuple(f"{name}{i // 2}" for i in range(size))  # two visits each
    ids = tuple(f"sub-{s}_ses-{i % 2}" for i, s in enumerate(subjects))
    features = np.zeros((size, 2), dtype=np.float32)
    return Predictions(ids, subjects, 2 * np.log(posterior), labels, features, CLASSES), posterior


@pytest.fixture(scope="module")
def sources() -> StudySources:
    rng = np.random.default_rng(7)
    parts = {name: _part(name, size, rng) for name, size in SIZES.items()}
    test, posterior = parts["test"]
    calibration = parts["calibration"][0]
    selection = select_calibrator(calibration, ("identity", "temperature"), 4, 0)
    results = evaluate(
        test, calibration, selection, Rivals(SHARES, None, posterior), EvaluationSettings(draws=200), seed=0
    )
    scans = tuple(
        Scan(
            subject,
            scan_id[-1],
            Path("x"),
            diagnosis=CLASSES[label],
            facts={"age": 70.0 + n % 5, "sex": "FM"[n % 2], "site": n % 3},
        )
        for predictions, _ in parts.values()
        for n, (scan_id, subject, label) in enumerate(
            zip(predictions.scan_ids, predictions.subjects, predictions.labels, strict=True)
        )
    )
    refused = [_Outcome("refused", "missing-slices", "3 slices are missing <b>here</b>")] * 3
    return StudySources(
        title="demo",
        run_id="4f1c",
        report_date="2026-11-21",
        results=replace(results, coverage={"CN": (20, 22), "MCI": (12, 15), "AD": (0, 0)}),
        selection=selection,
        test=test,
        probabilities=selection.calibrator.transform(test.logits),
        cohort=Cohort(scans, CLASSES),
        split=Split(
            *(parts[p][0].scan_ids for p in PARTS),
            subject_of={s.scan_id: s.subject for s in scans},
        ),
        history=[{"epoch": e, "loss": 1 / (e + 1), "validation_nll": float("nan")} for e in range(5)],
        posterior=posterior,
        operating_point=0.6,
        outcomes=[*refused, *[_Outcome("accepted")] * len(scans)],
        ignored={"MR": 12},
        versions={"taucal": "0.1.0"},
        synthetic=True,
    )


@pytest.fixture(scope="module")
def report(sources) -> StudyReport:
    return build_study_report(sources)


@pytest.fixture(scope="module")
def html(report) -> str:
    return study_page(report, study_figures(report)).html()


def test_every_scan_found_is_accounted_for(report):
    flow = report.flow
    assert flow.found == flow.accepted + sum(r.scans for r in flow.refused)
    assert flow.accepted == sum(n for n, _ in flow.parts.values())
    assert flow.parts["test"] == (45, 23)


def test_the_cohort_table_counts_classes_ages_and_sexes(report):
    for row in report.cohort:
        assert sum(row.classes.values()) == row.scans == SIZES[row.part]
        assert 70 <= row.age_mean <= 74
        assert row.female_share == pytest.approx(0.5, abs=0.02)
        assert row.sites == 3


def test_the_confusion_holds_every_test_scan_on_its_row(report, sources):
    counts = np.array(report.confusion)
    np.testing.assert_array_equal(counts.sum(axis=1), np.bincount(sources.test.labels, minlength=3))
    right = (sources.probabilities.argmax(axis=1) == sources.test.labels).sum()
    assert np.trace(counts) == right


def test_reliability_counts_every_scan_once_in_each_panel(report):
    assert len(report.reliability) == 8  # the top label and three classes, before and after
    for panel in report.reliability:
        assert sum(p.scans for p in panel.points) == SIZES["test"]
        assert all(p.low <= p.came_true <= p.high for p in panel.points)


def test_at_full_coverage_the_risk_is_the_error(report):
    counts = np.array(report.confusion)
    assert report.risk[-1].coverage == 1
    assert report.risk[-1].risk == pytest.approx(1 - np.trace(counts) / counts.sum())


def test_the_posterior_figure_has_the_error_of_the_table(report):
    points = pd.DataFrame([p.model_dump() for p in report.posterior])
    shipped = next(r for r in report.metrics if r.kind == "chosen")
    error = (points.true - points.stated).abs().mean()
    assert error == pytest.approx(shipped.metrics["posterior_error"].value)


def test_small_slices_get_no_interval(report):
    assert {s.slice.split(":")[0] for s in report.slices} == {"sex", "site"}
    for row in report.slices:
        assert (row.accuracy is None) == (row.scans < SMALL_SLICE)


def test_what_was_not_measured_is_none_not_a_number(report):
    assert {e.validation_nll for e in report.training} == {None}


def test_an_empty_class_has_no_coverage(report):
    assert next(c for c in report.coverage if c.name == "AD").share is None


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        ((-0.2, -0.3, -0.1), "Calibration lowered the negative log-likelihood of the test scans"),
        ((0.2, 0.1, 0.3), "made the probabilities of the test scans worse"),
        ((0.0, -0.1, 0.1), "did not significantly change"),
    ],
)
def test_the_conclusion_follows_the_interval(report, gain, words):
    value, low, high = gain
    measured = {"negative_log_likelihood": Measured(value=value, low=low, high=high)}
    told = report.model_copy(update={"gain": measured, "chosen": "temperature"}).conclusion
    assert words in told


def test_identity_claims_no_gain(report):
    assert "No calibration was applied" in report.model_copy(update={"chosen": "identity"}).conclusion


def test_the_page_is_one_file_and_escaped(html):
    assert "<script" not in html
    assert not re.search(r"https?://", html)
    assert "<b>here</b>" not in html
    assert "&lt;b&gt;here&lt;/b&gt;" in html
    assert not re.search(r"<[^>]+\s(style|on\w+)=", html)


@pytest.mark.parametrize(
    "words",
    [
        "Flow of scans",
        "missing-slices",
        "12 MR",
        "Choice of the calibrator",
        "oracle (true posterior)",
        "TRIPOD+AI",
        "How to read it.",
        "too few scans",
        "a computed phantom",
    ],
)
def test_the_page_says(html, words):
    assert words in html


def test_every_item_of_the_checklist_is_on_the_page_once(html):
    items = re.findall(r'<th scope="row">(\d+) [A-Z][^<]+</th><td>([^<]+)</td>', html)
    assert [int(number) for number, _ in items] == list(range(1, 28))


def test_figures_come_with_their_numbers(report, tmp_path):
    written = write_study_report(report, tmp_path, pdf=False)
    names = {p.name for p in written["figures"].iterdir()}
    kinds = ("reliability", "risk_coverage", "confusion", "training", "posterior")
    assert names == {f"{k}.{s}" for k in kinds for s in ("svg", "png", "csv")}
    numbers = pd.read_csv(written["figures"] / "reliability.csv")
    assert numbers.groupby(["panel", "stage"]).scans.sum().unique().tolist() == [SIZES["test"]]


def test_the_json_holds_the_same_facts(report, tmp_path):
    written = write_study_report(report, tmp_path, pdf=False)
    assert StudyReport.model_validate(json.loads(written["json"].read_text())) == report


def test_the_same_study_gives_the_same_bytes(report):
    first, second = (study_page(report, study_figures(report)).html() for _ in range(2))
    assert first == second


def test_a_study_without_phantom_history_or_refusals_is_shorter(sources):
    bare = replace(sources, posterior=None, history=(), outcomes=(), ignored={}, synthetic=False, versions={})
    report = build_study_report(bare)
    page = study_page(report, study_figures(report)).html()
    assert "SYNTHETIC" not in page
    assert "true probability" not in page
    assert report.flow.found == len(sources.cohort)


def test_a_comparison_of_losses_is_reported_where_there_is_one(sources, html):
    losses = {name: f"{name} does not differ from CE." for name in ("GCE", "<b>focal</b>")}
    report = build_study_report(replace(sources, losses=losses, losses_stage="after ATS"))
    page = study_page(report, study_figures(report)).html()
    assert "GCE does not differ from CE." in page
    assert "&lt;b&gt;focal&lt;/b&gt; does not differ" in page
    assert "after ATS" in page
    assert "Losses compared" not in html


@pytest.mark.slow
def test_axe_finds_no_violation(html, violations):
    assert violations(html) == []
