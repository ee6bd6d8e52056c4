"""How good classifiers were while in use, on the scans of each period, of which none had learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from models.arrays import Floats, Ints
from models.prediction import Prediction
from pipeline.errors import InputError
from pipeline.evaluation.inference.intervals import Interval, bootstrap, bootstrap_mean, paired_bootstrap
from pipeline.evaluation.metrics import classwise_ece, negative_log_likelihood
from pipeline.scan import Cohort

SCORED = ("negative_log_likelihood", "classwise_ece")
_PER_SCAN: dict[str, type[np.generic]] = {
    "probabilities": np.float64,
    "covered": np.bool_,
    "referred": np.bool_,
}
"""Arrays of `PolicyPredictions` and their types."""


@dataclass(frozen=True, eq=False)
class PolicyPredictions:
    """What the classifier in use predicted for a period's scans.

    Parameters
    ----------
    version : int
        Of the registered model; 0 where several are pooled.
    probabilities : ndarray, shape (N, K)
        Calibrated.
    covered : ndarray of bool, shape (N,)
        Whether the prediction set holds the true class.
    referred : ndarray of bool, shape (N,)
        Whether the scan was referred to a person.
    """

    version: int
    probabilities: Floats
    covered: NDArray[np.bool_]
    referred: NDArray[np.bool_]

    @classmethod
    def of(cls, version: int, predictions: Sequence[Prediction], cohort: Cohort) -> PolicyPredictions:
        """Take the predictions of a cohort's scans, which have diagnoses; there may be no scan."""
        true = [cohort.class_names[k] for k in cohort.labels]
        covered = [name in p.prediction_set for p, name in zip(predictions, true, strict=True)]
        return cls(
            version,
            np.array([p.probabilities for p in predictions]).reshape(-1, len(cohort.class_names)),
            np.array(covered, dtype=np.bool_),
            np.array([p.decision == "refer" for p in predictions], dtype=np.bool_),
        )


@dataclass(frozen=True, eq=False)
class PeriodPredictions:
    """The scans of a period, and what the classifier of each policy predicted when they came.

    Parameters
    ----------
    scan_ids, subjects : tuple of str, length N
    labels : ndarray of int, shape (N,)
    posterior : ndarray, shape (N, K), or None
        The true class probabilities, of a phantom.
    """

    scan_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    labels: Ints
    posterior: Floats | None
    by_policy: Mapping[str, PolicyPredictions]

    def __len__(self) -> int:
        return len(self.scan_ids)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return {
            "scan_ids": list(self.scan_ids),
            "subjects": list(self.subjects),
            "labels": self.labels.tolist(),
            "posterior": None if self.posterior is None else self.posterior.tolist(),
            "by_policy": {
                policy: {"version": p.version} | {name: getattr(p, name).tolist() for name in _PER_SCAN}
                for policy, p in self.by_policy.items()
            },
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> PeriodPredictions:
        """Read what `to_dict` returned, or an earlier version with the key ``said``."""
        posterior = value["posterior"]
        return cls(
            tuple(value["scan_ids"]),
            tuple(value["subjects"]),
            np.array(value["labels"], dtype=np.int64),
            None if posterior is None else np.array(posterior, dtype=np.float64),
            {
                policy: PolicyPredictions(
                    p["version"], **{name: np.array(p[name], dtype=kind) for name, kind in _PER_SCAN.items()}
                )
                for policy, p in value.get("by_policy", value.get("said")).items()
            },
        )


def pool(periods: Sequence[PeriodPredictions]) -> PeriodPredictions:
    """Concatenate periods, in order; those without a scan add nothing.

    Raises
    ------
    InputError
        If no period has a scan.
    """
    held = [period for period in periods if len(period)]
    if not held:
        raise InputError(
            "No period has a scan to evaluate on", hint="look up in the ingest report why scans were refused"
        )
    posteriors = [p.posterior for p in held if p.posterior is not None]

    def together(policy: str) -> PolicyPredictions:
        parts = [period.by_policy[policy] for period in held]
        arrays = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _PER_SCAN}
        return PolicyPredictions(0, **arrays)

    return PeriodPredictions(
        tuple(i for period in held for i in period.scan_ids),
        tuple(s for period in held for s in period.subjects),
        np.concatenate([period.labels for period in held]),
        np.concatenate(posteriors) if len(posteriors) == len(held) else None,
        {policy: together(policy) for policy in held[0].by_policy},
    )


def measure(period: PeriodPredictions, policy: str) -> dict[str, float]:
    """Return NLL, classwise ECE, coverage and the share referred; with a known posterior also its own NLL.

    Examples
    --------
    >>> predicted = PolicyPredictions(1, np.array([[0.5, 0.5]]), np.array([True]), np.array([False]))
    >>> truth = np.array([[1.0, 0.0]])
    >>> period = PeriodPredictions(("a",), ("a",), np.array([0]), truth, {"never": predicted})
    >>> measure(period, "never")["coverage"], round(measure(period, "never")["negative_log_likelihood"], 3)
    (1.0, 0.693)
    """
    predicted = period.by_policy[policy]
    values = {
        "negative_log_likelihood": negative_log_likelihood(predicted.probabilities, period.labels),
        "classwise_ece": classwise_ece(predicted.probabilities, period.labels),
        "coverage": float(predicted.covered.mean()),
        "referred": float(predicted.referred.mean()),
    }
    if period.posterior is not None:
        values["oracle"] = negative_log_likelihood(period.posterior, period.labels)
    return values


def measure_with_intervals(
    period: PeriodPredictions, policy: str, *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Return what `measure` returns with intervals over subjects, and ``above_oracle`` for ``oracle``.

    ``above_oracle`` is the expected NLL above that of the true posterior: the divergence of the prediction
    from the posterior. It does not depend on the class that each scan happened to have, so it is less noisy
    than NLL.
    """
    predicted = period.by_policy[policy]
    found = bootstrap(
        predicted.probabilities, period.labels, period.subjects, SCORED, draws=draws, level=level, seed=seed
    )
    for name, values in {"coverage": predicted.covered, "referred": predicted.referred}.items():
        found[name] = bootstrap_mean(values, period.subjects, draws=draws, level=level, seed=seed)
    if period.posterior is not None:
        above = _above_oracle(period.posterior, predicted)
        found["above_oracle"] = bootstrap_mean(above, period.subjects, draws=draws, level=level, seed=seed)
    return found


def compare_policies(
    period: PeriodPredictions, ours: str, other: str, *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Return our NLL, classwise ECE, coverage and share referred minus the other's, paired by subject.

    With a known posterior also ``above_oracle``, as in `measure_with_intervals`.
    """
    a, b = period.by_policy[ours], period.by_policy[other]
    found = paired_bootstrap(
        a.probabilities, b.probabilities, period.labels, period.subjects, SCORED,
        draws=draws, level=level, seed=seed,
    )  # fmt: skip
    changes: dict[str, Floats] = {
        "coverage": a.covered.astype(np.float64) - b.covered,
        "referred": a.referred.astype(np.float64) - b.referred,
    }
    if period.posterior is not None:
        changes["above_oracle"] = _above_oracle(period.posterior, a) - _above_oracle(period.posterior, b)
    for name, change in changes.items():
        found[name] = bootstrap_mean(change, period.subjects, draws=draws, level=level, seed=seed)
    return found


def _above_oracle(posterior: Floats, predicted: PolicyPredictions) -> Floats:
    divergence: Floats = rel_entr(posterior, predicted.probabilities).sum(axis=1)
    return divergence
