"""What a classifier decided on the test scans: sets, findings, and ranges where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from models.arrays import Floats
from models.conformal import ConformalSets
from models.interval import RangeFit, ranges_held
from models.prediction import Prediction
from pipeline.evaluation.classifier.decision import SetSizes, set_sizes
from pipeline.learning.predictions import Predictions
from pipeline.scan import Cohort


@dataclass(frozen=True)
class DecisionCounts:
    """The decisions on the test scans, quality control aside.

    Parameters
    ----------
    promised : float
        Coverage of the prediction sets.
    largest_set : int
        Most classes of a set that is an answer.
    sets, true_sets : SetSizes
        Of the classifier, and of sets that are made in the same way from the true posterior, where known.
    answered, right : int
        Test scans with a finding, and those of them whose most likely class is the diagnosis.
    held : mapping of str to tuple
        Class name to (scans whose set contains it, scans).
    plausible : RangeFit, optional
        Whether plausible ranges held the true probabilities, where these are known.
    """

    promised: float
    largest_set: int
    sets: SetSizes
    answered: int
    right: int
    held: Mapping[str, tuple[int, int]]
    true_sets: SetSizes | None = None
    plausible: RangeFit | None = None

    @classmethod
    def of(
        cls, decided: Sequence[Prediction], calibration: Predictions, test: Predictions, cohort: Cohort
    ) -> Self:
        """Count decisions on the test scans.

        Parameters
        ----------
        decided : sequence of Prediction
            Of each test scan.
        calibration, test : Predictions
            Ids and diagnoses of the scans that the sets were made with, and of those decided.
        cohort : Cohort
            Holds the true posterior where it is known.
        """
        first, names = decided[0], test.class_names
        inside = np.array([[name in p.prediction_set for name in names] for p in decided])
        likeliest = np.array([np.argmax(p.probabilities) for p in decided])
        answered = np.array([p.decision == "report" for p in decided])
        true_sets = plausible = None
        truth = cohort.subset(test.scan_ids).posterior
        known = cohort.subset(calibration.scan_ids).posterior
        if truth is not None and known is not None:
            made = ConformalSets.fit(known, calibration.labels, first.coverage)
            true_sets = set_sizes(made.sets(truth), first.largest_set)
            plausible = _ranges(decided, truth)
        return cls(
            promised=first.coverage,
            largest_set=first.largest_set,
            sets=set_sizes(inside, first.largest_set),
            answered=int(answered.sum()),
            right=int((answered & (likeliest == test.labels)).sum()),
            held={
                name: (int(inside[test.labels == k, k].sum()), int((test.labels == k).sum()))
                for k, name in enumerate(names)
            },
            true_sets=true_sets,
            plausible=plausible,
        )

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `dataclasses.asdict` returned."""
        read = {
            name: None if stored[name] is None else kind(**stored[name])
            for name, kind in (("sets", SetSizes), ("true_sets", SetSizes), ("plausible", RangeFit))
        }
        held = {name: (int(n), int(of)) for name, (n, of) in stored["held"].items()}
        return cls(**{**stored, **read, "held": held})


def _ranges(decided: Sequence[Prediction], truth: Floats) -> RangeFit | None:
    factor = decided[0].range_factor
    if factor is None:
        return None
    low, high, stated = (
        np.array([getattr(p, n) for p in decided]) for n in ("lower", "upper", "probabilities")
    )
    return ranges_held((low, high), stated, truth, factor)
