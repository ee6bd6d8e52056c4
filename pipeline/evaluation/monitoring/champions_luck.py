"""The part of the champion's lead that is luck: it was chosen on the scans that its challengers meet."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr

_LOG_ROOT = float(np.log(2 * np.pi)) / 2
_FARTHEST = -30.0
"""Standard errors below the gate's limit; a true lead is never taken to be below zero, which is nearer."""


@dataclass(frozen=True)
class ChampionsLead:
    """What the champion showed when the gate chose it over the one before.

    Parameters
    ----------
    lead : float
        How much lower its NLL was than that of the champion before, in nats.
    spare : float
        How much of that lead it could have lost and still have passed, in nats; not below zero.
    subjects : int
        Of the scans that showed it, at least two.
    shared : float
        Share of the scans that are judged on now that were among them, in [0, 1].
    """

    lead: float
    spare: float
    subjects: int
    shared: float

    def luck(self, error: float, subjects: int) -> float:
        """Return how much too low the champion's NLL is to be expected on the scans that are judged on now.

        A lead is a true difference and the luck of two classifiers in the labels of the same scans. Only
        those that passed became champion, so their leads are too large on average; one that passed with
        little to spare most of all. The true lead is the likeliest one given that it passed, not below zero;
        half of what is left was the champion's own luck, which its challengers meet. The other half was bad
        luck of the champion before.

        Parameters
        ----------
        error : float
            Standard error of the paired difference that is judged, in nats. That of the lead is taken to be
            the same but for the number of subjects.
        subjects : int
            Of the scans that are judged on.

        References
        ----------
        Zhong & Prentice, Bias-reduced estimators and confidence intervals for odds ratios in genome-wide
        association studies, Biostatistics 9, 2008: the conditional likelihood estimate.

        Examples
        --------
        >>> round(ChampionsLead(0.06, 0.05, 50, 1.0).luck(error=0.05, subjects=50), 3)
        0.013
        >>> round(ChampionsLead(0.25, 0.24, 50, 1.0).luck(error=0.05, subjects=50), 3)  # too large for chance
        0.0
        >>> ChampionsLead(-0.01, 0.0, 50, 1.0).luck(error=0.05, subjects=50)  # no lead, no luck
        0.0
        """
        spread = error * float(np.sqrt(subjects / self.subjects))
        if self.lead <= 0 or spread <= 0:
            return 0.0
        likeliest = self.lead - self.spare + spread * _before_selection(self.spare / spread)
        return (self.lead - min(max(likeliest, 0.0), self.lead)) / 2 * self.shared


def _before_selection(passed: float) -> float:
    """Return the likeliest mean of a normal of deviation 1 whose value was kept because it is above zero."""

    def too_large(mean: float) -> float:
        # The mean of what is kept; in logarithms, for density and share both vanish far below.
        density = -(mean**2) / 2 - _LOG_ROOT
        return mean + float(np.exp(density - log_ndtr(mean))) - passed

    return float(brentq(too_large, _FARTHEST, passed)) if too_large(_FARTHEST) < 0 < passed else _FARTHEST


def shared_part(judged_on: Collection[str], chosen_on: Collection[str]) -> float:
    """Return the share of the scans that are judged on that were among those that chose the champion.

    Examples
    --------
    >>> shared_part(("a", "b", "c", "d"), ("a", "b", "z"))
    0.5
    """
    return len(set(judged_on) & set(chosen_on)) / len(set(judged_on))
