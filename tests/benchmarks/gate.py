"""What the gate does: how often challengers of known quality are promoted, rejected or wait.

    python tests/benchmarks/gate.py                    # tables, and tests/benchmarks/figures/gate.png
    python tests/benchmarks/gate.py --level .9 --margin .05

No network is needed: the phantom's population has a known posterior, and a classifier is that posterior with
logits stretched and noise added, ``softmax(a z + s noise)`` with z its logarithm. Test labels are drawn from
the posterior. Prediction sets are fitted on 120 other scans of the challenger; the baseline is a logistic
regression on a noisy reading of the stage, fitted on 300 scans. The margins and levels of `GateSettings`
come from these tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from models.arrays import Floats
from models.conformal import ConformalSets
from pipeline.config import GateSettings
from pipeline.evaluation.metrics import catalogue
from pipeline.evaluation.monitoring.gate import Judged, Look, Verdict, judge, spent_after
from pipeline.phantom.population import PRESETS, posterior, sample_classes
from pipeline.reporting.page import charts

PRESET = PRESETS["three_class"]
SIZES = (50, 120, 240, 480)
DIFFERENCES = (-0.10, -0.075, -0.05, -0.025, 0.0, 0.025, 0.05, 0.075, 0.10)
CHAMPION_NOISE = 0.9
CALIBRATION_SCANS = 120
COVERAGE = 0.8
STAGE_NOISE = 0.1
MONTHLY_SCANS = 20


@dataclass(frozen=True)
class Reading:
    """A classifier: the true log-posterior stretched, with noise."""

    stretch: float
    noise: float

    def logits(self, z: Floats, rng: np.random.Generator) -> Floats:
        """Return what it states of scans with the log-posterior z (N, K)."""
        stated: Floats = self.stretch * z + self.noise * rng.standard_normal(z.shape)
        return stated


TRUTH = Reading(1.0, 0.0)
GOALS = {
    "true posterior against 1.4 z + .9 noise": (TRUTH, Reading(1.4, 0.9), 240, "at least 90 %"),
    "equally noisy, z + .5 noise each": (Reading(1.0, 0.5), Reading(1.0, 0.5), 120, "at least 50 %"),
    "1.25 z + .55 noise against the true posterior": (Reading(1.25, 0.55), TRUTH, 120, "at most 10 %"),
}


@dataclass(frozen=True)
class Drawn:
    """Scans of the population: labels, log-posterior, and a reading of the stage."""

    labels: np.ndarray
    z: Floats
    stage: Floats


def draw(n: int, rng: np.random.Generator) -> Drawn:
    """Draw scans."""
    labels, stage, typical = sample_classes(PRESET, n, rng)
    measured = stage + STAGE_NOISE * rng.standard_normal(n)
    return Drawn(labels, np.log(posterior(PRESET, stage, typical)), measured[:, None])


def true_nll(reading: Reading, n: int = 200_000) -> float:
    """Return the expected NLL of a classifier."""
    rng = np.random.default_rng(12345)
    scans = draw(n, rng)
    stated = log_softmax(reading.logits(scans.z, rng), axis=1)
    return float(-(np.exp(scans.z) * stated).sum(axis=1).mean())


def challengers(differences: Sequence[float]) -> dict[float, Reading]:
    """Return for each difference in NLL to the champion a challenger whose noise makes it."""
    noises = np.linspace(0.0, 1.8, 37)
    nlls = np.array([true_nll(Reading(1.0, s), 40_000) for s in noises])
    own = np.interp(CHAMPION_NOISE, noises, nlls)
    return {d: Reading(1.0, float(np.interp(own + d, nlls, noises))) for d in differences}


@cache
def baseline() -> LogisticRegression:
    """Return the baseline, fitted once on 300 scans of its own."""
    scans = draw(300, np.random.default_rng(4321))
    return LogisticRegression().fit(scans.stage, scans.labels)


def judged(test: Drawn, pair: tuple[Reading, Reading], rng: np.random.Generator) -> Judged:
    """Return challenger and champion on test scans, with sets and a baseline fitted on scans of their own."""
    challenger, champion = (softmax(r.logits(test.z, rng), axis=1) for r in pair)
    held = draw(CALIBRATION_SCANS, rng)
    sets = ConformalSets.fit(softmax(pair[0].logits(held.z, rng), axis=1), held.labels, COVERAGE)
    return Judged(
        labels=test.labels,
        subjects=tuple(f"s{row}" for row in range(len(test.labels))),
        class_names=PRESET.class_names,
        challenger=challenger,
        sets=sets.sets(challenger),
        coverage=COVERAGE,
        champion=champion,
        baseline=baseline().predict_proba(test.stage),
        calibration_scans=sets.counts,
    )


def verdicts(pair: tuple[Reading, Reading], n: int, trials: int, settings: GateSettings) -> list[Verdict]:
    """Return the gate's answers on so many test parts; the same test scans for every pair."""
    found = []
    for trial in range(trials):
        rng = np.random.default_rng([2026, n, trial])
        found.append(judge(judged(draw(n, rng), pair, rng), settings, seed=trial))
    return found


def share(found: Sequence[Verdict], outcome: str) -> float:
    """Return how often the gate answered so."""
    return float(np.mean([v.outcome == outcome for v in found]))


def failed(found: Sequence[Verdict]) -> str:
    """Return how often each guard failed, in percent."""
    names = {"classwise_ece": "calibration", "balanced_accuracy": "accuracy", "baseline": "baseline"}
    counts = dict.fromkeys((*names.values(), "coverage"), 0)
    for verdict in found:
        bad = {names.get(c.name, "coverage") for c in verdict.checks[1:] if not c.passed}
        for title in bad:
            counts[title] += 1
    return ", ".join(f"{title} {100 * n / len(found):.1f}" for title, n in counts.items())


def wait_out(
    pair: tuple[Reading, Reading], n: int, trials: int, settings: GateSettings, months: int
) -> list[Verdict]:
    """Return the last answers where an undecided challenger is judged monthly on later scans as well."""
    found = []
    for trial in range(trials):
        rng = np.random.default_rng([77, n, trial])
        whole = judged(draw(n + months * MONTHLY_SCANS, rng), pair, rng)
        looks: list[Look] = []
        for month in range(months + 1):
            seen = n + month * MONTHLY_SCANS
            part = Judged(
                whole.labels[:seen], whole.subjects[:seen], whole.class_names, whole.challenger[:seen],
                whole.sets[:seen], COVERAGE, whole.champion[:seen], whole.baseline[:seen],
                whole.calibration_scans,
            )  # fmt: skip
            looks.append(Look(seen, spent_after(settings, month, months)))
            verdict = judge(part, settings, seed=trial, looks=looks)
            if verdict.outcome != "wait":
                break
        found.append(verdict)
    return found


def show_goals(settings: GateSettings, trials: int) -> None:
    """Print the goals."""
    print(f"{'pair':45s} {'n':>4s}  promote reject wait   guards that failed (%)")
    for name, (challenger, champion, n, goal) in GOALS.items():
        difference = true_nll(challenger) - true_nll(champion)
        for size in SIZES:
            found = verdicts((challenger, champion), size, trials, settings)
            shares = " ".join(f"{100 * share(found, o):6.1f}" for o in ("promote", "reject", "wait"))
            aim = f"  goal: {goal}" if size == n else ""
            print(f"{name:45s} {size:4d}  {shares}   {failed(found)}   ({difference:+.3f}){aim}", flush=True)


def show_waiting(settings: GateSettings, trials: int) -> None:
    """Print what three months of waiting add."""
    print("\nWith three monthly looks at 20 scans more:")
    pairs = {name: (a, b) for name, (a, b, _, _) in GOALS.items()}
    for name, pair in pairs.items():
        for n in (50, 120):
            found = wait_out(pair, n, trials, settings, 3)
            shares = " ".join(f"{100 * share(found, o):6.1f}" for o in ("promote", "reject", "wait"))
            print(f"{name:45s} {n:4d}  {shares}", flush=True)


def draw_curve(settings: GateSettings, trials: int, *, out: Path) -> None:
    """Print and draw the probability of promotion against the true difference in NLL."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    colours = (charts.MUTED, charts.AMBER, charts.BLUE, "black")
    pairs = challengers(DIFFERENCES)
    print("\ndifference    " + " ".join(f"{d:+7.3f}" for d in DIFFERENCES))
    for n, colour in zip(SIZES, colours, strict=True):
        found = {
            d: verdicts((r, Reading(1.0, CHAMPION_NOISE)), n, trials, settings) for d, r in pairs.items()
        }
        promoted = [100 * share(v, "promote") for v in found.values()]
        rejected = [100 * share(v, "reject") for v in found.values()]
        print(f"promoted {n:4d} " + " ".join(f"{p:7.1f}" for p in promoted))
        print(f"rejected {n:4d} " + " ".join(f"{p:7.1f}" for p in rejected), flush=True)
        axes.plot(DIFFERENCES, promoted, color=colour, marker="o", ms=3, label=f"{n} test subjects")
    axes.axvline(0, color="grey", lw=0.6)
    axes.axvline(settings.negative_log_likelihood, color="grey", lw=0.6, ls=":")
    axes.set(
        xlabel="true NLL of the challenger minus that of the champion", ylabel="promoted (% of test parts)",
        ylim=(0, 100),
    )  # fmt: skip
    axes.legend(frameon=False)
    out.parent.mkdir(exist_ok=True)
    figure.savefig(out, dpi=130)


def main() -> None:
    """Print the tables and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--level", type=float, default=GateSettings().level)
    parser.add_argument("--margin", type=float, default=GateSettings().negative_log_likelihood)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--parts", nargs="+", choices=("goals", "waiting", "curve"),
        default=("goals", "waiting", "curve"))  # fmt: skip
    asked = parser.parse_args()
    settings = GateSettings(level=asked.level, negative_log_likelihood=asked.margin, draws=200)
    # A tenth of the label draws of a noise floor: its error is a hundredth of the margin all the same.
    catalogue._floor_of = lambda sample, name: catalogue.noise_floor(name, sample.probabilities, draws=100)
    out = Path(__file__).parent / "figures" / "gate.png"
    parts = {"goals": show_goals, "waiting": show_waiting, "curve": partial(draw_curve, out=out)}
    for part in asked.parts:
        parts[part](settings, asked.trials)


if __name__ == "__main__":
    main()
