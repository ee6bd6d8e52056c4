"""The prediction of one scan, and why it may be referred instead of reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
        Plausible range of each probability of `shown`, over networks and draws of the calibrator, see
        `models.interval`. It does not cover the quality of the scan or people unlike the cohort.
    prediction_set : tuple of str
        Classes that cannot be ruled out; the most likely class is one of them.
    coverage : float
        Share of the scans of every class whose set contains it, at least.
    mahalanobis, mahalanobis_limit, energy, energy_limit : float
        How unlike the calibration scans this scan is; above the limit is out of distribution.
    confidence : float
        The largest probability of `shown`.
    operating_point : float
        Least confidence that is reported.
    prevalence : tuple of float, length K
        Class shares of training.
    clinic_prevalence, clinic_probabilities : tuple of float, length K, or None
        A clinic's stated class shares, and the probabilities at them. Where they are stated, range, set,
        confidence, decision and reasons are those at the clinic.
    decision : {"report", "refer"}
    reasons : tuple of str
        Why the scan is referred to an expert, in words; empty when it is not.
    networks : int
        Number of networks averaged.
    entropy, mutual_information : float or None
        Of the mean of the networks' calibrated probabilities, in nats, and the part of it that is their
        disagreement (epistemic); None for one network, which cannot disagree.
    largest_set : int
        Most classes a set may have for the scan to be reported.
    range_factor : float or None
        What the spread over networks and draws was multiplied by for `lower` and `upper`; None for a
        classifier of an older version, whose range is the 5th to the 95th percentile over refits of its
        calibrator, and networks.
    ood_quantile : float or None
        Share of held-out scans within each of the two limits; None where an older version did not store it.
    logits : tuple of float, length K, or None
        What was calibrated.
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
    largest_set: int = 1
    range_factor: float | None = None
    ood_quantile: float | None = None
    logits: tuple[float, ...] | None = None

    @property
    def shown(self) -> tuple[float, ...]:
        """The probabilities to show: at the clinic's prevalence where one is stated, else at training's."""
        return self.probabilities if self.clinic_probabilities is None else self.clinic_probabilities

    @property
    def most_likely(self) -> str:
        """The class of the largest probability of `shown`, the first of equals; always in the set."""
        return self.class_names[self.shown.index(max(self.shown))]

    @property
    def mean_entropy(self) -> float | None:
        """Mean entropy of the networks in nats, the uncertainty they share (aleatoric); None for one."""
        if self.entropy is None or self.mutual_information is None:
            return None
        return self.entropy - self.mutual_information

    @property
    def out_of_distribution(self) -> bool:
        """Whether the scan is more unlike the calibration scans than either limit allows."""
        return self.mahalanobis > self.mahalanobis_limit or self.energy > self.energy_limit


def reasons_to_refer(prediction: Prediction) -> tuple[str, ...]:
    """Return in words why a scan should go to an expert; empty if it need not.

    The quality of the scan is not among them, and neither are the reasons the prediction has already.
    """
    reasons = []
    among = _one_of(prediction.ood_quantile)
    if prediction.mahalanobis > prediction.mahalanobis_limit:
        far = f"{among} is this far from them" if among else "it is farther from them than the limit"
        reasons.append(f"The scan is unlike those the classifier was trained on: {far}")
    if prediction.energy > prediction.energy_limit:
        little = f"{among} has this little" if among else "it is below the limit"
        reasons.append(f"The scan has unusually little evidence for any class: {little}")
    if len(prediction.prediction_set) > prediction.largest_set:
        most = prediction.largest_set
        reasons.append(
            f"The {100 * prediction.coverage:.0f} % prediction set contains more than "
            f"{'one class' if most == 1 else f'{most} classes'}: {', '.join(prediction.prediction_set)}"
        )
    if prediction.confidence < prediction.operating_point:
        reasons.append(_too_unsure(prediction.confidence, prediction.operating_point))
    return tuple(reasons)


def _one_of(quantile: float | None) -> str:
    """Return how many scans like those of training lie beyond a limit; fewer lie far beyond it."""
    return "" if quantile is None else f"at most about 1 of {round(1 / (1 - quantile)):,} accepted scans"


def _too_unsure(confidence: float, point: float) -> str:
    """Return the reason of a confidence below the operating point, in digits that show the difference."""
    if point >= 1:
        return "This model has not been shown to be right often enough, so every scan is referred"
    texts = next(
        t for d in range(1, 20) if len(set(t := [f"{100 * x:.{d}f} %" for x in (confidence, point)])) > 1
    )
    return f"The highest probability, {texts[0]}, is below {texts[1]}, the least for a finding"


def decided(prediction: Prediction, quality: Sequence[str]) -> Prediction:
    """Return a prediction with its decision and reasons, those of quality control first."""
    reasons = tuple(quality) + reasons_to_refer(prediction)
    return replace(prediction, decision="refer" if reasons else "report", reasons=reasons)
