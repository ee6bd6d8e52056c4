"""What a loss costs: an epoch of training with each over one with cross-entropy, same network, same batches.

    OMP_NUM_THREADS=1 python tests/benchmarks/losses_epoch.py [--seconds 60]

Goal: generative cross-entropy at most 1.02. Steps with the two losses alternate, so that a busy machine
slows both alike; processor time, median over steps. Below it, the forward and backward pass of each loss by
itself.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import torch
from torch import nn

from models.losses import LOSSES, Loss, build_loss
from models.networks import build_network

COUNTS = (90, 50, 20)
BATCH, SIDE = 16, (24, 28, 24)  # volumes of 8 mm template voxels are 24 x 28 x 24


def step_seconds(network: nn.Module, loss: Loss, volumes: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the processor time of one training step without the optimiser's."""
    start = time.process_time()
    network.zero_grad()
    loss(network(volumes), labels).backward()
    return time.process_time() - start


def compared(names: list[str], seconds: float) -> dict[str, list[float]]:
    """Return step times of every loss, taken in turn until the time is up."""
    torch.manual_seed(0)
    network = build_network("small_cnn", len(COUNTS), SIDE)
    volumes, labels = torch.rand(BATCH, 1, *SIDE), torch.arange(BATCH) % len(COUNTS)
    losses = {name: build_loss(name, len(COUNTS), COUNTS) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for loss in losses.values():
        step_seconds(network, loss, volumes, labels)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, loss in losses.items():
            times[name].append(step_seconds(network, loss, volumes, labels))
    return times


def alone_seconds(loss: Loss, repeats: int = 300) -> float:
    """Return the median processor time of a forward and backward pass of a loss by itself."""
    logits, labels = torch.randn(BATCH, len(COUNTS)), torch.arange(BATCH) % len(COUNTS)
    times = []
    for _ in range(repeats):
        leaf = logits.clone().requires_grad_()
        start = time.process_time()
        loss(leaf, labels).backward()
        times.append(time.process_time() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    times = compared(["ce", "gce"], seconds)
    steps = len(times["ce"])
    ce, gce = (statistics.median(times[name]) for name in ("ce", "gce"))
    paired = [b / a for a, b in zip(times["ce"], times["gce"], strict=True)]
    print(f"small_cnn, batch {BATCH} of {SIDE}, {steps} steps each, one core")
    print(f"step with ce {1e3 * ce:.2f} ms, with gce {1e3 * gce:.2f} ms")
    print(f"ratio of medians {gce / ce:.4f} (goal 1.02), of pairs {statistics.median(paired):.4f}")
    print("forward and backward of the loss alone, microseconds:")
    for name in LOSSES:
        print(f"    {name:20s} {1e6 * alone_seconds(build_loss(name, len(COUNTS), COUNTS)):7.0f}")


if __name__ == "__main__":
    main()
