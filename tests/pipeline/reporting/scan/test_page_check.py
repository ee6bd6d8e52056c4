"""No page of any prediction contradicts itself, and the check sees every figure that is changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_check import contradictions, contradictions_in

from models.card import Card
from models.prediction import Prediction, reasons_to_refer
from models.prevalence import adjust_prevalence
from pipeline.files import write_json
from pipeline.imaging.quality import Finding
from pipeline.reporting.scan.scan_build import MeasuredScan, ReportContext, build_scan_report
from pipeline.reporting.scan.scan_numbers import ModelFacts
from pipeline.reporting.scan.scan_page import scan_page, write_scan_report

NAMES = ("CN", "MCI", "AD", "CN+", "MCI+")
MODEL = ModelFacts(name="taucal", version="3", trained_on="112 scans", tested_on="50 scans of other subjects")
SHARES = st.floats(1e-6, 1)
EXTREME = st.sampled_from((1e-300, 1e-4, 0.005, 0.5, 1.0, 1e9, 1e300))


def _shares(draw: Callable, classes: int, kind: st.SearchStrategy = SHARES) -> np.ndarray:
    values = np.array(draw(st.tuples(*[kind] * classes)))
    return values / values.sum()


@st.composite
def predictions(draw) -> Prediction:
    """Any prediction that `CalibratedClassifier` can give."""
    classes = draw(st.integers(2, 5))
    names, trained = NAMES[:classes], _shares(draw, classes)
    probabilities = _shares(draw, classes, draw(st.sampled_from((SHARES, EXTREME))))
    stated = _shares(draw, classes) if draw(st.booleans()) else None
    shown = probabilities if stated is None else adjust_prevalence(probabilities, trained, stated)
    below, above = (
        np.array(draw(st.lists(st.floats(0, 1), min_size=classes, max_size=classes))) for _ in "lu"
    )
    inside = np.array(draw(st.lists(st.booleans(), min_size=classes, max_size=classes)))
    inside[shown.argmax()] = True
    networks = draw(st.sampled_from((1, 5, 15)))
    new = draw(st.booleans())
    return Prediction(
        class_names=names,
        probabilities=tuple(probabilities.tolist()),
        lower=tuple((shown * below).tolist()),
        upper=tuple((shown + (1 - shown) * above).tolist()),
        prediction_set=tuple(n for n, held in zip(names, inside, strict=True) if held),
        coverage=draw(st.sampled_from((0.8, 0.9, 0.95))),
        mahalanobis=draw(st.floats(0, 40)),
        mahalanobis_limit=31.0,
        energy=draw(st.floats(-9, 5)),
        energy_limit=2.2,
        confidence=float(shown.max()),
        operating_point=draw(st.floats(0, 1)),
        prevalence=tuple(trained.tolist()),
        clinic_prevalence=None if stated is None else tuple(stated.tolist()),
        clinic_probabilities=None if stated is None else tuple(shown.tolist()),
        decision="report",
        reasons=(),
        networks=networks,
        entropy=0.5 if networks > 1 else None,
        mutual_information=0.1 if networks > 1 else None,
        largest_set=draw(st.integers(1, classes)) if new else 1,
        range_factor=draw(st.floats(0.5, 4)) if new else None,
        ood_quantile=0.99 if new else None,
    )


@st.composite
def cards(draw) -> Card:
    """Any counts of tests, of every class, of some, or of none."""
    scans = st.integers(0, 60)
    counts = {
        name: (draw(st.integers(0, n)), n) for name in NAMES if (n := draw(scans)) or draw(st.booleans())
    }
    bins = [(k / 10, (k + 1) / 10, n, draw(st.integers(0, n))) for k in range(10) for n in [draw(scans)]]
    return Card(coverage=counts, likeness=bins if draw(st.booleans()) else ())


def _page(prediction: Prediction, card: Card, warning: str = "") -> tuple[str, dict]:
    """The page of a prediction, with a warning of quality control where one is given, and its JSON."""
    findings = (Finding("motion", "warn", 3.0, "at most 2 mm", warning),) if warning else ()
    reasons = (*((warning,) if warning else ()), *reasons_to_refer(prediction))
    decided = replace(prediction, reasons=reasons, decision="refer" if reasons else "report")
    scan = MeasuredScan("A7KD2M", "20310412", findings=findings)
    report = build_scan_report(scan, ReportContext(MODEL, "2026-11-21", "4f1c09e2", card), decided)
    return scan_page(report, None).html(), report.model_dump(mode="json")  # also checked by `conftest`


@given(predictions(), cards(), st.sampled_from(("", "", "The head moved 3 mm between frames")))
def test_no_page_of_any_prediction_contradicts_itself(prediction, card, warning):
    html, report = _page(prediction, card, warning)
    assert contradictions(html, report) == []


CARD = Card(
    coverage={"CN": (12, 24), "MCI": (25, 30), "AD": (9, 11)},
    likeness=((0.4, 0.5, 9, 5), (0.7, 0.8, 22, 16)),
)


@pytest.fixture(params=["one", "two", "clinic", "refer"])
def page(request, two, doubtful, at_clinic) -> tuple[str, dict]:
    """Pages that between them have every sentence about the prediction."""
    found = {
        "one": replace(two, prediction_set=("CN",), networks=5, entropy=0.6, mutual_information=0.1),
        "two": replace(two, prediction_set=("CN", "AD")),
        "clinic": at_clinic(two, (0.3, 0.6, 0.1)),
        "refer": doubtful,
    }[request.param]
    return _page(replace(found, operating_point=0.5), CARD)


def _places(html: str, pattern: str) -> list[re.Match[str]]:
    """Where a pattern is in the text of the first sheet, not in a tag or in the style."""
    start, end = html.index("<h1"), html.index('<div class="standing">')
    tags = [m.span() for m in re.finditer(r"<[^>]*>|<p class=\"axis\">.*?</p>", html)]
    return [
        m
        for m in re.finditer(pattern, html)
        if start < m.start() < end and not any(a <= m.start() < b for a, b in tags)
    ]


def test_every_percentage_of_the_first_sheet_is_checked(page):
    html, report = page
    places = _places(html, r"(?<![\d.])(\d+(?:\.\d)?)(?=(?: to \d+)?\u00a0%| %)")
    assert len(places) >= 12
    for found in places:
        for other in (float(found[1]) + 2, float(found[1]) - 2):
            changed = f"{html[: found.start()]}{other:g}{html[found.end() :]}"
            assert contradictions(changed, report), html[found.start() - 60 : found.end() + 20]


def test_every_count_of_the_first_sheet_is_checked(page):
    html, report = page
    places = _places(html, r"\d+(?= of \d| (?:CN|MCI|AD)\b| test scans|\s+were classified)")
    assert len(places) >= 6
    for found in places:
        changed = f"{html[: found.start()]}{int(found[0]) + 1}{html[found.end() :]}"
        assert contradictions(changed, report), html[found.start() - 60 : found.end() + 20]


def test_every_class_of_the_first_sheet_is_checked(page):
    html, report = page
    places = [
        m for m in _places(html, r"\b(CN|MCI|AD)\b") if not html[: m.start()].endswith("does not exclude ")
    ]
    assert len(places) >= 8
    for found in places:
        for other in {"CN", "MCI", "AD"} - {found[1]}:
            changed = html[: found.start()] + other + html[found.end() :]
            assert contradictions(changed, report), html[found.start() - 60 : found.end() + 20]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('fill="#1f5a8a"', 'fill="#7b8794"'),
        ('class="decision report"', 'class="decision refer"'),
        ("Finding of the model", "The model gives no finding"),
        (" The scan may also be AD.", ""),
        ("plausible range", "interval"),
        ("widened by a factor of 2.", "widened by a factor of 2.5."),
        ("<td>pass</td>", "<td>refer</td>"),
        ("at most 2</td>", "at most 1</td>"),
        ("highest probability</th>", "highest probability at your clinic's prevalence</th>"),
        ("at least 50.0\u00a0%</td>", "none: no finding for any scan</td>"),
        ("at most 31.0</td>", "at most 11.0</td>"),
        (": for CN they did not", ""),
        ("although it is more likely", "although it is less likely"),
        ("a threshold of its own", "one threshold"),
        ("Quality control passed", "The energy is low, quality control passed"),
        ("Assumes the prevalence", "Has the prevalence"),
        ("It does not cover", "It covers"),
        ("What the numbers mean", "This scan is unlike the test scans"),
        ("each class: for CN they did not.", "each class: for CN they did not. No test scan was of AD."),
        ("Calibrated probability", "Calibrated probability at your clinic's prevalence"),
    ],
)
def test_a_planted_sentence_is_found(two, before, after):
    html, report = _page(replace(two, prediction_set=("CN", "AD"), operating_point=0.5), CARD)
    assert before in html
    assert contradictions(html.replace(before, after), report)


def _class(report: dict, number: int, **changes: object) -> dict:
    classes = [dict(c) for c in report["classes"]]
    classes[number] |= changes
    return report | {"classes": classes}


@pytest.mark.parametrize(
    "change",
    [
        lambda r: _class(r, 0, in_set=False) | {"prediction_set": ["MCI"]},
        lambda r: _class(r, 0, shown=0.62),
        lambda r: _class(r, 0, upper=0.7),
        lambda r: _class(r, 1, trained_share=0.5),
        lambda r: r | {"confidence": 0.8},
        lambda r: r | {"operating_point": 0.75},
        lambda r: r | {"largest_set": 1},
        lambda r: r | {"verdict": "refer"},
        lambda r: r | {"reasons": ["The head moved"]},
        lambda r: r | {"quality": "warn"},
        lambda r: r | {"headline": "Most like AD (72 %, plausible range 58 to 83 %)"},
        lambda r: r | {"range_factor": None},
        lambda r: r | {"coverage": 0.8},
        lambda r: r | {"tested_sets": r["tested_sets"][:2]},
        lambda r: r | {"likeness": r["likeness"] | {"low": 0.8, "high": 0.9}},
        lambda r: r | {"distances": [r["distances"][0] | {"value": 40.0}, r["distances"][1]]},
    ],
)
def test_figures_that_contradict_each_other_are_found(two, change):
    html, report = _page(replace(two, operating_point=0.5), CARD)
    assert contradictions(html, report) == []
    assert contradictions(html, change(report))


def test_a_class_that_the_clinic_does_not_have_is_promised_to_no_set(two, at_clinic):
    html, report = _page(replace(at_clinic(two, (0.6, 0.4, 0.0)), prediction_set=("CN", "MCI")), CARD)
    assert contradictions(html, report) == []
    sentence = "Your clinic&#39;s prevalence rules out AD: no set contains it."
    assert sentence in html
    assert "where 0\u00a0% are AD" in html
    assert contradictions(html.replace(sentence, ""), report)
    html, report = _page(at_clinic(two, (0.6, 0.4 - 1e-7, 1e-7)), CARD)
    assert "rules out" not in html
    assert "where &lt;1\u00a0% are AD" in html
    assert contradictions(html.replace("they did not.", f"they did not. {sentence}"), report)


def test_counts_are_those_of_the_study(two, tmp_path):
    study = {
        "coverage": {n: list(c) for n, c in CARD.coverage.items()},
        "likeness": [list(b) for b in CARD.likeness],
    }
    scan = MeasuredScan("A7KD2M", "20310412")
    report = build_scan_report(scan, ReportContext(MODEL, "2026-11-21", "4f1c09e2", CARD), two)
    write_scan_report(report, None, tmp_path / "a", pdf=False)
    results = write_json(tmp_path / "results.json", study)
    assert contradictions_in(tmp_path, results) == []
    for key, value in (("coverage", {"CN": [13, 24]}), ("likeness", [[0.7, 0.8, 22, 17]])):
        write_json(results, study | {key: value})
        assert contradictions_in(tmp_path, results)


def test_a_contradiction_fails_the_test_that_makes_it(two, context, scan):
    odd = build_scan_report(scan, context, replace(two, prediction_set=("AD",)))
    with pytest.raises(AssertionError, match=r"the most likely class .* is outside the set"):
        scan_page(odd, None).html()
