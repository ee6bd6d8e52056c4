"""Every start is quick: what is wrong with a call is answered before anything slow is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.retraining.promotion import promote_by_hand
from pipeline import tracking
from pipeline.config import TrackingSettings
from pipeline.tracking import RunRecord

ROOT = Path(__file__).parents[2]
LIGHT = {
    "annotated_doc", "annotated_types", "click", "cython_runtime", "flows", "models", "pipeline", "pydantic",
    "pydantic_core", "shellingham", "typer", "typing_extensions", "typing_inspection", "yaml",
}  # fmt: skip
"""All that is imported before the arguments and the study are checked; rich only draws tables and bars."""
PROBE = """
import sys
before = {name.partition('.')[0] for name in sys.modules}  # what .pth files import
sys.argv = ['taucal', *sys.argv[1:]]
from flows.cli import main
try:
    main()
except SystemExit as end:
    code = end.code
modules = {name.partition('.')[0] for name in sys.modules} - before - sys.stdlib_module_names
print(code, *sorted(name for name in modules if not name.startswith('_')))
"""
WRONG = {
    "command": (("trian",), "Did you mean 'train'"),
    "option": (("train", "s.yaml", "--epochs", "3"), "--epochs"),
    "missing argument": (("train",), "CONFIG"),
    "file": (("train", "nowhere.yaml"), "nowhere.yaml"),
    "key": (("train", "s.yaml", "--set", "training.epoch=3"), "Did you mean 'epochs'"),
    "value": (("train", "s.yaml", "--set", "training.epochs=many"), "training.epochs"),
    "name": (("compare", "s.yaml", "--set", "training.loss.name=gcee"), "Did you mean 'gce'"),
    "conflict": (("retrain", "s.yaml", "--set", "imbalance.ratio=20"), "imbalance.ratio"),
    "demo": (("demo", "--set", "phantom.preset=five_class"), "phantom.preset"),
    "year": (("demo", "--year", "--set", "phantom.batches=[]"), "phantom.batches"),
    "cohort": (("train", "s.yaml"), "taucal ingest"),
    "study": (("audit", "--study", "nowhere"), "nowhere"),
    "no study": (("promote", "2"), "No study"),
    "source": (("ingest", "nowhere", "--out", "bids"), "nowhere"),
    "overlap": (("ingest", ".", "--out", "bids"), "overlap. Choose a dataset folder beside the source"),
    "scan": (("predict", "nowhere"), "nowhere"),
    "prevalence": (
        ("report", ".", "--out", "r", "--prevalence", "CN=.6,AD=.5"),
        "CN 0.6, AD 0.5; their sum is 1.1. ",
    ),
    "choice": (("phantom", "out", "--preset", "six_class"), "--preset"),
    "visits": (("demo", "--set", "phantom.scans=20"), "Choose 160 to 480 scans"),
    "visits of a phantom": (("phantom", "out", "--subjects", "9"), "Choose 9 to 27 scans"),
    "output": (("demo", "--out", "s.yaml"), "A file, s.yaml, is where the output"),
    "output in a file": (
        ("retrain", "s.yaml", "--set", "output=s.yaml/x"),
        "A file, s.yaml, is where the output",
    ),
    "init without a terminal": (("init", "."), "--source"),
    "init over scans": (("init", "new", "--source", "."), "outside of the scans"),
    "schedule": (("serve", "s.yaml", "--set", "serve.prefect_port=99999"), "serve.prefect_port"),
}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder with a study whose cohort does not exist."""
    (tmp_path / "s.yaml").write_text("name: x\noutput: out\ncohort: {path: nowhere/bids}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def probe(*arguments: str, before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line; its last line of output is the exit code and what was imported."""
    command = [sys.executable, "-c", f"{before}{PROBE}{after}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_answered_before_anything_slow_is_imported(name, here):
    arguments, told = WRONG[name]
    done = probe(*arguments)
    code, *imported = done.stdout.split()
    assert (code, told in done.stderr) == ("2", True), done.stderr
    assert set(imported) <= LIGHT
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in here.iterdir()) == ["s.yaml"]


def test_an_empty_source_and_reports_in_a_dataset_are_refused_as_early(here):
    (here / "empty").mkdir()
    (here / "bids").mkdir()
    (here / "bids" / "dataset_description.json").write_text("{}")
    for arguments, told in (
        (("ingest", "empty", "--out", "new"), "found an empty folder"),
        (("report", ".", "--out", "bids/derivatives/reports"), "is inside the dataset"),
    ):
        done = probe(*arguments)
        code, *imported = done.stdout.split()
        assert (code, told in done.stderr) == ("2", True), done.stderr
        assert set(imported) <= LIGHT
    assert not (here / "new").exists()


def test_the_command_alone_shows_its_help():
    done = probe()
    assert done.stdout.split()[0] == "2"
    assert done.stderr.startswith("Usage: ")
    assert "lists what it takes" not in done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("compare", "--help"), ("--version",)])
def test_help_needs_no_study(arguments):
    done = probe(*arguments)
    code, *imported = done.stdout.splitlines()[-1].split()
    assert code == "0"
    assert set(imported) <= LIGHT - {"yaml"}


@pytest.fixture(scope="module")
def study(tmp_path_factory, small_classifier) -> Path:
    """A study's folder whose store holds two versions of a classifier."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "x.yaml").write_text(f"name: x\noutput: {folder}\ncohort: {{path: nowhere}}\n")
    store = tracking.store_of(TrackingSettings(), folder)
    run_id = tracking.log_run(store, RunRecord("r", "k", {}, {}, {}))
    bundle = small_classifier.save(folder / "classifier")
    for key in ("a", "b"):
        promote_by_hand(store, folder, tracking.register(store, run_id, bundle, {}, key), "test")
    return folder


OPERATOR = LIGHT | {"cronsim", "filelock", "numpy", "packaging", "rich", "safetensors"}
"""What checks a store and its bundles: neither MLflow nor a database library nor WeasyPrint."""
COMMANDS = [("promote", "1"), ("promote", "2"), ("rollback",), ("audit",), ("doctor",), ("status",)]


def place_of(arguments: tuple[str, ...], study: Path) -> str:
    """Return what ``--study`` names: the schedules of a status are in a study file."""
    return str(study / "x.yaml" if arguments == ("status",) else study)


@pytest.mark.parametrize("arguments", COMMANDS, ids="-".join)
def test_an_operator_does_not_wait_for_what_is_not_needed(arguments, study):
    done = probe(*arguments, "--study", place_of(arguments, study), "--quiet")
    code, *imported = done.stdout.splitlines()[-1].split()
    assert code in ("0", "1"), done.stderr
    assert set(imported) <= OPERATOR


def test_the_first_line_comes_before_slow_imports(here, study):
    first = "import sys, builtins; real = builtins.__import__\n" + (
        "def slow(name, *rest, **named):\n"
        "    assert name.partition('.')[0] not in ('mlflow', 'prefect', 'torch', 'numpy'), 'SLOW'\n"
        "    return real(name, *rest, **named)\n"
        "builtins.__import__ = slow\n"
    )
    (here / "nowhere" / "bids").mkdir(parents=True)
    for arguments, line in (
        (("train", "s.yaml"), "Study x (s.yaml), output in out."),
        (("demo",), "Study demo ("),
        (("phantom", "out"), "Phantom: 200 scans of 160 subjects"),
        (("audit", "--study", str(study)), f"Study in {study}."),
        (("doctor",), "Checking this machine."),
    ):
        done = probe(*arguments, before=first)
        assert done.stderr.startswith(line), done.stderr
        assert "SLOW" in done.stderr
