"""Epochs of trainings in other processes: a worker notes them in a file, and a thread here reads it."""

from __future__ import annotations

import contextlib
import contextvars
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

EPOCHS = "epochs.jsonl"
"""In the folder of a training: a line of JSON for each epoch since it was last begun or resumed."""
_LOOK_EVERY_SECONDS = 2.0

ShowEpoch = Callable[[int, int, Mapping[str, float]], object]
"""Called with the index of the training, the epoch counted from 1, and its metrics."""


def note_epoch(folder: Path, epoch: int, metrics: Mapping[str, float]) -> None:
    """Note the metrics of an epoch; the first replaces the file of an earlier run."""
    with (folder / EPOCHS).open("w" if epoch == 1 else "a", encoding="utf-8") as stream:
        # The metrics of a training have an epoch of their own, counted from 0.
        stream.write(json.dumps({**metrics, "epoch": epoch}) + "\n")


class Follower:
    """Reads which epochs of several trainings are done, and shows each once.

    Parameters
    ----------
    folders : sequence of Path
        Of the trainings.
    """

    def __init__(self, folders: Sequence[Path], show: ShowEpoch) -> None:
        self._folders, self._show = folders, show
        self._seen = [0] * len(folders)
        self._running: set[int] = set()
        self._lock = threading.Lock()

    def started(self, index: int) -> None:
        """Follow a training from now on; what an earlier one has left is forgotten."""
        with self._lock:
            (self._folders[index] / EPOCHS).unlink(missing_ok=True)
            self._seen[index] = 0
            self._running.add(index)

    def ended(self, index: int) -> None:
        """Show the last epochs of a training, and follow it no more."""
        with self._lock:
            if index in self._running:
                self._look_at(index)
                self._running.remove(index)

    def look(self) -> None:
        """Show the epochs that are new."""
        with self._lock:
            for index in tuple(self._running):
                self._look_at(index)

    def _look_at(self, index: int) -> None:
        try:
            lines = (self._folders[index] / EPOCHS).read_text(encoding="utf-8").split("\n")[:-1]
        except OSError:
            return
        for line in lines[self._seen[index] :]:
            self._seen[index] += 1
            with contextlib.suppress(Exception):  # what is shown of a training never stops it
                metrics = json.loads(line)
                self._show(index, metrics.pop("epoch"), metrics)


@contextlib.contextmanager
def following(folders: Sequence[Path], show: ShowEpoch) -> Iterator[Follower]:
    """Show the epochs of trainings for as long as the block runs."""
    follower, over = Follower(folders, show), threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_EVERY_SECONDS):
            follower.look()

    # The thread needs the settings of this one: which Prefect server records the run.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(watch,), daemon=True)
    thread.start()
    try:
        yield follower
    finally:
        over.set()
        thread.join()
