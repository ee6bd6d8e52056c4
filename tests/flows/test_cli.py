"""The command line as its user meets it: help with examples, clear refusals, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app

COMMANDS = (
    "demo",
    "init",
    "status",
    "phantom",
    "ingest",
    "train",
    "compare",
    "curve",
    "predict",
    "report",
    "promote",
    "rollback",
    "audit",
    "doctor",
    "who",
    "agree",
    "retest",
)


def taucal(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("taucal")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=600, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    answer = CliRunner().invoke(app, [command, "--help"])
    assert answer.exit_code == 0
    assert f"Example:  taucal {command}" in " ".join(answer.output.split()).replace("Example: ", "Example:  ")


def test_the_call_itself_wrong_ends_with_two():
    assert taucal("train").returncode == 2
    assert taucal("nonsense").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("ingest", "nowhere", "--out", "bids"), "nowhere"),
        (("train", "nowhere.yaml"), "nowhere.yaml"),
        (("ingest", ".", "--out", "bids", "--layout", "dicm"), "--layout"),
        (("phantom", "out", "--preset", "six_class"), "--preset"),
        (("report", ".", "--out", "r", "--prevalence", "CN=2"), "--prevalence"),
        (("rollback", "--study", "."), "--study"),
        (("audit",), "No study is below this folder"),
        (
            ("report", ".", "--out", "taken"),
            "--out taken: A file, taken, is where the output",
        ),
        (("ingest", ".", "--out", "../taken/bids"), "A file, ../taken, is where"),
        (("reports", "--since", "31.01.2026"), "31.01.2026 is no date. Write it as 2026-01-31."),
        (("who", "sub-A", "--out", "."), "give --study in place of --out"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_clear_sentence_and_exit_code_two(tmp_path, arguments, told):
    for place in (tmp_path / "taken", tmp_path.parent / "taken"):
        place.write_text("a file")
    answer = taucal(*arguments, cwd=tmp_path)
    assert answer.returncode == 2, answer.stderr
    assert told in answer.stderr
    assert "Traceback" not in answer.stderr
    assert len(answer.stderr.splitlines()) < 25
    assert answer.stdout == ""


def test_an_empty_folder_is_refused_and_nothing_is_written(tmp_path):
    (tmp_path / "empty").mkdir()
    answer = taucal("ingest", "empty", "--out", "bids", cwd=tmp_path)
    assert answer.returncode == 2
    assert "empty" in answer.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty"]


def test_a_study_of_a_cohort_that_is_not_there_says_what_to_run(tmp_path):
    (tmp_path / "s.yaml").write_text("name: x\noutput: out\ncohort: {path: nowhere}\n")
    answer = taucal("train", "s.yaml", cwd=tmp_path)
    assert answer.returncode == 2
    assert "taucal ingest" in answer.stderr
    assert not (tmp_path / "out" / "study.yaml").exists()
