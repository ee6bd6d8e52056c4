"""What a finished comparison prints: tables that fit a terminal, choices, and what the run cannot show."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from flows.comparison import pages
from flows.running import console
from pipeline.config import Study
from pipeline.evaluation.comparison.loss_comparison import Comparison, LossResult
from pipeline.evaluation.comparison.stages import AT_TRAINING, BALANCED, Findings, StageFindings
from pipeline.evaluation.comparison.tuning import TunedOption
from pipeline.evaluation.inference.intervals import Interval

METRICS = {name: Interval(0.1234, 0.0712, 0.1875) for name in pages.SHOWN}
NAMES = ("ce", "GCE + logit adjustment", "gce w=0.5")


def compared(metrics) -> Comparison:
    results = tuple(
        LossResult(name, 3, 5, metrics, (), (), f"{name} is as it is.", noise={"classwise_ece": 0.1})
        for name in NAMES
    )
    return Comparison("ce", results, 0.95, 969, 800, ())


def findings() -> Findings:
    few = dict.fromkeys(("negative_log_likelihood", "accuracy"), METRICS["macro_auroc"])
    tests = {AT_TRAINING: compared(few), BALANCED: compared(few)}
    tuned = (TunedOption("focal", 0, None, ("gamma=1", "gamma=2", "gamma=3"), (0.5, 0.4, 0.6)),)
    stage = StageFindings("temperature", compared(METRICS), {}, {}, tests)
    return Findings({"temperature scaling": stage}, (), tuned, ("There is one split.",))


@pytest.fixture
def printed(monkeypatch) -> str:
    narrow = Console(width=120, file=io.StringIO())
    spoken: list[str] = []
    monkeypatch.setattr(console, "terminal", lambda **_: narrow)
    monkeypatch.setattr(pages, "say", spoken.append)
    monkeypatch.setattr(pages, "warn", spoken.append)
    pages.show(findings())
    return narrow.file.getvalue() + "\n".join(spoken)


def test_every_value_interval_and_name_is_whole_in_120_columns(printed):
    lines = printed.splitlines()
    assert max(map(len, lines)) <= 120
    assert printed.count("7.1 to 18.8") == len(NAMES)  # classwise ECE in percent
    assert printed.count("0.07 to 0.19") == len(NAMES) * (len(pages.SHOWN) - 1 + 4)
    assert printed.count("noise 10.0 %") == len(NAMES)
    assert any(line.startswith("GCE + logit adjustment ") for line in lines)


def test_both_tests_the_choices_and_the_cautions_are_printed(printed):
    in_one_line = " ".join(printed.split())  # titles wrap above narrow tables
    assert "temperature scaling, test at class shares of training" in in_one_line
    assert "temperature scaling, test weighted to be balanced" in in_one_line
    assert "focal: gamma=1, 2, 3 tried; chosen gamma=2" in printed
    assert "There is one split." in printed


def test_prefect_shows_results_failures_and_where_the_page_is(monkeypatch, tmp_path):
    shown = {}
    monkeypatch.setattr(pages, "in_flow_run", lambda: True)
    monkeypatch.setattr(pages, "show_rows", lambda key, rows, _: shown.update({key: rows}))
    monkeypatch.setattr(pages, "show_text", lambda key, text, _: shown.update({key: text}))
    monkeypatch.setattr(pages, "log_shared", lambda sentence: shown.update(log=sentence))
    store = SimpleNamespace(experiment_id=lambda: "1")
    monkeypatch.setattr(pages.tracking, "store_of", lambda *_: store)
    monkeypatch.setenv("TAUCAL_MLFLOW_URL", "http://127.0.0.1:5000")
    study = Study(name="tiny", output=tmp_path, cohort={"path": tmp_path / "bids"})
    pages.show_in_prefect(study, findings(), {"focal, seed 1": f"{tmp_path}: no space"}, "4f1c")
    assert [row["loss"] for row in shown["results"]] == list(NAMES)
    assert "12.3 % 7.1 to 18.8 noise 10.0 %" in shown["results"][0].values()
    assert shown["failed-cells"] == [{"cell": "focal, seed 1"}]
    assert shown["log"] == "3 losses compared, 1 cells failed."
    assert "/runs/4f1c/artifacts/comparison.html)" in shown["mlflow-run"]
    assert str(tmp_path) not in str(shown)
