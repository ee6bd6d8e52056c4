"""The example of every command works as it stands: installed from a wheel, beside folders of our names."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from pathlib import Path

import pytest
import typer
import yaml

from flows.cli import COMMANDS, app

ROOT = Path(__file__).parents[2]
EXAMPLES = {function.__name__: example for function, example in COMMANDS}
SMALL = {
    "phantom": {"preset": "three_class", "subjects": 48, "scans": 56, "spoiled": 0.06},
    "preprocessing": {"spacing_mm": 8, "suvr_max": 4},
    "evaluation": {"draws": 100},
    "decision": {"coverage": 0.8, "max_risk": 0.2},
    "compare": {"folds": 1},  # five folds would need six subjects with AD
    "serve": {"prefect_port": 0, "mlflow_port": 0, "reads_port": 0},
}
"""What makes the demo's study small enough for a test."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_parsed_and_fits_on_a_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for folder in ("data/demo", "data/phantom/adni/002_S_4002"):
        (tmp_path / folder).mkdir(parents=True)
    program, typed, *arguments = shlex.split(EXAMPLES[name])
    command = typer.main.get_command(app).commands[typed]
    assert (program, typed) == ("taucal", name)
    given = command.make_context(typed, arguments).params
    assert all(path.is_file() for path in given.values() if isinstance(path, Path) and path.suffix == ".yaml")
    assert f"  {EXAMPLES[name]}\n" in command.get_help(typer.Context(command, info_name=typed)) + "\n"
    assert len(EXAMPLES[name]) <= 78


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of this checkout."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(out), str(ROOT)], check=True, timeout=300)
    (built,) = out.glob("taucal-*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_studies_and_every_file_of_the_packages(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "configs").glob("*.yaml"):
        assert f"pipeline/config/shipped/{path.name}" in names
    for package in ("flows", "pipeline", "models"):
        files = (p for p in (ROOT / package).rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        assert {p.relative_to(ROOT).as_posix() for p in files} <= names
    assert not any(name.startswith(("tests", "configs", "data")) for name in names)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The command of an environment that holds the wheel, and what it depends on."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", str(wheel)], check=True, timeout=300)
    # A plain path: what .pth files in the dependencies name, as this checkout, is not found through it.
    (site,) = place.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin" / "taucal"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An otherwise empty folder with packages of our names, and the demo's study made small."""
    place = tmp_path_factory.mktemp("typed here")
    for name in ("flows", "models", "pipeline"):
        (place / name).mkdir()
        (place / name / "__init__.py").write_text(f"raise SystemExit('{name} of the wrong folder')\n")
    study = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text()) | SMALL
    study["cohort"]["min_subjects_per_class"] = 4
    study["training"]["epochs"] = 2
    shutil.copytree(ROOT / "configs", place / "configs")
    (place / "configs" / "demo.yaml").write_text(yaml.safe_dump(study))
    return place


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(installed), *arguments], cwd=folder, env=environment(), capture_output=True, text=True,
        timeout=900, check=False,
    )  # fmt: skip


def environment() -> dict[str, str]:
    theirs = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**theirs, "TAUCAL_WHO": "tester"}


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.timeout(3000)
def test_the_wheel_runs_the_demo_then_every_example_in_order(installed, folder):
    """One test, as the examples build on each other."""
    assert run(installed, folder, "--version").stdout == "taucal 0.2.0\n"
    for name, example in EXAMPLES.items():
        arguments = shlex.split(example)[1:]
        if name == "demo":
            arguments += ["--config", "configs/demo.yaml"]
        if name == "serve":
            serve_until_ready(installed, folder, arguments)
            continue
        done = run(installed, folder, *arguments)
        if name == "deploy":  # test_pool.py runs it with a server
            assert "PREFECT_API_URL: No Prefect server is named" in done.stderr
            continue
        missing = [line.split()[0] for line in done.stdout.splitlines() if "│ missing" in line]
        if name == "doctor" and (done.returncode, missing) == (1, ["Disk"]):
            continue  # it rightly asks for free space, and for nothing else: the fault of this machine
        assert done.returncode == 0, f"{example}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert "wrong folder" not in done.stderr
        assert "Traceback" not in done.stderr
        if "--json" in arguments:
            json.loads(done.stdout)
    for file in ("demo/results.json", "phantom/bids/derivatives/taucal/cohort.tsv", "demo/audit.db"):
        assert (folder / "data" / file).is_file()
    assert list((folder / "reports").rglob("*.html"))


def serve_until_ready(installed: Path, folder: Path, arguments: list[str]) -> None:
    process = subprocess.Popen(
        [str(installed), *arguments], cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines: list[str] = []
    give_up = time.monotonic() + 300
    try:
        while time.monotonic() < give_up and not any("Schedules, in UTC" in line for line in lines[-1:]):
            lines.append(process.stderr.readline())
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert process.returncode == 0, "".join(lines) + rest
    assert "Ended" in rest


@pytest.mark.slow
def test_the_shipped_study_is_found_without_a_folder_of_configs(installed, tmp_path):
    done = run(installed, tmp_path, "demo", "--set", "cohort.classes=[CN,MCI]")
    assert done.returncode == 2
    assert "cohort.classes: CN, MCI are not the classes of phantom.preset three_class" in done.stderr
    assert not list(tmp_path.iterdir())
