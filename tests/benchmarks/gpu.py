"""What one GPU does, in ten minutes at most and offline: `python tests/benchmarks/gpu.py --out FOLDER`.

Noise of the size of scans of 2 mm (96 x 112 x 96) trains DenseNet121 and ResNet-50 by the loop of this
project (bfloat16, channels last, compiled, fused optimiser) and by a plain float32 loop with MONAI's
transforms, in turns within one run. Then: the share of the card's measured bfloat16 peak, augmentation on the
card and on the CPU, GCE over CE, the memory of micro-batches, one scan's inference, the tests that need a
GPU, and cells of `long_tails.py` while there is time. What does not fit into ``--minutes`` is left out and
named. It writes ``gpu.json`` and ``gpu.md``.

Goals: 5 times the plain loop; half of the peak on the convolutions; the card busy 95 % of the time; GCE over
CE 1.02. Without a GPU, ``--tiny`` runs every part on the CPU to see that the script works; its figures mean
nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import monai
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.networks import build_network, run
from pipeline.config import AugmentationSettings
from pipeline.errors import TaucalError
from pipeline.learning.batches import Batches
from pipeline.learning.devices import mixed_precision, to_device
from pipeline.learning.training_state import initial_state
from tests.benchmarks import long_tails
from tests.benchmarks.training import bare, make_study, make_volumes, ours

_LONGEST_TESTS = 240


@dataclass(frozen=True)
class Size:
    """How large everything is."""

    networks: tuple[str, ...]
    batches: tuple[int, ...]
    spacing_mm: int
    matrix: int
    repeats: int
    compiled: bool
    tails: tuple[tuple[str, float, int], ...]


_TAILS = tuple(
    (kind, imbalance, batch)
    for imbalance in (100.0, 50.0, 10.0)
    for kind in ("convolution", "perceptron")
    for batch in long_tails.BATCHES
)
FULL = Size(("densenet121", "resnet50"), (8, 16, 32, 64), 2, 8192, 5, compiled=True, tails=_TAILS)
TINY = Size(("resnet10",), (2,), 8, 256, 1, compiled=False, tails=_TAILS[3:4])


@dataclass
class Run:
    """What was measured, until when there is time, and on what."""

    device: torch.device
    size: Size
    ends: float
    measured: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def part(self, name: str, work: Callable[[], Any]) -> None:
        """Do a part if there is time; one that fails is named, and the others go on."""
        if time.monotonic() > self.ends:
            self.left_out.append(f"{name}: no time left")
            return
        try:
            self.measured[name] = work()
        except (RuntimeError, ValueError, TaucalError) as error:  # out of memory is a RuntimeError
            self.left_out.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        print(f"{name}: {self.measured.get(name, self.left_out[-1] if self.left_out else '')}", flush=True)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], Any]) -> float:
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start


def peak_flops(this: Run) -> float:
    """Return the largest rate of a bfloat16 product of two square matrices, in operations a second."""
    n = this.size.matrix
    a, b = (torch.randn(n, n, device=this.device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    return 2 * n**3 / min(this.seconds(lambda: a @ b) for _ in range(10))


def step_flops(this: Run, network: str, scans: int) -> int:
    """Return the operations of one step, forward and backward, of the convolutions and products in it."""
    volumes = make_volumes(scans, this.size.spacing_mm)
    state = initial_state(volumes, make_study(network, batch_size=scans), this.device)
    x = to_device(torch.from_numpy(volumes.volumes)[:, None], this.device)
    with FlopCounterMode(display=False) as counter, mixed_precision(this.device):
        state.network(x).float().sum().backward()
    return int(counter.get_total_flops())


def speed(this: Run, network: str, batch: int) -> dict[str, float]:
    """Return scans a second of both loops, their ratio, the first epoch, and the share of the peak."""
    volumes = make_volumes(4 * batch, this.size.spacing_mm)
    device = str(this.device.type)
    study = make_study(
        network, loss={"name": "gce"}, batch_size=batch, compile=this.size.compiled, device=device
    )
    mine, plain = (
        ours(volumes, study, this.device),
        bare(volumes, make_study(network, batch_size=batch), this.device),
    )
    first, _ = this.seconds(mine), this.seconds(plain)
    times = [(this.seconds(mine), this.seconds(plain)) for _ in range(this.size.repeats)]
    rate, other = (len(volumes) / statistics.median(t[k] for t in times) for k in (0, 1))
    found = {
        "ours_scans_per_second": rate,
        "plain_scans_per_second": other,
        "ratio": statistics.median(b / a for a, b in times),
        "first_epoch_seconds": first,
        "device_busy": _busy(this, study, volumes, 4 * batch / rate),
    }
    if this.device.type == "cuda":
        found["peak_memory_gib"] = torch.cuda.max_memory_allocated(this.device) / 2**30
        torch.cuda.reset_peak_memory_stats(this.device)
    peak = this.measured.get("peak_flops")
    if peak:
        found["share_of_peak"] = step_flops(this, network, 3) / 3 * rate / peak
    return found


def _busy(this: Run, study: Any, volumes: Any, epoch_seconds: float) -> float:
    """Return the time that an epoch's steps take with their data on the device, over that of an epoch."""
    state = initial_state(volumes, study, this.device)
    batches = list(
        Batches(
            volumes, study.augmentation, study.training.batch_size, "natural", study.seed, device=this.device
        ).epoch(0)
    )
    there = [(to_device(b.volumes, this.device), b.labels.to(this.device)) for b in batches]

    def steps() -> None:
        for x, y in there:
            state.optimizer.zero_grad()
            with mixed_precision(this.device):
                logits = state.step(x)
            state.loss(logits.float(), y).backward()
            state.optimizer.step()

    steps()
    return min(1.0, min(this.seconds(steps) for _ in range(this.size.repeats)) / epoch_seconds)


def augmentation(this: Run) -> dict[str, float]:
    """Return augmented scans a second: batches changed on the device, and scan by scan on the CPU."""
    volumes = make_volumes(4 * this.size.batches[0], this.size.spacing_mm)
    found = {}
    for name, device in (("device", this.device), ("cpu", torch.device("cpu"))):
        batches = Batches(
            volumes, AugmentationSettings(), this.size.batches[0], "natural", 0, workers=8, device=device
        )
        took = [this.seconds(lambda all_of=batches: list(all_of.epoch(1))) for _ in range(2)]
        found[f"{name}_scans_per_second"] = len(volumes) / min(took)
    return found


def gce_over_ce(this: Run) -> dict[str, float]:
    """Return the time of an epoch with GCE over one with CE, their epochs in turns."""
    batch, network = this.size.batches[min(1, len(this.size.batches) - 1)], this.size.networks[0]
    volumes = make_volumes(4 * batch, this.size.spacing_mm)
    gce, ce = (
        ours(volumes, make_study(network, loss={"name": name}, batch_size=batch), this.device)
        for name in ("gce", "ce")
    )
    gce(), ce()
    ratios = [this.seconds(gce) / this.seconds(ce) for _ in range(max(3, this.size.repeats))]
    return {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def micro_batches(this: Run) -> dict[str, float]:
    """Return peak memory and time of a step of the largest batch, whole and in micro-batches."""
    batch = this.size.batches[-1]
    volumes = make_volumes(max(3, batch), this.size.spacing_mm)  # one of each class
    options = {"options": {"norm": "instance"}} if this.size is FULL else {}
    found = {}
    for micro in (None, max(1, batch // 8)):
        study = make_study(this.size.networks[0], batch_size=batch, micro_batch=micro)
        network = study.network.model_copy(update=options or {"name": "small_cnn"})
        epoch = ours(volumes, study.model_copy(update={"network": network}), this.device)
        epoch()
        if this.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(this.device)
        word = "whole" if micro is None else f"micro_{micro}"
        found[f"{word}_seconds"] = this.seconds(epoch)
        if this.device.type == "cuda":
            found[f"{word}_peak_gib"] = torch.cuda.max_memory_allocated(this.device) / 2**30
    return found


def inference(this: Run, network: str) -> float:
    """Return the milliseconds of one scan's prediction, its transfer included."""
    volumes = make_volumes(1, this.size.spacing_mm)
    net = build_network(network, 3, volumes.in_shape).to(this.device)
    run(net, volumes.volumes)
    return 1000 * statistics.median(this.seconds(lambda: run(net, volumes.volumes)) for _ in range(10))


def long_tail(this: Run, kind: str, imbalance: float, batch: int) -> dict[str, str]:
    """Return a cell of `long_tails.py` on the digits, and the seconds that its networks took."""
    part, logits = long_tails.draw("digits", imbalance), []
    took = this.seconds(lambda: logits.append(long_tails.train(kind, part, batch, this.device)))
    return {"seconds": f"{took:.1f}"} | long_tails.summary(long_tails.measures(logits[0], part))


def gpu_tests(this: Run) -> str:
    """Run the tests that need a GPU; return pytest's last line."""
    root = Path(__file__).resolve().parents[2]
    seconds = min(_LONGEST_TESTS, max(30, this.ends - time.monotonic()))
    call = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    call.append("tests" if this.size is FULL else "tests/models")
    try:
        done = subprocess.run(call, cwd=root, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not finished after {seconds:.0f} s") from None
    return done.stdout.strip().splitlines()[-1]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.md")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--tiny", action="store_true", help="every part on the CPU, small")
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --tiny runs every part on the CPU")
    device = torch.device("cpu" if options.tiny else "cuda")
    size = TINY if options.tiny else FULL
    this = Run(device, size, time.monotonic() + 60 * options.minutes)
    this.part("peak_flops", lambda: peak_flops(this))
    for batch in size.batches:
        for network in size.networks:
            this.part(f"speed {network}, {batch}", lambda n=network, b=batch: speed(this, n, b))
    this.part("augmentation", lambda: augmentation(this))
    this.part("gce_over_ce", lambda: gce_over_ce(this))
    this.part("micro_batches", lambda: micro_batches(this))
    for network in size.networks:
        this.part(f"inference_ms {network}", lambda n=network: inference(this, n))
    this.part("gpu_tests", lambda: gpu_tests(this))
    for kind, imbalance, batch in size.tails:
        this.part(
            f"long tail: digits, {kind}, {imbalance:g}, batch {batch or 'full'}",
            lambda k=kind, i=imbalance, b=batch: long_tail(this, k, i, b),
        )
    found = {
        "device": "CPU" if options.tiny else torch.cuda.get_device_name(device),
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "monai": monai.__version__,
        "python": platform.python_version(),
        "tiny": options.tiny,
        "measured": this.measured,
        "left_out": this.left_out,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gpu.json").write_text(json.dumps(found, indent=2) + "\n")
    (options.out / "gpu.md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
