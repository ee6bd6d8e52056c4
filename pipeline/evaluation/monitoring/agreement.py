"""How often readers change the model's answers, where, and whether more often than before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pipeline.evaluation.inference.two_samples import rate_p_value
from pipeline.evaluation.monitoring.read_words import DECISIONS
from pipeline.evaluation.monitoring.reads import REASONS, AnsweredRead
from pipeline.evaluation.monitoring.shift import Answer

_EDGES = (0.5, 0.7, 0.9)
"""Of the bins of confidence."""
_BINS = ("up to 50 %", "50 to 70 %", "70 to 90 %", "above 90 %")
_FEWEST = 10
"""Reads of a period, and before it, that are tested."""
_LEAST_RISE = 0.1
"""A smaller rise of the rate does not matter."""


@dataclass(frozen=True)
class OverrideRate:
    """How many answers of a group were modified or rejected.

    Parameters
    ----------
    low, high : float
        The 95 % Wilson interval of the share.
    """

    label: str
    overrides: int
    reads: int
    low: float
    high: float

    @classmethod
    def of(cls, label: str, reads: Sequence[AnsweredRead]) -> OverrideRate:
        """Count the overrides among reads that have a verdict.

        References
        ----------
        Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
        """
        count, total = sum(r.recorded.read.overrides for r in reads), len(reads)
        if not total:
            return cls(label, 0, 0, 0.0, 1.0)
        interval = stats.binomtest(count, total).proportion_ci(0.95, method="wilson")
        return cls(label, count, total, float(interval.low), float(interval.high))

    @property
    def share(self) -> float:
        """The share of overrides; 0 where there is no read."""
        return self.overrides / self.reads if self.reads else 0.0


@dataclass(frozen=True)
class Agreement:
    """What the current reads of a study show; a read without a verdict counts nowhere but in `open_reads`.

    Parameters
    ----------
    groups : dict of str to tuple of OverrideRate
        By ``"confidence"`` (findings alone), ``"decision"``, ``"version"``, ``"month"`` and ``"blind"``; each
        group but the first holds every read once.
    reasons : tuple of (str, int)
        Why answers were changed, the most frequent first.
    read_twice, agreed : int
        Scans that several readers have called tau-positive or tau-negative, and those they agree about.
    same_class, classed : int
        Findings for which a reader gave a class, and those whose most likely class it is.
    """

    overall: OverrideRate
    scans: int
    readers: int
    open_reads: int
    groups: dict[str, tuple[OverrideRate, ...]]
    reasons: tuple[tuple[str, int], ...]
    read_twice: int
    agreed: int
    classed: int
    same_class: int


def agreement_of(reads: Iterable[AnsweredRead]) -> Agreement:
    """Summarise the reads that are current: the last of each reader about each answer."""
    current = [r for r in reads if not r.recorded.superseded]
    done = [r for r in current if r.recorded.read.verdict is not None]
    findings = [r for r in done if r.answer["decision"] == "report" and r.answer["confidence"] is not None]
    classed = [r for r in findings if r.recorded.read.diagnosis]
    seen: dict[str, dict[str, str]] = {}
    for r in current:
        if r.recorded.read.tau is not None:
            seen.setdefault(r.scan, {})[r.recorded.read.reader] = r.recorded.read.tau
    twice = [set(of_reader.values()) for of_reader in seen.values() if len(of_reader) > 1]
    reasons = Counter(REASONS[r.recorded.read.reason] for r in done if r.recorded.read.reason)
    groups = {
        "confidence": _grouped(findings, _confidence_bin),
        "decision": _grouped(done, _decision),
        "version": _grouped(done, _version),
        "month": _grouped(done, lambda r: (0, r.recorded.time[:7])),
        "blind": _grouped(done, _when_read),
    }
    return Agreement(
        overall=OverrideRate.of("all", done),
        scans=len({r.scan for r in done}),
        readers=len({r.recorded.read.reader for r in done}),
        open_reads=len(current) - len(done),
        groups=groups,
        reasons=tuple(reasons.most_common()),
        read_twice=len(twice),
        agreed=sum(len(tau) == 1 for tau in twice),
        classed=len(classed),
        same_class=sum(r.recorded.read.diagnosis == r.answer["most_likely"] for r in classed),
    )


def overrides_since(reads: Iterable[AnsweredRead], since: str) -> tuple[OverrideRate, OverrideRate]:
    """Return how many answers were changed in the current reads from a day on, and in those before it.

    Parameters
    ----------
    since : str
        Day in UTC, as ``2026-03-02``.
    """
    done = [r for r in reads if not r.recorded.superseded and r.recorded.read.verdict is not None]
    new = [r for r in done if r.recorded.time[:10] >= since]
    return OverrideRate.of("since", new), OverrideRate.of("before", [r for r in done if r not in new])


@dataclass(frozen=True)
class OverrideTest:
    """Whether readers change answers more often than before.

    Parameters
    ----------
    to : int
        Entry of the audit log up to which reads have been tested with this one.
    reads : int
        That were new.
    answer : {"nothing", "retrain"}
        What follows from a rise.
    sentence : str
        The counts in words.
    """

    to: int
    reads: int
    p_value: float
    answer: Answer
    sentence: str


def check_overrides(reads: Iterable[AnsweredRead], tested_to: int, level: float) -> OverrideTest | None:
    """Test the reads since the last test against those before, once; None where there are too few yet.

    Parameters
    ----------
    reads : iterable of AnsweredRead
        Of all versions: a rise that comes with a new version is to be noticed.
    tested_to : int
        Entry of the audit log up to which earlier tests went; 0 before the first.
    level : float
        Chance that a rate which has not risen is called risen.
    """
    done = [r for r in reads if not r.recorded.superseded and r.recorded.read.verdict is not None]
    new = [r for r in done if r.recorded.number > tested_to]
    before = [r for r in done if r.recorded.number <= tested_to]
    if not tested_to and len(new) >= _FEWEST:  # the first reads are what later ones are compared with
        to = max(r.recorded.number for r in new)
        return OverrideTest(to, len(new), 1.0, "nothing", "These are the first reads.")
    if min(len(new), len(before)) < _FEWEST:
        return None
    then, now = OverrideRate.of("before", before), OverrideRate.of("now", new)
    counts = [np.array([r.recorded.read.overrides for r in group], dtype=np.bool_) for group in (before, new)]
    p_value = rate_p_value(*counts)
    risen = p_value < level and now.share - then.share >= _LEAST_RISE
    since = min(r.recorded.time for r in new)[:10]
    sentence = (
        f"Readers changed {now.overrides} of {now.reads} answers since {since}, before that "
        f"{then.overrides} of {then.reads} (p = {p_value:.3f})."
    )
    to = max(r.recorded.number for r in new)
    return OverrideTest(to, len(new), p_value, "retrain" if risen else "nothing", sentence)


def _grouped(
    reads: Sequence[AnsweredRead], place_of: Callable[[AnsweredRead], tuple[int, str]]
) -> tuple[OverrideRate, ...]:
    """Count the overrides of each group; `place_of` gives its place in the order, and its label."""
    found: dict[tuple[int, str], list[AnsweredRead]] = {}
    for read in reads:
        found.setdefault(place_of(read), []).append(read)
    return tuple(OverrideRate.of(place[1], found[place]) for place in sorted(found))


def _confidence_bin(read: AnsweredRead) -> tuple[int, str]:
    """Return the bin of the highest probability, (low, high] as the metrics have it."""
    place = int(np.searchsorted(_EDGES, read.answer["confidence"], side="left"))
    return place, _BINS[place]


def _decision(read: AnsweredRead) -> tuple[int, str]:
    name = str(read.answer["decision"])
    return (
        (list(DECISIONS).index(name), DECISIONS[name]) if name in DECISIONS else (len(DECISIONS), "unknown")
    )


def _version(read: AnsweredRead) -> tuple[int, str]:
    return (int(read.version), f"version {read.version}") if read.version else (0, "no version")


def _when_read(read: AnsweredRead) -> tuple[int, str]:
    blind = read.recorded.read.blind
    return int(not blind), "read before the answer was shown" if blind else "read with the answer in view"
