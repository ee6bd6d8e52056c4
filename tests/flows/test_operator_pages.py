"""MLflow's pages of a demo, read in a real browser: runs, the registered version, the answered scans."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from operator_pages import (
    RUN_LIST,
    SIZE,
    browser_page,
    keep,
    open_link,
    open_page,
    open_until_seen,
    sees,
    sees_inside,
)

from flows.serving.servers import free_endpoint, mlflow_server, wait_until_ready
from pipeline import tracking

pytestmark = [pytest.mark.slow, pytest.mark.server]


@dataclass
class Operator:
    """A browser, the address of MLflow's pages, and the store behind them."""

    page: Any
    mlflow: str
    store: tracking.Store
    labelled: str
    trace: str


@pytest.fixture(scope="module")
def operator(whole_way, tmp_path_factory) -> Iterator[Operator]:
    study = whole_way.study
    store = tracking.store_of(study.tracking, study.output)
    # Other tests report scans of this study too: one of its answers is chosen here, once.
    answered = next(e for e in tracking.answered_scans(store) if e.answer["decision"] != "refused")
    tracking.set_diagnosis(store, answered.scan, "AD")
    folder, endpoint = tmp_path_factory.mktemp("mlflow"), free_endpoint("127.0.0.1", 0, "here")
    with mlflow_server(endpoint, folder, store.uri, store.artifacts) as server, browser_page() as page:
        if page is None:
            pytest.skip("no chromium")
        wait_until_ready(server, "/health")
        yield Operator(page, server.url, store, answered.scan, answered.trace_id)


def test_the_list_of_runs_shows_nll_calibration_error_and_auroc(operator):
    page, experiment = operator.page, operator.store.experiment_id()
    open_page(page, f"{operator.mlflow}/#/experiments/{experiment}/runs")
    page = open_link(page, f"Runs with {RUN_LIST}")
    sees(page, "negative_log_likelihood", "classwise_ece", "macro_auroc", "demo")
    numbers = page.locator("[col-id*='metric']", has_text=re.compile(r"^\d\.\d+"))
    numbers.first.wait_for()
    keep(page, "mlflow runs")
    (run,) = (run for run in _runs(operator) if "mlflow.parentRunId" not in run.data.tags)
    for name in ("negative_log_likelihood", "classwise_ece", "macro_auroc"):
        assert f"{run.data.metrics[name]:.4f}"[:5] in " ".join(numbers.all_inner_texts()), name


def test_the_list_of_models_shows_them_too(operator):
    page, experiment = operator.page, operator.store.experiment_id()
    page.set_viewport_size({"width": 2400, "height": 1000})  # columns beyond the edge are not drawn
    open_page(page, f"{operator.mlflow}/#/experiments/{experiment}/models?workflowType=machine_learning")
    sees(page, "classifier", "negative_log_likelihood")
    (run,) = (run for run in _runs(operator) if "mlflow.parentRunId" not in run.data.tags)
    assert f"{run.data.metrics['negative_log_likelihood']:.4f}"[:5] in page.locator("body").inner_text()
    keep(page, "mlflow models")
    page.set_viewport_size(SIZE)


def test_a_run_says_what_it_gave(operator):
    (run,) = (run for run in _runs(operator) if "mlflow.parentRunId" not in run.data.tags)
    address = f"{operator.mlflow}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    open_page(operator.page, address)
    sees(operator.page, "Research use only", "NLL 0.", "fold 1 of 5", "Finished")
    keep(operator.page, "mlflow run")
    version = open_link(operator.page, "model version 1")
    sees(version, "Version 1", "Promote model")
    assert version.url.endswith(f"/models/{operator.store.model_name}/versions/1")


def test_a_version_is_described_and_its_links_lead_to_report_and_card(operator):
    page, address = operator.page, f"{operator.mlflow}/#/models/{operator.store.model_name}/versions/1"
    open_page(page, address)
    sees(page, "Research use only", "NLL", "classwise ECE", "champion")
    keep(page, "mlflow version")
    (run,) = (run for run in _runs(operator) if "mlflow.parentRunId" not in run.data.tags)
    for link, shown in (
        ("study report", "What this report does not show"),
        ("results", "negative_log_likelihood"),
        ("model card", "Intended use"),
    ):
        opened = open_link(page, link)
        sees_inside(opened, shown)
        assert run.info.run_id in opened.url, link
        keep(opened, f"mlflow {link}")
        opened.close()


def _runs(operator: Operator) -> list[Any]:
    return operator.store.client().search_runs([operator.store.experiment_id()])


def test_an_answered_scan_has_its_report_and_its_diagnosis(operator):
    page, experiment = operator.page, tracking.reports_experiment(operator.store)
    open_page(page, f"{operator.mlflow}/#/experiments/{experiment}/traces")
    sees(page, operator.labelled, ": CN ")
    keep(page, "mlflow traces")
    answers = {e.trace_id: e for e in tracking.answered_scans(operator.store, scan=operator.labelled)}
    entry = answers[operator.trace]
    assert (entry.diagnosis, entry.answer["most_likely"]) == ("AD", "CN")
    address = f"{operator.mlflow}/#/experiments/{experiment}/traces?traceId={operator.trace}"
    open_until_seen(page, address, "decision", "probabilities", "Download text/html", "most_likely")
    keep(page, "mlflow trace")
    page.locator("button", has_text="Assess").first.click()
    sees(page, "diagnosis", "AD")
    keep(page, "mlflow diagnosis")
