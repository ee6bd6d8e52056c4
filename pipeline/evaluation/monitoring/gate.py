"""Whether a retrained classifier may replace the champion: the checks and their outcomes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.arrays import Floats, Ints
from pipeline.config import GateSettings
from pipeline.errors import InputError
from pipeline.evaluation.inference.intervals import paired_bootstrap
from pipeline.evaluation.inference.sequential import (
    critical_values,
    skewed_limits,
    standard_error,
    z_of,
)
from pipeline.evaluation.metrics import (
    ABOVE_NOISE,
    METRICS,
    PROBABILITY_FLOOR,
    metric_named,
    negative_log_likelihood,
    prior_corrected,
)
from pipeline.evaluation.monitoring.champions_luck import ChampionsLead
from pipeline.evaluation.monitoring.verdict import GateCheck, Look, Verdict

__all__ = ["GateCheck", "Judged", "Look", "Verdict", "judge", "spent_after"]

DECIDING = "negative_log_likelihood"
_ROUNDING = 1e-12
_NEVER_CHOSEN = 1e12
"""A count of scans: the probability of a class divided by it is smaller than any other's."""


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
    lead : ChampionsLead or None
        By what the gate chose the champion, if it did, and on how many of these scans.

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
    lead: ChampionsLead | None = None

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


def spent_after(settings: GateSettings, months: float, wait_months: float) -> float:
    """Return the chance of a wrong decision that is spent once a challenger has waited some months.

    Examples
    --------
    >>> settings = GateSettings(level=0.9, waiting=0.06)
    >>> [round(spent_after(settings, months, 3), 2) for months in (0, 1, 3, 9)]
    [0.1, 0.12, 0.16, 0.16]
    """
    waited = min(1.0, months / wait_months) if wait_months else float(months > 0)
    return 1 - settings.level + settings.waiting * waited


def judge(test: Judged, settings: GateSettings, seed: int, looks: Sequence[Look] = ()) -> Verdict:
    """Return whether the challenger passes: promote, reject or wait.

    The paired difference in NLL to the champion decides: promote where a difference of the margin or more is
    ruled out at the level of the settings, reject where the challenger is shown to be worse, else wait for
    more scans. A champion that was chosen on the same scans is too good there, so a difference that its
    expected luck explains does not reject; the challenger waits, and later looks allow for what is left of
    that luck among more scans. Guards reject: prior-corrected balanced accuracy, and classwise ECE above its
    noise, where worse by more than the margin and than chance explains; conformal sets that miss a class more
    often than chance explains; an NLL above the baseline's by more than chance. Without a champion the last
    two decide, and the baseline must not be better at all.

    Parameters
    ----------
    settings : GateSettings
        Margins, levels and draws.
    seed : int
        Of the draws; the order of the scans makes no difference.
    looks : sequence of Look
        All judgements of this challenger against this champion, on scans that were added to; this one is the
        last. Without any this is the first, and 1 - level is spent.

    References
    ----------
    Piaggio et al., Reporting of Noninferiority and Equivalence Randomized Trials, JAMA 308, 2012; repeated
    looks: `pipeline.evaluation.inference.sequential.critical_values`.

    Examples
    --------
    >>> p = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.1, 0.9]])
    >>> test = Judged(np.array([0, 1, 0, 1]), ("a", "b", "c", "d"), ("CN", "AD"), p, p > 0.5, 0.9, champion=p)
    >>> judge(test, GateSettings(), seed=0).passed
    True
    """
    looks = looks or (Look(len(set(test.subjects)), 1 - settings.level),)
    checks: tuple[GateCheck, ...] = ()
    if test.champion is not None:
        checks = (_deciding(test, test.champion, settings, looks),)
        checks += tuple(_guards(test, test.champion, settings, seed))
    checks += tuple(_coverage(test, settings.guard_level))
    if test.baseline is not None:
        checks += (_against_baseline(test, test.baseline, settings.guard_level),)
    return Verdict(all(check.passed for check in checks), checks)


def _deciding(test: Judged, champion: Floats, settings: GateSettings, looks: Sequence[Look]) -> GateCheck:
    z = critical_values([look.subjects for look in looks], [look.spent for look in looks])[-1]
    losses = _losses(test, champion)
    luck = _luck(test, losses, settings)
    value, low, high = skewed_limits(losses, test.subjects, z)
    margin = settings.negative_log_likelihood
    # Luck alone promotes nobody on the scans that chose the champion: only later scans can show it.
    allowed = margin + (luck if len(looks) > 1 else 0.0)
    passed = high <= allowed + _ROUNDING  # NaN does not pass
    undecided = not passed and low <= luck
    both = _both(DECIDING, (test.challenger, champion), test.labels, "the champion")
    confidence = f"{stats.norm.cdf(z) * 100:.0f} % confidence"
    if high < 0:
        sentence = f"{both}: better by at least {-high:.3f} with {confidence}"
    else:
        sentence = f"{both}: worse by at most {high:.3f} with {confidence}, where {margin:g} is allowed"
    if undecided and low <= 0:
        sentence += f"; {looks[-1].subjects} test subjects are too few to decide"
    elif not passed:
        sentence += f"; it is worse by at least {low:.3f}"
    if luck and test.lead is not None and (undecided or allowed > margin):
        share = f"{100 * test.lead.shared:.0f} %"
        sentence += (
            f". The champion was chosen on {share} of these scans, so about {luck:.3f} is likely its luck"
        )
        sentence += "; only later scans can show it" if undecided else ""
    return GateCheck(DECIDING, passed, value, low, high, margin, f"{sentence}.", undecided, luck)


def _luck(test: Judged, losses: Floats, settings: GateSettings) -> float:
    if test.lead is None:
        return 0.0
    error, people = standard_error(losses, test.subjects), len(set(test.subjects))
    return settings.champions_luck * test.lead.luck(error, people)


def _losses(test: Judged, rival: Floats) -> Floats:
    """Return how much larger the NLL of each scan is than the rival's."""
    rows = np.arange(len(test.labels))
    mine, theirs = (np.maximum(p[rows, test.labels], PROBABILITY_FLOOR) for p in (test.challenger, rival))
    worse: Floats = np.log(theirs) - np.log(mine)
    return worse


def _guards(test: Judged, champion: Floats, settings: GateSettings, seed: int) -> Iterator[GateCheck]:
    counts = np.bincount(test.labels, minlength=len(test.class_names))
    # Balanced accuracy is a mean over the classes that have a scan, so no other class may be the answer.
    counts = np.where(counts > 0, counts + 0.5, _NEVER_CHOSEN)
    # Noise floors depend on the order of scans a little; the verdict shall not.
    order = np.lexsort((*test.challenger.T, test.labels, np.asarray(test.subjects)))
    labels, subjects = test.labels[order], [test.subjects[row] for row in order]
    plain = (test.challenger[order], champion[order])
    corrected = tuple(prior_corrected(p, counts / counts.sum()) for p in plain)
    balanced, above = METRICS["balanced_accuracy"], ABOVE_NOISE["classwise_ece_above_noise"]
    for name, shown, metric, (mine, theirs) in (
        ("classwise_ece", above.name, above, plain),
        ("balanced_accuracy", "prior_corrected_balanced_accuracy", balanced, corrected),
    ):
        # Both ends of this interval are one-sided limits at the level of the guards.
        found = paired_bootstrap(
            mine, theirs, labels, subjects, {metric.name: metric},
            draws=settings.draws, level=2 * settings.guard_level - 1, seed=seed,
        )[metric.name]  # fmt: skip
        sign = -1 if metric.better == "higher" else 1
        low, high = sorted((sign * found.low, sign * found.high))
        value, margin = sign * found.value + 0.0, float(getattr(settings, name))
        failed = value > margin + _ROUNDING and low > 0
        both = tuple(metric(p, labels) for p in (mine, theirs))
        title = _capital(metric_named(shown).title)
        sentence = f"{title} is {both[0]:.3f}, that of the champion {both[1]:.3f}"
        if failed:
            sentence += f": worse by {value:.3f}, where {margin:g} is allowed and chance explains less"
        yield GateCheck(name, not failed, value, low + 0.0, high + 0.0, margin, f"{sentence}.")


def _against_baseline(test: Judged, baseline: Floats, level: float) -> GateCheck:
    value, low, high = skewed_limits(_losses(test, baseline), test.subjects, z_of(level))
    # Beside a champion this is a guard; without one it decides.
    passed = (value if test.champion is None else low) <= _ROUNDING
    rivals = (test.challenger, baseline)
    both = _both(DECIDING, rivals, test.labels, "logistic regression on regional SUVR")
    result = "better" if value <= _ROUNDING else "worse, which chance explains," if passed else "worse"
    sentence = f"{both}: {result} by {abs(value):.3f}{'' if passed else ', which is not allowed'}."
    return GateCheck("baseline", passed, value, low, high, 0.0, sentence)


def _both(name: str, rivals: tuple[Floats, Floats], labels: Ints, whose: str) -> str:
    mine, theirs = (negative_log_likelihood(p, labels) for p in rivals)
    return f"{_capital(METRICS[name].title)} is {mine:.3f}, that of {whose} {theirs:.3f}"


def _capital(title: str) -> str:
    return title[0].upper() + title[1:]


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
    alpha = 1 - level
    low = stats.beta.ppf(alpha, right, scans - right + 1) if right else 0.0
    high = stats.beta.ppf(level, right + 1, scans - right) if right < scans else 1.0
    return float(low), float(high)
