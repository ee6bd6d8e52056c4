"""The table of a study: every way to get probabilities for the test scans, measured the same way."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from models.arrays import Floats, Ints
from models.calibrators import softmax
from models.names import CALIBRATOR_TITLES
from pipeline.config import EvaluationSettings
from pipeline.evaluation.classifier.decision import likeness_counts
from pipeline.evaluation.classifier.decision_counts import DecisionCounts
from pipeline.evaluation.classifier.rivals import Rivals
from pipeline.evaluation.classifier.scoring import Scorer
from pipeline.evaluation.classifier.selection import Selection
from pipeline.evaluation.inference.intervals import Interval
from pipeline.learning.predictions import Predictions

UNCALIBRATED = "uncalibrated network"
BASELINE = "logistic regression on regional SUVR"
ORACLE = "oracle (true posterior)"
PRIOR = "class shares of training"
_WITH_INTERCEPTS = ("network", "chosen")


@dataclass(frozen=True)
class Row:
    """One source of probabilities and its metrics on the test scans.

    Parameters
    ----------
    name : str
        Its title in tables.
    kind : str
        ``"network"``, ``"calibrated"``, ``"chosen"``, ``"baseline"``, ``"oracle"`` or ``"prior"``.
    metrics : mapping of str to Interval
        A metric that is not defined on these scans is left out.
    noise : mapping of str to float
        Noise floors of its calibration errors: what these probabilities would show if they were true.
    intercepts : mapping of str to Interval
        Class name to its calibration intercept; of the network and of the shipped classifier.
    """

    name: str
    kind: str
    metrics: Mapping[str, Interval]
    noise: Mapping[str, float] = field(default_factory=dict)
    intercepts: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """The results of a study on its test scans.

    Parameters
    ----------
    chosen : str
        Name of the calibrator that is shipped.
    reason : str
        Why it was chosen.
    gain : mapping of str to Interval
        Metric of the shipped classifier minus that of the uncalibrated network, paired by subject: of
        `pipeline.evaluation.classifier.scoring.COMPARED` and of the prior-corrected balanced accuracy.
    scans, subjects : int
        How many test scans and subjects.
    likeness : tuple of tuple
        (low, high, scans, right) for each tenth of confidence of the shipped classifier.
    coverage : mapping of str to tuple
        Class name to (scans whose conformal set holds it, scans).
    decisions : DecisionCounts, optional
        Missing in results of older versions.
    level : float
        Of the intervals, in (0, 1).
    """

    rows: tuple[Row, ...]
    chosen: str
    reason: str
    gain: Mapping[str, Interval]
    scans: int
    subjects: int
    likeness: tuple[tuple[float, float, int, int], ...]
    coverage: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    decisions: DecisionCounts | None = None
    level: float = 0.95

    def with_decisions(self, decisions: DecisionCounts) -> Results:
        """Return the results with what the classifier decided on the test scans."""
        return replace(self, coverage=dict(decisions.held), decisions=decisions)

    def row(self, kind: str) -> Row:
        """Return the first row of a kind."""
        return next(row for row in self.rows if row.kind == kind)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Results:
        """Read what `to_dict` returned."""

        def intervals(metrics: dict[str, Any]) -> dict[str, Interval]:
            return {name: Interval(**interval) for name, interval in metrics.items()}

        rows = tuple(
            Row(
                r["name"],
                r["kind"],
                intervals(r["metrics"]),
                r.get("noise", {}),
                intervals(r.get("intercepts", {})),
            )
            for r in value["rows"]
        )
        coverage = {name: (int(n), int(of)) for name, (n, of) in value["coverage"].items()}
        likeness = tuple((float(a), float(b), int(n), int(r)) for a, b, n, r in value["likeness"])
        gain = intervals(value["gain"])
        decided = value.get("decisions")
        read: dict[str, Any] = {"rows": rows, "gain": gain, "coverage": coverage, "likeness": likeness}
        read["decisions"] = None if decided is None else DecisionCounts.from_dict(decided)
        return cls(**{**value, **read})

    def flat(self) -> dict[str, float]:
        """Return metrics of the shipped classifier as ``name``, ``name.low``, ``name.high`` for a tracker.

        The noise floor of a calibration error is ``name.noise``.
        """
        flat: dict[str, float] = {}
        chosen = self.row("chosen")
        for name, interval in chosen.metrics.items():
            flat |= {name: interval.value, f"{name}.low": interval.low, f"{name}.high": interval.high}
        flat |= {f"{name}.noise": floor for name, floor in chosen.noise.items()}
        for row in self.rows:
            if row.kind != "chosen":
                place = re.sub(r"[^A-Za-z0-9]+", "_", row.name).strip("_")
                flat |= {f"{place}.{name}": interval.value for name, interval in row.metrics.items()}
        return {name: value for name, value in flat.items() if np.isfinite(value)}


def evaluate(
    test: Predictions, selection: Selection, rivals: Rivals, settings: EvaluationSettings, *, seed: int
) -> Results:
    """Measure the shipped classifier, what it would be uncalibrated, and its rivals on the test scans.

    Parameters
    ----------
    test : Predictions
        Nothing is chosen by it.
    selection : Selection
        The calibrator that is shipped and the others, as they were fitted on the calibration scans.
    settings : EvaluationSettings
        Bootstrap draws and level.
    seed : int
        Seed of the bootstrap; the same draws serve every row.
    """
    sources = list(_sources(test, selection, rivals))
    scorer = Scorer(test, rivals, settings, seed)
    shipped = next(p for _, kind, p in sources if kind == "chosen")
    return Results(
        rows=tuple(
            Row(
                name,
                kind,
                scorer.metrics(p),
                scorer.noise(p),
                scorer.intercepts(p) if kind in _WITH_INTERCEPTS else {},
            )
            for name, kind, p in sources
        ),
        chosen=selection.chosen,
        reason=selection.reason,
        gain=scorer.gain(shipped, softmax(test.logits)),
        scans=len(test),
        subjects=len(set(test.subjects)),
        likeness=_likeness(shipped, test.labels),
        level=settings.level,
    )


def _calibrated_by(name: str) -> str:
    return UNCALIBRATED if name == "identity" else f"network + {CALIBRATOR_TITLES[name]}"


def _likeness(probabilities: Floats, labels: Ints) -> tuple[tuple[float, float, int, int], ...]:
    counts = [likeness_counts(probabilities, labels, (tenth + 0.5) / 10) for tenth in range(10)]
    return tuple((c.low, c.high, c.scans, c.right) for c in counts)


def _sources(test: Predictions, selection: Selection, rivals: Rivals) -> Sequence[tuple[str, str, Floats]]:
    found: list[tuple[str, str, Floats]] = [(UNCALIBRATED, "network", softmax(test.logits))]
    for name, fitted in selection.others.items():
        if name != "identity":
            found.append((_calibrated_by(name), "calibrated", fitted.transform(test.logits)))
    shipped = selection.calibrator.transform(test.logits)
    found.append((f"{_calibrated_by(selection.chosen)} (chosen)", "chosen", shipped))
    if rivals.baseline is not None:
        found.append((BASELINE, "baseline", rivals.baseline))
    if rivals.posterior is not None:
        found.append((ORACLE, "oracle", rivals.posterior))
    found.append((PRIOR, "prior", np.tile(rivals.class_shares, (len(test), 1))))
    return found
