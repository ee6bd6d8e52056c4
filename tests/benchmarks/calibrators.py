"""What calibrators cost in time, and what they and their selection gain on held-out scans.

    OMP_NUM_THREADS=1 python tests/benchmarks/calibrators.py [--draws 40]

Goal of the first table: ATS on 100,000 x 5 logits within five times scikit-learn's temperature. Runs take
turns, so that a busy machine slows all alike; processor time, median. The second table: three classes whose
true posterior is known, held-out NLL above the identity's on 20,000 scans, mean and worst over draws of the
calibration set. After selection (paired) the mean must not be above 0 by more than chance; the usual rule,
within one standard error of the best candidate's own loss (unpaired), stands beside it. Last: how often the
identity, one temperature and ATS were chosen.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from sklearn.calibration import _TemperatureScaling

from models.calibrators import CALIBRATORS, build_calibrator, softmax
from pipeline.evaluation.classifier.selection import CandidateScore, select_calibrator
from pipeline.learning.predictions import Predictions

CANDIDATES = ("identity", "temperature", "adaptive_temperature")
FACTORS = {"nothing wrong": 1.0, "1.15 x": 1.15, "1.5 x": 1.5, "2.5 x": 2.5, "0.8 x": 0.8, "grows": None}
"""By what the logits are too large; None: the more, the surer the scan."""


def simulated(
    rng: np.random.Generator, scans: int, classes: int, factor: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and labels that were drawn from the softmax of the logits before they were spoiled."""
    logits = rng.normal(size=(scans, classes)) * 1.8
    posterior = softmax(logits)
    labels = (posterior.cumsum(axis=1) > rng.random((scans, 1))).argmax(axis=1)
    spoil = 0.7 + 4.5 * (posterior.max(axis=1, keepdims=True) - 1 / 3) ** 2 if factor is None else factor
    return logits * spoil, labels


def fit_seconds(repeats: int) -> dict[str, float]:
    """Return the median processor time of fitting on 100,000 x 5 logits."""
    logits, labels = simulated(np.random.default_rng(0), 100_000, 5, 2.0)
    fits = {"scikit-learn temperature": _TemperatureScaling().fit}
    fits |= {name: build_calibrator(name).fit for name in CALIBRATORS if name != "identity"}
    times: dict[str, list[float]] = {name: [] for name in fits}
    for _ in range(repeats):
        for name, fit in fits.items():
            start = time.process_time()
            fit(logits, labels)
            times[name].append(time.process_time() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def nll(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log-likelihood."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-15)).mean())


def unpaired_choice(scores: tuple[CandidateScore, ...]) -> str:
    """Return what the usual one-standard-error rule would take: within one of the best's own loss."""
    best = min(scores, key=lambda score: score.nll)
    return next(s.name for s in scores if s.nll <= min(best.nll + best.nll_se, scores[0].nll))


def held_out(factor: float | None, scans: int, draws: int) -> tuple[dict[str, list[float]], list[str]]:
    """Return NLL above the identity's of each calibrator and rule, and what the paired rule chose."""
    found: dict[str, list[float]] = {}
    chosen = []
    for draw in range(draws):
        rng = np.random.default_rng([scans, draw])
        logits, labels = simulated(rng, scans, 3, factor)
        fresh, truth = simulated(rng, 20_000, 3, factor)
        names = tuple(map(str, range(scans)))
        features = np.zeros((scans, 1), np.float32)
        selection = select_calibrator(
            Predictions(names, names, logits, labels, features, ("CN", "MCI", "AD")), CANDIDATES, 5, draw
        )
        chosen.append(selection.chosen)
        fitted = {name: build_calibrator(name).fit(logits, labels) for name in CANDIDATES}
        losses = {name: nll(calibrator.transform(fresh), truth) for name, calibrator in fitted.items()}
        losses |= {"paired": losses[selection.chosen], "unpaired": losses[unpaired_choice(selection.scores)]}
        for name, loss in losses.items():
            found.setdefault(name, []).append(loss - losses["identity"])
    return found, chosen


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    seconds = fit_seconds(arguments.repeats)
    for name, median in seconds.items():
        ratio = median / seconds["scikit-learn temperature"]
        print(f"{name:26s} {median * 1000:8.1f} ms   {ratio:6.2f} x scikit-learn")
    print(
        "\nlogits          scans  temperature      ATS              paired           unpaired         chosen"
    )
    for title, factor in FACTORS.items():
        for scans in (50, 200, 1000):
            found, chosen = held_out(factor, scans, arguments.draws)
            cells = [
                f"{np.mean(found[name]):+.4f} {np.max(found[name]):+.4f}"
                for name in ("temperature", "adaptive_temperature", "paired", "unpaired")
            ]
            counts = "/".join(str(chosen.count(name)) for name in CANDIDATES)
            print(f"{title:15s} {scans:5d}  {'   '.join(cells)}   {counts}", flush=True)


if __name__ == "__main__":
    main()
