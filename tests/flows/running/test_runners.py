"""Runners: the same outcomes wherever jobs run, whatever becomes of a worker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import psutil
import pytest
import torch

from flows.running.jobs import JobFailed, Runner, WorkerKilled, WorkerResources, share_resources
from flows.running.runners import beside, finished
from pipeline.config import DaskSettings
from pipeline.errors import ConfigError, InputError

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SURVIVABLE = ["fine", "fails once", "fails", "wrong input", "also fine"]
ELSEWHERE = [*SURVIVABLE, "is killed once", "is killed"]


def worker_of(left: Path) -> int:
    """Return the process that left a file, as `worker_jobs.do` names it."""
    return int(left.name.split(".")[1].split("-")[0])


@pytest.fixture
def do(monkeypatch):
    """The job of `worker_jobs.py`, as workers find it."""
    monkeypatch.syspath_prepend(HERE)
    import worker_jobs

    return worker_jobs.do


@pytest.mark.parametrize(
    ("kind", "jobs"),
    [
        ("local", SURVIVABLE),
        ("processes", ELSEWHERE),
        pytest.param("dask", ELSEWHERE, marks=pytest.mark.slow),
    ],
)
def test_each_job_ends_in_a_result_or_an_error_and_none_stops_another(kind, jobs, do, tmp_path):
    found = list(finished(do, [(what, tmp_path) for what in jobs], Runner(kind, workers=2, retries=2)))
    assert sorted(outcome.index for outcome in found) == list(range(len(jobs)))
    by_job = {jobs[outcome.index]: outcome for outcome in found}
    for what in ("fine", "also fine", "fails once", "is killed once"):
        if what in by_job:
            assert by_job[what].error is None
            assert (by_job[what].result["pid"] == os.getpid()) == (kind == "local")
    assert isinstance(by_job["fails"].error, JobFailed)
    assert re.fullmatch(r"worker_jobs\.py, line \d+: RuntimeError: on purpose", str(by_job["fails"].error))
    assert isinstance(by_job["wrong input"].error, InputError)
    assert by_job["wrong input"].error.where == "here"
    tries = {what: len(list(tmp_path.glob(f"{what}.*"))) for what in jobs}
    assert tries["fails"] == 3
    assert tries["fails once"] == 2
    assert tries["wrong input"] == 1
    if kind != "local":
        assert isinstance(by_job["is killed"].error, WorkerKilled)
        assert tries["is killed"] == 3


@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_workers_have_cores_and_a_gpu_of_their_own(kind, do, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    shared = share_resources(2)
    orders = [("fine", tmp_path)] * 12
    for outcome in finished(do, orders, Runner(kind, workers=2)):
        place = WorkerResources(tuple(outcome.result["cores"]), outcome.result["gpu"])
        assert place in shared
    assert [place.gpu for place in shared] == ["4", "5"]


def test_cores_are_shared_out_without_rest(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3, 5, 7, 9, 11, 13})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert [place.cores for place in share_resources(3)] == [(1, 3), (5, 7), (9, 11, 13)]
    assert [place.cores for place in share_resources(9)][:2] == [(1,), (1,)]
    assert {core for place in share_resources(9) for core in place.cores} == {1, 3, 5, 7, 9, 11, 13}
    assert share_resources(1)[0].gpu is None


def test_a_job_beside_is_waited_for_and_torch_leaves_it_a_core(do, tmp_path):
    threads = torch.get_num_threads()
    with beside(do, ("fine", tmp_path)):
        assert torch.get_num_threads() == max(1, threads - 1)
    assert torch.get_num_threads() == threads
    (left,) = tmp_path.glob("fine.*")
    assert f".{os.getpid()}-" not in left.name


@pytest.mark.parametrize(("what", "error"), [("wrong input", InputError), ("is killed", WorkerKilled)])
def test_what_goes_wrong_beside_is_raised_when_the_block_is_done(what, error, do, tmp_path):
    done = False
    with pytest.raises(error), beside(do, (what, tmp_path)):
        done = True
    assert done


def test_an_error_ends_the_job_beside(do, tmp_path, wait_for):
    def fail_once_it_runs():
        wait_for(lambda: list(tmp_path.glob("sleeps.*")))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), beside(do, ("sleeps", tmp_path)):
        fail_once_it_runs()
    (left,) = tmp_path.glob("sleeps.*")
    wait_for(lambda: not psutil.pid_exists(worker_of(left)))


@pytest.mark.parametrize("kind", ["processes", pytest.param("dask", marks=pytest.mark.slow)])
def test_an_interrupt_ends_the_workers_in_the_middle_of_their_jobs(kind, tmp_path, wait_for):
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", str(HERE / "worker_jobs.py"), kind, str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"},
        # A shell starts what it runs in the background with interrupts ignored, and so would this process be.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    wait_for(lambda: len(list(tmp_path.glob("sleeps*"))) == 2 or process.poll() is not None)
    assert process.poll() is None
    workers = [worker_of(path) for path in tmp_path.glob("sleeps*")]
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler writes where each thread is
        pytest.fail(process.communicate(timeout=60)[1])
    assert "KeyboardInterrupt" in errors, errors
    wait_for(lambda: not any(map(psutil.pid_exists, workers)))


def test_two_clusters_of_one_machine_do_not_ask_for_the_same_port():
    from flows.running import clusters

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with (
            clusters._client(DaskSettings(), 1) as (first, _),
            clusters._client(DaskSettings(), 1) as (second, _),
        ):
            ports = {client.cluster.scheduler.http_server.port for client in (first, second)}
            hosts = {client.cluster.scheduler.http_server.address for client in (first, second)}
    assert len(ports) == 2
    assert hosts == {"127.0.0.1"}


@pytest.mark.slow
@pytest.mark.parametrize("forgotten_after", ["1s", "1 hour"])
def test_a_worker_that_dask_has_given_up_is_started_anew(forgotten_after, monkeypatch, wait_for):
    import dask
    from distributed import Status

    from flows.running import clusters

    monkeypatch.setattr(clusters, "_SECONDS_TO_RESTART", 5)
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": forgotten_after}),
        clusters._client(DaskSettings(), 2) as (client, _),
    ):
        clusters._wait_for_workers(client, 2)
        nanny = client.cluster.workers[0]
        nanny.status = Status.starting  # as where a worker is killed before it has wholly started
        os.kill(nanny.pid, signal.SIGKILL)
        wait_for(lambda: clusters._running_workers(client) == [1])
        clusters._wait_for_workers(client, 2)
        assert client.submit(os.getpid, workers=[0]).result() != nanny.pid


def test_waiting_for_workers_leaves_the_list_alone_that_the_cluster_keeps_of_them(wait_for):
    from flows.running import clusters

    with clusters._client(DaskSettings(), 1) as (client, _):
        seen = client.cluster.scheduler_info
        clusters._wait_for_workers(client, 1)
        assert client.cluster.scheduler_info is seen
        wait_for(lambda: seen["workers"])
        (address,) = seen["workers"]
        os.kill(client.cluster.workers[0].pid, signal.SIGKILL)
        wait_for(lambda: address not in seen["workers"])
        clusters._wait_for_workers(client, 1)
        wait_for(lambda: seen["workers"])  # still watching


def test_a_scheduler_that_runs_is_used_and_left_running(do, tmp_path):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=2, host="127.0.0.1", dashboard_address=None, silence_logs="CRITICAL"
    ) as cluster:
        there = DaskSettings(address=cluster.scheduler_address)
        for _ in range(2):
            found = list(finished(do, [("fine", tmp_path)] * 4, Runner("dask", workers=2, dask=there)))
            assert [outcome.error for outcome in found] == [None] * 4


def test_a_scheduler_that_does_not_answer_is_one_clear_error(do, tmp_path, monkeypatch):
    from flows.running import clusters

    monkeypatch.setattr(clusters, "_SECONDS_TO_CONNECT", 1)
    nowhere = DaskSettings(address="tcp://127.0.0.1:9")
    with pytest.raises(
        ConfigError, match=r"dask\.address: No Dask scheduler answers at tcp://127\.0\.0\.1:9"
    ):
        list(finished(do, [("fine", tmp_path)], Runner("dask", dask=nowhere)))


def test_a_job_of_slurm_asks_for_its_cores_and_runs_one_cell_at_a_time():
    from flows.running.clusters import queue_cluster

    options = {
        "queue": "gpu", "cores": 4, "memory": "16GB", "walltime": "02:00:00", "interface": "lo",
        "job_extra_directives": ["--gres=gpu:1"],
    }  # fmt: skip
    with queue_cluster(DaskSettings(jobqueue="SLURM", options=options)) as cluster:
        script = cluster.job_script()
    for line in ("-p gpu", "--cpus-per-task=4", "--mem=15G", "-t 02:00:00", "--gres=gpu:1"):
        assert f"#SBATCH {line}\n" in script
    assert "--nthreads 1 " in script
    assert "tcp://127.0.0.1:" in script


def test_an_option_that_the_queue_does_not_know_is_named():
    from flows.running.clusters import queue_cluster

    with pytest.raises(ConfigError, match=r"dask\.options: SLURMCluster does not accept .*held"):
        queue_cluster(DaskSettings(jobqueue="SLURM", options={"held": 4}))
