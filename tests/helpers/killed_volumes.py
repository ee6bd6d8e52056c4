"""Volumes of a few bytes that are prepared for training, and processes that are killed while they do it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from pipeline.config import PreprocessingSettings
from pipeline.learning import loading, row_files
from pipeline.learning.loading import load_volumes
from pipeline.scan import Cohort, Scan

SETTINGS = PreprocessingSettings(spacing_mm=8, suvr_max=4)
FORK = multiprocessing.get_context("fork")


class Clinic:
    """Scans whose volumes are a few bytes, prepared by a function that notes each scan before it begins."""

    def __init__(self, folder: Path) -> None:
        self.cache, self._folder, self._notes = folder / "cache", folder / "scans", folder / "notes"
        self._folder.mkdir()
        self.pause = 0.0

    def cohort(self, *numbers: int) -> Cohort:
        """Return these scans; those that are not there are made."""
        for n in numbers:
            if not self._path(n).exists():
                self.change(n, f"scan {n}")
        return Cohort(
            tuple(Scan(f"{n:02d}", "M00", self._path(n), diagnosis="CN") for n in numbers), ("CN", "AD")
        )

    def change(self, number: int, content: str) -> None:
        """Write other bytes to a scan."""
        self._path(number).write_text(content)

    def prepare(self, scan: Scan, how: Any) -> np.ndarray:
        """Stand in for `loading._prepare`."""
        with self._notes.open("a") as notes:
            notes.write(f"{int(scan.subject)}\n")
        time.sleep(self.pause)
        seed = int.from_bytes(scan.path.read_bytes(), "little")
        return np.random.default_rng(seed).random(how.in_shape, dtype=np.float32)

    def prepared(self) -> list[int]:
        """Return the scans that were prepared since the last call, in order."""
        found = [int(line) for line in self._notes.read_text().split()] if self._notes.exists() else []
        self._notes.unlink(missing_ok=True)
        return found

    def load(self, *numbers: int, progress: loading.Progress | None = None) -> bytes:
        """Return the bytes of the file of a cohort."""
        volumes = load_volumes(self.cohort(*numbers), SETTINGS, self.cache, progress).volumes
        return Path(str(volumes.filename)).read_bytes()

    def parts(self) -> list[Path]:
        """Return the files that are not finished."""
        return list(self.cache.glob("*.part"))

    def leftovers(self) -> list[str]:
        """Return the files of the cache that are neither volumes with their index nor the lock."""
        whole = {path.stem for path in self.cache.glob("*.npy")}
        names = sorted(path.name for path in self.cache.iterdir() if path.name != ".lock")
        return [n for n in names if not (Path(n).stem in whole and Path(n).suffix in (".npy", ".json"))]

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.nii.gz"


def killed(work: Callable[[], object]) -> bool:
    """Run work in a process of its own; return whether it was killed, not done."""
    with tempfile.TemporaryFile("w+") as failure:

        def watched() -> None:
            try:
                work()
            except BaseException:  # noqa: BLE001 - the parent says what went wrong
                traceback.print_exc(file=failure)
                failure.flush()
                os._exit(1)
            # What other tests left to be done at the end of their process is not for a copy of it: there,
            # their threads are gone, and an error would end it with 1 and without a word.
            os._exit(0)

        process = FORK.Process(target=watched)
        process.start()
        process.join(240)
        failure.seek(0)
        assert process.exitcode in (0, -signal.SIGKILL), f"ended with {process.exitcode}: {failure.read()}"
        return process.exitcode != 0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_line(number: int, work: Callable[[], object]) -> None:
    """Do work, and kill this process before the given line of the code that prepares volumes."""
    left = iter(range(number))

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in (loading.__file__, row_files.__file__):
            return None
        if event == "line" and next(left, None) is None:
            die()
        return trace

    sys.settrace(trace)
    work()


def in_the_middle_of_row(number: int, work: Callable[[], object]) -> None:
    """Do work, and kill this process when half of the bytes of its row are written."""
    put, begun = row_files._put, iter(range(2 * number))

    def half(file: Any, place: int, written: Any) -> None:
        if next(begun, None) is None:
            put(file, place, bytes(written)[: len(bytes(written)) // 2])
            die()
        put(file, place, written)

    row_files._put = half
    work()
