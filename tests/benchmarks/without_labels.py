"""How strong a prior the class shares need where labels are missing.

    python tests/benchmarks/without_labels.py

Periods of 31 or 60 scans of the phantom's population, at the class shares of training and with AD twice and
thrice as frequent, are predicted by a noisy classifier: the true log-posterior, 1.2 times too large and with
noise, calibrated by adaptive temperature scaling on 100 other scans. `expected_performance` states what to
expect, with so many scans of known class beside the period's. A prior is good if intervals hold what the
labels show (goal: 90 %), are narrow, and their middle is near it.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np

from models.calibrators import build_calibrator
from models.interval import calibrator_draws
from pipeline.evaluation.metrics import accuracy, negative_log_likelihood
from pipeline.evaluation.monitoring import without_labels
from pipeline.evaluation.monitoring.without_labels import Unlabelled, expected_performance
from pipeline.phantom.population import PRESETS, posterior, sample_classes

PRESET = PRESETS["three_class"]
SHARES = {"as trained": PRESET.prevalence, "AD x 2": (0.488, 0.292, 0.220), "AD x 3": (0.35, 0.35, 0.30)}
SIZES = ((0.9, 31), (0.9, 60), (0.3, 60))
"""Standard deviation of the noise of the logits, and scans of a period."""
MEASURES = {"accuracy": "accuracy", "negative_log_likelihood": "NLL", "coverage": "coverage"}
_ROUNDING = 1e-9


def logits_of(
    scans: int, shares: tuple[float, ...], noise: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and labels of scans whose classes have these shares."""
    labels, stage, typical = sample_classes(PRESET, 20 * scans, rng)
    weights = (np.asarray(shares) / np.asarray(PRESET.prevalence))[labels]
    chosen = rng.choice(len(labels), scans, replace=False, p=weights / weights.sum())
    true = np.log(posterior(PRESET, stage[chosen], typical[chosen]))
    return 1.2 * true + noise * rng.standard_normal(true.shape), labels[chosen]


def make_period(
    scans: int, shares: tuple[float, ...], noise: float, seed: int
) -> tuple[Unlabelled, dict[str, float]]:
    """Return a period without labels, and what its labels show."""
    rng = np.random.default_rng([seed, 5])
    z, y = logits_of(100, PRESET.prevalence, noise, rng)
    calibrator = build_calibrator("adaptive_temperature").fit(z, y)
    z_period, labels = logits_of(scans, shares, noise, rng)
    p = calibrator.transform(z_period)
    sets = (p > 0.15) | (p == p.max(axis=1, keepdims=True))
    drawn = calibrator_draws([calibrator], z_period[None]).reshape(-1, *p.shape)
    trained = np.bincount(y, minlength=p.shape[1]) / len(y)
    shown = {
        "accuracy": accuracy(p, labels),
        "negative_log_likelihood": negative_log_likelihood(p, labels),
        "coverage": float(sets[np.arange(scans), labels].mean()),
    }
    return Unlabelled(p, sets, PRESET.class_names, trained, drawn), shown


def main() -> None:
    """Print a row for each kind of period and strength of the prior."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--prior", type=float, nargs="+", default=[0, 5, 10, 20, 40], help="scans")
    parser.add_argument("--periods", type=int, default=40)
    asked = parser.parse_args()
    print("Each cell: intervals that held what the labels show, median width, mean error of the middle\n")
    print(f"| noise, scans, shares | scans of the prior | {' | '.join(MEASURES.values())} |")
    print("|---|" + "---|" * (1 + len(MEASURES)))
    for noise, scans in SIZES:
        for name, shares in SHARES.items():
            periods = [make_period(scans, shares, noise, seed) for seed in range(asked.periods)]
            none = np.zeros(scans, dtype=bool)
            for prior in asked.prior:
                without_labels.KNOWN_SCANS = prior  # the setting that this chooses
                found = defaultdict(list)
                for seed, (period, shown) in enumerate(periods):
                    values = expected_performance(period, none, none, draws=150, seed=seed).values
                    assert values is not None
                    for m in MEASURES:
                        at = values[m]
                        held = at.low - _ROUNDING <= shown[m] <= at.high + _ROUNDING
                        found[m].append((held, at.high - at.low, abs(at.value - shown[m])))
                cells = [
                    f"{np.mean(held):.0%}, {np.median(width):.2f}, {np.mean(error):.3f}"
                    for held, width, error in (zip(*found[m], strict=True) for m in MEASURES)
                ]
                print(f"| {noise}, {scans}, {name} | {prior:g} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
