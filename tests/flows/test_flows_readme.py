"""What the README of `flows` names exists: commands, options, settings, schedules."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from flows.cli import app
from flows.serve import _SECONDS_TO_STOP
from pipeline.config import Study

README = (Path(__file__).parents[2] / "flows" / "README.md").read_text(encoding="utf-8")
CALLS = [line.partition("  #")[0].strip() for line in README.splitlines() if line.startswith("taucal ")]


@pytest.mark.parametrize("call", CALLS)
def test_every_call_is_parsed(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = ("/pet/tau", "data/mine")
    (tmp_path / "pet" / "tau" / "new").mkdir(parents=True)
    words = [word.replace(places[0], "pet/tau") for word in shlex.split(call)[1:]]
    command = typer.main.get_command(app).commands[words[0]]
    assert command.make_context(words[0], words[1:]).params


def test_every_command_in_the_text_exists():
    commands = typer.main.get_command(app).commands
    named = set(re.findall(r"`(?:\S+=\S+ )?taucal ([a-z]+)", README))
    assert named <= commands.keys()


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL))
def test_every_setting_is_read(block):
    given = yaml.safe_load(block)
    study = Study.model_validate({"name": "x", "output": "x", "cohort": {"path": "y"}, **given})
    assert given.keys() <= study.model_fields_set


def test_settings_in_the_text_exist():
    keys = re.findall(r"`(ingest|compare|calibration|retrain|tracking|serve|dask)\.(\w+)", README)
    assert len(keys) > 8
    for section, key in keys:
        assert key in type(getattr(Study(name="x", output="x", cohort={"path": "y"}), section)).model_fields


def test_the_schedules_are_those_of_the_settings():
    rows = re.findall(r"^\| `(\w+)` \| (?:every|Mondays|the)", README, flags=re.MULTILINE)
    crons = {key: cron for key, cron in Study(name="x", output="x", cohort={"path": "y"}).serve if cron}
    assert set(rows) == {key for key, cron in crons.items() if str(cron).count(" ") == 4}
    shown = {"ingest": "0 2 * * *", "reports": "0 4 * * *", "shift": "0 5 * * 1", "week": "30 5 * * 1"}
    assert {**shown, "retrain": "0 6 1 * *"} == {key: crons[key] for key in rows}


def test_the_unit_of_systemd_lets_serve_end_its_runs_and_is_started_with_the_machine():
    unit = configparser.ConfigParser()
    unit.optionxform = str
    unit.read_string(re.search(r"```ini\n(.*?)```", README, flags=re.DOTALL)[1])
    assert unit["Service"]["KillMode"] == "mixed", "its servers would be ended before its runs"
    assert float(unit["Service"]["TimeoutStopSec"]) > _SECONDS_TO_STOP
    assert unit["Install"]["WantedBy"]
