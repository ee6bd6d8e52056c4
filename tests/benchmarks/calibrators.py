"""What calibrators cost in time, and what they gain on held-out scans where few scans calibrate.

    OMP_NUM_THREADS=1 python tests/benchmarks/calibrators.py [--draws 100] [--logits ../shared/data/logits]
    OMP_NUM_THREADS=1 python tests/benchmarks/calibrators.py --peers

First table: processor time of fitting 100,000 x 5 logits, median, runs in turn, as a ratio to scikit-learn's
temperature. Then, for every set of logits and number of calibration scans: held-out NLL minus that of the
softmax alone, mean over draws, with the half-width of its 95 % interval for the shipped calibrator, and that
one's 95th percentile. Simulated sets have three classes and 5,000 held-out scans; of a real network's logits
up to 2,000 scans that were not drawn are held out. Sets of 100 classes have a tenth of the draws. The draw d
of n scans has the seed [n, d].

Goals: where nothing is wrong and 50 scans calibrate, mean harm at most .010 and its 95th percentile at most
.04; elsewhere at least 80 % of the gain of the best single candidate; on real logits, from 100 scans on, not
behind one temperature by more than .006 on any set, and ahead on average.

With `--peers` only this: the same calibrators of netcal and probmetrics (with numba), where installed
(neither is a dependency of the project): largest difference of a held-out probability, and fitting time.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from sklearn.calibration import _TemperatureScaling

from models.calibrators import CALIBRATORS, build_calibrator, log_softmax, softmax

SCANS = (30, 50, 100, 200, 500)
HELD_OUT = 5_000
MOST_HELD_OUT = 2_000
SHIPPED = "**ATS, offsets (ships)**"
RIVALS: dict[str, tuple[str, dict[str, object]]] = {
    "T, ML": ("temperature", {"prior": None}),
    "T, prior": ("temperature", {}),
    "plain ATS": ("adaptive_temperature", {"plain": True}),
    "ATS": ("adaptive_temperature", {"offsets": False}),
    SHIPPED: ("adaptive_temperature", {}),
    "BCTS": ("bias_corrected_temperature", {}),
    "vector": ("vector", {}),
}
Three = tuple[float, float, float]
EVEN = (1.0, 1.0, 1.0)
SPOILS: dict[str, tuple[float | None, Three, Three]] = {
    "nothing wrong": (1.0, (0, 0, 0), EVEN),
    "nothing wrong, classes 6:3:1": (1.0, (0, 0, 0), (6, 3, 1)),
    "1.5 x": (1.5, (0, 0, 0), EVEN),
    "2.5 x": (2.5, (0, 0, 0), EVEN),
    "0.8 x": (0.8, (0, 0, 0), EVEN),
    "grows with confidence": (None, (0, 0, 0), EVEN),
    "offsets as of GCE": (1.2, (1.1, 0.0, -0.5), EVEN),
    "6:3:1, shares half learned": (1.2, (-0.9, -0.55, 0.0), (6, 3, 1)),
}
"""By what logits are too large (None: the more, the surer the scan), class offsets added to them, and odds of
the classes."""

PEERS: tuple[tuple[str, str, dict[str, object], str, dict[str, object]], ...] = (
    ("netcal.scaling TemperatureScaling", "temperature", {"prior": None}, "transform", {}),
    ("netcal.binning IsotonicRegression", "isotonic", {}, "transform", {}),
    ("netcal.binning HistogramBinning", "histogram", {"scheme": "width"}, "transform", {"bins": 10}),
    (
        "probmetrics.calibrators TemperatureScalingCalibrator",
        "temperature",
        {"prior": None},
        "predict_proba",
        {"opt": "bisection"},
    ),
    ("probmetrics.calibrators ETSCalibrator", "ensemble_temperature", {}, "predict_proba", {"loss": "ce"}),
    ("probmetrics.calibrators VectorScalingCalibrator", "vector", {"ridge": 0.0}, "predict_proba", {}),
    ("probmetrics.calibrators DirichletCalibrator", "dirichlet", {}, "predict_proba", {"n_cv": 0}),
)
"""Module and class of the peer, our name and options, how the peer answers, and its options."""

Set = Callable[[int, int], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]
"""Logits and labels to calibrate on and to be judged by, from a number of scans and of the draw."""


def simulated(factor: float | None, offsets: Three, odds: Three = EVEN) -> Set:
    """Return a set whose labels are drawn from the softmax of its logits before they were spoiled."""

    def some(rng: np.random.Generator, scans: int) -> tuple[np.ndarray, np.ndarray]:
        logits = rng.normal(size=(scans, 3)) * 1.8 + np.log(odds)
        posterior = softmax(logits)
        labels = (posterior.cumsum(axis=1) > rng.random((scans, 1))).argmax(axis=1)
        grown = 0.7 + 4.5 * (posterior.max(axis=1, keepdims=True) - 1 / 3) ** 2
        return logits * (grown if factor is None else factor) + offsets, labels

    def draw(scans: int, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng([scans, number])
        return (*some(rng, scans), *some(rng, HELD_OUT))

    return draw


def real_sets(folder: Path) -> Iterator[tuple[str, Set]]:
    """Yield the logits of real networks in a folder."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for path in sorted(folder.glob("expected_cost/*/scores.npy")):
        found[path.parent.name] = np.load(path), np.load(path.with_name("targets.npy"))
    for path in sorted(folder.glob("*/*.npz")):
        stored = np.load(path, allow_pickle=False)
        if "test_logits" in stored:
            found[f"{path.parent.name} {path.stem}"] = stored["test_logits"], stored["test_labels"]
        else:
            found[f"{path.parent.name} {path.stem}"] = (
                np.log(np.maximum(stored["predictions"], 1e-12)),
                stored["ground_truth"],
            )
    for name, (logits, labels) in found.items():

        def draw(scans: int, number: int, z: np.ndarray = logits, y: np.ndarray = labels) -> tuple:
            order = np.random.default_rng([scans, number]).permutation(len(z))
            own, other = order[:scans], order[scans : scans + MOST_HELD_OUT]
            return z[own], y[own].astype(int), z[other], y[other].astype(int)

        yield name, draw


def nll(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log-likelihood."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-15)).mean())


def fit_seconds(repeats: int) -> dict[str, float]:
    """Return the median processor time of fitting on 100,000 x 5 logits."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(100_000, 5)) * 3
    labels = (softmax(logits / 2).cumsum(axis=1) > rng.random((len(logits), 1))).argmax(axis=1)
    fits = {"scikit-learn temperature": _TemperatureScaling().fit}
    fits |= {name: build_calibrator(name).fit for name in CALIBRATORS if name != "identity"}
    times: dict[str, list[float]] = {name: [] for name in fits}
    for _ in range(repeats):
        for name, fit in fits.items():
            start = time.process_time()
            fit(logits, labels)
            times[name].append(time.process_time() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def compare_peers(scans: int, repeats: int) -> None:
    """Print, for each installed peer, how far it is from the same calibrator here, and both times."""
    draw = simulated(2.0, (0.5, 0, -0.5))
    logits, labels, fresh, truth = draw(scans, 0)
    # Peers take probabilities, whose logarithms are then the logits of both.
    logits, fresh = log_softmax(logits), log_softmax(fresh)
    for peer, name, options, answer, peer_options in PEERS:
        module, kind = peer.split()
        try:
            made = getattr(importlib.import_module(module), kind)(**peer_options)
        except ImportError as error:
            print(f"| {peer} | not compared: {error} |")
            continue
        times: dict[str, list[float]] = {"ours": [], "peer": []}
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for _ in range(repeats):
                start = time.process_time()
                ours = build_calibrator(name, **options).fit(logits, labels)
                times["ours"].append(time.process_time() - start)
                start = time.process_time()
                made.fit(softmax(logits), labels)
                times["peer"].append(time.process_time() - start)
            theirs = np.asarray(getattr(made, answer)(softmax(fresh)), dtype=float)
        p = ours.transform(fresh)
        own, other = (statistics.median(times[who]) * 1000 for who in ("ours", "peer"))
        losses = f"{nll(p, truth):.5f} | {nll(theirs, truth):.5f}"
        print(f"| {peer} | {name} | {np.abs(p - theirs).max():.1e} | {losses} | {own:.1f} | {other:.1f} |")


def differences(drawn: Set, scans: int, draws: int) -> dict[str, np.ndarray]:
    """Return each rival's held-out NLL minus that of the softmax, one value a draw."""
    found: dict[str, list[float]] = {name: [] for name in RIVALS}
    for number in range(draws):
        logits, labels, fresh, truth = drawn(scans, number)
        identity = nll(softmax(fresh), truth)
        for name, (calibrator, options) in RIVALS.items():
            fitted = build_calibrator(calibrator, **options).fit(logits, labels)
            found[name].append(nll(fitted.transform(fresh), truth) - identity)
    return {name: np.array(values) for name, values in found.items()}


def main() -> None:
    """Print the tables and whether the goals are met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--logits", type=Path, default=Path("../shared/data/logits"))
    parser.add_argument("--scans", type=int, nargs="+", default=list(SCANS))
    parser.add_argument("--peers", action="store_true")
    asked = parser.parse_args()
    if asked.peers:
        print("| peer | here | largest difference | NLL, here | NLL, peer | ms, here | ms, peer |")
        print("|---|" + "---|" * 6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the peers
            compare_peers(5_000, asked.repeats)
        return
    seconds = fit_seconds(asked.repeats)
    for name, median in seconds.items():
        ratio = median / seconds["scikit-learn temperature"]
        print(f"{name:28s} {median * 1000:8.1f} ms   {ratio:6.2f} x scikit-learn")
    print("\n| logits | scans | draws | " + " | ".join(RIVALS) + " | ships, 95th percentile |")
    print("|---|---|---|" + "---|" * (len(RIVALS) + 1))
    behind, short = [], []
    sets = {name: simulated(*spoil) for name, spoil in SPOILS.items()} | dict(real_sets(asked.logits))
    for title, drawn in sets.items():
        for scans in asked.scans:
            fresh = drawn(scans, 0)[2]
            if title not in SPOILS and len(fresh) < 100:
                continue
            draws = asked.draws if fresh.shape[1] < 100 else max(asked.draws // 10, 2)
            found = differences(drawn, scans, draws)
            means = {name: float(values.mean()) for name, values in found.items()}
            shipped = found[SHIPPED]
            half = 1.96 * shipped.std(ddof=1) / np.sqrt(draws)
            cells = [f"{mean:+.3f}" + (f" ± {half:.3f}" if n == SHIPPED else "") for n, mean in means.items()]
            row = " | ".join([title, str(scans), str(draws), *cells, f"{np.quantile(shipped, 0.95):+.3f}"])
            print(f"| {row} |", flush=True)
            if title not in SPOILS and scans >= 100:
                behind.append((means[SHIPPED] - means["T, ML"], title, scans))
            if min(means.values()) < -0.01 and means[SHIPPED] > 0.8 * min(means.values()):
                share = means[SHIPPED] / min(means.values())
                short.append(f"{title}, {scans} scans: {share:.0%} of the gain of the best")
    print("\nLess than 80 % of the best gain (where it is above .01):", "; ".join(short) or "nowhere")
    if behind:
        most = max(behind)
        print(f"Real logits, 100 scans and more: behind one temperature by at most {most[0]:+.4f} {most[1:]}")
        print(f"mean over these sets and sizes {np.mean([b[0] for b in behind]):+.4f}")


if __name__ == "__main__":
    main()
