"""Doors in any shell: where a run is recorded, what Prefect learns, what a killed one leaves."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from prefect import flow
from prefect_servers import recording_server

from flows.running import doors
from flows.running.doors import api_of, check_reachable, opened, run_door, store_study
from flows.running.environment import bypass_proxy
from flows.running.lifetime import process_tag
from pipeline.config import PhantomSettings, Study, load_study
from pipeline.errors import InputError
from pipeline.files import write_json
from pipeline.phantom import write_cohort

SECRET = "002_S_0413"
SCRIPT = """
from flows.running.environment import set_quiet_defaults
set_quiet_defaults()
import signal, sys, time
signal.signal(signal.SIGTERM, signal.default_int_handler)
from prefect import flow
from flows.running.doors import name_run, opened, run_door
from flows.running.task_runs import log_shared, show_rows, step
from pipeline.config import Study

@step("count scans {first}-{last}", retries=1)
def count(first, last, place):
    return last - first + 1

@step("fail")
def fail(place):
    raise ValueError(place)

@step("wait")
def wait():
    print("at work", flush=True)
    time.sleep(600)

@flow(name="a test", flow_run_name=name_run, validate_parameters=False)
def a_test(study: str) -> int:
    with opened(study) as resolved:
        log_shared("2 scans counted.")
        show_rows("counted", [{"scan": "sub-A"}], "Counted scans")
        found = count(1, 2, resolved.output)
        if what == "fail":
            fail(str(resolved.output))
        if what == "wait":
            wait()
        return found

what, output = sys.argv[1:]
try:
    print(run_door(a_test, Study(name="tiny", output=output, cohort={"path": output + "/bids"})))
except ValueError as error:
    print(error)
except KeyboardInterrupt:
    print("interrupted")
"""


def tiny(folder: Path, **sections) -> Study:
    return Study(name="Tau/2026", output=folder / "out", cohort={"path": folder / "bids"}, **sections)


@flow(name="echo", validate_parameters=False)
def echo(study: str) -> Study:
    with opened(study) as resolved:
        return resolved


class TestStoredStudy:
    def test_it_is_private_named_by_the_study_and_the_same_for_the_same_settings(self, tmp_path):
        path = Path(store_study(tiny(tmp_path)))
        assert path.name.startswith("Tau-2026-")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert store_study(tiny(tmp_path)) == str(path)
        assert store_study(tiny(tmp_path, seed=1)) != str(path)

    def test_its_folders_do_not_depend_on_where_a_process_is_started(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        given = Study(
            name="x", output="out", cohort={"path": "bids"}, ingest={"source": "a", "more_sources": ["b"]}
        )
        stored = load_study(Path(store_study(given)))
        assert stored.output == tmp_path / "out"
        assert (stored.ingest.source, stored.ingest.more_sources) == (tmp_path / "a", (tmp_path / "b",))

    def test_below_the_home_folder_its_path_names_no_user(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("XDG_STATE_HOME")
        path = store_study(tiny(tmp_path))
        assert re.fullmatch(r"~/\.local/state/taucal/studies/Tau-2026-\w{12}\.yaml", path)
        assert Path(path).expanduser().is_file()


class TestWhereARunIsRecorded:
    def test_without_a_server_a_door_is_a_function_and_none_is_started(self, tmp_path):
        before = psutil.Process().children(recursive=True)
        study = tiny(tmp_path)
        assert run_door(echo, study) is study
        assert psutil.Process().children(recursive=True) == before

    def test_the_server_that_is_run_for_the_study(self, tmp_path):
        study = tiny(tmp_path)
        assert api_of(study) is None
        place = {"api": "http://127.0.0.1:4711/api", "process": process_tag()}
        write_json(study.output / doors.PLACE, place)
        assert api_of(study) == "http://127.0.0.1:4711/api"
        write_json(study.output / doors.PLACE, {**place, "process": re.sub(r"\d+$", "1", place["process"])})
        assert api_of(study) is None, "its process is gone"

    @pytest.mark.parametrize(
        ("api", "found"),
        [
            ("http://127.0.0.1:1/api", "Connection refused"),
            ("http://nowhere.invalid/api", r"[Nn]ame|resolution"),
            ("nonsense", "unknown url type"),
        ],
    )
    def test_a_server_that_does_not_answer_is_named(self, api, found):
        with pytest.raises(InputError, match=rf"^{api}: .*PREFECT_API_URL names does not answer \(.*{found}"):
            check_reachable(api)

    def test_a_server_that_takes_the_call_and_never_answers(self, monkeypatch):
        monkeypatch.setattr(doors, "_SECONDS_TO_ANSWER", 0.3)
        with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(InputError, match="timed out"):
            check_reachable(f"http://127.0.0.1:{silent.getsockname()[1]}/api")


def test_loopback_bypasses_every_proxy_and_what_is_set_stays(monkeypatch):
    monkeypatch.setenv("no_proxy", "clinic.example")
    monkeypatch.setenv("NO_PROXY", "*")
    bypass_proxy("127.0.0.1", "localhost")
    assert os.environ["no_proxy"] == "clinic.example,127.0.0.1,localhost"
    assert os.environ["NO_PROXY"] == "*"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a real Prefect server, and its home folder."""
    home = tmp_path_factory.mktemp("prefect")
    with recording_server(home, in_force=False) as started:
        yield f"{started.url}/api", home


def start(what: str, output: Path, api: str, **variables: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PREFECT_API_URL": api,
        "XDG_STATE_HOME": str(output.parent / "state"),
        **variables,
    }
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, what, str(output)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def runs(api: str) -> list[dict]:
    """All flow runs with their task runs and logs, the newest last."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        tasks = client.read_task_runs()
        found = sorted(client.read_flow_runs(), key=lambda run: run.created)
        return [
            {"run": r, "tasks": {t.name: t.state_name for t in tasks if t.flow_run_id == r.id}} for r in found
        ]


@pytest.mark.slow
@pytest.mark.server
class TestWithAServer:
    def test_prefect_shows_steps_the_shared_log_and_the_study_and_learns_no_path(
        self, server, tmp_path, wait_for
    ):
        api, home = server
        for what, answer in (("end", "2"), ("fail", str(tmp_path / SECRET))):
            process = start(what, tmp_path / SECRET, api)
            out, err = process.communicate(timeout=300)
            assert out.strip() == answer, err
            assert err == ""
        wait_for(lambda: "fail" in runs(api)[-1]["tasks"])  # task runs are written a moment later
        done, failed = runs(api)[-2:]
        assert (done["run"].state_name, failed["run"].state_name) == ("Completed", "Failed")
        assert failed["run"].state.message.endswith("WorkFailed: ValueError")
        assert done["run"].name.startswith("tiny 20")
        assert re.search(r"studies/tiny-\w{12}\.yaml$", done["run"].parameters["study"])
        wait_for(lambda: runs(api)[-2]["tasks"] == {"count scans 1-2": "Completed"})
        assert runs(api)[-1]["tasks"] == {"count scans 1-2": "Completed", "fail": "Failed"}
        wait_for(lambda: b"2 scans counted." in stored(home))
        assert b"Counted scans" in stored(home)
        for name in (SECRET, str(Path(__file__).parents[3]), "Traceback"):
            assert name.encode() not in stored(home)

    def test_a_proxy_that_leads_nowhere_does_not_matter(self, server, tmp_path):
        proxies = dict.fromkeys(
            ("http_proxy", "https_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:1"
        )
        process = start("end", tmp_path, server[0], **proxies)
        out, err = process.communicate(timeout=120)
        assert (out, err) == ("2\n", "")

    def test_an_interruption_is_one_also_where_the_server_has_gone(self, server, tmp_path):
        process = start("wait", tmp_path, server[0])
        assert process.stdout.readline() == "at work\n"
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=100)
        assert (out, process.returncode) == ("interrupted\n", 0), err
        assert err == ""
        assert runs(server[0])[-1]["run"].state_name == "Crashed"

    def test_the_run_of_a_killed_command_is_ended_by_the_next(self, server, tmp_path):
        killed = start("wait", tmp_path, server[0])
        assert killed.stdout.readline() == "at work\n"
        killed.kill()
        killed.communicate()
        start("end", tmp_path, server[0]).communicate(timeout=120)
        assert [found["run"].state_name for found in runs(server[0])[-2:]] == ["Crashed", "Completed"]


def stored(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())


SHELLS = {
    "plain": {},
    "proxy": {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"},
    "nobody answers": {"PREFECT_API_URL": "http://127.0.0.1:1/api"},
    "no home": {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": ""},
}
"""What is set in each shell; below /proc nobody can write, root neither."""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write_cohort(
        PhantomSettings(subjects=1, scans=1, spoiled=0, workers=1), tmp_path_factory.mktemp("s") / "a", 3
    )


def ingest(source: Path, folder: Path, shell: str) -> subprocess.Popen[str]:
    unset = ("PREFECT_API_URL", "PREFECT_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR")
    usual = {k: v for k, v in os.environ.items() if k not in unset}
    temporary = {"TMPDIR": str(folder), "TAUCAL_TEST_OF_SHELLS": str(folder)}
    taucal = str(Path(sys.executable).with_name("taucal"))
    return subprocess.Popen(
        [taucal, "ingest", str(source), "--out", str(folder / "bids"), "--workers", "1", "--json"],
        env={**usual, **temporary, **{k: v for k, v in SHELLS[shell].items() if v}}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def left(folder: Path) -> list[psutil.Process]:
    """Processes that a command has started and that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("TAUCAL_TEST_OF_SHELLS") == str(folder)
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_an_ingest_in_any_shell(shell, source, tmp_path):
    out, err = ingest(source, tmp_path, shell).communicate(timeout=300)
    if shell == "nobody answers":
        named = (
            "taucal: http://127.0.0.1:1/api: The Prefect server that PREFECT_API_URL names does not answer"
        )
        assert (out, err.splitlines()[-1].startswith(named)) == ("", True), err
        assert not (tmp_path / "bids").exists()
    else:
        assert json.loads(out)["scans"] == 1, err
    assert "Traceback" not in err
    assert left(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_outlives_a_command_that_is_killed(shell, source, tmp_path, wait_for):
    """20 kills, five in each shell."""
    moments = random.Random(17)
    for _ in range(5):
        process = ingest(source, tmp_path, shell)
        time.sleep(moments.uniform(0, 4))
        process.kill()
        process.communicate()
        wait_for(lambda: left(tmp_path) == [], 30)
    out, err = ingest(source, tmp_path, shell).communicate(timeout=300)
    assert out == "" if shell == "nobody answers" else json.loads(out)["scans"] == 1, err


def test_the_parameter_of_the_flow_is_read_by_any_process(tmp_path, capsys):
    """As `prefect deployment run` calls it: not through the command line."""
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "output": str(tmp_path), "cohort": {"path": str(tmp_path)}}))
    assert echo.fn(str(path)).name == "x"
    said = capsys.readouterr().err
    assert re.search(r"UTC  flow started\.\n.*UTC  flow ended after 0 s\.", said)
