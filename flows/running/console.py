"""What the user sees: progress and sentences on standard error, results on standard output."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # rich is imported where a table or a bar is drawn: a wrong option is answered without it
    from rich.console import Console

_WIDTH_OF_FILES = 150

Tick = Callable[[int, int, str], None]
"""Called with (done, total, note beside the bar)."""


@dataclass
class Chosen:
    """What the user has asked to see."""

    quiet: bool = False
    """Only errors, warnings and the result."""
    verbose: bool = False
    """Log messages of the libraries, and the traceback of an error."""
    json: bool = False
    """The result as JSON instead of a table."""


chosen = Chosen()


@functools.cache
def terminal(*, results: bool = False) -> Console:
    """Return the console of standard error, or of standard output for results."""
    from rich.console import Console

    stream = sys.stdout if results else sys.stderr
    width = None if stream.isatty() else _WIDTH_OF_FILES
    return Console(stderr=not results, highlight=False, width=width)


def say(sentence: str) -> None:
    """Print one plain sentence, unless the user wants quiet."""
    if not chosen.quiet:
        warn(sentence)


def warn(sentence: str) -> None:
    """Print one plain sentence also where the user wants quiet."""
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201 - a bar that is drawn moves out of the way


@contextlib.contextmanager
def progress(title: str) -> Iterator[Tick]:
    """Show a bar for as long as the block runs; yield the function that moves it."""
    from rich import progress as rich

    columns = (
        rich.TextColumn("  {task.description:<12}", markup=False),
        rich.BarColumn(bar_width=32),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.fields[note]}", markup=False),
    )
    console = terminal()
    hidden = not console.is_terminal
    with rich.Progress(*columns, console=console, transient=hidden, disable=chosen.quiet) as bar:
        task = bar.add_task(title, total=None, note="")

        def tick(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield tick


def show_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """Print a table beside the progress, unless the user wants quiet."""
    if not chosen.quiet:
        _draw(terminal(), title, header, rows)


def show_result(title: str, header: list[str], rows: list[list[str]]) -> None:
    """Print the result of a command as a table on standard output, unless JSON is printed in its place."""
    if not chosen.json:
        _draw(terminal(results=True), title, header, rows)


def emit_json(value: Any) -> None:
    """Write the machine-readable result to standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def _draw(console: Console, title: str, header: list[str], rows: list[list[str]]) -> None:
    """Draw a table; columns that hold only numbers are flush right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for name, column in zip(header, zip(*rows, strict=True), strict=True):
        numbers = all(cell[:1].isdigit() for cell in column)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace("[", "\\[") for cell in row))
    console.print(table)
