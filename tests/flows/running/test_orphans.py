"""A run whose process was killed is ended; a run of a living process, or of another machine, never."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from flows.running import orphans
from flows.running.orphans import Process, end_orphans, process_tag
from flows.serving.servers import place_of, prefect_server, wait_until_ready

SCRIPT = """
from flows.running.environment import set_quiet_defaults
set_quiet_defaults()
import time
from flows.running.steps import as_flow
def work():
    print("begun", flush=True)
    time.sleep(60)
as_flow("sleeping", work)
"""


@pytest.fixture
def this() -> Process:
    found = Process.from_tag(process_tag())
    assert found is not None
    return found


def test_a_living_process_is_not_gone(this):
    assert this.pid == os.getpid()
    assert not this.is_gone()


def test_the_number_of_a_process_may_be_used_again(this):
    assert replace(this, started="1").is_gone()


def test_what_ran_before_the_machine_was_started_is_gone(this):
    assert replace(this, boot="00000000").is_gone()


def test_of_another_machine_nothing_is_known(this):
    assert not replace(this, host="00000000", started="1").is_gone()


def test_a_process_that_ended_is_gone_before_and_after_its_parent_has_looked():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = Process.of_pid(child.pid)
    assert process is not None
    assert not process.is_gone()
    child.kill()
    limit = time.monotonic() + 10
    while not process.is_gone():  # a zombie until its parent looks
        assert time.monotonic() < limit
        time.sleep(0.01)
    child.communicate()
    assert process.is_gone()
    assert Process.of_pid(child.pid) is None


def test_without_proc_living_and_gone_are_told_apart_too():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert orphans._alive_elsewhere(child.pid) == ""
    child.kill()
    child.communicate()
    assert orphans._alive_elsewhere(child.pid) is None


def test_a_tag_names_neither_the_machine_nor_its_user(this):
    assert os.uname().nodename not in this.tag
    assert Process.from_tag(this.tag) == this


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """The address of a Prefect server of its own."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        folder = tmp_path_factory.mktemp("log")
        with prefect_server(place_of("127.0.0.1", 0, "here"), folder) as server:
            wait_until_ready(server, "/api/health")
            with temporary_settings({PREFECT_API_URL: f"{server.url}/api"}):
                yield f"{server.url}/api"


@pytest.fixture
def sleeper(api):
    """The function that starts a flow run in a process of its own, which sleeps."""
    started = []

    def start() -> subprocess.Popen:
        environment = {**os.environ, "PREFECT_API_URL": api}
        process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, env=environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.server
def test_the_run_of_a_killed_process_is_crashed_and_every_other_goes_on(sleeper):
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Running

    killed, living = sleeper(), sleeper()
    for process in (killed, living):
        assert process.stdout.readline() == b"begun\n"
    gone = Process.of_pid(killed.pid)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    with get_client(sync_client=True) as client:
        for name, tag in (
            ("sleeping", replace(gone, host="00000000").tag),  # of another machine
            ("sleeping", "nightly"),  # nothing tells its process
            ("another", gone.tag),  # a flow that nobody asked about
        ):
            client.create_flow_run(flow(name=name)(lambda: None), state=Running(), tags=[name, tag])

        def states() -> dict[str, str]:
            return {" ".join(sorted(run.tags)): run.state_name for run in client.read_flow_runs()}

        before = states()
        assert set(before.values()) == {"Running"}
        assert len(before) == 5
        assert end_orphans(["sleeping", "never ran"]) == 1
        assert states() == {**before, gone.tag: "Crashed"}
        assert end_orphans(["sleeping", "never ran"]) == 0
    assert living.poll() is None
