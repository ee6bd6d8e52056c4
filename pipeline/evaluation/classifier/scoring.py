"""Metrics of probabilities of the test scans, with intervals: the same draws of subjects for every source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

import numpy as np

from models.arrays import Floats
from pipeline.config import EvaluationSettings
from pipeline.evaluation.classifier.rivals import Rivals
from pipeline.evaluation.inference.intervals import Interval, bootstrap, bootstrap_mean, paired_bootstrap
from pipeline.evaluation.metrics import METRICS, NOISY, TABLE, Metric, noise_floors, prior_corrected
from pipeline.evaluation.metrics.logistic_recalibration import recalibration_over_draws
from pipeline.evaluation.metrics.sample import Sample
from pipeline.learning.predictions import Predictions

CORRECTED = "prior_corrected_balanced_accuracy"
COMPARED = (
    *(name for name in METRICS if name not in (*NOISY, "calibration_slope")),
    *(f"{name}_above_noise" for name in TABLE if name in NOISY),
)
"""Metrics of which differences are measured: calibration errors above noise only."""


class _Bootstrap(TypedDict):
    draws: int
    level: float
    seed: int


@dataclass(frozen=True, eq=False)
class Scorer:
    """Measures sources of probabilities (N, K) of the same test scans.

    Parameters
    ----------
    rivals : Rivals
        Class shares of training, and the posterior where it is known.
    settings : EvaluationSettings
        Bootstrap draws and level.
    seed : int
        Of the bootstrap and of the label draws of the noise floors.
    """

    test: Predictions
    rivals: Rivals
    settings: EvaluationSettings
    seed: int

    @property
    def _how(self) -> _Bootstrap:
        return {"draws": self.settings.draws, "level": self.settings.level, "seed": self.seed}

    def metrics(self, probabilities: Floats) -> dict[str, Interval]:
        """Return every metric that is defined on these scans, with its interval."""
        labels, subjects, posterior = self.test.labels, self.test.subjects, self.rivals.posterior
        found = bootstrap(probabilities, labels, subjects, **self._how)
        corrected = prior_corrected(probabilities, self.rivals.class_shares)
        by_likelihood = bootstrap(corrected, labels, subjects, ["balanced_accuracy"], **self._how)
        found[CORRECTED] = by_likelihood["balanced_accuracy"]
        if posterior is not None:
            off = np.abs(probabilities - posterior).mean(axis=1)
            found["posterior_error"] = bootstrap_mean(off, subjects, **self._how)
        return _defined(found)

    def noise(self, probabilities: Floats) -> dict[str, float]:
        """Return the noise floor of every calibration error, the one that errors above noise are above."""
        return noise_floors(probabilities)

    def intercepts(self, probabilities: Floats) -> dict[str, Interval]:
        """Return the calibration intercept of each class that has one."""
        metrics = {
            name: Metric(name, name, "nominal", weighted=partial(_intercept, k=k))
            for k, name in enumerate(self.test.class_names)
        }
        test = self.test
        return _defined(bootstrap(probabilities, test.labels, test.subjects, metrics, **self._how))

    def gain(self, ours: Floats, other: Floats) -> dict[str, Interval]:
        """Return ours minus the other: `COMPARED`, and the prior-corrected balanced accuracy."""
        labels, subjects = self.test.labels, self.test.subjects
        found = paired_bootstrap(ours, other, labels, subjects, COMPARED, **self._how)
        a, b = (prior_corrected(p, self.rivals.class_shares) for p in (ours, other))
        by_likelihood = paired_bootstrap(a, b, labels, subjects, ["balanced_accuracy"], **self._how)
        return _defined({**found, CORRECTED: by_likelihood["balanced_accuracy"]})


def _intercept(sample: Sample, weights: Floats, *, k: int) -> Floats:
    return np.asarray(recalibration_over_draws(sample, weights)[:, 1 + k])


def _defined(found: Mapping[str, Interval]) -> dict[str, Interval]:
    return {n: i for n, i in found.items() if all(map(math.isfinite, (i.value, i.low, i.high)))}
