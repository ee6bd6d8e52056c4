"""Challengers and champions for the gate, on subjects whose probabilities are known."""

from __future__ import annotations

import numpy as np

from pipeline.config import GateSettings
from pipeline.evaluation.monitoring.gate import Judged
from pipeline.evaluation.monitoring.verdict import Verdict

SETTINGS = GateSettings(draws=500, guard_level=0.95)


NAMES = ("CN", "MCI", "AD")


def softmax(z):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def world(n=300, scans_each=1, seed=0):
    """Evidence of subjects, and labels drawn from its softmax: the calibrated classifier states just that."""
    rng = np.random.default_rng(seed)
    evidence = np.repeat(rng.normal(scale=1.5, size=(n // scans_each, 3)), scans_each, axis=0)
    p = softmax(evidence)
    labels = (rng.random(n)[:, None] > p.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return evidence, labels, tuple(f"s{row // scans_each}" for row in range(n))


def judged(challenger=None, champion=None, **more):
    evidence, labels, subjects = world()
    p = softmax(evidence)
    given = {
        "labels": labels,
        "subjects": subjects,
        "class_names": NAMES,
        "challenger": p if challenger is None else challenger,
        "sets": np.ones((len(p), 3), dtype=bool),
        "coverage": 0.9,
        "champion": champion,
    }
    return Judged(**(given | more))


def check_of(verdict: Verdict, name: str):
    return next(check for check in verdict.checks if check.name == name)


def failed(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}
