"""Whether a retrained classifier may replace the champion: the checks and their outcomes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.arrays import Floats, Ints
from pipeline.config import GateSettings
from pipeline.errors import InputError
from pipeline.evaluation.inference.intervals import Interval, paired_bootstrap
from pipeline.evaluation.metrics import METRICS

__all__ = ["GateCheck", "Judged", "Verdict", "judge"]

COMPARED = ("negative_log_likelihood", "classwise_ece", "balanced_accuracy")
"""What a challenger may be worse in than the champion by its margin at most."""

_ROUNDING = 1e-12


@dataclass(frozen=True)
class GateCheck:
    """One check of the challenger.

    Parameters
    ----------
    name : str
        ``"negative_log_likelihood"``, ``"classwise_ece"``, ``"balanced_accuracy"``, ``"baseline"`` or
        ``"conformal_coverage."`` with a class.
    value : float
        How much worse than its rival the challenger is, below zero where it is better; for coverage the share
        of scans whose set holds their class, NaN where there is no scan.
    low, high : float
        One-sided limits of `value`, each at the level of the settings.
    limit : float
        A comparison with the champion passes where `high` is at or below it, that with the baseline where
        `value` is, coverage where `value` is at or above it.
    """

    name: str
    passed: bool
    value: float
    low: float
    high: float
    limit: float
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger may become champion, and why.

    Examples
    --------
    >>> check = GateCheck("baseline", False, 0.1, 0.0, 0.2, 0.0, "NLL is 0.9, that of the baseline 0.8.")
    >>> Verdict(False, (check,)).reasons
    ('NLL is 0.9, that of the baseline 0.8.',)
    """

    passed: bool
    checks: tuple[GateCheck, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences of the checks that failed, or of all where none did."""
        return tuple(check.sentence for check in self.checks if self.passed or not check.passed)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values; JSON has no NaN, so a value that is not known is None."""
        checks = [
            {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in asdict(check).items()}
            for check in self.checks
        ]
        return {"passed": self.passed, "checks": checks}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Verdict:
        """Read what `to_dict` returned."""
        numbers = ("value", "low", "high", "limit")
        checks = (
            GateCheck(**{**c, **{name: math.nan if c[name] is None else float(c[name]) for name in numbers}})
            for c in value["checks"]
        )
        return cls(bool(value["passed"]), tuple(checks))


@dataclass(frozen=True, eq=False)
class Judged:
    """Predictions of all rivals for the same test scans.

    Parameters
    ----------
    labels : ndarray of int, shape (N,)
    subjects : tuple of str, length N
    class_names : tuple of str, length K
    challenger : ndarray, shape (N, K)
        Calibrated probabilities of the retrained classifier.
    sets : ndarray of bool, shape (N, K)
        Its conformal sets.
    coverage : float
        What they promise for each class, in (0, 1).
    champion, baseline : ndarray, shape (N, K), or None
        Probabilities of the classifier in use, and of the logistic regression on regional SUVR.
    calibration_scans : tuple of int, length K, or None
        How many scans of each class the sets were fitted on. Few make coverage vary by chance, and the limit
        allows for it; None allows for the test scans' chance alone.

    Raises
    ------
    InputError
        If shapes do not agree or there are fewer than two subjects.
    """

    labels: Ints
    subjects: tuple[str, ...]
    class_names: tuple[str, ...]
    challenger: Floats
    sets: NDArray[np.bool_]
    coverage: float
    champion: Floats | None = None
    baseline: Floats | None = None
    calibration_scans: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        expected = (len(self.labels), len(self.class_names))
        for name in ("challenger", "sets", "champion", "baseline"):
            array = getattr(self, name)
            if array is not None and array.shape != expected:
                raise InputError(
                    f"Its predictions have shape {array.shape}, the test has {expected[0]} scans and "
                    f"{expected[1]} classes",
                    where=name,
                    hint="a classifier of other classes cannot be compared; promote it by hand",
                )
        if len(self.subjects) != expected[0] or len(set(self.subjects)) < 2:
            raise InputError(
                f"There are {len(set(self.subjects))} subjects for {expected[0]} test scans; the gate needs "
                "the subject of every scan, and at least two subjects"
            )


def judge(test: Judged, settings: GateSettings, seed: int) -> Verdict:
    """Return whether the challenger passes every check.

    It must be non-inferior to the champion in NLL, classwise ECE and balanced accuracy: the one-sided limit
    of the paired difference over draws of subjects is within the margin, so too few subjects do not pass.
    Its conformal sets must miss no class more often than chance explains. Its NLL must be no higher than the
    baseline's. Without a champion only the last two are checked.

    Parameters
    ----------
    settings : GateSettings
        Margins, level and draws.
    seed : int
        Of the draws; the order of the scans makes no difference.

    References
    ----------
    Piaggio et al., Reporting of Noninferiority and Equivalence Randomized Trials, JAMA 308, 2012.

    Examples
    --------
    >>> p = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.1, 0.9]])
    >>> test = Judged(np.array([0, 1, 0, 1]), ("a", "b", "c", "d"), ("CN", "AD"), p, p > 0.5, 0.9, champion=p)
    >>> judge(test, GateSettings(), seed=0).passed
    True
    """
    checks = (*_against_champion(test, settings, seed), *_coverage(test, settings.level))
    if test.baseline is not None:
        checks += (_against_baseline(test, test.baseline, settings, seed),)
    return Verdict(all(check.passed for check in checks), checks)


def _against_champion(test: Judged, settings: GateSettings, seed: int) -> Iterator[GateCheck]:
    if test.champion is None:
        return
    worse = _how_much_worse(test, test.champion, COMPARED, settings, seed)
    for name, found in worse.items():
        margin = float(getattr(settings, name))
        passed = found.high <= margin + _ROUNDING  # NaN does not pass
        sentence = f"{_both(test, test.champion, name, 'the champion')}: {_bound(found, settings.level)}"
        if found.high >= 0 or not passed:
            sentence += f", where {margin:g} is allowed"
        if not passed and found.value <= margin:
            sentence += (
                f"; {len(set(test.subjects))} test subjects are too few to rule out a larger difference"
            )
        yield GateCheck(name, passed, found.value, found.low, found.high, margin, f"{sentence}.")


def _against_baseline(test: Judged, baseline: Floats, settings: GateSettings, seed: int) -> GateCheck:
    name = "negative_log_likelihood"
    found = _how_much_worse(test, baseline, (name,), settings, seed)[name]
    passed = found.value <= _ROUNDING
    both = _both(test, baseline, name, "logistic regression on regional SUVR")
    result = "better" if passed else "worse, which is not allowed,"
    sentence = f"{both}: {result} by {abs(found.value):.3f}."
    return GateCheck("baseline", passed, found.value, found.low, found.high, 0.0, sentence)


def _how_much_worse(
    test: Judged, rival: Floats, names: tuple[str, ...], settings: GateSettings, seed: int
) -> dict[str, Interval]:
    # Both ends of this interval are one-sided limits at the level of the settings.
    two_sided = 2 * settings.level - 1
    found = paired_bootstrap(
        test.challenger, rival, test.labels, test.subjects, names,
        draws=settings.draws, level=two_sided, seed=seed,
    )  # fmt: skip
    return {name: _turned(i, -1 if METRICS[name].better == "higher" else 1) for name, i in found.items()}


def _turned(found: Interval, sign: int) -> Interval:
    """Return the difference as a loss, with the wider of percentile and reflected limits.

    Sampling noise adds to a calibration error, and the less the larger the error is, so draws of a difference
    lie nearer to zero than the truth does. Reflecting them about the value undoes a part, and the wider limit
    errs on the champion's side. On simulated scans of 150 subjects a classwise ECE that was truly worse by
    0.064 passed a margin of 0.03 in 22 % by percentiles alone, in 11 % so.
    """
    value, ends = sign * found.value, sorted((sign * found.low, sign * found.high))
    low, high = min(ends[0], 2 * value - ends[1]), max(ends[1], 2 * value - ends[0])
    return Interval(value + 0.0, low + 0.0, high + 0.0)  # plus zero: minus nothing should read as nothing


def _both(test: Judged, rival: Floats, name: str, whose: str) -> str:
    title = METRICS[name].title
    mine, theirs = (METRICS[name](p, test.labels) for p in (test.challenger, rival))
    return f"{title[0].upper()}{title[1:]} is {mine:.3f}, that of {whose} {theirs:.3f}"


def _bound(worse: Interval, level: float) -> str:
    if worse.high < 0:
        return f"better by at least {-worse.high:.3f} with {level * 100:g} % confidence"
    return f"worse by at most {worse.high:.3f} with {level * 100:g} % confidence"


def _coverage(test: Judged, level: float) -> Iterator[GateCheck]:
    held = test.sets[np.arange(len(test.labels)), test.labels]
    subjects = np.asarray(test.subjects)
    # Bonferroni over the classes: `level` holds for all classes together.
    alpha = (1 - level) / len(test.class_names)
    for k, name in enumerate(test.class_names):
        members = test.labels == k
        scans, right = int(members.sum()), int(held[members].sum())
        least = _least_share(test, k, len(np.unique(subjects[members])), alpha)
        share = right / scans if scans else math.nan
        passed = not share < least - _ROUNDING  # no scan is no failure
        low, high = _clopper_pearson(right, scans, level)
        sentence = f"{name}: {right} of {scans} prediction sets contain it; " + (
            f"at a coverage of {test.coverage * 100:g} %, {least * 100:.0f} % or more is within chance"
            if least
            else f"there are too few test scans to judge a coverage of {test.coverage * 100:g} %"
        )
        yield GateCheck(f"conformal_coverage.{name}", passed, share, low, high, least, f"{sentence}.")


def _least_share(test: Judged, k: int, subjects: int, alpha: float) -> float:
    """Return the lowest share within chance; 0 where every share is.

    Scans of one person are covered or missed together in the worst case, so as many trials are counted as
    there are subjects. Given n calibration scans the coverage of new scans is itself Beta(r, n + 1 - r) over
    draws of those, r being the rank of the threshold: Vovk, Conditional validity of inductive conformal
    predictors, 2012, proposition 2. The sets hold a class at least as often as that: thresholds are only ever
    raised, and the most likely class is always held. Too few scans for the rank leave the largest score.
    """
    if not subjects:
        return 0.0
    n = 0 if test.calibration_scans is None else test.calibration_scans[k]
    if not n:
        return float(stats.binom.ppf(alpha, subjects, test.coverage)) / subjects
    rank = min(math.ceil((n + 1) * test.coverage - 1e-9), n)
    return float(stats.betabinom.ppf(alpha, subjects, rank, n + 1 - rank)) / subjects


def _clopper_pearson(right: int, scans: int, level: float) -> tuple[float, float]:
    """Return the lower and the upper limit of a share, each one-sided at the level."""
    if not scans:
        return math.nan, math.nan
    limits = stats.binomtest(right, scans).proportion_ci(2 * level - 1, method="exact")
    return float(limits.low), float(limits.high)
