"""The parts of `gpu.py`: each within its time, and written when it is done."""

from __future__ import annotations

import json
import platform
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import monai
import torch

from pipeline.errors import TaucalError

_SHORTEST = 5.0
"""Seconds in which a part can do anything."""


@dataclass(frozen=True)
class Size:
    """How large everything is.

    `compiled` are the networks that are measured compiled too; parts get `slack` times their seconds.
    """

    networks: tuple[str, ...]
    batches: tuple[int, ...]
    spacing_mm: int
    matrix: int
    repeats: int
    compiled: tuple[str, ...]
    tails: tuple[tuple[str, float, int], ...]
    slack: float = 1


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise a TimeoutError in the block when so many seconds are over."""

    def over(*_: object) -> None:
        raise TimeoutError(f"longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Run:
    """What was measured, until when there is time, on what, and the folder of the results."""

    device: torch.device
    size: Size
    ends: float
    out: Path
    measured: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def part(self, name: str, seconds: float, work: Callable[[], Any]) -> None:
        """Do a part within so many seconds; one that fails is named, and the others go on."""
        seconds = min(self.size.slack * seconds, self.ends - time.monotonic())
        if seconds < _SHORTEST:
            self.left_out.append(f"{name}: no time left")
            return
        try:
            with _at_most(seconds):
                self.measured[name] = work()
        except (RuntimeError, ValueError, TimeoutError, TaucalError) as error:  # no memory is a RuntimeError
            self.left_out.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
        if self.device.type == "cuda":
            torch.compiler.reset()  # or later parts would run as the first shapes were compiled
            torch.cuda.empty_cache()
        print(f"{name}: {self.measured[name]}" if name in self.measured else self.left_out[-1], flush=True)
        self.write()

    def write(self) -> None:
        """Write what is known, so that nothing is lost with the machine."""
        tiny = self.device.type == "cpu"
        found = {
            "device": "CPU" if tiny else torch.cuda.get_device_name(self.device),
            "cuda": torch.version.cuda,
            "torch": torch.__version__,
            "monai": monai.__version__,
            "python": platform.python_version(),
            "tiny": tiny,
            "measured": self.measured,
            "left_out": self.left_out,
        }
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "gpu.json").write_text(json.dumps(found, indent=2) + "\n")
        (self.out / "gpu.md").write_text(table(found))

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], Any]) -> float:
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start


def table(found: dict[str, Any]) -> str:
    """Return what was measured as a table in Markdown."""
    lines = [
        f"{found['device']}, torch {found['torch']}, MONAI {found['monai']}, Python {found['python']}"
        + ("; **tiny, on a CPU: these figures mean nothing**" if found["tiny"] else ""),
        "",
        "| network, batch | scans/s | plain float32 loop | ratio | busy | share of bf16 peak | peak GiB |",
        "|---|---|---|---|---|---|---|",
    ]
    nan = float("nan")
    for name, row in found["measured"].items():
        if name.startswith("speed "):
            lines.append(
                f"| {name.removeprefix('speed ')} | {row['ours_scans_per_second']:.1f} | "
                f"{row['plain_scans_per_second']:.1f} | {row['ratio']:.2f} | {row['device_busy']:.2f} | "
                f"{row.get('share_of_peak', nan):.2f} | {row.get('peak_memory_gib', nan):.1f} |"
            )
    lines += ["", "| measured | value |", "|---|---|"]
    lines += [
        f"| {k} | {json.dumps(v)} |" for k, v in found["measured"].items() if not k.startswith("speed ")
    ]
    lines += [f"| left out | {text} |" for text in found["left_out"]]
    return "\n".join(lines) + "\n"
