"""Nothing outlives a killed process, and its flow runs are ended; those of a living one go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest
from prefect_servers import recording_server

from flows.running.lifetime import end_orphans, is_gone, process_tag, watched

QUIET = """
from flows.running.environment import set_quiet_defaults
set_quiet_defaults()
"""
SLEEPS = f"""{QUIET}
import time
from prefect import flow
from flows.running.doors import opened, run_door
from pipeline.config import Study
@flow(name="sleeping", validate_parameters=False)
def sleeping(study: str) -> None:
    with opened(study):
        print("begun", flush=True)
        time.sleep(600)
run_door(sleeping, Study(name="tiny", output="out", cohort={{"path": "bids"}}))
"""
HAS_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def changed(tag: str, **parts: str) -> str:
    """Return a tag with other parts."""
    names = ("prefix", "host", "boot", "pid", "started")
    return ":".join({**dict(zip(names, tag.split(":"), strict=True)), **parts}.values())


class TestTag:
    def test_a_living_process_is_not_gone(self):
        assert f":{os.getpid()}:" in process_tag()
        assert not is_gone(process_tag())

    def test_the_id_of_a_process_may_be_used_again(self):
        assert is_gone(changed(process_tag(), started="1"))

    def test_what_ran_before_the_machine_was_started_is_gone(self):
        assert is_gone(changed(process_tag(), boot="00000000"))

    def test_of_another_machine_nothing_is_known(self):
        assert not is_gone(changed(process_tag(), host="00000000", started="1"))

    def test_the_boot_time_may_jump_by_a_second(self, monkeypatch):
        tag, boot = process_tag(), psutil.boot_time()
        for jump in (-1, 1):
            monkeypatch.setattr(psutil, "boot_time", lambda jump=jump: boot + jump)
            assert not is_gone(tag)

    def test_a_process_that_ended_is_gone_before_and_after_its_parent_has_looked(self, wait_for):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        tag = process_tag(child.pid)
        assert not is_gone(tag)
        child.kill()
        wait_for(lambda: is_gone(tag))  # a zombie until its parent looks
        child.communicate()
        assert is_gone(tag)
        with pytest.raises(psutil.NoSuchProcess, match=str(child.pid)):
            process_tag(child.pid)

    def test_a_tag_does_not_name_the_machine(self):
        assert os.uname().nodename not in process_tag()

    @pytest.mark.parametrize("tag", ["nightly", "pid:0a1b", "pid:0a1b:2c3d:here:100"])
    def test_another_tag_is_no_process(self, tag):
        assert not is_gone(tag)


class TestWatched:
    def test_a_command_ends_by_itself_with_its_status(self):
        command = watched([sys.executable, "-c", "raise SystemExit(3)"])
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            assert process.wait(180) == 3

    @pytest.mark.parametrize("first", [None, signal.SIGTERM, signal.SIGHUP], ids=str)
    def test_a_command_and_its_children_end_with_the_starter(self, first, wait_for):
        """Also where its whole group was terminated before, or their terminal closed."""
        command = watched([sys.executable, "-c", HAS_A_CHILD])
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        ) as process:
            child = int(process.stdout.readline())
            (parent,) = psutil.Process(process.pid).children()
            if first is not None:
                os.killpg(process.pid, first)
                assert is_alive(process.pid), "the starter decides when to end"
            process.stdin.close()
            wait_for(lambda: not any(map(is_alive, (child, parent.pid, process.pid))))

    def test_a_folder_of_the_same_name_beside_the_call_does_not_matter(self, tmp_path):
        (tmp_path / "flows").mkdir()
        (tmp_path / "flows" / "__init__.py").write_text("raise RuntimeError('a package of somebody else')")
        command = watched([sys.executable, "-c", "raise SystemExit(3)"])
        with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=tmp_path) as process:
            assert process.wait(180) == 3


def test_a_watcher_does_not_load_prefect():
    look = "import sys, flows.running.lifetime; sys.exit('prefect' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """The address of a Prefect server of its own."""
    with recording_server(tmp_path_factory.mktemp("prefect")) as server:
        yield f"{server.url}/api"


@pytest.fixture
def sleeper(api):
    """The function that starts a flow run in a process of its own, which sleeps."""
    started = []

    def start() -> subprocess.Popen:
        environment = {**os.environ, "PREFECT_API_URL": api}
        process = subprocess.Popen([sys.executable, "-c", SLEEPS], stdout=subprocess.PIPE, env=environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.server
def test_the_run_of_a_killed_process_is_crashed_and_every_other_goes_on(sleeper):
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Running

    killed, living = sleeper(), sleeper()
    for process in (killed, living):
        assert process.stdout.readline() == b"begun\n"
    gone = process_tag(killed.pid)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    with get_client(sync_client=True) as client:
        for name, tag in (
            ("sleeping", changed(gone, host="00000000")),  # of another machine
            ("sleeping", "nightly"),  # without a process
            ("another", gone),  # of a flow that nobody asked about
        ):
            client.create_flow_run(flow(name=name)(lambda: None), state=Running(), tags=[name, tag])

        def states() -> dict[str, str]:
            return {" ".join(sorted(run.tags)): run.state_name for run in client.read_flow_runs()}

        before = states()
        assert set(before.values()) == {"Running"}
        assert len(before) == 5
        assert end_orphans(["sleeping", "never ran"]) == 1
        assert states() == {**before, gone: "Crashed"}
        assert end_orphans(["sleeping", "never ran"]) == 0
    assert living.poll() is None
