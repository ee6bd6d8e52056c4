"""The flows of a study in a work pool: a real server, a real worker, and the pages in a real browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prefect.utilities.importtools import import_object
from prefect_servers import recording_server

from flows.ingestion.ingest_tables import COHORT_TABLE
from flows.running.lifetime import watched
from flows.serving.pool import deploy
from flows.serving.schedules import Schedule, ServedFlow, deployment_of
from pipeline.config import PhantomSettings, Study, load_study
from pipeline.errors import ConfigError, InputError
from pipeline.files import exclusive
from pipeline.phantom import write_cohort
from pipeline.scan import Cohort

DOORS = {
    "week/tiny",
    "ingest/tiny",
    "reports/tiny",
    "shift/tiny",
    "retrain/tiny",
    "train/tiny",
    "compare/tiny",
    "curve/tiny",
    "approve/tiny",
}


def test_without_a_server_the_variable_is_named(tmp_path):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    study = Study(name="tiny", output=tmp_path, cohort={"path": tmp_path})
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(
            ConfigError, match=r"PREFECT_API_URL: No Prefect server is named\. Set it to the server"
        ),
    ):
        deploy(study, "hospital")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A Prefect server of its own with the environment of its clients."""
    home = tmp_path_factory.mktemp("prefect")
    with recording_server(home, in_force=False) as started:
        state = {"XDG_STATE_HOME": str(home / "state"), "PREFECT_WORKER_QUERY_SECONDS": "1"}
        yield started, {**os.environ, "PREFECT_API_URL": f"{started.url}/api", **state}


def run(environment: dict[str, str], *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.server
def test_a_flow_that_has_another_name_now_is_scheduled_once(server, tmp_path):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.settings import PREFECT_API_URL, temporary_settings

    study = Study(name="renamed", output=tmp_path, cohort={"path": tmp_path / "bids"})
    with (
        temporary_settings({PREFECT_API_URL: f"{server[0].url}/api"}),
        get_client(sync_client=True) as client,
    ):
        client.create_work_pool(WorkPoolCreate(name="upgraded", type="process"))
        before = ServedFlow("report", "flows.reports.new_reports.report")
        deployment_of(study, Schedule(before, "0 4 * * *"), "study.yaml", work_pool_name="upgraded").apply()
        made = deploy(study, "upgraded", study_file="study.yaml")
        flows = {flow.id: flow.name for flow in client.read_flows()}
        found = {flows[d.flow_id]: d for d in client.read_deployments() if d.name == "renamed"}
    assert "reports/renamed" in made
    assert "report" in flows.values(), "its runs stay"
    assert "report" not in found
    # What a worker of another version has registered can still be started.
    assert found["reports"].entrypoint == before.entrypoint
    assert import_object(before.entrypoint).name == "reports"


@pytest.mark.slow
@pytest.mark.server
def test_the_schedules_of_another_study_of_the_same_name_are_not_replaced(
    server, tmp_path, monkeypatch, capsys
):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    first, second = (
        Study(name="twice", output=tmp_path / place, cohort={"path": tmp_path / "bids"}) for place in "ab"
    )
    first.output.mkdir()
    with (
        temporary_settings({PREFECT_API_URL: f"{server[0].url}/api"}),
        get_client(sync_client=True) as client,
    ):
        client.create_work_pool(WorkPoolCreate(name="two", type="process"))
        deploy(first, "two")
        deploy(first, "two")
        assert "another study" not in capsys.readouterr().err
        with (
            exclusive(first.output / ".serve" / "lock", "schedules"),
            pytest.raises(InputError, match=rf"of the name 'twice', in {first.output}, which is served now"),
        ):
            deploy(second, "two")
        stored = client.read_deployment_by_name("shift/twice").parameters["study"]
        assert load_study(Path(stored)).output == first.output
        (first.output / ".serve" / "lock").unlink()  # it names this process, which lives on
        deploy(second, "two")
        assert f"in {first.output}: they are replaced" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
@pytest.mark.server
def test_a_worker_runs_what_was_registered_and_the_pages_show_it(server, tmp_path):
    started, environment = server
    source = tmp_path / "adni"
    write_cohort(PhantomSettings(subjects=2, scans=2, spoiled=0.0, workers=1), source, 3)
    settings = {
        "name": "tiny", "output": str(tmp_path / "out"), "cohort": {"path": str(tmp_path / "bids")},
        "ingest": {"workers": 1, "source": str(source)},
    }  # fmt: skip
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(settings))
    command = ("flows.cli", "deploy", str(tmp_path / "study.yaml"), "--pool", "hospital")
    said = run(environment, *command, status=2)
    assert "--pool hospital: The Prefect server has no such work pool. `prefect work-pool create" in said
    run(environment, "prefect", "work-pool", "create", "hospital", "--type", "process")
    said = run(environment, *command)
    assert all(name in said for name in DOORS)
    worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "hospital", "--type", "process"]
    with subprocess.Popen(watched(worker), stdin=subprocess.PIPE, env=environment) as process:
        try:
            run(
                environment,
                "prefect",
                "deployment",
                "run",
                "ingest/tiny",
                "--watch",
                "--watch-timeout",
                "240",
            )
        finally:
            process.stdin.close()
    assert len(Cohort.read_tsv(tmp_path / "bids" / COHORT_TABLE, ("CN", "MCI", "AD"))) == 2
    _look(started.url)


def _look(url: str) -> None:
    """Open Prefect's pages as an operator does: they ask this server, and show the run and its steps."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        asked: set[str] = set()
        page.on("request", lambda request: asked.add(request.url))
        page.goto(f"{url}/runs", timeout=60_000)
        page.get_by_text("tiny 20").first.click(timeout=60_000)
        page.get_by_text("2 scans accepted").first.wait_for(timeout=60_000)
        if shown := os.environ.get("TAUCAL_SCREENSHOTS"):
            page.screenshot(path=str(Path(shown) / "prefect_run.png"))
        page.get_by_text("Task Runs", exact=True).click(timeout=60_000)
        page.get_by_text("ingest scans 1-2").first.wait_for(timeout=60_000)
        page.get_by_text("Artifacts", exact=True).click(timeout=60_000)
        page.get_by_text("accepted-scans").first.wait_for(timeout=60_000)
        browser.close()
    assert any(address.startswith(f"{url}/api/") for address in asked)
    assert not any(":4200" in address for address in asked)
