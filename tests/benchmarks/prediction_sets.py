"""Prediction sets and plausible ranges of cross-fitted classifiers, on the phantom in image space.

    OMP_NUM_THREADS=1 python tests/benchmarks/prediction_sets.py FOLDER

FOLDER holds what ``cross_fitting.py train`` stored. Sets are fitted on held-out probabilities, as training
does, and judged on test scans, beside sets of the true posterior itself, on the first eight draws. The factor
of the plausible range is chosen on these draws of one loss and checked on later draws and on other losses. It
is to hold the true probability of 83 % of the scans it is chosen on: 80 %, and one standard error of the mean
over draws.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from models.calibrators import Calibrator, build_calibrator
from models.conformal import ConformalSets
from models.ensemble import pooled_logits
from models.interval import RangeFit, calibrator_draws, choose_range_factor, describe_range
from pipeline.evaluation.classifier.selection import held_out_probabilities
from pipeline.learning.predictions import Predictions
from pipeline.phantom.population import PRESETS, posterior, sample_classes

PRESET = PRESETS["three_class"]
METHOD = "adaptive_temperature"
COVERAGES = (0.8, 0.9)
HELD_WHEN_CHOSEN, CHOSEN_DRAWS = 0.83, 8
LARGEST = 2
CHOSEN_ON = "gce1"


@dataclass(frozen=True)
class Fitted:
    """A classifier of one draw: held-out probabilities of its scans, and what it states of test scans."""

    held_out: np.ndarray
    labels: np.ndarray
    calibrator: Calibrator
    members: np.ndarray

    @property
    def stated(self) -> np.ndarray:
        """Return the calibrated probabilities of the test scans."""
        return self.calibrator.transform(pooled_logits(self.members))

    @property
    def drawn(self) -> np.ndarray:
        """Return the probabilities of each network under each draw of the calibrator."""
        return calibrator_draws((self.calibrator,), self.members)


def fit(logits: np.ndarray, labels: np.ndarray, members: np.ndarray, seed: int) -> Fitted:
    """Calibrate held-out logits (N, K) for networks whose logits of test scans are `members` (M, T, K)."""
    ids = tuple(f"sub-{n:04d}" for n in range(len(labels)))
    features = np.zeros((len(labels), 1), dtype=np.float32)
    predictions = Predictions(ids, ids, logits, labels, features, PRESET.class_names)
    probabilities = held_out_probabilities(predictions, METHOD, 5, seed)
    return Fitted(probabilities, labels, build_calibrator(METHOD).fit(logits, labels), members)


def cross_fitted(stored: Mapping[str, np.ndarray], seed: int, repeats: int = 1) -> Fitted:
    """Return the classifier of the first repeats x 5 networks."""
    logits = pooled_logits(stored["held_out"][:repeats])
    return fit(logits, stored["labels"], stored["members_test"][: 5 * repeats], seed)


def split(stored: Mapping[str, np.ndarray], seed: int) -> Fitted:
    """Return the classifier of one network and one calibration part."""
    labels = stored["labels"][stored["split_rows"]]
    return fit(stored["split_calibration"], labels, stored["split_test"][None], seed)


@dataclass(frozen=True)
class Sets:
    """What prediction sets do on test scans.

    Parameters
    ----------
    held : ndarray, shape (K,)
        Share of each class's scans whose set holds the class.
    size, referred : float
        Mean number of classes, and share of sets with more than two.
    contradicted : float
        Share of scans whose most likely class exceeds its threshold: the rule that holds it adds it.
    """

    held: np.ndarray
    size: float
    referred: float
    contradicted: float


def judge(sets: ConformalSets, probabilities: np.ndarray, labels: np.ndarray) -> Sets:
    """Return what the sets do on scans of these probabilities and labels."""
    inside = sets.sets(probabilities)
    held = np.array([inside[labels == k, k].mean() for k in range(inside.shape[1])])
    first = probabilities.argmax(axis=1)
    outside = 1 - probabilities.max(axis=1) > np.array(sets.thresholds)[first]
    sizes = inside.sum(axis=1)
    return Sets(held, float(sizes.mean()), float((sizes > LARGEST).mean()), float(outside.mean()))


def ideal_sets(coverage: np.ndarray, scans: int = 200_000) -> ConformalSets:
    """Return sets of the true posterior that hold each class k in the share ``coverage[k]`` of its scans."""
    labels, stage, typical = sample_classes(PRESET, scans, np.random.default_rng(77))
    p = posterior(PRESET, stage, typical)
    thresholds = [ConformalSets.fit(p, labels, float(c)).thresholds[k] for k, c in enumerate(coverage)]
    return ConformalSets(tuple(thresholds), tuple(np.bincount(labels).tolist()), float(np.mean(coverage)))


def shared_sets(
    probabilities: np.ndarray, labels: np.ndarray, coverage: float, own: float = 0.7
) -> ConformalSets:
    """Return sets whose thresholds borrow from scans of other classes: tried, not used.

    Where probabilities are calibrated, a scan is of class k in the share p_k of its like, so that its score
    says something of the threshold of every class. A scan of the class counts `own` and 1 - `own` times p_k,
    another one the latter alone; the quantile has the mean weight of one more scan, as conformal ones have.
    """
    thresholds = []
    for k, column in enumerate(probabilities.T):
        weights = own * (labels == k) + (1 - own) * column
        order = np.argsort(-column)
        reached = np.cumsum(weights[order])
        wanted = coverage * (reached[-1] + (weights**2).sum() / reached[-1])
        place = min(int(np.searchsorted(reached, wanted - 1e-9)), len(order) - 1)
        thresholds.append(float(1 - column[order][place]))
    return ConformalSets(tuple(thresholds), tuple(np.bincount(labels).tolist()), coverage)


def show_shared(name: str, fits: list[Fitted], labels: np.ndarray, coverage: float) -> None:
    """Print what `shared_sets` hold, their size and the share referred: means over draws."""
    found = [judge(shared_sets(f.held_out, f.labels, coverage), f.stated, labels) for f in fits]
    held = np.mean([f.held for f in found], axis=0).round(3)
    size, referred = np.mean([(f.size, f.referred) for f in found], axis=0)
    print(f"{name} {coverage:.0%}, shared (tried): held {held}, size {size:.3f}, referred {referred:.3f}")


def least_share(scans: int, fitted_on: int | None, coverage: float) -> float:
    """Return the 5 % quantile of the share of a class's test scans that valid sets may hold by chance.

    Parameters
    ----------
    fitted_on : int or None
        Calibration scans of the class, whose chance counts too; None for that of the test scans alone.
    """
    if fitted_on is None:
        return float(stats.binom.ppf(0.05, scans, coverage)) / scans
    rank = min(int(np.ceil((fitted_on + 1) * coverage - 1e-9)), fitted_on)
    return float(stats.betabinom.ppf(0.05, scans, rank, fitted_on + 1 - rank)) / scans


def interval(values: list[float] | np.ndarray) -> tuple[float, float]:
    """Return the mean over draws and the half-width of its 95 % t interval."""
    v = np.asarray(values, dtype=float)
    return float(v.mean()), float(stats.t.ppf(0.975, len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v)))


def show_sets(name: str, fits: list[Fitted], labels: np.ndarray, truth: np.ndarray, coverage: float) -> None:
    """Print one row for each class and one of sizes."""
    fitted = [ConformalSets.fit(f.held_out, f.labels, coverage) for f in fits]
    found = [judge(s, f.stated, labels) for s, f in zip(fitted, fits, strict=True)]
    held = np.array([f.held for f in found])
    tests, draws = np.bincount(labels, minlength=held.shape[1]), len(fits)
    for k, class_name in enumerate(PRESET.class_names):
        mean, half = interval(held[:, k])
        least = [least_share(tests[k], s.counts[k], coverage) for s in fitted]
        print(
            f"{name} {coverage:.0%} {class_name}: {mean:.3f} +- {half:.3f}, binomial limit of one draw "
            f"{least_share(tests[k], None, coverage):.3f}, {(held[:, k] >= least).sum()} of {draws} draws "
            f"within chance, least {held[:, k].min():.3f}"
        )
    own = judge(ideal_sets(np.full(held.shape[1], coverage)), truth, labels)
    same = judge(ideal_sets(held.mean(axis=0)), truth, labels)
    rows = {"size": "size", "referred": "referred", "contradicted": "contradicted"}
    shown = (
        f"{row} {m:.3f} +- {h:.3f}" for row in rows for m, h in [interval([getattr(f, row) for f in found])]
    )
    print(f"{name} {coverage:.0%}: {', '.join(shown)}")
    print(
        f"  true posterior, as stated: size {own.size:.3f}, referred {own.referred:.3f}, contradicted "
        f"{own.contradicted:.3f}, held {own.held.round(3)}; as reached: size {same.size:.3f}, "
        f"referred {same.referred:.3f}"
    )


def show_range(name: str, fits: list[Fitted], truth: np.ndarray, factor: float) -> None:
    """Print what ranges of the factor hold, mean and interval over draws."""
    found = [describe_range(f.stated, f.drawn, truth, factor) for f in fits]
    of = {r: interval([getattr(f, r) for f in found]) for r in ("held", "held_first", "width", "width_first")}
    shown = ", ".join(f"{row} {mean:.3f} +- {half:.3f}" for row, (mean, half) in of.items())
    print(f"{name}, factor {factor:g}, {len(fits)} draws: {shown}, least {min(f.held for f in found):.3f}")


def choose(fits: list[Fitted], truth: np.ndarray) -> RangeFit:
    """Return the least factor that holds the true probability of enough scans of all draws together."""
    stated = np.concatenate([f.stated for f in fits])
    drawn = np.concatenate([f.drawn for f in fits], axis=1)
    return choose_range_factor(stated, drawn, np.concatenate([truth] * len(fits)), HELD_WHEN_CHOSEN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scans", type=int, default=150)
    parser.add_argument("--losses", nargs="+", default=["gce1", "gce05", "ce"])
    asked = parser.parse_args()
    fits: dict[str, list[Fitted]] = {}
    for loss in asked.losses:
        found = asked.folder.glob(f"{asked.scans}-*-{loss}.npz")
        paths = sorted(found, key=lambda path: int(path.stem.split("-")[1]))
        draws = [dict(np.load(path)) for path in paths]
        labels, truth = draws[0]["test_labels"], draws[0]["test_truth"]
        schemes = {"cross-fitting": cross_fitted, "split": split}
        for scheme, make in schemes.items():
            fits[f"{loss} {scheme}"] = [make(stored, seed) for seed, stored in enumerate(draws)]
            for coverage in COVERAGES:
                first = fits[f"{loss} {scheme}"][:CHOSEN_DRAWS]
                show_sets(f"{loss} {scheme}", first, labels, truth, coverage)
                show_shared(f"{loss} {scheme}", first, labels, coverage)
    chosen_on = fits[f"{CHOSEN_ON} cross-fitting"]
    chosen = choose(chosen_on[:CHOSEN_DRAWS], truth)
    print(f"chosen on draws 0 to {CHOSEN_DRAWS - 1} of {CHOSEN_ON}: {chosen}")
    for factor in (1.0, 1.4, float(np.ceil(chosen.factor * 20 - 1e-9) / 20)):
        for name, own in fits.items():
            show_range(f"{name}, draws 0 to 7", own[:CHOSEN_DRAWS], truth, factor)
            if len(own) > CHOSEN_DRAWS + 1:
                show_range(f"{name}, later draws", own[CHOSEN_DRAWS:], truth, factor)


if __name__ == "__main__":
    main()
