"""What a trained cell of a comparison stored, and its test predictions after any calibrator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.arrays import Floats, Ints
from models.calibrators import Calibrator, build_calibrator, softmax
from models.conformal import ConformalSets
from models.prevalence import adjust_prevalence
from pipeline.errors import InputError
from pipeline.evaluation.classifier.selection import held_out_probabilities
from pipeline.evaluation.comparison.seed_runs import COVERAGE, Run
from pipeline.evaluation.metrics.scores import PROBABILITY_FLOOR
from pipeline.files import read_json
from pipeline.learning.cross_fitting import combine
from pipeline.learning.predictions import Predictions
from pipeline.learning.prior_correction import PriorCorrection
from pipeline.scan import Cohort

PRIOR_CORRECTION = "prior_correction.json"


SET_FOLDS = 5
"""Groups of subjects left out in turn for the scores of prediction sets, so that no scan scores itself."""


@dataclass(frozen=True, eq=False)
class CellResult:
    """One network of a comparison: its logits, and how its loss shifted the class prior.

    Parameters
    ----------
    loss : str
        Its title in tables.
    class_counts : tuple of int, length K
        Training scans of each class.
    calibration : Predictions or None
        Of the calibration part, at the class shares of training; None in a cross-fitted comparison.
    test : Predictions
        At the class shares of training.
    prior_correction : PriorCorrection
        What was applied to the logits as the loss trained them.
    posterior : ndarray, shape (N, K), or None
        True class probabilities of the test scans, where they are known.
    batch_size : int or None
        None where the comparison has one.
    others : tuple of CellResult
        The same loss and seed on the other folds, whose test scans calibrate where there is no such part.
        The networks of those folds learned from this fold's scans; the calibrator saw none of their labels.
    """

    loss: str
    seed: int
    fold: int
    class_counts: tuple[int, ...]
    calibration: Predictions | None
    test: Predictions
    prior_correction: PriorCorrection
    posterior: Floats | None
    batch_size: int | None = None
    others: tuple[CellResult, ...] = ()

    @classmethod
    def load(
        cls,
        folder: Path,
        identity: tuple[str, int, int],
        class_counts: tuple[int, ...],
        cohort: Cohort,
        batch_size: int | None = None,
    ) -> CellResult:
        """Read what a finished cell stored in its folder.

        Parameters
        ----------
        identity : tuple of str, int and int
            Title of the loss, seed and fold.
        class_counts : tuple of int, length K
            Training scans of each class.
        cohort : Cohort
            Holds the posterior where it is known; empty for images.
        """
        held_out = folder / "calibration.npz"
        calibration = Predictions.load(held_out) if held_out.is_file() else None
        test = Predictions.load(folder / "test.npz")
        correction = PriorCorrection.from_dict(read_json(folder / PRIOR_CORRECTION))
        posterior = cohort.subset(test.scan_ids).posterior if len(cohort) else None
        return cls(*identity, class_counts, calibration, test, correction, posterior, batch_size)

    def calibrated_on(self, others: Sequence[CellResult]) -> CellResult:
        """Return this cell with the other folds, whose test scans calibrate it."""
        return replace(self, calibration=None, others=tuple(others))

    @property
    def can_calibrate(self) -> bool:
        """Whether it has scans for a calibrator."""
        return self.calibration is not None or bool(self.others)

    def run(self, calibrator_name: str, *, correct_prior: bool, coverage: float | None) -> Run:
        """Return the test scans after a calibrator, with the prediction sets that its scans allow.

        Calibrator and sets come from the calibration scans; each of these is scored, for the sets, by a
        calibrator fitted without its group of subjects.

        Parameters
        ----------
        calibrator_name : str
            A name in `models.calibrators.CALIBRATORS`. The identity always gets the logits as the loss
            trained them: what a loss does for rare classes is its purpose.
        correct_prior : bool
            Whether the others get logits at the class shares of training.
        coverage : float, optional
            Of the prediction sets, in (0, 1). Without it, or without calibration scans, there are none.

        Raises
        ------
        InputError
            If the calibrator needs scans and there are none.
        """
        calibrator = build_calibrator(calibrator_name)
        as_trained = not (correct_prior and calibrator.needs_fitting)
        if calibrator.needs_fitting and not self.can_calibrate:
            raise InputError(
                "No scans are left to fit a calibrator on",
                where=f"{self.loss}, seed {self.seed}, fold {self.fold}",
                hint="finish another fold of the comparison",
            )
        per_scan: dict[str, Floats] = {}
        held_out = self._held_out(as_trained=as_trained) if self.can_calibrate else None
        if held_out is not None:
            calibrator.fit(held_out.logits, held_out.labels)
        probabilities = calibrator.transform(self._logits(self.test, as_trained=as_trained))
        if held_out is not None and coverage is not None:
            # The identity is the same without any scan.
            scores = (
                held_out_probabilities(held_out, calibrator_name, SET_FOLDS, self.seed)
                if calibrator.needs_fitting
                else calibrator.transform(held_out.logits)
            )
            fitted = ConformalSets.fit(scores, held_out.labels, coverage)
            per_scan |= _set_values(fitted.sets(probabilities), self.test.labels)
        if self.posterior is not None:
            per_scan |= _oracle_values(probabilities, self.posterior, self.test.labels)
        at_equal = self._at_equal_shares(calibrator, probabilities, held_out, corrected=correct_prior)
        return Run(
            loss=self.loss,
            seed=self.seed,
            fold=self.fold,
            training_scans=sum(self.class_counts),
            scan_ids=self.test.scan_ids,
            subjects=self.test.subjects,
            labels=self.test.labels,
            probabilities=probabilities,
            per_scan=per_scan,
            at_equal_shares=at_equal,
        )

    def training_shares(self) -> Floats:
        """Return the class shares of the training scans, shape (K,)."""
        counts = np.asarray(self.class_counts, dtype=np.float64)
        shares: Floats = counts / counts.sum()
        return shares

    def _logits(self, predictions: Predictions, *, as_trained: bool) -> Floats:
        return self.prior_correction.reverse(predictions.logits) if as_trained else predictions.logits

    def _held_out(self, *, as_trained: bool) -> Predictions:
        """Return the calibration scans, with logits at the class shares of training or as trained."""
        if self.calibration is not None:
            return replace(self.calibration, logits=self._logits(self.calibration, as_trained=as_trained))
        parts = [replace(o.test, logits=o._logits(o.test, as_trained=as_trained)) for o in self.others]
        return combine(parts, [scan_id for part in parts for scan_id in part.scan_ids])

    def _at_equal_shares(
        self, calibrator: Calibrator, probabilities: Floats, held_out: Predictions | None, *, corrected: bool
    ) -> Floats | None:
        """Return the probabilities at equal class shares; None where a class has no share.

        Offsets of classes are learned from the calibration scans, so the shares of those are what such a
        calibrator assumes. The others leave the shares of their logits as they are.
        """
        shares = self.training_shares()
        if not calibrator.needs_fitting:
            probabilities = softmax(self.test.logits)
        elif calibrator.may_change_class and held_out is not None:
            shares = np.bincount(held_out.labels, minlength=len(shares)) / len(held_out)
        elif not corrected:
            shares = shares * np.exp(-self.prior_correction.offset.numpy())
        if not (shares > 0).all():
            return None
        return adjust_prevalence(probabilities, shares / shares.sum(), np.full(len(shares), 1 / len(shares)))


def _set_values(sets: NDArray[np.bool_], labels: Ints) -> dict[str, Floats]:
    covered = sets[np.arange(len(labels)), labels]
    return {COVERAGE: covered.astype(np.float64), "set_size": sets.sum(axis=1).astype(np.float64)}


def _oracle_values(probabilities: Floats, posterior: Floats, labels: Ints) -> dict[str, Floats]:
    rows = np.arange(len(labels))
    log_likelihood, oracle = (
        np.log(np.maximum(p[rows, labels], PROBABILITY_FLOOR)) for p in (probabilities, posterior)
    )
    return {
        "posterior_error": np.abs(probabilities - posterior).mean(axis=1),
        "excess_nll": oracle - log_likelihood,
    }
