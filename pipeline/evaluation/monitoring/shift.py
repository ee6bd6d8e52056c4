"""Whether the scans of a period have changed, and whether recalibration or retraining is the answer."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from models.arrays import Ints
from models.prevalence import estimate_prevalence
from pipeline.errors import InputError
from pipeline.evaluation.inference.significance import holm
from pipeline.evaluation.inference.two_samples import (
    class_conditional_p_value,
    means_p_value,
    rate_p_value,
    shares_p_value,
)
from pipeline.evaluation.monitoring.period import PeriodScans
from pipeline.wording import counted

__all__ = ["FEWEST_SUBJECTS", "Answer", "PeriodScans", "Shift", "ShiftTest", "check_shift"]

Answer = Literal["nothing", "recalibrate", "retrain"]
Kind = Literal["regions", "out of distribution", "class mix", "confidence", "scanner"]

FEWEST_SUBJECTS = 10
"""Fewer in either period are not tested."""

_LEAST_EFFECT: dict[Kind, float] = {
    "regions": 0.2,
    "out of distribution": 0.02,
    "class mix": 0.05,
    "confidence": 0.02,
    "scanner": 0.0,
}
"""Smaller changes need no action, however significant: with enough scans every change is significant."""


@dataclass(frozen=True)
class ShiftTest:
    """One way in which the scans may have changed.

    Parameters
    ----------
    kind : {"regions", "out of distribution", "class mix", "confidence", "scanner"}
    effect : float
        Size of the change: largest regional difference in standard deviations within a class; rise of the
        out-of-distribution rate; largest change of a class's share; change of mean confidence; largest
        change of a scanner's share.
    p_value, p_holm : float
        Alone, and adjusted for all tests of the period.
    changed : bool
        Whether the adjusted p-value is at or below the level and the effect is large enough to matter.
    """

    kind: Kind
    effect: float
    p_value: float
    p_holm: float
    changed: bool
    sentence: str


@dataclass(frozen=True)
class Shift:
    """What to do about a period.

    Parameters
    ----------
    answer : {"nothing", "recalibrate", "retrain"}
    reasons : tuple of str
        Why, in words.
    tests : tuple of ShiftTest
        Empty where there were too few subjects.
    """

    answer: Answer
    reasons: tuple[str, ...]
    tests: tuple[ShiftTest, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return asdict(self)


def check_shift(
    reference: PeriodScans,
    reference_labels: Ints,
    current: PeriodScans,
    *,
    level: float = 0.01,
    draws: int = 999,
    seed: int = 0,
) -> Shift:
    """Compare a period with the calibration split of the classifier in use.

    Retrain where scans of a class look different (regional SUVR beyond what the mix of classes explains) or
    more of them are out of distribution: the network has not learned such scans. Recalibrate where the mix of
    classes or the confidence has changed but the scans have not: new temperatures and prevalence are enough.
    A new scanner whose scans look like the others' needs no action.

    Parameters
    ----------
    reference : PeriodScans
        The calibration split.
    reference_labels : ndarray of int, shape (N,)
        Its true classes.
    current : PeriodScans
        The period's scans that were accepted; diagnoses are not needed.
    level : float, default=0.01
        Chance that any of the tests calls a period changed when nothing has; 0.01 is one false alarm in two
        years of weekly checks.
    draws : int, default=999
        Permutations; at least 5 / level - 1, or nothing could be found.

    Raises
    ------
    InputError
        If the regions or classes differ, labels do not fit, or draws are too few for the level.

    References
    ----------
    Rabanser, Günnemann, Lipton, Failing Loudly, NeurIPS 2019, for tests of scans and outputs side by side.
    Saerens, Latinne, Decaestecker, Neural Computation 14, 2002, for the mix of classes.
    """
    _check(reference, reference_labels, current, level, draws)
    rows = reference.last_scans()
    then, labels = reference.take(rows), reference_labels[rows]
    now = current.take(current.last_scans())
    for name, period in {"calibration split": then, "period": now}.items():
        if len(period) < FEWEST_SUBJECTS:
            number = counted(len(period), "subject")
            reason = f"Not tested: the {name} has {number}, and the test needs {FEWEST_SUBJECTS}."
            return Shift("nothing", (reason,), ())
    found = _tests(then, labels, now, draws, np.random.default_rng(seed))
    adjusted = holm([p_value for _, _, p_value, _ in found]).tolist()
    tests = tuple(
        ShiftTest(kind, effect, p_value, p_holm, p_holm <= level and effect >= _LEAST_EFFECT[kind], sentence)
        for (kind, effect, p_value, sentence), p_holm in zip(found, adjusted, strict=True)
    )
    return _conclude(tests, level)


_Found = tuple[Kind, float, float, str]
"""Kind, effect, p-value, sentence."""


def _tests(
    then: PeriodScans, labels: Ints, now: PeriodScans, draws: int, rng: np.random.Generator
) -> list[_Found]:
    return [
        _regions(then, labels, now, draws, rng),
        _out_of_distribution(then, now),
        _class_mix(then, labels, now, draws, rng),
        _confidence(then, now),
        _scanner(then, now, draws, rng),
    ]


def _regions(
    then: PeriodScans, labels: Ints, now: PeriodScans, draws: int, rng: np.random.Generator
) -> _Found:
    means = np.stack([then.suvr[labels == k].mean(axis=0) for k in np.unique(labels)])
    place = np.unique(labels, return_inverse=True)[1]
    within = (then.suvr - means[place]).std(axis=0)
    p_value, differences = class_conditional_p_value(
        then.suvr, labels, then.probabilities, now.suvr, now.probabilities, draws, rng
    )
    effects = np.abs(differences) / np.maximum(within, 1e-6)
    worst = int(effects.argmax())
    sentence = (
        f"SUVR of {then.region_names[worst]} differs by {differences[worst]:+.3f} "
        f"({effects[worst]:.2f} standard deviations within a class) from what the mix of classes explains"
    )
    return "regions", float(effects[worst]), p_value, sentence


def _out_of_distribution(then: PeriodScans, now: PeriodScans) -> _Found:
    before, after = then.out_of_distribution, now.out_of_distribution
    sentence = (
        f"{after.sum()} of {len(after)} scans are out of distribution, before {before.sum()} of {len(before)}"
    )
    return "out of distribution", float(after.mean() - before.mean()), rate_p_value(before, after), sentence


def _class_mix(
    then: PeriodScans, labels: Ints, now: PeriodScans, draws: int, rng: np.random.Generator
) -> _Found:
    # Mean probabilities are the score of the mixture's likelihood: their test is the one for a small change.
    p_value = means_p_value(then.probabilities, now.probabilities, draws, rng)
    counts = np.bincount(labels, minlength=len(then.class_names)) + 0.5
    before, after = (estimate_prevalence(p.probabilities, counts / counts.sum()) for p in (then, now))
    worst = int(np.abs(after - before).argmax())
    sentence = (
        f"{then.class_names[worst]} is estimated at {100 * after[worst]:.0f} % of scans, before "
        f"{100 * before[worst]:.0f} %"
    )
    return "class mix", float(np.abs(after - before)[worst]), p_value, sentence


def _confidence(then: PeriodScans, now: PeriodScans) -> _Found:
    before, after = then.probabilities.max(axis=1), now.probabilities.max(axis=1)
    p_value = float(stats.ks_2samp(before, after).pvalue)
    sentence = f"the mean confidence is {after.mean():.2f}, before {before.mean():.2f}"
    return "confidence", float(abs(after.mean() - before.mean())), p_value, sentence


def _scanner(then: PeriodScans, now: PeriodScans, draws: int, rng: np.random.Generator) -> _Found:
    names, place = np.unique([*then.scanners, *now.scanners], return_inverse=True)
    before = np.bincount(place[: len(then)], minlength=len(names))
    after = np.bincount(place[len(then) :], minlength=len(names))
    change = after / after.sum() - before / before.sum()
    worst = int(np.abs(change).argmax())
    now_and_then = f"{after[worst]} of {len(now)} scans, before {before[worst]} of {len(then)}"
    sentence = f"scanner {names[worst]} made {now_and_then}"
    return "scanner", float(abs(change[worst])), shares_p_value(before, after, draws, rng), sentence


def _conclude(tests: tuple[ShiftTest, ...], level: float) -> Shift:
    changed = {test.kind: test for test in tests if test.changed}
    answer: Answer = "nothing"
    if "class mix" in changed or "confidence" in changed:
        answer = "recalibrate"
    if "regions" in changed or "out of distribution" in changed:
        answer = "retrain"
    reasons = tuple(f"{t.sentence} (p = {t.p_holm:.3f} after Holm)." for t in changed.values())
    if not reasons:
        reasons = (f"None of the {len(tests)} tests finds a change at the level {level:g}.",)
    elif answer == "nothing":
        reasons = (*reasons, "The scans of the new scanner look like the others, so no action is needed.")
    return Shift(answer, tuple(reason[0].upper() + reason[1:] for reason in reasons), tests)


def _check(reference: PeriodScans, labels: Ints, current: PeriodScans, level: float, draws: int) -> None:
    if reference.region_names != current.region_names or reference.class_names != current.class_names:
        raise InputError(
            f"The periods differ in regions or classes: {len(reference.region_names)} and "
            f"{len(current.region_names)} regions, classes {', '.join(reference.class_names)} and "
            f"{', '.join(current.class_names)}"
        )
    classes = len(reference.class_names)
    if labels.shape != (len(reference),) or (len(labels) and not 0 <= labels.min() <= labels.max() < classes):
        raise InputError(
            f"Reference labels of shape {labels.shape} are not one class for each of {len(reference)} scans"
        )
    fewest = math.ceil(len(_LEAST_EFFECT) / level - 1e-9) - 1
    if draws < fewest:
        raise InputError(
            f"{draws} draws are too few for level {level:g}, expected at least {fewest}",
            hint="raise the draws or the level",
        )
