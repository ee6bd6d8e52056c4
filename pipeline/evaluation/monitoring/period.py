"""What is known of the scans of a period before anyone has a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.arrays import Floats, Ints
from models.classifier import CalibratedClassifier
from pipeline.errors import InputError
from pipeline.learning.predictions import Predictions
from pipeline.learning.region_table import RegionTable
from pipeline.scan import Cohort, scanner_of


@dataclass(frozen=True, eq=False)
class PeriodScans:
    """What is known of the scans of a period without waiting for a diagnosis.

    Parameters
    ----------
    subjects : tuple of str, length N
        Pseudonyms, scans in the order they were made; of each subject only the last scan is looked at.
    region_names : tuple of str, length R
    suvr : ndarray, shape (N, R)
        Mean SUVR of each region.
    class_names : tuple of str, length K
    probabilities : ndarray, shape (N, K)
        Calibrated, at the class shares of the calibration split.
    out_of_distribution : ndarray of bool, shape (N,)
    scanners : tuple of str, length N
        Manufacturer and model, or what else names a scanner.

    Raises
    ------
    InputError
        If shapes do not agree or an SUVR is not finite.
    """

    subjects: tuple[str, ...]
    region_names: tuple[str, ...]
    suvr: Floats
    class_names: tuple[str, ...]
    probabilities: Floats
    out_of_distribution: NDArray[np.bool_]
    scanners: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.subjects)
        shapes = (self.suvr.shape, self.probabilities.shape)
        lengths = (len(self.out_of_distribution), len(self.scanners))
        if shapes != ((n, len(self.region_names)), (n, len(self.class_names))) or lengths != (n, n):
            raise InputError(
                f"The period has SUVR of shape {shapes[0]}, probabilities of shape {shapes[1]}, {lengths[0]} "
                f"flags and {lengths[1]} scanners; expected one row each for its {n} scans, and a column for "
                "each region and class"
            )
        if not np.isfinite(self.suvr).all():
            row, column = np.argwhere(~np.isfinite(self.suvr))[0]
            raise InputError(
                f"SUVR of {self.region_names[column]} is {self.suvr[row, column]}, expected a finite number",
                where=self.subjects[row],
                hint="exclude scans that quality control refused from the period",
            )

    @classmethod
    def of(
        cls, cohort: Cohort, predictions: Predictions, classifier: CalibratedClassifier, regions: RegionTable
    ) -> PeriodScans:
        """Take from a cohort, and the predictions of its scans, what a shift check compares.

        Parameters
        ----------
        cohort : Cohort
            Scans in the order they were made.
        predictions : Predictions
            Of the same scans, by `classifier`.
        """
        outliers = classifier.outliers
        far = outliers.mahalanobis(predictions.features) > outliers.mahalanobis_limit
        return cls(
            subjects=cohort.subjects,
            region_names=regions.names,
            suvr=regions.suvr(cohort.scan_ids),
            class_names=cohort.class_names,
            probabilities=classifier.calibrator.transform(predictions.logits),
            out_of_distribution=far | (outliers.energy(predictions.logits) > outliers.energy_limit),
            scanners=tuple(scanner_of(s.facts) for s in cohort.scans),
        )

    def __len__(self) -> int:
        return len(self.subjects)

    def last_scans(self) -> Ints:
        """Return the rows of each subject's last scan."""
        last = {subject: row for row, subject in enumerate(self.subjects)}
        return np.array(sorted(last.values()), dtype=np.int64)

    def with_regions(self, names: tuple[str, ...]) -> PeriodScans:
        """Return the same scans with these regions alone."""
        columns = [self.region_names.index(name) for name in names]
        return replace(self, region_names=names, suvr=self.suvr[:, columns])

    def take(self, rows: Ints) -> PeriodScans:
        """Return the given rows."""
        return PeriodScans(
            tuple(self.subjects[row] for row in rows),
            self.region_names,
            self.suvr[rows],
            self.class_names,
            self.probabilities[rows],
            self.out_of_distribution[rows],
            tuple(self.scanners[row] for row in rows),
        )
