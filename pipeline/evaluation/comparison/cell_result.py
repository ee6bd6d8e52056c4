"""What a trained cell of a comparison stored, and its test predictions after any calibrator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.arrays import Floats, Ints
from models.calibrators import Calibrator, build_calibrator, softmax
from models.conformal import ConformalSets
from pipeline.evaluation.comparison.seed_runs import COVERAGE, Run
from pipeline.evaluation.metrics.scores import PROBABILITY_FLOOR, prior_corrected
from pipeline.files import read_json
from pipeline.learning.predictions import Predictions
from pipeline.learning.prior_correction import PriorCorrection
from pipeline.scan import Cohort

PRIOR_CORRECTION = "prior_correction.json"


@dataclass(frozen=True, eq=False)
class CellResult:
    """One network of a comparison: its logits, and how its loss shifted the class prior.

    Parameters
    ----------
    loss : str
        Its title in tables.
    class_counts : tuple of int, length K
        Training scans of each class.
    calibration, test : Predictions
        At the class shares of training.
    prior_correction : PriorCorrection
        What was applied to the logits as the loss trained them.
    posterior : ndarray, shape (N, K), or None
        True class probabilities of the test scans, where they are known.
    """

    loss: str
    seed: int
    fold: int
    class_counts: tuple[int, ...]
    calibration: Predictions
    test: Predictions
    prior_correction: PriorCorrection
    posterior: Floats | None

    @classmethod
    def load(
        cls, folder: Path, identity: tuple[str, int, int], class_counts: tuple[int, ...], cohort: Cohort
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
        calibration, test = (Predictions.load(folder / f"{part}.npz") for part in ("calibration", "test"))
        correction = PriorCorrection.from_dict(read_json(folder / PRIOR_CORRECTION))
        posterior = cohort.subset(test.scan_ids).posterior if len(cohort) else None
        return cls(*identity, class_counts, calibration, test, correction, posterior)

    def run(self, calibrator_name: str, *, correct_prior: bool, coverage: float) -> Run:
        """Return the test scans after a calibrator, which is fitted on the calibration scans as the sets are.

        Parameters
        ----------
        calibrator_name : str
            A name in `models.calibrators.CALIBRATORS`. The identity always gets the logits as the loss
            trained them: what a loss does for rare classes is its purpose.
        correct_prior : bool
            Whether the others get logits at the class shares of training.
        coverage : float
            Of the prediction sets, in (0, 1).
        """
        calibrator = build_calibrator(calibrator_name)
        logits, test_logits = self.calibration.logits, self.test.logits
        if not (correct_prior and calibrator.needs_fitting):
            logits, test_logits = (self.prior_correction.reverse(z) for z in (logits, test_logits))
        calibrator.fit(logits, self.calibration.labels)
        probabilities = calibrator.transform(test_logits)
        fitted = ConformalSets.fit(calibrator.transform(logits), self.calibration.labels, coverage)
        per_scan = _set_values(fitted.sets(probabilities), self.test.labels)
        if self.posterior is not None:
            per_scan |= _oracle_values(probabilities, self.posterior, self.test.labels)
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
            at_equal_shares=self._at_equal_shares(calibrator, probabilities),
        )

    def _at_equal_shares(self, calibrator: Calibrator, probabilities: Floats) -> Floats | None:
        """Return the probabilities without the class shares of training; None where a class has no share."""
        counts = np.asarray(self.class_counts, dtype=np.float64)
        if not (counts > 0).all():
            return None
        at_training = probabilities if calibrator.needs_fitting else softmax(self.test.logits)
        return prior_corrected(at_training, counts / counts.sum())


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
