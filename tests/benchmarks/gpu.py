"""What one GPU does, in ten minutes at most and offline: `python tests/benchmarks/gpu.py --out FOLDER`.

Noise of the size of scans of 2 mm (96 x 112 x 96) trains DenseNet121 and ResNet-50 by the loop of this
project (bfloat16, channels last, fused optimiser) and by a plain float32 loop with MONAI's transforms, in
turns within one run. Then: the share of the card's measured bfloat16 peak, augmentation on the card and on
the CPU, GCE over CE, the memory of micro-batches, one scan's inference, the tests that need a GPU, other
batch sizes, compiled networks, and cells of `long_tails.py` while there is time. A part ends when its time
is over, all at ``--minutes``; what did not fit is named. After each part it writes ``gpu.json`` and
``gpu.md``.

Goals: 5 times the plain loop; half of the peak on the convolutions; the card busy 95 % of the time; GCE over
CE 1.02. Without a GPU, ``--tiny`` runs every part on the CPU to see that the script works; its figures mean
nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from models.networks import build_network, run
from pipeline.config import AugmentationSettings
from pipeline.learning.batches import Batches
from pipeline.learning.devices import mixed_precision, to_device
from pipeline.learning.training import _step
from pipeline.learning.training_state import initial_state
from tests.benchmarks import long_tails
from tests.benchmarks.gpu_parts import Run, Size, table
from tests.benchmarks.training import bare, make_study, make_volumes, ours

_USUAL = 32
"""The batch size that is measured first, that of `configs/adni.yaml`."""


_TAILS = tuple(
    (kind, imbalance, batch)
    for imbalance in (100.0, 50.0, 10.0)
    for kind in ("convolution", "perceptron")
    for batch in long_tails.BATCHES
)
FULL = Size(("densenet121", "resnet50"), (8, 16, 32, 64), 2, 8192, 5, ("densenet121", "resnet50"), _TAILS)
TINY = Size(("resnet10",), (2,), 8, 256, 1, ("small_cnn",), _TAILS[3:4], slack=20)


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


def speed(this: Run, network: str, batch: int, *, compiled: bool = False) -> dict[str, float]:
    """Return scans a second of both loops, their ratio, memory and share of the peak of ours."""
    volumes = make_volumes(8 * batch, this.size.spacing_mm)
    few = volumes.subset(volumes.scan_ids[: max(3, 2 * batch)])  # one core augments for the plain loop
    settings = {"loss": {"name": "gce"}, "batch_size": batch, "compile": compiled, "device": this.device.type}
    study = make_study(network, **settings)
    mine = ours(volumes, study, this.device)
    if this.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(this.device)
    found = {"first_epoch_seconds": this.seconds(mine)}
    if this.device.type == "cuda":  # before there is a plain loop, which needs more
        found["peak_memory_gib"] = torch.cuda.max_memory_allocated(this.device) / 2**30
    plain = bare(few, make_study(network, batch_size=batch), this.device)
    this.seconds(plain)
    times = [(this.seconds(mine), this.seconds(plain)) for _ in range(this.size.repeats)]
    epoch = statistics.median(t[0] for t in times)
    if compiled:
        found["compile_seconds"] = found["first_epoch_seconds"] - epoch
    found["ours_scans_per_second"] = len(volumes) / epoch
    found["plain_scans_per_second"] = len(few) / statistics.median(t[1] for t in times)
    found["ratio"] = len(volumes) / len(few) * statistics.median(b / a for a, b in times)
    found["device_busy"] = _busy(this, study, volumes, epoch)
    peak = this.measured.get("peak_flops")
    if peak:
        rate = found["ours_scans_per_second"]
        found["share_of_peak"] = step_flops(this, network, 3) / 3 * rate / peak
    return found


def _busy(this: Run, study: Any, volumes: Any, epoch_seconds: float) -> float:
    """Return the time that an epoch's steps take with their data on the device, over that of an epoch."""
    state, size = initial_state(volumes, study, this.device), study.training.batch_size
    epoch = Batches(volumes, study.augmentation, size, "natural", study.seed, workers=8, device=this.device)
    there = list(epoch.epoch(0))

    def steps() -> None:
        for batch in there:
            _step(state, batch, study.training.learning_rate, study.training)

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
    digits, logits = long_tails.DIGITS, []
    part = long_tails.draw(digits, imbalance)
    took = this.seconds(lambda: logits.append(long_tails.train(kind, digits.shape, part, batch, this.device)))
    return {"seconds": f"{took:.1f}"} | long_tails.summary(long_tails.measures(logits[0], part))


def gpu_tests(this: Run) -> str:
    """Run the tests that need a GPU; return pytest's last line."""
    root = Path(__file__).resolve().parents[2]
    call = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    call.append("tests" if this.size is FULL else "tests/models")
    done = subprocess.run(call, cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines()[-1]


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
    this = Run(device, size, time.monotonic() + 60 * options.minutes, options.out)
    usual, *others = sorted(size.batches, key=lambda batch: batch != _USUAL)
    this.part("peak_flops", 30, lambda: peak_flops(this))
    for network in size.networks:
        this.part(f"speed {network}, {usual}", 90, lambda n=network: speed(this, n, usual))
    this.part("gce_over_ce", 60, lambda: gce_over_ce(this))
    this.part("micro_batches", 60, lambda: micro_batches(this))
    for network in size.networks:
        this.part(f"inference_ms {network}", 20, lambda n=network: inference(this, n))
    this.part("augmentation", 40, lambda: augmentation(this))
    this.part("gpu_tests", 240, lambda: gpu_tests(this))
    for batch in others:
        for network in size.networks:
            this.part(f"speed {network}, {batch}", 75, lambda n=network, b=batch: speed(this, n, b))
    for network in size.compiled:
        name = f"speed {network} compiled, {usual}"
        this.part(name, 180, lambda n=network: speed(this, n, usual, compiled=True))
    for kind, imbalance, batch in size.tails:
        this.part(
            f"long tail: digits, {kind}, {imbalance:g}, batch {batch or 'full'}",
            120,
            lambda k=kind, i=imbalance, b=batch: long_tail(this, k, i, b),
        )
    this.write()
    print(table(json.loads((options.out / "gpu.json").read_text())))


if __name__ == "__main__":
    main()
