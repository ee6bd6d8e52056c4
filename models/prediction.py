"""The prediction of one scan, and why it may be referred instead of reported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Prediction:
    """The prediction of one scan.

    Parameters
    ----------
    class_names : tuple of str, length K
    probabilities : tuple of float, length K
        Calibrated, at the prevalence of training.
    lower, upper : tuple of float, length K
        5th and 95th percentile of each probability over calibrators fitted again on bootstrap draws of the
        calibration subjects, and over the networks of an ensemble (each network through each calibrator),
        widened to contain the probability itself. They cover the uncertainty of the calibrator and, with
        an ensemble, of a single network trained from other initial weights, which varies more than the
        average of several. They do not cover the quality of the scan or people unlike the cohort.
    prediction_set : tuple of str
        Classes that cannot be ruled out.
    coverage : float
        Share of the scans of every class whose set contains it.
    mahalanobis, mahalanobis_limit, energy, energy_limit : float
        How unlike the calibration scans this scan is; above the limit is out of distribution.
    confidence : float
        The largest probability.
    operating_point : float
        Least confidence that is reported.
    prevalence : tuple of float, length K
        Class shares of training.
    clinic_prevalence, clinic_probabilities : tuple of float, length K, or None
        A clinic's stated class shares, and the probabilities at them.
    decision : {"report", "refer"}
    reasons : tuple of str
        Why the scan is referred to an expert, in words; empty when it is not.
    networks : int
        Number of networks averaged.
    entropy, mutual_information : float or None
        Of the mean of the networks' calibrated probabilities, in nats, and the part of it that is their
        disagreement (epistemic); None for one network, which cannot disagree.
    """

    class_names: tuple[str, ...]
    probabilities: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    prediction_set: tuple[str, ...]
    coverage: float
    mahalanobis: float
    mahalanobis_limit: float
    energy: float
    energy_limit: float
    confidence: float
    operating_point: float
    prevalence: tuple[float, ...]
    clinic_prevalence: tuple[float, ...] | None
    clinic_probabilities: tuple[float, ...] | None
    decision: Literal["report", "refer"]
    reasons: tuple[str, ...]
    networks: int = 1
    entropy: float | None = None
    mutual_information: float | None = None

    @property
    def mean_entropy(self) -> float | None:
        """Mean entropy of the networks in nats, the uncertainty they share (aleatoric); None for one."""
        if self.entropy is None or self.mutual_information is None:
            return None
        return self.entropy - self.mutual_information


def reasons_to_refer(
    prediction_set: tuple[str, ...],
    coverage: float,
    mahalanobis: tuple[float, float],
    energy: tuple[float, float],
    confidence: tuple[float, float],
) -> tuple[str, ...]:
    """Return in words why a scan should go to an expert; empty if it need not.

    Parameters
    ----------
    prediction_set : tuple of str
        Classes that cannot be ruled out at `coverage`.
    mahalanobis, energy : tuple of float
        The scan's value and the limit above which it is out of distribution.
    confidence : tuple of float
        The scan's confidence and the operating point below which it is not reported.

    Examples
    --------
    >>> reasons_to_refer(("AD",), 0.9, (3.0, 9.0), (-2.0, -1.0), (0.95, 0.7))
    ()
    >>> reasons_to_refer(("CN", "MCI"), 0.9, (3.0, 9.0), (-2.0, -1.0), (0.8, 0.7))
    ('The 90 % prediction set contains more than one class: CN, MCI',)
    """
    reasons = []
    if mahalanobis[0] > mahalanobis[1]:
        reasons.append(
            "The scan is unlike those the classifier was calibrated on: distance "
            f"{mahalanobis[0]:.1f}, limit {mahalanobis[1]:.1f}"
        )
    if energy[0] > energy[1]:
        reasons.append(
            "The network finds less evidence for any class than in the scans it was calibrated on: energy "
            f"{energy[0]:.2f}, limit {energy[1]:.2f}"
        )
    level = f"{100 * coverage:.0f} %"
    if len(prediction_set) > 1:
        reasons.append(
            f"The {level} prediction set contains more than one class: {', '.join(prediction_set)}"
        )
    if not prediction_set:
        reasons.append(f"The {level} prediction set is empty: the scan is typical of no class")
    if confidence[0] < confidence[1]:
        reasons.append(
            f"Confidence {100 * confidence[0]:.1f} % is below the operating point "
            f"of {100 * confidence[1]:.1f} %"
        )
    return tuple(reasons)
