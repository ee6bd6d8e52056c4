"""Steps: what Prefect shows of them, and that a Prefect that fails never fails the work."""

from __future__ import annotations

import pytest
from prefect import flow, tags
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect_servers import recording_server

from flows.running.doors import opened, run_door
from flows.running.lifetime import process_tag
from flows.running.task_runs import step
from pipeline.config import Study
from pipeline.errors import InputError


@pytest.fixture
def server(tmp_path):
    """A server of this test alone: it is stopped at times."""
    with recording_server(tmp_path) as started, temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        yield started


@pytest.mark.slow
@pytest.mark.server
def test_every_server_of_a_process_gets_its_steps(tmp_path, capsys, wait_for):
    @step("measure {scan}")
    def measure(scan: str) -> str:
        return scan.upper()

    @flow
    def door() -> str:
        return measure("one")

    for name in ("first", "second"):
        home = tmp_path / name
        home.mkdir()
        with recording_server(home), tags(process_tag(), "night"):
            assert door() == "ONE"
            with get_client(sync_client=True) as client:
                wait_for(client.read_task_runs)
                (shown,) = client.read_task_runs()
            assert (shown.name, list(shown.tags)) == ("measure one", ["night"])
    assert "Prefect cannot" not in capsys.readouterr().err


@pytest.fixture
def study(tmp_path) -> Study:
    return Study(name="s", output=tmp_path / "out", cohort={"path": tmp_path / "bids"})


def end(server) -> None:
    server.begin_to_stop()
    server.process.wait(timeout=60)


@pytest.mark.slow
@pytest.mark.server
def test_a_server_that_goes_stops_no_work(server, study, capsys):
    did = []

    @step("first")
    def first() -> int:
        end(server)
        did.append("first")
        return 1

    @step("second", retries=2)
    def second(one: int) -> int:
        did.append("second")
        return one + 1

    @flow
    def door(path: str) -> int:
        with opened(path):
            one = first()
            with tags("limited"):  # Prefect's server is asked for the limit of a tag
                return second(one)

    assert run_door(door, study) == 2
    assert did == ["first", "second"]
    said = capsys.readouterr().err
    assert "Prefect cannot show the step 'second' (ConcurrencySlotAcquisitionError); it goes on." in said
    assert "Prefect cannot show the run of 'door' (ConnectError); it goes on." in said


@pytest.mark.slow
@pytest.mark.server
def test_an_error_of_the_work_is_not_lost_with_the_server(server, study):
    did = []

    @step("fails")
    def fails() -> None:
        did.append(1)
        end(server)
        raise InputError("study.yaml: no such scan")

    @flow
    def door(path: str) -> None:
        with opened(path):
            fails()

    with pytest.raises(InputError, match="no such scan"):
        run_door(door, study)
    assert did == [1]


def test_without_a_server_a_step_is_a_plain_function():
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert step("doubles")(lambda x: 2 * x)(3) == 6
