"""Who is in the cohort: classes, disease stage and the exact probability of every class given the stage.

A class is drawn from its prevalence, then a stage ``t`` in [0, 1] from the class's mixture of three stage
densities and a subtype from the class's share of typical cases. Everything else about a scan - anatomy,
asymmetry, noise, scanner, age, sex - is drawn without looking at the class. An image can therefore tell no
more about the class than ``t`` and the subtype do, and Bayes' rule gives the best possible answer exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from models.arrays import Floats, Ints

STAGE_DENSITIES = ((1.0, 40.0), (4.0, 13.0), (6.0, 7.0))
"""Beta parameters of the stage without tau, with early (limbic) and with neocortical tau."""


@dataclass(frozen=True)
class Preset:
    """Classes of a population.

    Parameters
    ----------
    class_names : tuple of str, length K
    prevalence : tuple of float, length K
        P(class).
    mixtures : tuple of (float, float, float), length K
        P(stage density | class), for none, early and neocortical tau.
    typical : tuple of float, length K
        P(typical subtype | class); the other subtype is posterior.
    diagnosis_codes : tuple of int, length K
        What a clinic writes down: 1 normal, 2 MCI, 3 dementia.
    """

    class_names: tuple[str, ...]
    prevalence: tuple[float, ...]
    mixtures: tuple[tuple[float, float, float], ...]
    typical: tuple[float, ...]
    diagnosis_codes: tuple[int, ...]


PRESETS: dict[str, Preset] = {
    # Amyloid confirmed, so that stage determines much of the class; prevalence as in ADNI.
    "three_class": Preset(
        ("CN", "MCI", "AD"),
        (0.557, 0.333, 0.110),
        ((0.95, 0.05, 0.0), (0.20, 0.42, 0.38), (0.02, 0.13, 0.85)),
        (1.0, 1.0, 1.0),
        (1, 2, 3),
    ),
    # Clinical labels only: some dementia without tau, some tau without symptoms.
    "three_class_clinical": Preset(
        ("CN", "MCI", "AD"),
        (0.557, 0.333, 0.110),
        ((0.88, 0.10, 0.02), (0.52, 0.30, 0.18), (0.07, 0.16, 0.77)),
        (1.0, 1.0, 1.0),
        (1, 2, 3),
    ),
    "five_class": Preset(
        ("CN-", "CN+", "MCI+", "AD-typical", "AD-posterior"),
        (0.42, 0.15, 0.22, 0.14, 0.07),
        ((0.95, 0.05, 0.0), (0.60, 0.36, 0.04), (0.20, 0.42, 0.38), (0.02, 0.13, 0.85), (0.02, 0.13, 0.85)),
        (0.8, 0.8, 0.8, 0.95, 0.08),
        (1, 1, 2, 3, 3),
    ),
}


@dataclass(frozen=True)
class Latents:
    """What decides where one scan shows tau, and how much.

    Parameters
    ----------
    stage : float
        Disease stage in [0, 1].
    typical : bool
        False for the posterior subtype.
    asymmetry : float
        The left hemisphere is ahead by this fraction of the stage, the right behind by as much.
    capacity : float
        Height of the tau signal relative to the population's 99th percentile.
    """

    stage: float
    typical: bool = True
    asymmetry: float = 0.0
    capacity: float = 0.9


def posterior(preset: Preset, stage: Floats, typical: NDArray[np.bool_]) -> Floats:
    """Probability of every class given stage and subtype, by Bayes' rule.

    Parameters
    ----------
    stage : ndarray, shape (N,)
    typical : ndarray of bool, shape (N,)

    Returns
    -------
    ndarray, shape (N, K)
        Rows sum to 1.

    Examples
    --------
    >>> p = posterior(PRESETS["three_class"], np.array([0.01, 0.6]), np.array([True, True]))
    >>> p.argmax(axis=1), p.sum(axis=1)
    (array([0, 1]), array([1., 1.]))
    """
    # At 0 and 1 a Beta density is 0 for every class or infinite; the edge itself has probability 0.
    inside = np.clip(stage, 1e-9, 1 - 1e-9)
    a, b = np.array(STAGE_DENSITIES).T
    log_t, log_rest = np.log(inside)[:, None], np.log1p(-inside)[:, None]
    density = np.exp((a - 1) * log_t + (b - 1) * log_rest - special.betaln(a, b))
    share_typical = np.array(preset.typical)
    subtype = np.where(np.asarray(typical)[:, None], share_typical, 1 - share_typical)
    joint = np.array(preset.prevalence) * subtype * (density @ np.array(preset.mixtures).T)
    probabilities: Floats = joint / joint.sum(axis=1, keepdims=True)
    return probabilities


def sample_classes(
    preset: Preset, n: int, rng: np.random.Generator
) -> tuple[Ints, Floats, NDArray[np.bool_]]:
    """Draw classes, stages and subtypes.

    Returns
    -------
    labels : ndarray of int64, shape (n,)
    stage : ndarray, shape (n,)
    typical : ndarray of bool, shape (n,)
    """
    labels = rng.choice(len(preset.prevalence), size=n, p=preset.prevalence)
    component = (rng.random(n)[:, None] > np.cumsum(preset.mixtures, axis=1)[labels, :2]).sum(axis=1)
    a, b = np.array(STAGE_DENSITIES).T
    stage = rng.beta(a[component], b[component])
    typical = rng.random(n) < np.array(preset.typical)[labels]
    return labels, stage, typical


def later_stage(stage: float, years: float, rng: np.random.Generator) -> float:
    """Let a stage grow over some years, faster once tau has spread; it never shrinks.

    Examples
    --------
    >>> later_stage(0.3, 2.0, np.random.default_rng(0)) > 0.3
    True
    """
    per_year = 0.05 * (0.2 + min(stage, 0.6)) * float(rng.lognormal(0.0, 0.5))
    return min(stage + per_year * years, max(stage, 0.98))


def class_at(probabilities: Floats, rank: float) -> int:
    """Class in which a subject's rank in [0, 1) falls when classes are laid out by their probability.

    A subject keeps the rank over all visits. Each visit's class is then a fair draw from that visit's
    posterior, and as the stage grows the class moves forward instead of jumping at random.

    Examples
    --------
    >>> class_at(np.array([0.5, 0.3, 0.2]), 0.6)
    1
    """
    label = int(np.searchsorted(np.cumsum(probabilities), rank, side="right"))
    return min(label, len(probabilities) - 1)


def rank_of(probabilities: Floats, label: int, rng: np.random.Generator) -> float:
    """Draw a rank that `class_at` maps to `label`; uniform over subjects when labels follow the posterior.

    Examples
    --------
    >>> p = np.array([0.5, 0.3, 0.2])
    >>> class_at(p, rank_of(p, 2, np.random.default_rng(0)))
    2
    """
    return float(probabilities[:label].sum() + probabilities[label] * rng.random())
