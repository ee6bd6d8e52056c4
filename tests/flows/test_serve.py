"""Serve as its operator meets it: started, killed, started again and ended; real servers, real runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
import sqlite3
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml
from pydantic import ValidationError
from served_studies import Served, wait_for, webhook

from flows import serve as serving
from flows.ingestion.ingest_tables import COHORT_TABLE
from flows.running import doors
from flows.serve import serve
from flows.serving.schedules import SCHEDULES, planned
from flows.serving.servers import endpoint_of, free_endpoint
from pipeline.config import PhantomSettings, Study
from pipeline.errors import ConfigError, InputError
from pipeline.files import exclusive
from pipeline.phantom import write_cohort
from pipeline.scan import Cohort

SECRET = "Jane_Doe"


def study(folder: Path, **sections) -> Study:
    given = {"cohort": {"path": folder / "bids"}, "ingest": {"source": folder / "adni"}, **sections}
    return Study(name="tiny", output=folder / "out", **given)


def test_every_schedule_of_the_settings_can_be_started(tmp_path):
    assert set(SCHEDULES) == {
        name for name in Study.model_fields["serve"].annotation.model_fields if name not in NOT_SCHEDULES
    }
    assert [schedule.flow for schedule in planned(study(tmp_path))] == list(SCHEDULES.values())


NOT_SCHEDULES = ("host", "prefect_port", "mlflow_port", "reads_port")


def test_what_is_null_or_has_no_scans_is_not_started(tmp_path, capsys):
    without_source = study(tmp_path, ingest={}, serve={"retrain": None, "reports": None})
    assert [schedule.flow.name for schedule in planned(without_source)] == ["shift", "week"]
    said = capsys.readouterr().err
    assert "serve.ingest is not started: ingest.source" in said
    assert "serve.retrain" not in said


def test_nothing_to_start_and_a_wrong_cron_line_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="has no schedule that can be started"):
        planned(study(tmp_path, serve=dict.fromkeys(SCHEDULES)))
    with pytest.raises(ValidationError, match=r"serve\.ingest: '2 in the night' is not a cron line"):
        study(tmp_path, serve={"ingest": "2 in the night"})
    with pytest.raises(ConfigError, match=r"serve\.ingest: '0 2 \* \* 3-1-2' is not a cron line"):
        planned(study(tmp_path, serve={"ingest": "0 2 * * 3-1-2"}))  # what only Prefect finds


def test_a_scheduled_run_waits_for_one_that_is_under_way(tmp_path):
    resolved = tmp_path / "study.yaml"
    resolved.write_text(study(tmp_path).to_yaml())
    with doors.opened(str(resolved)) as opened:
        assert (opened.ingest.wait, opened.retrain.wait) == (True, True)


def test_a_second_process_may_not_serve_the_same_study(tmp_path):
    with (
        exclusive(tmp_path / "out" / ".serve" / "lock", "schedules"),
        pytest.raises(InputError, match=r"locked the schedules of this study.*already runs for this study"),
    ):
        serve(study(tmp_path))


@pytest.mark.parametrize("setting", ["prefect_port", "mlflow_port", "reads_port"])
def test_a_port_in_use_is_one_clear_error_and_nothing_is_left_running(tmp_path, setting, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"prefect_port": 0, "mlflow_port": 0, "reads_port": 0, setting: port}
        with pytest.raises(InputError, match=rf"serve\.{setting}: Port {port} on .* is not free: .*to 0"):
            serve(study(tmp_path, serve=ports))
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before


def test_a_prefect_server_that_does_not_answer_is_told(tmp_path):
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    nobody = {PREFECT_API_URL: "http://127.0.0.1:1/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with (
        temporary_settings(nobody),
        pytest.raises(InputError, match=r"http://127\.0\.0\.1:1/api: The Prefect server .* does not answer"),
    ):
        serve(study(tmp_path, serve={"reads_port": 0}))


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(InputError, match=r"serve\.host: 192\.0\.2\.1 is not an address of this machine"):
        free_endpoint("192.0.2.1", 0, "serve.prefect_port")


def test_a_server_beyond_loopback_is_warned_of(tmp_path, capsys):
    assert (
        endpoint_of(study(tmp_path, serve={"host": "0.0.0.0", "mlflow_port": 0}), "mlflow_port").is_loopback
        is False
    )
    assert "on 0.0.0.0 is open to everybody who can reach this machine" in " ".join(
        capsys.readouterr().err.split()
    )
    inside = endpoint_of(study(tmp_path, serve={"mlflow_port": 0}), "mlflow_port")
    assert inside.url == f"http://127.0.0.1:{inside.port}"
    assert capsys.readouterr().err == ""


def test_serving_ends_at_once_where_a_service_manager_has_ended_its_servers_too(monkeypatch, capsys):
    monkeypatch.setattr(doors, "ENDING", [])

    class Unanswered:
        """A runner whose Prefect server is gone: it asks again and again."""

        started = pause_on_shutdown = True

        async def astop(self) -> None:
            await asyncio.sleep(3600)

    async def ended() -> bool:
        work = asyncio.create_task(asyncio.sleep(3600))
        gone = SimpleNamespace(process=SimpleNamespace(poll=lambda: 0))
        await asyncio.wait_for(serving._stop(Unanswered(), work, [gone]), 30)
        return work.cancelled()

    assert asyncio.run(ended())
    assert doors.ENDING, "its runs are not reported as crashed"
    assert "could not be reported to Prefect (a server has ended)" in capsys.readouterr().err


@dataclass
class Story:
    """What was seen while a study was served, killed, served again and ended."""

    folder: Path
    home: Path
    pages: list[int]
    listening: set[str]
    ingest: Any
    cohort: int
    failed: Any
    notices: list[dict]
    before_kill: dict[str, str]
    left_by_kill: list[int]
    said_again: str
    after_kill: dict[str, str]
    missed: int
    missed_left: list[str]
    again: Any
    end_status: int
    said: str


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> Iterator[Story]:
    """About a minute on one core: two starts, four runs."""
    folder, home = tmp_path_factory.mktemp("serve"), tmp_path_factory.mktemp("home")
    place = folder / SECRET
    write_cohort(PhantomSettings(subjects=3, scans=3, spoiled=0.0, workers=1), place / "adni", 3)
    with webhook() as (address, notices):
        settings = {
            "name": "tiny", "output": str(place / "out"), "cohort": {"path": str(place / "nowhere")},
            "ingest": {"workers": 1}, "notify": {"webhook": address},
            "serve": {"prefect_port": 0, "mlflow_port": 0, "reads_port": 0},
        }  # fmt: skip
        (folder / "study.yaml").write_text(yaml.safe_dump(settings))
        overrides = (f"cohort.path={place / 'bids'}", f"ingest.source={place / 'adni'}")
        try:
            yield _live(folder, home, overrides, notices)
        finally:
            for process in (p for served in Served.all for p in served.living()):
                process.kill()


def _let_pass(database: Path, flow: str) -> set[uuid.UUID]:
    """Let the coming runs of a flow have fallen due an hour ago, while nobody serves; return their ids."""
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%d %H:%M:%S.%f")
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        rows = connection.execute(
            "UPDATE flow_run SET expected_start_time = ?1, next_scheduled_start_time = ?1 "
            "WHERE state_type = 'SCHEDULED' AND flow_id = (SELECT id FROM flow WHERE name = ?2) RETURNING id",
            (an_hour_ago, flow),
        ).fetchall()
    return {uuid.UUID(row[0]) for row in rows}


@contextmanager
def _held(database: Path) -> Iterator[None]:
    """Keep everybody else out of a database."""
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.rollback()


def _live(folder: Path, home: Path, overrides: tuple[str, ...], notices: list[dict]) -> Story:
    place = folder / SECRET
    first = Served(folder, home, *overrides)
    pages = [urllib.request.urlopen(url, timeout=120).status for url in (first.prefect, first.mlflow)]
    listening = {
        connection.laddr.ip
        for process in first.living()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    ingest = first.run("ingest", 900)
    assert ingest.state.is_completed(), (ingest.state, first.said)
    cohort = len(Cohort.read_tsv(place / "bids" / COHORT_TABLE, ("CN", "MCI", "AD")))
    failed = first.run("retrain", 900)
    with _held(place / "out" / "mlflow.db"):  # what the run waits for
        first.run("shift", 0)
        wait_for(lambda: first.states().get("shift") == "Running", 300)
        before_kill = first.states()
        first.end(signal.SIGKILL)
        left_by_kill = [process.pid for process in first.living()]
    missed = _let_pass(home / "prefect.db", "reports")
    second = Served(folder, home, *overrides)
    with second.client() as client:
        past = [client.read_flow(run.flow_id).name for run in client.read_flow_runs() if run.id in missed]
    after_kill = second.states()
    again = second.run("shift", 900)
    second.end(signal.SIGTERM)
    return Story(
        folder=folder,
        home=home,
        pages=pages,
        listening=listening,
        ingest=ingest,
        cohort=cohort,
        failed=failed,
        notices=list(notices),
        before_kill=before_kill,
        left_by_kill=left_by_kill,
        said_again=second.said,
        after_kill=after_kill,
        missed=len(missed),
        missed_left=past,
        again=again,
        end_status=second.process.returncode,
        said=first.said,
    )


@pytest.mark.slow
@pytest.mark.server
class TestServing:
    """One story, many questions."""

    def test_both_pages_answer_on_loopback_alone(self, story):
        assert story.pages == [200, 200]
        assert story.listening == {"127.0.0.1"}

    def test_a_run_of_the_nightly_ingest_makes_the_cohort_of_the_overrides(self, story):
        assert story.ingest.state.is_completed(), story.ingest.state
        assert story.cohort == 3

    def test_a_run_that_fails_is_told_by_its_kind(self, story):
        assert story.failed.state.is_failed()
        assert "WorkFailed: CohortError" in story.failed.state.message
        failure = story.notices[0]
        assert (failure["event"], failure["study"]) == ("failure", "tiny")
        assert failure["facts"] == {"flow": "retrain", "kind": "CohortError"}

    def test_after_kill_9_nothing_is_left_running(self, story):
        assert set(story.before_kill.values()) == {"Running"}
        assert story.left_by_kill == []

    def test_the_next_start_ends_the_runs_of_the_killed_and_the_place_is_free(self, story):
        assert story.before_kill.keys() == {"shift"}
        assert story.after_kill == dict.fromkeys(story.before_kill, "Crashed")
        assert "1 flow run of a killed process is marked as crashed" in story.said_again
        assert {"kind": "Crashed", "runs": 1} in [notice["facts"] for notice in story.notices]
        assert story.again.state.is_completed(), story.again.state

    def test_what_fell_due_while_nobody_served_is_dropped(self, story):
        assert story.missed > 0
        assert story.missed_left == []

    def test_sigterm_ends_everything_and_is_no_failure(self, story):
        assert story.end_status == 0
        assert re.search(r"The form for readers: http://127\.0\.0\.1:\d+\n", story.said_again)
        assert "nothing is left running" in story.said_again

    def test_prefect_and_the_notices_hold_no_name_of_a_folder(self, story):
        files = (p for p in story.home.rglob("*") if p.is_file() and "studies" not in p.parts)
        stored = b"".join(p.read_bytes() for p in files)
        assert b"WorkFailed" in stored
        for name in (SECRET, str(story.folder), str(Path(__file__).parents[2])):
            assert name.encode() not in stored
        assert SECRET not in json.dumps(story.notices)

    def test_the_console_shows_which_flow_started_ended_and_failed_and_when(self, story):
        for event in (
            "ingest started.",
            r"ingest ended after \d+ s.",
            r"retrain failed after \d+ s: class CN",
        ):
            assert re.search(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC  {event}", story.said), story.said

    def test_the_resolved_study_is_for_its_owner_alone(self, story):
        (stored,) = (story.home / "state" / "taucal" / "studies").glob("tiny-*.yaml")
        assert stored.stat().st_mode & 0o777 == 0o600
        assert (story.folder / SECRET / "out" / ".serve").stat().st_mode & 0o777 == 0o700
