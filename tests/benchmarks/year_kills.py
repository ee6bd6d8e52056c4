"""A simulated year killed thirty times, then run to its end: `python tests/benchmarks/year_kills.py`.

`taucal demo --year` runs undisturbed into one folder. Into another it is started again and again, and its
whole group of processes gets a SIGKILL at a random moment each time; then it runs to its end. Both must
end alike: answers about every scan, decisions of the audit, aliases, metrics. And nothing may be left
that calls itself running, in MLflow or in Prefect.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pipeline.config import load_study, shipped_study
from pipeline.files import read_json

_NEW_EACH_TIME = ("run_id", "registered_ms")
"""Facts of an audit entry that differ between two runs of the same year."""
_AT_WORK = 0.9
"""Share of kills that wait until the year is at work: starting takes longer than many of its steps."""
_SMALL = (
    "phantom.subjects=60",
    "phantom.scans=64",
    "cohort.min_subjects_per_class=4",
    "training.epochs=6",
    "evaluation.draws=200",
)


def small_batches(scans: int) -> str:
    """Return the setting that leaves the year's months as they are but for how many scans they bring."""
    batches = load_study(shipped_study("year")).phantom.batches
    return f"phantom.batches={json.dumps([{**b.model_dump(mode='json'), 'scans': scans} for b in batches])}"


def start(out: Path, home: Path, overrides: list[str]) -> subprocess.Popen:
    """Start the year in a group of processes of its own, with a Prefect of its own."""
    command = [sys.executable, "-m", "flows.cli", "demo", "--year", "--out", str(out)]
    for override in overrides:
        command += ["--set", override]
    with (out.parent / f"{out.name}.log").open("a") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=Path(__file__).resolve().parents[2],
            env={**os.environ, "PREFECT_HOME": str(home)},
        )


def wait_for_work(process: subprocess.Popen, log: Path) -> None:
    """Wait until a year that was just started has loaded what it needs and says its first word."""
    size = log.stat().st_size
    while process.poll() is None and log.stat().st_size == size:
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *descendants(child)]
    return found


def kill(process: subprocess.Popen) -> int:
    """Kill a whole group; wait for what else it had started and return how many of those had to be killed."""
    others = descendants(process.pid)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    limit = time.monotonic() + 20
    while time.monotonic() < limit and any(Path(f"/proc/{pid}").exists() for pid in others):
        time.sleep(0.05)
    left = [pid for pid in others if Path(f"/proc/{pid}").exists()]
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(left)


def state_of(out: Path) -> dict[str, Any]:
    """Return all that must be the same after kills."""
    months = sorted((out / "months").glob("*/*.json"))
    state: dict[str, Any] = {
        f"{path.parent.name}/{path.name}": read_json(path) for path in months if path.name != "done.json"
    }
    state["year"] = {k: v for k, v in read_json(out / "year" / "year.json").items() if k != "report_date"}
    for policy in ("gate", "always"):
        store = out / policy / "mlflow.db"
        state[f"{policy}: aliases"] = sorted(
            _rows(store, "SELECT alias, version FROM registered_model_aliases")
        )
        state[f"{policy}: metrics"] = sorted(
            _rows(
                store,
                "SELECT r.name, t.value, m.key, m.value FROM latest_metrics m JOIN runs r USING (run_uuid) "
                "JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'taucal.key' "
                "WHERE r.lifecycle_stage = 'active' AND m.key != 'seconds'",
            )
        )
    state["audit"] = [_without_names(row) for row in _audit(out / "gate" / "audit.db")]
    return state


def _audit(path: Path) -> list[dict[str, Any]]:

    columns = ("kind", "version", "over", "who", "reasons", "facts")
    quoted = ", ".join(f'"{c}"' for c in columns)
    rows = _rows(path, f"SELECT {quoted} FROM decisions ORDER BY number")
    return [{**dict(zip(columns, row, strict=True)), "facts": json.loads(row[-1])} for row in rows]


def _without_names(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "facts": {k: v for k, v in row["facts"].items() if k not in _NEW_EACH_TIME}}


def _rows(path: Path, query: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return database.execute(query).fetchall()


def left_running(out: Path, home: Path) -> dict[str, int]:
    """Return how many runs call themselves unfinished."""
    unfinished = "('RUNNING', 'PENDING', 'SCHEDULED', 'CANCELLING')"
    found = {
        f"MLflow runs of {policy}": f"SELECT count(*) FROM runs WHERE status IN {unfinished} "
        "AND lifecycle_stage = 'active'"
        for policy in ("gate", "always")
    }
    counts = {what: _rows(out / what.split()[-1] / "mlflow.db", q)[0][0] for what, q in found.items()}
    query = f"SELECT count(*) FROM flow_run WHERE state_type IN {unfinished}"
    return {**counts, "Prefect flow runs": _rows(home / "prefect.db", query)[0][0]}


def main() -> None:
    """Print a line a kill, then what differs and what was left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--monthly", type=int, default=8, help="scans a month")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    asked = parser.parse_args()
    draw, overrides = random.Random(asked.seed), [*_SMALL, small_batches(asked.monthly), *asked.set]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.monotonic()
        if start(folder / "undisturbed", folder / "home0", overrides).wait():
            sys.exit((folder / "undisturbed.log").read_text()[-3000:])
        lasted = time.monotonic() - begun
        print(f"undisturbed: {lasted:.0f} s", flush=True)
        kills = outlived = 0
        while kills < asked.kills:
            process = start(folder / "killed", folder / "home", overrides)
            after = draw.uniform(0, 2 * lasted / asked.kills)
            if draw.random() < _AT_WORK:
                wait_for_work(process, folder / "killed.log")
            with contextlib.suppress(subprocess.TimeoutExpired):
                if process.wait(after):
                    sys.exit((folder / "killed.log").read_text()[-3000:])
                print("the year came to its end: the next kills find it done")
            if process.poll() is None:
                outlived += kill(process)
                kills += 1
                done = len(list((folder / "killed").glob("months/*/done.json")))
                print(f"kill {kills} after {after:.0f} s, {done} months done", flush=True)
        if start(folder / "killed", folder / "home", overrides).wait():
            sys.exit((folder / "killed.log").read_text()[-3000:])
        wanted, found = state_of(folder / "undisturbed"), state_of(folder / "killed")
        differing = [what for what in wanted if found.get(what) != wanted[what]]
        left = left_running(folder / "killed", folder / "home")
        print(f"processes that outlived their kill: {outlived}")
        print(f"audit: {len(found['audit'])} decisions, {len(wanted['audit'])} in the undisturbed year")
        print(f"left running: {left}")
        print(f"what differs from the undisturbed year: {differing or 'nothing'}")


if __name__ == "__main__":
    main()
