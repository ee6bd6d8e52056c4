"""What a running comparison shows: a table of losses by seeds, or a line for each cell."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from flows.comparison import progress
from flows.comparison.cells import PROGRESS, Cell
from flows.comparison.progress import ProgressGrid, ProgressLines
from pipeline.config import LossSettings
from pipeline.files import write_json

HISTORY = {"history": [{"validation_nll": 0.75}, {"validation_nll": 0.5}], "best_epoch": 0}


@pytest.fixture
def cells(tmp_path) -> list[Cell]:
    return [
        Cell(LossSettings(name=loss), seed, 0, Path(tmp_path, f"{loss}-seed{seed}"), "")
        for seed in (0, 1)
        for loss in ("ce", "gce")
    ]


def shown(grid: ProgressGrid) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(grid.table())
    return console.export_text()


def test_the_live_table_shows_what_waits_runs_is_done_and_failed(cells):
    waiting, running, stale, broken = cells
    write_json(running.folder / PROGRESS, {"round": "now", "epoch": 3, "epochs": 12, "nll": 0.5})
    write_json(stale.folder / PROGRESS, {"round": "before", "epoch": 9, "epochs": 12, "nll": 0.5})
    grid = ProgressGrid(cells, cells, "now")
    grid.failed(broken, "on purpose")
    text = shown(grid)
    assert "0 of 4 cells done" in text
    assert "epoch 3 of 12" in text
    assert text.count("waiting") == 2
    assert text.count("failed") == 1
    write_json(waiting.folder / "training" / "training.json", HISTORY)
    grid.done(waiting)
    assert "NLL 0.750" in shown(grid)


def test_lines_count_the_cells_and_state_the_outcome(cells, monkeypatch):
    printed: list[str] = []
    monkeypatch.setattr(progress, "say", printed.append)
    write_json(cells[0].folder / "training" / "training.json", HISTORY)
    lines = ProgressLines(4, 1)
    lines.done(cells[0])
    lines.failed(cells[1], "on purpose")
    assert printed == [
        "   2 of 4  ce, seed 0: validation NLL 0.750 after 2 epochs",
        "   3 of 4  gce, seed 0: failed, the others continue: on purpose",
    ]
