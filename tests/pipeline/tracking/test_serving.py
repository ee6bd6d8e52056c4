"""The registered version in other processes: it answers as `taucal predict` does, to the last digit."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_limits

import pipeline
from pipeline import tracking
from pipeline.files import digest_of_path
from pipeline.one_scan import answer

pytestmark = pytest.mark.server

CHECKOUT = Path(pipeline.__path__[0]).parent


@pytest.fixture(scope="module")
def expected(small_classifier, pet_scans) -> dict[str, dict[str, Any]]:
    """What this process answers for each path.

    With one thread, as the other processes: two add up in another order, which shows in the ninth digit.
    """
    with threadpool_limits(1):  # numpy was loaded by a plugin of pytest, before conftest.py could say so
        return {str(path): dict(answer(small_classifier, path)) for path in pet_scans.values()}


def quiet(**more: str) -> dict[str, str]:
    # What loads a classifier by name leaves its store in the environment: MLflow's default of that process.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return {**ours, "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1", **more}


@contextlib.contextmanager
def served(model: str, python: Path, cwd: Path, **more: str) -> Iterator[str]:
    """Serve a model on loopback by a Python's MLflow, in its own environment; yield the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        "timeout", "--kill-after=60", "1800", str(python), "-m", "mlflow", "models", "serve", "-m", model,
        "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port), "-w", "1",
    ]  # fmt: skip
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    log = cwd / "server.log"
    with (
        log.open("w") as stream,
        subprocess.Popen(
            command, cwd=cwd, env=quiet(PATH=path, **more), stdout=stream, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address, process, log)
            yield address
        finally:
            process.terminate()


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1200):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/ping", timeout=30) as reply:
            if reply.status == 200:
                return
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.25)
    pytest.fail(f"the server did not answer: {log.read_text()[-3000:]}")


def post(address: str, body: object) -> Any:
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as reply:
        return json.load(reply)


def test_the_answers_are_worth_comparing(expected, pet_scans):
    sound = [expected[str(pet_scans[kind])] for kind in ("dicom", "nifti")]
    for told in sound:
        assert told["decision"] in ("report", "refer"), told["reasons"]
        assert sum(told["probabilities"].values()) == pytest.approx(1)
    assert expected[str(pet_scans["empty"])]["decision"] == "refused"
    assert expected[str(pet_scans["nothing"])]["rule"] == "no-such-scan"


def test_another_process_loads_the_version_and_answers_the_same(registered, expected, tmp_path):
    script = f"""
import json, mlflow
model = mlflow.pyfunc.load_model("models:/taucal@champion")
answers = model.predict({list(expected)!r})
import pipeline, models
print(json.dumps([answers, pipeline.__file__, models.__file__, model.input_example]))
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, cwd=tmp_path, timeout=600, check=False,
        env=quiet(MLFLOW_TRACKING_URI=registered.store.uri),
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    answers, *code, example = json.loads(run.stdout.splitlines()[-1])
    assert answers == list(expected.values())
    assert not [path for path in code if Path(path).is_relative_to(CHECKOUT)], "the code that was registered"
    assert not Path(example[0]).exists()


def _check_recorded(registered, expected, pet_scans) -> None:
    """What was answered about scans that exist is in the ledger, by a pseudonym made of their bytes."""
    served = [e for e in tracking.answered_scans(registered.store) if e.kind == "served"]
    assert {entry.version for entry in served} == {str(registered.version)}
    names = {kind: f"scan-{digest_of_path(path)}" for kind, path in pet_scans.items() if path.exists()}
    assert {entry.scan for entry in served} == set(names.values())
    found = {entry.scan: entry for entry in served}
    for kind, name in names.items():
        assert found[name].answer["decision"] == expected[str(pet_scans[kind])]["decision"]
        assert found[name].answer["probabilities"] == expected[str(pet_scans[kind])]["probabilities"]
    assert len(found[names["dicom"]].measured["logits"]) == 3
    assert found[names["empty"]].measured == {}


def test_a_server_answers_the_same_and_a_bad_call_does_not_end_it(registered, expected, pet_scans, tmp_path):
    more = {"MLFLOW_TRACKING_URI": registered.store.uri}
    with served("models:/taucal@champion", Path(sys.executable), tmp_path, **more) as address:
        for body in ({"inputs": [1, 2]}, {"inputs": {"path": 3}}, {"scans": []}, "x"):
            with pytest.raises(urllib.error.HTTPError, match="HTTP Error 4"):
                post(address, body)
        assert post(address, {"inputs": list(expected)})["predictions"] == list(expected.values())
        example = json.loads((registered.folder / "serving_input_example.json").read_text())
        assert post(address, example)["predictions"][0]["rule"] == "no-such-scan"
    _check_recorded(registered, expected, pet_scans)
    log = (tmp_path / "server.log").read_text()
    assert not [path for path in expected if path in log], "a path can be a name"


@pytest.mark.slow
@pytest.mark.skipif(
    "TAUCAL_FRESH_ENV" not in os.environ,
    reason="takes minutes and the package index: set TAUCAL_FRESH_ENV=1",
)
@pytest.mark.timeout(1800)
def test_the_version_is_served_from_an_environment_of_its_own_requirements(registered, expected, tmp_path):
    """Seen on 2026-11-21: four minutes to install, newer SQLAlchemy (2.1) and FastAPI (0.165) than ours, the
    same digits; MLflow's own `--env-manager virtualenv` needs pyenv, takes six minutes and gives the same.
    """
    # A copy, so that neither the checkout nor the registry is at hand.
    shutil.copytree(registered.folder, tmp_path / "model")
    subprocess.run([sys.executable, "-m", "venv", "venv"], cwd=tmp_path, check=True, timeout=600)
    python = tmp_path / "venv" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "-r", "model/requirements.txt"]
    subprocess.run(install, cwd=tmp_path, check=True, timeout=1500)
    look = [str(python), "-c", "import importlib.util as u; print(u.find_spec('pipeline'))"]
    assert subprocess.check_output(look, cwd=tmp_path, text=True).strip() == "None"
    with served(str(tmp_path / "model"), python, tmp_path) as address:
        answers = post(address, {"inputs": list(expected)})["predictions"]
    assert answers == list(expected.values())
