"""Runs, versions and aliases in a real PostgreSQL, with the artifacts elsewhere."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from pipeline import tracking
from pipeline.config import TrackingSettings
from pipeline.errors import InputError
from pipeline.processes import environment
from pipeline.tracking import RunRecord

pytestmark = pytest.mark.server

PASSWORD = "correct-horse"  # of the cluster that lives as long as these tests


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL on loopback that belongs to these tests."""

    port: int

    def address(self, database: str, password: str = PASSWORD) -> str:
        return f"postgresql+psycopg://keeper:{password}@127.0.0.1:{self.port}/{database}"

    def new_database(self, name: str, encoding: str = "UTF8") -> str:
        engine = create_engine(self.address("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0"))
        engine.dispose()
        return self.address(name)


def programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        pytest.skip("PostgreSQL is not here: apt-get install postgresql")
    return found[-1].parent if found else Path(str(on_path)).parent


def as_other(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    ready = [str(programs() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    for _ in range(1200):
        if subprocess.run(ready, timeout=30, check=False).returncode == 0:
            return
        assert process.poll() is None, log.read_text()[-2000:]
        time.sleep(0.25)
    pytest.fail(f"PostgreSQL did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def cluster():
    bin_folder, port = programs(), free_port()
    # Not below pytest's folder: another user must be let in.
    with tempfile.TemporaryDirectory(prefix="taucal-pg-") as place:
        folder = Path(place)
        (folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres", "postgres")

        def run(*command: str) -> None:
            done = subprocess.run(
                as_other([str(bin_folder / command[0]), *command[1:]]),
                cwd=folder, capture_output=True, text=True, timeout=600, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr

        data = str(folder / "data")
        run(
            "initdb", "-D", data, "-U", "keeper", f"--pwfile={folder / 'password'}",
            "-A", "scram-sha-256", "-N", "-E", "UTF8", "--locale=C",
        )  # fmt: skip
        server = [str(bin_folder / "postgres"), "-D", data, "-p", str(port), "-F"]
        server += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
        with (
            (folder / "log").open("w") as log,
            subprocess.Popen(as_other(["timeout", "3600", *server]), cwd=folder, stderr=log) as process,
        ):
            try:
                wait_for(port, process, folder / "log")
                yield Cluster(port)
            finally:
                process.send_signal(signal.SIGQUIT)


@pytest.fixture(scope="module")
def store(cluster, tmp_path_factory):
    settings = TrackingSettings(
        uri=cluster.new_database("taucal"), artifacts=str(tmp_path_factory.mktemp("artifacts"))
    )
    return tracking.store_of(settings, tmp_path_factory.mktemp("study"))


def test_a_version_is_registered_promoted_and_loaded(store, small_classifier, tmp_path):
    bundle = small_classifier.save(tmp_path / "classifier")
    record = RunRecord("r", "k1", {"loss": "gce"}, {"data.digest": "d"}, {"nll": 0.8}, ({"loss": 1.0},))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("x")
    run_id = tracking.log_run(store, record, tmp_path / "files")
    assert tracking.log_run(store, record) == run_id
    one = tracking.register(store, run_id, bundle, {}, "k1")
    two = tracking.register(store, run_id, bundle, {}, "k2")
    assert (one, two) == (1, 2)
    tracking.promote(store, one)
    tracking.promote(store, two)
    now, before = tracking.champion_and_previous(store)
    tracking.point(store, before, now)
    assert tracking.champion_version(store) == one
    assert tracking.origin(store, "@champion") == ("1", run_id)
    assert tracking.load_classifier(store).card == small_classifier.card


def test_what_was_logged_is_found_and_lies_where_it_was_asked_to(store, tmp_path):
    run_id = tracking.log_run(store, RunRecord("r", "k9", {}, {}, {"nll": 0.25}))
    client = store.client()
    found = client.search_runs([store.experiment_id()], filter_string="metrics.nll < 0.3")
    assert [run.info.run_id for run in found] == [run_id]
    assert found[0].info.artifact_uri.startswith(store.artifacts)
    assert client.get_experiment("0").artifact_location.startswith(store.artifacts), "not where we stand"


def test_the_ledger_of_answered_scans(store, tmp_path):
    answer = {"decision": "report", "reasons": [], "probabilities": {"CN": 0.9, "AD": 0.1}}
    (tmp_path / "report.html").write_text("page")
    for scan, version in (("sub-A_ses-1", "1"), ("sub-A_ses-2", "2"), ("sub-B_ses-1", "2")):
        files = {"html": tmp_path / "report.html"}
        measured = {"regions": {"left_a": 1.25}, "logits": [1.5, -0.5]}
        given = tracking.AnsweredScan("report", scan, "0a1b", version, "run", answer, files, measured)
        tracking.record_answer(store, given)
    assert [e.scan for e in tracking.answered_scans(store, version="2")] == ["sub-B_ses-1", "sub-A_ses-2"]
    assert tracking.set_diagnosis(store, "sub-A", "AD") == 2
    found = tracking.answered_scans(store, scan="sub-A_ses-1")[0]
    assert (found.answer, found.measured, found.diagnosis) == (answer, measured, "AD")
    attachments = Path(store.artifacts.removeprefix("file://"))
    assert len(list(attachments.rglob("attachments/*"))) == 3
    assert tracking.forget_answers(store, -1) == 3
    assert tracking.answered_scans(store) == []
    assert list(attachments.rglob("attachments/*")) == []


def open_store(store) -> str | None:
    return tracking.try_store(store)


@pytest.mark.slow
def test_two_processes_may_be_the_first_at_once(cluster, tmp_path):
    settings = TrackingSettings(uri=cluster.new_database("first"), artifacts=str(tmp_path))
    store = tracking.store_of(settings, tmp_path)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(open_store, [store] * 2) == [None] * 2


@pytest.mark.parametrize("fault", ["password", "database", "port"])
def test_a_store_that_is_not_there_is_told_at_once_without_the_password(cluster, tmp_path, fault):
    addresses = {
        "password": cluster.address("postgres", "swordfish"),
        "database": cluster.address("nowhere"),
        "port": cluster.address("postgres").replace(str(cluster.port), str(free_port())),
    }
    store = tracking.store_of(TrackingSettings(uri=addresses[fault]), tmp_path)
    with pytest.raises(InputError, match=r"cannot be opened \(OperationalError.*tracking\.uri") as error:
        store.client()
    for secret in (PASSWORD, "swordfish"):
        assert secret not in str(error.value)
        assert secret not in repr(store)
    assert "keeper@127.0.0.1" in str(error.value)


def test_a_database_without_an_encoding_is_told_with_the_one_to_make(cluster, tmp_path):
    # What a server whose locale is C, as that of a bare machine, makes of `createdb NAME`.
    address = cluster.new_database("ascii", encoding="SQL_ASCII")
    store = tracking.store_of(TrackingSettings(uri=address), tmp_path)
    with pytest.raises(InputError, match=r"no encoding \(SQL_ASCII\).*createdb --encoding UTF8") as error:
        store.client()
    assert PASSWORD not in str(error.value)
    assert "SQL_ASCII" in tracking.try_store(store)


def test_the_password_may_stand_in_the_environment(store, tmp_path):
    # Who opens a database first decides where its artifacts lie: the same place for every test.
    settings = TrackingSettings(uri=store.uri.replace(f":{PASSWORD}@", "@"), artifacts=store.artifacts)
    with environment({"PGPASSWORD": PASSWORD}):
        assert tracking.try_store(tracking.store_of(settings, tmp_path)) is None
