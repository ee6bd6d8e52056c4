"""A challenger is approved or rejected in Prefect's page or by command, whichever comes first."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect_servers import recording_server

from flows.retraining.ask_in_prefect import approve, ask_in_prefect, end_questions
from flows.retraining.promotion import Decision, hold, promote_by_hand
from flows.running.doors import store_study
from flows.serving.schedules import APPROVE, Schedule, deployment_of
from pipeline import tracking
from pipeline.config import Study, TrackingSettings

pytestmark = [pytest.mark.slow, pytest.mark.server]
SECRET = "Jane_Doe"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """The address of a Prefect server and its folder."""
    home = tmp_path_factory.mktemp("prefect")
    with recording_server(home) as started:
        yield started.url, home


@dataclass
class Clinic:
    """A study whose version 2 was held, and the run that asks about it."""

    study: Study
    store: tracking.Store

    def hold(self, version: int) -> tracking.Entry:
        reasons = (f"Version {version} is no worse.",)
        hold(self.store, self.study.output, Decision(version, f"key {version}", "schedule", reasons))
        return tracking.audit_of(self.study.output).last("hold")

    def decided(self) -> list[tuple[str, int | None, str]]:
        return [(e.kind, e.version, e.who) for e in tracking.audit_of(self.study.output).entries()][1:]


@pytest.fixture
def clinic(server, three_versions, tmp_path, monkeypatch) -> Clinic:
    output = tmp_path / SECRET
    output.mkdir()
    shutil.copyfile(three_versions, output / "mlflow.db")
    monkeypatch.setenv("TAUCAL_WHO", "operator")
    monkeypatch.setattr("flows.retraining.ask_in_prefect.in_flow_run", lambda: True)
    monkeypatch.setattr("pipeline.tracking.check_stored", lambda *_: None)
    study = Study(name=tmp_path.name, output=output, cohort={"path": output / "bids"})
    (output / "study.yaml").write_text(study.to_yaml())
    deployment_of(study, Schedule(APPROVE, None), store_study(study)).apply()
    made = Clinic(study, tracking.store_of(TrackingSettings(), output))
    promote_by_hand(made.store, output, 1, "ann")
    return made


def work(run_id: str):
    """Do what a worker does with a run that is due; return the run."""
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(run_id)
    assert run.state.is_scheduled(), run.state
    with contextlib.suppress(Pause):
        run_flow(approve, flow_run=run, parameters=run.parameters, return_type="state")
    return read(run_id)


def read(run_id: str):
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run_id)


def answer(run_id: str, **given: str) -> str:
    """Answer as the page does; return what the server replies."""
    with get_client(sync_client=True) as client:
        response = client._client.post(f"/flow_runs/{run_id}/resume", json={"run_input": given})
        return response.json()["status"]


def asked(clinic: Clinic, version: int = 2) -> str:
    """Hold a version and let a worker ask; return the id of the run."""
    address = ask_in_prefect(clinic.study, clinic.hold(version))
    run_id = address.rpartition("/")[2]
    run = work(run_id)
    assert (run.state.name, run.name) == ("Suspended", f"{clinic.study.name}: version {version} waits")
    return run_id


@pytest.mark.parametrize(
    ("decision", "kind", "champion"), [("approve", "approve", 2), ("reject", "decline", 1)]
)
def test_an_answer_in_the_page_is_an_entry_of_the_audit_log(clinic, decision, kind, champion):
    run_id = asked(clinic)
    assert clinic.decided() == [("hold", 2, "schedule")]
    assert answer(run_id, decision=decision, name="Dr. A", reason="I have read the report") == "ACCEPT"
    run = work(run_id)
    assert run.state.is_completed()
    assert run.state.name == {"approve": "Approved", "reject": "Rejected"}[decision]
    assert clinic.decided() == [("hold", 2, "schedule"), (kind, 2, "Dr. A")]
    assert tracking.champion_version(clinic.store) == champion
    audit = tracking.audit_of(clinic.study.output)
    audit.verify()
    entry = audit.last(kind)
    assert entry.facts["typed_by"] == "Prefect's page"
    assert entry.reasons[0].endswith("entry 2: I have read the report.")


def test_a_form_without_a_name_or_with_another_decision_is_refused_and_the_run_waits_on(clinic):
    run_id = asked(clinic)
    for given in ({"decision": "approve", "name": "  "}, {"decision": "maybe", "name": "Dr. A"}, {}):
        assert answer(run_id, **given) == "REJECT"
    assert read(run_id).state.name == "Suspended"
    assert clinic.decided() == [("hold", 2, "schedule")]


def test_the_same_version_is_asked_about_once(clinic):
    run_id = asked(clinic)
    again = ask_in_prefect(clinic.study, clinic.hold(2))
    assert again.endswith(run_id)


def taucal(*arguments: str, api: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(
        command, env={**os.environ, "PREFECT_API_URL": api}, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip


def test_the_command_line_comes_first_and_the_page_says_so(clinic, server):
    run_id = asked(clinic)
    command = (
        "promote",
        "--reject",
        "Dr. B",
        "--reason",
        "Too few scans.",
        "--study",
        str(clinic.study.output),
    )
    done = taucal(*command, api=f"{server[0]}/api")
    assert done.returncode == 0, done.stderr
    assert "Version 1 is still the champion." in done.stderr
    state = read(run_id).state
    assert (state.name, state.is_completed()) == ("AnsweredElsewhere", True)
    assert state.message.startswith("Dr. B rejected version 2 at ")
    assert state.message.endswith("(entry 3 of the audit log).")
    assert clinic.decided() == [("hold", 2, "schedule"), ("decline", 2, "Dr. B")]
    assert clinic.hold(2).number == 2
    assert tracking.audit_of(clinic.study.output).last("decline").reasons[0] == (
        "Dr. B rejects entry 2: Too few scans."
    )


def test_a_page_that_was_not_told_answers_with_a_sentence(clinic):
    run_id = asked(clinic)
    promote_by_hand(clinic.store, clinic.study.output, 3, "ann")  # where no server is known
    assert answer(run_id, decision="approve", name="Dr. A", reason="") == "ACCEPT"
    run = work(run_id)
    assert (run.state.name, run.state.is_completed()) == ("AnsweredBefore", True)
    assert run.state.message.startswith("ann promoted version 3 at ")
    assert run.state.message.endswith("This answer changes nothing.")
    assert clinic.decided()[-1] == ("promote", 3, "ann")
    assert tracking.champion_version(clinic.store) == 3


def test_the_page_comes_first_and_the_command_line_says_so(clinic, server):
    run_id = asked(clinic)
    answer(run_id, decision="approve", name="Dr. A", reason="")
    work(run_id)
    done = taucal(
        "promote", "--approve", "Dr. B", "--study", str(clinic.study.output), api=f"{server[0]}/api"
    )
    assert done.returncode == 2
    assert "No version waits for approval; the champion is 2. Dr. A approved version 2 at" in done.stderr
    assert clinic.decided()[1:] == [("approve", 2, "Dr. A")]


def test_a_later_version_takes_the_place_of_the_question(clinic):
    first = asked(clinic)
    second = asked(clinic, version=3)
    state = read(first).state
    assert (state.name, state.message[:40]) == (
        "AnsweredElsewhere",
        "Version 3 waits in place of version 2 at",
    )
    end_questions(clinic.study)
    assert read(second).state.name == "Suspended"


def test_without_anything_that_waits_the_flow_ends(clinic):
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"approve/{clinic.study.name}")
        run = client.create_flow_run_from_deployment(deployment.id)
    done = work(run.id)
    assert (done.state.name, done.state.message) == ("NothingWaits", "No version has been held.")


def test_prefect_learns_no_folder(clinic, server):
    run_id = asked(clinic)
    answer(run_id, decision="approve", name="Dr. A", reason="")
    work(run_id)
    stored = b"".join(path.read_bytes() for path in server[1].rglob("*") if path.is_file())
    assert b"Approved" in stored
    assert SECRET.encode() not in stored
