"""Simulated years of monthly challengers for `gate_luck.py`: no network, the NLL alone decides.

A classifier is that of `gate.py`, ``softmax(z + s noise)``, with s chosen for a true NLL above that of the
posterior; its noise is fixed for each scan. Challengers are judged on a test part that grows by 3 of the 16
new scans of a month; one that waits is judged on all that came since it was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

import numpy as np
from scipy.special import log_softmax

from models.arrays import Floats
from pipeline.config import GateSettings
from pipeline.evaluation.inference.sequential import critical_values, skewed_limits, standard_error
from pipeline.evaluation.monitoring.champions_luck import ChampionsLead
from pipeline.evaluation.monitoring.gate import spent_after
from tests.benchmarks.gate import Drawn, Reading, draw, true_nll

SETTINGS = GateSettings()
MONTHS, WAIT_MONTHS, NEW, NEW_TEST = 12, 3, 16, 3
EQUAL = 0.01
SPREAD = 0.02
"""Standard deviation of true differences that the rules "bayes" and "rejections" take as known."""


@dataclass(frozen=True)
class Rule:
    """What is done about luck.

    Parameters
    ----------
    luck : {"", "waits", "promotes", "bayes", "rejections"}
        What is subtracted: nothing; what ships, which promotes nobody at the first look; the same at every
        look; half of the part of the lead that is luck where true leads are normal with the deviation
        `SPREAD`; the same, from the challengers that it beat as well.
    again : {"", "instead", "beside"}
        A challenger that the test part rejects is judged on the scans that did not choose the champion:
        no other is trained meanwhile, or others are.
    """

    luck: Literal["", "waits", "promotes", "bayes", "rejections"] = ""
    again: Literal["", "instead", "beside"] = ""
    margin: float = SETTINGS.negative_log_likelihood


@dataclass(frozen=True)
class Scenario:
    """The true NLL of a challenger above the posterior's: normal round a level that falls each month.

    Parameters
    ----------
    shared : float
        Share of the noise variance that all classifiers have in common.
    failed : float
        Share of challengers that are worse by .05 more.
    """

    shared: float = 0.5
    first: float = 0.13
    level: float = 0.11
    falls: float = 0.003
    spread: float = 0.015
    failed: float = 0.2
    tested: int = 40


@cache
def _curve() -> tuple[Floats, Floats]:
    noises = np.linspace(0.0, 2.0, 21)
    nlls = np.array([true_nll(Reading(1.0, float(s)), 40_000) for s in noises])
    return noises, nlls - nlls[0]


def noise_of(excess: float) -> float:
    """Return the noise of a classifier whose true NLL is so much above the posterior's."""
    noises, above = _curve()
    return float(np.interp(excess, above, noises))


def losses_of(scans: Drawn, excess: float, noise: Floats) -> Floats:
    """Return the NLL of each scan, of a classifier whose true NLL is so much above the posterior's."""
    stated = log_softmax(scans.z + noise_of(excess) * noise, axis=1)
    return -stated[np.arange(len(scans.labels)), scans.labels]


@cache
def _last_limit(looks: tuple[tuple[int, float], ...]) -> float:
    return critical_values(*zip(*looks, strict=True))[-1]


def judged(worse: Floats, rule: Rule, looks: tuple[tuple[int, float], ...], luck: float) -> tuple[str, float]:
    """Return the gate's answer to how much worse the challenger is on each scan, and what it had to spare."""
    _, low, high = skewed_limits(worse, people(len(worse)), _last_limit(looks))
    spare = rule.margin - high + (0.0 if rule.luck == "waits" and len(looks) == 1 else luck)
    return "promote" if spare >= 0 else "wait" if low - luck <= 0 else "reject", spare


@cache
def people(n: int) -> tuple[str, ...]:
    """Return the names of so many subjects."""
    return tuple(f"{row:04}" for row in range(n))


def luck_of(lead: ChampionsLead, rule: Rule, worse: Floats, beaten: Sequence[float] = ()) -> float:
    """Return what a rule subtracts for the champion's luck."""
    if not rule.luck:
        return 0.0
    error, n = standard_error(worse, people(len(worse))), len(worse)
    if rule.luck in ("waits", "promotes"):
        return lead.luck(error, n)
    own = error**2 * n / lead.subjects / 2
    told = [lead.lead, *(beaten if rule.luck == "rejections" else ())]
    weight = 1 / (own + SPREAD**2)
    return lead.shared * max(0.0, weight * sum(told) / (1 / own + weight * len(told)))


@dataclass(frozen=True)
class Year:
    """True NLL above the posterior's and losses on all scans: of the first champion and each challenger."""

    truth: Floats
    losses: Floats
    came: np.ndarray
    tested: np.ndarray

    @classmethod
    def of(cls, scenario: Scenario, seed: int) -> Year:
        """Draw a year."""
        rng = np.random.default_rng([2027, seed])
        scans = draw(scenario.tested + NEW * MONTHS, rng)
        level = scenario.level - scenario.falls * np.arange(1, MONTHS + 1)
        failed = 0.05 * (rng.random(MONTHS) < scenario.failed)
        later = np.maximum(level + scenario.spread * rng.standard_normal(MONTHS) + failed, 0.01)
        truth = np.concatenate([[scenario.first], later])
        common = np.sqrt(scenario.shared) * rng.standard_normal(scans.z.shape)
        own = np.sqrt(1 - scenario.shared) * rng.standard_normal((len(truth), *scans.z.shape))
        losses = [losses_of(scans, e, common + n) for e, n in zip(truth, own, strict=True)]
        came = np.repeat(np.arange(MONTHS + 1), [scenario.tested, *[NEW] * MONTHS])
        of_test = np.tile(np.arange(NEW) < NEW_TEST, MONTHS)
        return cls(truth, np.array(losses), came, np.concatenate([np.ones(scenario.tested, bool), of_test]))


@dataclass
class Candidate:
    """A challenger, when it was made, and its looks; `alone` is judged on scans that chose no champion."""

    version: int
    alone: bool = False
    looks: tuple[tuple[int, float], ...] = ()


@dataclass
class Loop:
    """A year of monthly challengers; `decided` has (true difference, outcome, champion) of each version."""

    year: Year
    rule: Rule
    champion: int = 0
    chosen_on: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    lead: ChampionsLead | None = None
    beaten: list[float] = field(default_factory=list)
    waits: Candidate | None = None
    heard: Candidate | None = None
    decided: dict[int, tuple[float, str, int]] = field(default_factory=dict)
    in_use: list[float] = field(default_factory=list)

    def run(self) -> Loop:
        """Live the year."""
        self.chosen_on = np.zeros(len(self.year.came), bool)
        for month in range(1, MONTHS + 1):
            if not (self.heard and self._settled(self.heard, month) == "promote"):
                candidate, self.waits = self.waits or Candidate(month), None
                if self._settled(candidate, month) == "wait":
                    self.waits = candidate
            self.in_use.append(float(self.year.truth[self.champion]))
        return self

    def _settled(self, candidate: Candidate, month: int) -> str:
        """Judge a candidate on the scans of a month, and carry out what follows."""
        year, version, waited = self.year, candidate.version, month - candidate.version
        seen = (year.came <= month) & (year.tested | (year.came > version))
        if candidate.alone:
            seen &= ~self.chosen_on
        spent = spent_after(SETTINGS, waited, WAIT_MONTHS) - candidate.alone * (1 - SETTINGS.level)
        candidate.looks += ((int(seen.sum()), round(spent, 9)),)
        worse = (year.losses[version] - year.losses[self.champion])[seen]
        luck = self._luck(worse, seen)
        found, spare = judged(worse, self.rule, candidate.looks, luck)
        if found == "wait" and waited >= WAIT_MONTHS:
            found = "reject"
        if found == "promote":
            self._promote(version, seen, ChampionsLead(-float(worse.mean()), spare, len(worse), 1.0))
        elif found == "reject":
            found = self._rejected(candidate, waited, worse)
        return found

    def _luck(self, worse: Floats, seen: np.ndarray) -> float:
        if self.lead is None or not self.rule.luck:
            return 0.0
        lead = replace(self.lead, shared=float((self.chosen_on & seen).sum() / len(worse)))
        return luck_of(lead, self.rule, worse, self.beaten)

    def _promote(self, version: int, seen: np.ndarray, lead: ChampionsLead) -> None:
        self.decided[version] = (self._difference(version), "promote", self.champion)
        self.champion, self.chosen_on, self.lead = version, seen, lead
        self.beaten, self.waits, self.heard = [], None, None

    def _rejected(self, candidate: Candidate, waited: int, worse: Floats) -> str:
        version = candidate.version
        if candidate is self.heard:
            self.heard = None if waited >= WAIT_MONTHS else candidate
            return "wait"
        if self.lead is not None and not waited and self.rule.again == "instead":
            candidate.alone, candidate.looks = True, ()
            return "wait"
        if self.lead is not None and not waited and self.rule.again == "beside":
            self.heard = self.heard or Candidate(version, alone=True)
        self.decided[version] = (self._difference(version), "reject", self.champion)
        self.beaten.append(float(worse.mean()))
        return "reject"

    def _difference(self, version: int) -> float:
        return float(self.year.truth[version] - self.year.truth[self.champion])

    def longest_run(self) -> int:
        """Return how many challengers as good as their champion one champion kept out in a row, at most."""
        longest = now = 0
        for _, (difference, found, _) in sorted(self.decided.items()):
            now = 0 if found == "promote" else now + (difference <= EQUAL)
            longest = max(longest, now)
        return longest
