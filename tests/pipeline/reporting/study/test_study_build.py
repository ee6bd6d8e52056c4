from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.reporting.study.study_build import build_study_report
from pipeline.reporting.study.study_numbers import SMALL_SLICE


def test_every_scan_found_is_accounted_for(report):
    flow = report.flow
    assert flow.found == flow.accepted + sum(r.scans for r in flow.refused)
    assert flow.accepted == sum(n for n, _ in flow.parts.values())
    assert flow.parts["test"] == (45, 23)


def test_the_cohort_table_counts_classes_ages_and_sexes(report, sources):
    for row in report.cohort:
        assert sum(row.classes.values()) == row.scans == len(sources.split.part(row.part))
        assert 70 <= row.age_mean <= 74
        assert row.female_share == pytest.approx(0.5, abs=0.02)
        assert row.sites == 3


def test_the_confusion_holds_every_test_scan_on_its_row(report, sources):
    counts = np.array(report.confusion)
    np.testing.assert_array_equal(counts.sum(axis=1), np.bincount(sources.test.labels, minlength=3))
    right = (sources.probabilities.argmax(axis=1) == sources.test.labels).sum()
    assert np.trace(counts) == right


def test_reliability_counts_every_scan_once_in_each_panel(report, sources):
    assert len(report.reliability) == 8  # the top label and three classes, before and after
    for panel in report.reliability:
        assert sum(p.scans for p in panel.points) == len(sources.test)
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


def test_scans_without_a_diagnosis_are_counted_apart(sources):
    without = replace(sources.cohort.scans[0], subject="unknown", diagnosis=None)
    cohort = replace(sources.cohort, scans=(*sources.cohort.scans, without))
    flow = build_study_report(replace(sources, cohort=cohort)).flow
    assert flow.without_diagnosis == 1
    assert flow.accepted == 1 + sum(n for n, _ in flow.parts.values())


def test_coverage_is_in_the_order_of_the_classes(report):
    assert [row.name for row in report.coverage] == list(report.class_names)


def test_slopes_are_those_of_the_network_and_of_what_ships(report, sources):
    names = {row.kind: row for row in sources.results.rows}
    assert [s.name for s in report.slopes] == [names["network"].name, names["chosen"].name]
    shipped = report.slopes[1]
    assert shipped.slope.value == names["chosen"].metrics["calibration_slope"].value
    assert {c: m.value for c, m in shipped.intercepts.items()} == {
        c: interval.value for c, interval in names["chosen"].intercepts.items()
    }


def test_a_study_of_an_older_version_has_no_decisions(sources):
    older = build_study_report(replace(sources, results=replace(sources.results, decisions=None)))
    assert older.decided is older.plausible is None
    assert [row.covered for row in older.coverage] == [20, 12, 0]
