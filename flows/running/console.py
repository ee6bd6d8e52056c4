"""What the user sees while work goes on: sentences and progress bars on standard error."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

_WIDTH_OF_FILES = 150
console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _WIDTH_OF_FILES)
results = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)
"""For what a command was asked to print; all else goes to standard error."""

Tick = Callable[[int, int, str], None]
"""Called with (done, total, what stands beside the bar)."""


def say(sentence: str) -> None:
    """Print one plain sentence."""
    console.print(sentence, markup=False, soft_wrap=True)


@contextlib.contextmanager
def progress(title: str) -> Iterator[Tick]:
    """Show a bar for as long as the block runs; yield the function that moves it."""
    columns = (
        TextColumn("  {task.description:<12}", markup=False),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None, note="")

        def tick(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield tick


def show_table(title: str, header: list[str], rows: list[list[str]], on: Console = console) -> None:
    """Print a table; columns that hold only numbers stand flush right."""
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for name, column in zip(header, zip(*rows, strict=True), strict=True):
        numbers = all(cell[:1].isdigit() for cell in column)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace("[", "\\[") for cell in row))
    on.print(table)


def emit_json(value: Any) -> None:
    """Write the machine-readable result to standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
