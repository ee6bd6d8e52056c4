"""How long the metrics take on one core: all of them with 2,000 draws on 1,000 scans, and ECE on 10^6 rows.

    OMP_NUM_THREADS=1 python tests/benchmarks/metrics.py

torchmetrics is no dependency; where it is installed, its ECE runs beside ours and must give the
same number.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from pipeline.evaluation.inference.intervals import bootstrap
from pipeline.evaluation.metrics import METRICS, expected_calibration_error
from pipeline.evaluation.metrics.sample import Sample


def simulated(scans: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return overconfident probabilities and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=1.5, size=(scans, classes))
    posterior = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random(scans)[:, None] > posterior.cumsum(axis=1)[:, :-1]).sum(axis=1)
    sharp = posterior**1.7
    return sharp / sharp.sum(axis=1, keepdims=True), labels


def best_of(repeats: int, call: Callable[[], object]) -> float:
    """Return the shortest wall time in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print seconds of all metrics together, of each alone, and of ECE on many rows."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    probabilities, labels = simulated(1_000, 3)
    subjects = [f"s{n // 2}" for n in range(1_000)]
    seconds = best_of(1, lambda: bootstrap(probabilities, labels, subjects))
    print(
        f"all {len(METRICS)} metrics, 1,000 scans of 500 subjects, 2,000 draws: {seconds:.2f} s (goal 10 s)"
    )
    for name in METRICS:
        alone = best_of(1, lambda name=name: bootstrap(probabilities, labels, subjects, [name]))
        print(f"    {name:28s} {alone:6.2f} s")

    probabilities, labels = simulated(1_000_000, 3)
    print(f"ECE on 10^6 rows: {best_of(5, lambda: expected_calibration_error(probabilities, labels)):.3f} s")
    print(f"    of which the check of the input: {best_of(5, lambda: Sample(probabilities, labels)):.3f} s")
    try:
        import torch
        from torchmetrics.functional.classification import multiclass_calibration_error
    except ImportError:
        print("    torchmetrics is not installed: no comparison")
        return
    torch.set_num_threads(1)
    p, y = torch.from_numpy(probabilities), torch.from_numpy(labels)
    theirs = best_of(5, lambda: multiclass_calibration_error(p, y, num_classes=3, n_bins=15))
    print(f"    torchmetrics: {theirs:.3f} s")


if __name__ == "__main__":
    main()
