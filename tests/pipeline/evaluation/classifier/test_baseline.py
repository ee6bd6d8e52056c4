"""The baseline learns what regions tell, by subject, the same way twice."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import CohortError, InputError
from pipeline.evaluation.classifier.baseline import PENALTIES, fit_baseline
from pipeline.evaluation.metrics import accuracy, negative_log_likelihood


def cohort(n=150, regions=12, told=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    suvr = rng.normal(1.2, 0.15, size=(n, regions))
    suvr[:, :told] += 0.2 * labels[:, None]
    return suvr, labels, [f"s{i // 2}" for i in range(n)]


def test_beats_the_base_rates_on_new_subjects():
    baseline = fit_baseline(*cohort(), seed=0)
    suvr, labels, _ = cohort(seed=1)
    p = baseline.probabilities(suvr)
    assert p.shape == (150, 3)
    assert p.sum(axis=1) == pytest.approx(1)
    assert negative_log_likelihood(p, labels) < 0.7 * np.log(3)
    assert accuracy(p, labels) > 0.7


def test_one_seed_gives_the_same_bytes():
    first, second = (fit_baseline(*cohort(), seed=5) for _ in range(2))
    assert first.penalty == second.penalty
    suvr = cohort(seed=1)[0]
    assert first.probabilities(suvr).tobytes() == second.probabilities(suvr).tobytes()


def test_units_of_regions_make_no_difference():
    suvr, labels, subjects = cohort()
    scale = np.linspace(0.1, 50, suvr.shape[1])
    plain, scaled = fit_baseline(suvr, labels, subjects, 0), fit_baseline(suvr * scale, labels, subjects, 0)
    assert scaled.probabilities(suvr * scale) == pytest.approx(plain.probabilities(suvr), abs=1e-6)


def test_noise_gets_the_strongest_penalty():
    """Regions that tell nothing: shrinking to the base rates is best, and the scores show it."""
    rng = np.random.default_rng(0)
    suvr, labels = rng.normal(size=(60, 40)), np.arange(60) % 2
    baseline = fit_baseline(suvr, labels, [f"s{i}" for i in range(60)], seed=0)
    assert baseline.penalty == PENALTIES[0]
    assert baseline.scores[0] < baseline.scores[-1]


def test_scans_of_a_subject_never_stand_on_both_sides():
    """Each subject has a mark of its own and a random label: only leakage could make the mark useful."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(40), 4)
    labels = rng.integers(0, 2, 40)[people]
    marks = rng.normal(size=(40, 60))[people] + 0.01 * rng.normal(size=(160, 60))
    baseline = fit_baseline(marks, labels, [f"s{n}" for n in people], seed=0)
    assert min(baseline.scores) > 0.6  # near log 2 = .69; with leakage the loosest fit would come to .05


def test_one_subject_of_a_class_leaves_nothing_to_choose_by():
    suvr, labels, _ = cohort(n=9)
    baseline = fit_baseline(suvr, labels, [f"s{k}" for k in labels], seed=0)
    assert (baseline.penalty, baseline.scores) == (0.1, ())


def test_refusals():
    suvr, labels, subjects = cohort(n=12)
    with pytest.raises(CohortError, match=r"at least two classes with scans, found only classes \[0\]"):
        fit_baseline(suvr, 0 * labels, subjects, 0)
    with pytest.raises(CohortError, match=r"found only classes \[0, 2\]"):
        fit_baseline(suvr, 2 * (labels % 2), subjects, 0)
    with pytest.raises(InputError, match="12 rows of features, 11 labels and 12 subjects"):
        fit_baseline(suvr, labels[:11], subjects, 0)
    suvr[3, 7] = np.nan
    with pytest.raises(InputError, match=r"regions number 7: Regional SUVR is NaN or infinite"):
        fit_baseline(suvr, labels, subjects, 0)
    baseline = fit_baseline(*cohort(), seed=0)
    with pytest.raises(InputError, match="Features have 5 regions, the baseline was fitted on 12"):
        baseline.probabilities(np.ones((2, 5)))
    with pytest.raises(InputError, match="Regional SUVR has shape"):
        baseline.probabilities(np.ones(12))
