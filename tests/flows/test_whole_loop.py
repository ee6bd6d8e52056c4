"""A clinic of 60 phantom scans goes round once, as its operator meets it: real servers, real pages, a kill.

Nightly ingest, retraining, approval in Prefect's page, champion, reports, diagnoses, weekly check, the next
retraining, approval by command, rollback.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from operator_pages import browser_page, keep, open_link, open_page, sees, sees_inside
from served_studies import Served, wait_for, webhook
from typer.testing import CliRunner

from flows.cli import app
from flows.ingestion.ingest_tables import COHORT_TABLE
from pipeline import tracking
from pipeline.config import BatchSettings, Study
from pipeline.phantom import write_batch
from pipeline.scan import Cohort
from pipeline.tracking.audit import audit_of

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(2400)]
SECRET = "Jane_Doe"
"""A folder of the clinic's new scans; the phantom's subjects and dates are looked for too."""
WIDE = {"negative_log_likelihood": 9, "classwise_ece": 1, "balanced_accuracy": 1, "draws": 50}
KNOWN = 48
"""So many scans had their reports before: a report takes a second."""


@dataclass
class Loop:
    """What was seen on the way."""

    study: Study
    home: Path
    sources: tuple[Path, ...]
    states: dict[str, str] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)
    notices: list[dict] = field(default_factory=list)
    said: str = ""

    @property
    def store(self) -> tracking.Store:
        return tracking.store_of(self.study.tracking, self.study.output)


def _study(whole_way, folder: Path, address: str) -> dict[str, Any]:
    """Return the settings of a study that learns in seconds, with the champion and scans of another one."""
    settings = yaml.safe_load(whole_way.study.to_yaml())
    shutil.copytree(whole_way.folder / "bids", folder / "bids")
    for path in whole_way.folder.glob("bids.key*"):
        shutil.copy2(path, folder)
    ignored = shutil.ignore_patterns("adni", "bids", "bids.key*", "reports")
    shutil.copytree(whole_way.folder, folder / "study", ignore=ignored)
    changed = {
        "name": "clinic",
        "output": str(folder / "study"),
        "cohort": {**settings["cohort"], "path": str(folder / "bids")},
        "ingest": {**settings["ingest"], "more_sources": [str(folder / SECRET / "adni")], "workers": 1},
        "preprocessing": {**settings["preprocessing"], "spacing_mm": 8},
        "network": {"name": "small_cnn", "options": {"width": 4}},
        "training": {**settings["training"], "epochs": 2},
        "calibration": {**settings["calibration"], "candidates": ["temperature"], "workers": 1},
        "evaluation": {"draws": 50},
        "retrain": {"require_approval": True, "growth": 0.015, "gate": WIDE},
        "serve": {"prefect_port": 0, "mlflow_port": 0, "reads_port": 0},
        "notify": {"webhook": address},
    }
    return settings | changed


@pytest.fixture(scope="module")
def loop(whole_way, tmp_path_factory) -> Iterator[Loop]:
    """About two minutes on one core, beside the small cohort that the tests of this folder share."""
    folder, home = tmp_path_factory.mktemp("clinic"), tmp_path_factory.mktemp("home")
    with webhook() as (address, notices):
        settings = _study(whole_way, folder, address)
        (folder / "study.yaml").write_text(yaml.safe_dump(settings))
        study = Study.model_validate(settings)
        new = folder / SECRET / "adni"
        made = Loop(study, home, (whole_way.folder / "adni", new), notices=notices)
        batches = (BatchSettings(scans=2), BatchSettings(scans=2))
        phantom = whole_way.study.phantom.model_copy(update={"batches": batches, "workers": 1})

        def night(number: int) -> None:
            new.parent.mkdir(exist_ok=True)
            write_batch(phantom, new, whole_way.study.seed, number)

        try:
            _go_round(made, folder, night)
            yield made
        finally:
            for process in (p for served in Served.all for p in served.living()):
                process.kill()


def _go_round(loop: Loop, folder: Path, night) -> None:
    file = str(folder / "study.yaml")
    night(1)
    first = Served(folder, loop.home)
    _run(loop, first, "ingest")
    _reported_before(loop.study)
    _run(loop, first, "retrain")
    question = _question(first)
    loop.seen["asked"] = (question.state.name, question.name)
    loop.seen["before approval"] = tracking.champion_version(loop.store)
    first.end(signal.SIGKILL)  # a question outlives the process that serves
    served = Served(folder, loop.home)
    question = _question(served)
    with browser_page() as page:
        _approve(page, served, question.id)
    wait_for(lambda: _read(served, question.id).state.name == "Approved", 300)
    loop.seen["after approval"] = tracking.champion_version(loop.store)
    _run(loop, served, "reports")
    loop.seen["labelled"] = [e.scan for e in tracking.answered_scans(loop.store, version="2")[:2]]
    for scan in loop.seen["labelled"]:
        _taucal("label", scan, "AD", "--study", file)
    _run(loop, served, "week")
    night(2)
    scan = next(path for path in loop.sources[1].rglob("I*") if path.is_dir())
    _taucal("report", str(scan), "--out", str(folder / "asked"), "--no-pdf", "--study", file)
    _run(loop, served, "retrain", "second retrain")
    second = _question(served)
    _taucal("promote", "--approve", "Dr. B", "--study", file)
    loop.seen["second"] = _read(served, second.id).state.name
    loop.seen["second champion"] = tracking.champion_version(loop.store)
    _taucal("rollback", "--study", file)
    with served.client() as client:
        loop.seen["flows"] = {client.read_flow(run.flow_id).name for run in client.read_flow_runs()}
    with browser_page() as page:
        if page is not None:
            _look(loop, served, page)
    served.end(signal.SIGTERM)
    loop.said = first.said + served.said


def _run(loop: Loop, served: Served, flow: str, name: str | None = None) -> None:
    """Let the deployment of a flow run as on its schedule, and wait for its end."""
    run = served.run(flow, 1200, "clinic")
    loop.states[name or flow] = run.state.name
    loop.runs[name or flow] = str(run.id)
    assert run.state.is_completed(), (run.state, served.said)


def _reported_before(study: Study) -> None:
    cohort = Cohort.read_tsv(study.cohort.path / COHORT_TABLE, study.cohort.classes)
    for scan in cohort.scans[:KNOWN]:
        folder = study.output / "reports" / scan.scan_id
        folder.mkdir(parents=True)
        (folder / "report.json").write_text("{}")


def _question(served: Served):
    """Return the run that asks for approval, once it waits."""

    def suspended() -> list:
        with served.client() as client:
            return [run for run in client.read_flow_runs() if run.state_name == "Suspended"]

    wait_for(suspended, 300)
    (run,) = suspended()
    return run


def _read(served: Served, run_id):
    with served.client() as client:
        return client.read_flow_run(run_id)


def _taucal(*arguments: str) -> None:
    done = CliRunner().invoke(app, [*arguments, "--quiet"], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def _approve(page: Any, served: Served, run_id) -> None:
    """Fill in the form as a person does; by Prefect's API where there is no browser."""
    given = {"decision": "approve", "name": "Dr. A", "reason": "I have read the report."}
    if page is None:
        with served.client() as client:
            client.resume_flow_run(run_id, run_input=given)
        return
    page.goto(f"{served.prefect}/runs/flow-run/{run_id}")
    page.get_by_role("button", name="Resume").click()
    page.get_by_text("Version 2 passed the gate and waits.").last.wait_for()
    page.locator(".schema-form-property .p-select-button__control").press("Space")
    page.get_by_text("approve", exact=True).last.click()
    for number, key in enumerate(("name", "reason")):
        page.locator(".schema-form-property textarea").nth(number).fill(given[key])
    keep(page, "approval")
    _submit(page, served, run_id)


def _submit(page: Any, served: Served, run_id) -> None:
    """Press Submit until it is taken: Prefect answers "Oops" while its SQLite database is written."""
    button = page.get_by_role("button", name="Submit")
    limit = time.monotonic() + 300
    while _read(served, run_id).state_name == "Suspended":
        assert time.monotonic() < limit, "Prefect takes no answer"
        if button.is_visible():
            button.click()
        page.wait_for_timeout(5000)


def _look(loop: Loop, served: Served, page: Any) -> None:
    """Find every step in Prefect's pages of single runs, and the champion with its report in MLflow's."""
    steps = ("train fold 1 of", "calibrate and test", "write the study report", "ask the gate")
    shown = {
        "retrain": (steps, ("gate", "decision")),
        "reports": (("write reports",), ("reports", "where")),
        "week": (("check the answers of the week",), ("weekly-check",)),
    }
    for flow, (tasks, artifacts) in shown.items():
        open_page(page, f"{served.prefect}/runs/flow-run/{loop.runs[flow]}")
        sees(page, "Completed", "clinic 20")
        for tab, texts in (("Task Runs", tasks), ("Artifacts", artifacts)):
            page.get_by_text(tab, exact=True).first.click()
            sees(page, *texts)
            keep(page, f"prefect {flow} {tab}")
        loop.seen.setdefault("looked at", []).append(flow)
    open_page(page, f"{served.mlflow}/#/models/{loop.store.model_name}/versions/2")
    sees(page, "champion", "Research use only")
    report = open_link(page, "study report")
    sees_inside(report, "What this report does not show")
    keep(report, "mlflow report of a challenger")
    loop.seen["looked at"].append("report of a challenger")


def test_every_step_ends_well(loop):
    steps = ("ingest", "retrain", "reports", "week", "second retrain")
    assert loop.states == dict.fromkeys(steps, "Completed")
    cohort = Cohort.read_tsv(loop.study.cohort.path / COHORT_TABLE, loop.study.cohort.classes)
    assert len(cohort) >= 54
    for flow in ("ingest", "retrain", "approve", "reports", "week"):
        assert f"{flow} ended after" in loop.said, loop.said
    assert "approve waits for an answer in Prefect's page." in loop.said


def test_a_challenger_is_approved_in_the_page_after_a_kill(loop):
    assert loop.seen["asked"] == ("Suspended", "clinic: version 2 waits")
    assert (loop.seen["before approval"], loop.seen["after approval"]) == (1, 2)


def test_the_next_is_approved_by_command_and_rolled_back(loop):
    assert (loop.seen["second"], loop.seen["second champion"]) == ("AnsweredElsewhere", 3)
    assert tracking.champion_version(loop.store) == 2
    entries = audit_of(loop.study.output).entries()
    assert [(e.kind, e.version, e.who) for e in entries[1:-1]] == [
        ("hold", 2, "schedule"), ("approve", 2, "Dr. A"), ("hold", 3, "schedule"), ("approve", 3, "Dr. B"),
    ]  # fmt: skip
    assert (entries[-1].kind, entries[-1].version) == ("rollback", 2)
    audit_of(loop.study.output).verify()


def test_new_scans_have_reports_as_traces_with_files_and_diagnoses(loop):
    entries = tracking.answered_scans(loop.store, version="2")
    assert {entry.kind for entry in entries} == {"report"}
    diagnosed = {entry.scan for entry in entries if entry.diagnosis == "AD"}
    assert diagnosed == set(loop.seen["labelled"])
    assert all(entry.measured["regions"] for entry in entries if entry.answer["decision"] != "refused")
    assert (loop.study.output / "reports" / loop.seen["labelled"][0] / "report.html").is_file()
    files = list((loop.study.output / "mlartifacts").rglob("attachments/*"))
    assert len(files) >= 2 * len(entries), "HTML and JSON of each, and PDF where it can be written"


def test_the_weekly_check_has_its_page(loop):
    (page,) = (loop.study.output / "week").glob("*/week.html")
    facts = json.loads(page.with_name("week.json").read_text())
    assert facts["champion"] == 2
    assert facts["scans"] >= len(loop.seen["labelled"])
    assert facts["diagnoses"] == 2


def test_who_is_notified_hears_of_what_waits_and_of_the_week(loop):
    events = [notice["event"] for notice in loop.notices]
    assert events == ["waiting", "promotion", "week", "waiting"]
    assert loop.notices[0]["facts"]["answer in"].startswith("http://127.0.0.1:")


def test_every_step_is_found_in_prefect(loop):
    assert loop.seen["flows"] >= {"ingest", "retrain", "approve", "reports", "report-scans", "week"}


def test_pages_of_single_runs_and_of_the_champion_are_read_in_a_browser(loop):
    if shutil.which("chromium") is None and shutil.which("chromium-browser") is None:
        pytest.skip("no chromium")
    assert loop.seen["looked at"] == ["retrain", "reports", "week", "report of a challenger"]


def test_no_database_names_a_person(loop):
    prefect = b"".join(path.read_bytes() for path in loop.home.glob("prefect.db*"))
    mlflow = b"".join(path.read_bytes() for path in loop.study.output.glob("mlflow.db*"))
    assert b"weekly-check" in prefect
    assert b"taucal.measured" in mlflow
    people = {p.name for source in loop.sources for p in source.iterdir() if p.name[:3].isdigit()}
    days = {path.name for source in loop.sources for path in source.rglob("20??-??-??*")}
    assert len(people) >= 52
    for secret in (SECRET, *people, *days):
        assert secret.encode() not in prefect, secret
        assert secret.encode() not in mlflow, secret
