"""What a comparison shows while it runs: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from rich.live import Live
from rich.table import Table
from rich.text import Text

from flows.comparison.cells import Cell, progress_of
from flows.running.console import say, terminal

_A_SECOND = 2


@contextlib.contextmanager
def watched(
    cells: Sequence[Cell], todo: Sequence[Cell], of_round: str
) -> Iterator[ProgressLines | ProgressGrid]:
    """Show the cells for as long as the block runs; yield the object that takes their outcomes.

    Parameters
    ----------
    cells : sequence of Cell
        All of the comparison.
    todo : sequence of Cell
        Those that are not done yet.
    of_round : str
        Only epochs of this round of the comparison are shown.
    """
    if not terminal().is_terminal or not todo:
        yield ProgressLines(len(cells), len(cells) - len(todo))
        return
    grid = ProgressGrid(cells, todo, of_round)
    with Live(get_renderable=grid.table, console=terminal(), refresh_per_second=_A_SECOND):
        yield grid


class ProgressLines:
    """One line a cell."""

    def __init__(self, cells: int, done: int) -> None:
        self._cells, self._done = cells, done

    def done(self, cell: Cell) -> None:
        """Print that a cell is finished."""
        self._line(cell, in_words(cell))

    def failed(self, cell: Cell, reason: str) -> None:
        """Print that a cell failed."""
        self._line(cell, f"failed, the others continue: {reason}")

    def _line(self, cell: Cell, words: str) -> None:
        self._done += 1
        say(f"{self._done:>4} of {self._cells}  {cell.title}: {words}")


def in_words(cell: Cell) -> str:
    """Return how a finished cell was trained."""
    curve = cell.learning_curve()
    if curve.validation_nll is None:
        return "done"
    return f"validation NLL {curve.validation_nll:.3f} after {len(curve.history)} epochs"


class ProgressGrid:
    """Losses by seeds; the folds of a seed share a field."""

    def __init__(self, cells: Sequence[Cell], todo: Sequence[Cell], of_round: str) -> None:
        self._round = of_round
        self._losses = list(dict.fromkeys(cell.row for cell in cells))
        self._seeds = list(dict.fromkeys(cell.seed for cell in cells))
        self._at: dict[tuple[str, int], list[Cell]] = {}
        for cell in cells:
            self._at.setdefault((cell.row, cell.seed), []).append(cell)
        waiting = {cell.folder for cell in todo}
        self._nll = {c.folder: c.learning_curve().validation_nll for c in cells if c.folder not in waiting}
        self._failed: set[object] = set()

    def done(self, cell: Cell) -> None:
        """Note a cell that is finished."""
        self._nll[cell.folder] = cell.learning_curve().validation_nll

    def failed(self, cell: Cell, reason: str) -> None:
        """Note a cell that failed; print why above the table."""
        self._failed.add(cell.folder)
        say(f"{cell.title} failed, the others continue: {reason}")

    def table(self) -> Table:
        """Return the current table; epochs are read from the cells' folders."""
        title = (
            f"{len(self._nll)} of {sum(map(len, self._at.values()))} cells done, with their validation NLL"
        )
        table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
        table.add_column("loss")
        for seed in self._seeds:
            table.add_column(f"seed {seed}", no_wrap=True)
        for loss in self._losses:
            table.add_row(Text(loss), *(self._field(self._at.get((loss, seed), [])) for seed in self._seeds))
        return table

    def _field(self, folds: list[Cell]) -> Text:
        if not folds:  # values of a tuned loss are tried with the first seed
            return Text("")
        if any(cell.folder in self._failed for cell in folds):
            return Text("failed", style="red")
        known = [self._nll[cell.folder] for cell in folds if cell.folder in self._nll]
        if len(known) == len(folds):
            finite = [nll for nll in known if nll is not None]
            return Text(f"NLL {sum(finite) / len(finite):.3f}" if finite else "done", style="green")
        so_far = f"{len(known)}/{len(folds)} " if len(folds) > 1 else ""
        for cell in folds:
            state = None if cell.folder in self._nll else progress_of(cell, self._round)
            if state is not None:
                return Text(f"{so_far}epoch {state['epoch']} of {state['epochs']}", style="yellow")
        return Text(so_far + "waiting", style="dim")
