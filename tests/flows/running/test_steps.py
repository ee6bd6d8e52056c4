"""A step is done once, and done again when anything it depends on changed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from flows.running.steps import as_flow, is_done, run_once
from pipeline.files import write_json


@pytest.fixture
def step(tmp_path):
    """A step that counts how often it was done and writes one file."""
    done = []

    def work():
        done.append(1)
        (tmp_path / "out.txt").write_text("result")
        return [tmp_path / "out.txt"]

    return tmp_path / "records" / "step.json", work, done


def test_the_second_time_nothing_is_done(step):
    record, work, done = step
    assert run_once(record, "key", work)
    assert not run_once(record, "key", work)
    assert len(done) == 1


def test_another_key_does_it_again(step):
    record, work, done = step
    run_once(record, "one", work)
    assert run_once(record, "two", work)
    assert len(done) == 2


@pytest.mark.parametrize("damage", ["missing file", "shorter file", "torn record"])
def test_damage_is_noticed(step, tmp_path, damage):
    record, work, done = step
    run_once(record, "key", work)
    if damage == "missing file":
        (tmp_path / "out.txt").unlink()
    elif damage == "shorter file":
        (tmp_path / "out.txt").write_text("res")
    else:
        record.write_text('{"key": "k')
    assert run_once(record, "key", work)
    assert len(done) == 2


def test_a_folder_that_was_moved_or_copied_keeps_what_is_done(step, tmp_path):
    record, work, done = step
    run_once(record, "key", work)
    copy, moved = tmp_path / "copy", tmp_path / "Study #1, 50 %"
    shutil.copytree(tmp_path / "records", copy / "records")
    shutil.copy(tmp_path / "out.txt", copy)
    (tmp_path / "out.txt").unlink()
    copy.rename(moved)
    assert not run_once(moved / "records" / "step.json", "key", work)
    assert not is_done(record, "key"), "its file is gone"
    assert len(done) == 1


def test_a_record_of_an_older_program_with_absolute_names_is_read(step, tmp_path):
    record, work, _ = step
    work()
    write_json(record, {"key": "key", "files": {str(tmp_path / "out.txt"): 6}})
    assert not run_once(record, "key", work)
    (tmp_path / "out.txt").unlink()
    assert run_once(record, "key", work)


def test_a_failed_step_is_not_remembered(step):
    record, work, done = step

    def fail():
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run_once(record, "key", fail)
    assert not record.exists()
    assert run_once(record, "key", work)
    assert done


@pytest.mark.server
def test_the_embedded_prefect_server_starts_with_the_pinned_set(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    assert as_flow("a test", lambda: 6 * 7) == 42


@pytest.mark.slow
@pytest.mark.server
def test_prefect_learns_neither_paths_nor_the_text_of_errors(tmp_path):
    secret = "archive/002_S_0413"
    script = f"""
from flows.running.environment import set_quiet_defaults
set_quiet_defaults()
from flows.running.steps import as_flow, as_task
def work():
    raise ValueError({secret!r})
try:
    as_flow("failing", lambda: as_task("inner", work))
except ValueError as error:
    print(error)
"""
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": ""}
    answer = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert answer.stdout.strip() == secret, answer.stderr
    assert "Traceback" not in answer.stderr
    database = tmp_path / "prefect.db"
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"WorkFailed" in written, "the failure itself is recorded"
    assert database.is_file()
    assert secret.encode() not in written


@pytest.mark.slow
@pytest.mark.server
def test_the_end_of_a_process_and_its_server_is_one_interruption(tmp_path):
    script = """
import signal, time
from flows.running.environment import set_quiet_defaults
set_quiet_defaults()
signal.signal(signal.SIGTERM, signal.default_int_handler)
from flows.running.steps import as_flow, as_task
def work():
    print("at work", flush=True)
    time.sleep(600)
try:
    as_flow("ended", lambda: as_task("inner", work))
except KeyboardInterrupt:
    print("interrupted")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=100)
    assert (out, process.returncode) == ("interrupted\n", 0), err
    assert err == ""
