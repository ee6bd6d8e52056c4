"""What a classifier is compared with on the test scans: class shares, regional SUVR alone, the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from models.arrays import Floats
from pipeline.evaluation.classifier.baseline import fit_baseline
from pipeline.learning.region_table import RegionTable
from pipeline.learning.split_cohort import SplitCohort


@dataclass(frozen=True, eq=False)
class Rivals:
    """Probabilities of the test scans from elsewhere; None where there are none.

    `baseline` comes from regional SUVR, `posterior` is the phantom's truth, `class_shares` are of training.
    """

    class_shares: Floats
    baseline: Floats | None = None
    posterior: Floats | None = None

    @classmethod
    def of(
        cls, scans: SplitCohort, regions: RegionTable | None, class_shares: ArrayLike, seed: int
    ) -> Rivals:
        """Fit the baseline on the training scans, where the cohort has regional SUVR, and predict the test.

        Parameters
        ----------
        class_shares : array_like, shape (K,)
            Of training.
        seed : int
            Of the baseline's folds.
        """
        shares = np.asarray(class_shares, dtype=np.float64)
        if regions is None:
            return cls(shares)
        training, test = scans.part("train"), scans.split.test
        fitted = fit_baseline(regions.suvr(training.scan_ids), training.labels, training.subjects, seed)
        baseline = fitted.probabilities(regions.suvr(test))
        return cls(shares, baseline, scans.cohort.subset(test).posterior)
