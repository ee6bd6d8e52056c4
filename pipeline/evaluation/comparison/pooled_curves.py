"""Reliability and risk-coverage of one loss over all its runs: seeds and folds taken together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.arrays import Floats
from pipeline.evaluation.comparison.seed_runs import Run, runs_by_loss, together
from pipeline.evaluation.metrics.calibration_error import bin_index
from pipeline.evaluation.metrics.reliability import ReliabilityCurve, reliability_curve, wilson_interval
from pipeline.evaluation.metrics.selective import RiskCoverage, risk_coverage

POOLED_BINS = 10
RISK_POINTS = 100


@dataclass(frozen=True, eq=False)
class PooledReliability:
    """Reliability of the predicted class over all runs of a loss.

    Parameters
    ----------
    curve : ReliabilityCurve
        Its counts are answers, a scan with as many as there are seeds; its interval is over subjects.
    scans : ndarray, shape (bins,)
        Answers divided by the number of seeds: they add up to the number of test scans.
    trials : ndarray, shape (bins,)
        As how many independent subjects the answers of a bin count, 0 in an empty one.
    """

    curve: ReliabilityCurve
    scans: Floats
    trials: Floats


@dataclass(frozen=True, eq=False)
class MeanRisk:
    """Share of wrong answers among the most confident ones, mean over seeds.

    Parameters
    ----------
    coverage : ndarray, shape (points,)
        Share of the test scans that is answered, from the first step to 1.
    risk : ndarray, shape (points,)
    area : float
        Mean of `pipeline.evaluation.metrics.selective.risk_coverage_area` over seeds.
    """

    coverage: Floats
    risk: Floats
    area: float


def comparable_runs(runs: Iterable[Run], baseline: str) -> dict[str, tuple[Run, ...]]:
    """Return the runs of each loss that have a partner in the baseline, as its statistics take them.

    The baseline comes first; a loss without such a run is left out.
    """
    by_loss = runs_by_loss(runs, baseline)
    names = [baseline, *(loss for loss in by_loss if loss != baseline)]
    found = {
        loss: tuple(run for key, run in sorted(by_loss[loss].items()) if key in by_loss[baseline])
        for loss in names
    }
    return {loss: mine for loss, mine in found.items() if mine}


def pooled_reliability(
    runs: Sequence[Run], *, bins: int = POOLED_BINS, level: float = 0.95
) -> PooledReliability:
    """Return the reliability of the answers of all runs together.

    Several seeds answer for the same scan, and a subject may have several scans. Such answers share what came
    true, so counting each as a trial would draw the interval too narrow. It is Wilson's with as many trials
    as the bin has subjects by Kish's count: with w answers of each subject, (sum w)^2 / sum w^2, which takes
    the answers of one subject as fully alike. Chance in training is not in it.

    Parameters
    ----------
    runs : sequence of Run
        Of one loss.
    bins : int
        Of equal width.

    References
    ----------
    Kish, Survey Sampling, Wiley 1965. Dean & Pagano, Evaluating Confidence Interval Methods for Binomial
    Proportions in Clustered Surveys, Journal of Survey Statistics and Methodology 3, 2015.
    """
    sample = together(runs)
    curve = reliability_curve(sample.probabilities, sample.labels, bins=bins)
    people, place = np.unique([person for run in runs for person in run.subjects], return_inverse=True)
    answers = np.zeros((bins, len(people)))
    np.add.at(answers, (bin_index(sample.confidence, curve.edges), place), 1)
    trials = answers.sum(axis=1) ** 2 / np.maximum((answers**2).sum(axis=1), 1)
    low, high = wilson_interval(np.nan_to_num(curve.accuracy) * trials, trials, level)
    seeds = len({run.seed for run in runs})
    return PooledReliability(replace(curve, low=low, high=high), curve.counts / seeds, trials)


def mean_risk(runs: Sequence[Run], *, points: int = RISK_POINTS) -> MeanRisk:
    """Return the risk of answering the most confident share of the test scans, mean over seeds.

    Each seed ranks its own answers, those of its folds together; scans of equal confidence come in random
    order. Where there is a point for every scan, the mean over the points is the area.

    Parameters
    ----------
    runs : sequence of Run
        Of one loss.
    points : int
        At most; there are no more than test scans.
    """
    by_seed = [[run for run in runs if run.seed == seed] for seed in sorted({run.seed for run in runs})]
    samples = [together(of_seed) for of_seed in by_seed]
    count = min(points, max(map(len, samples)))
    coverage = np.arange(1, count + 1) / count
    curves = [risk_coverage(sample.probabilities, sample.labels) for sample in samples]
    risk = np.mean([_risk_at(coverage, curve) for curve in curves], axis=0)
    return MeanRisk(coverage, risk, float(np.mean([curve.area for curve in curves])))


def _risk_at(coverage: Floats, curve: RiskCoverage) -> Floats:
    # In random order the wrong ones of equal confidence come evenly: errors grow in a straight line.
    wrong = np.interp(coverage, [0, *curve.coverage], [0, *(curve.risk * curve.coverage)])
    return np.asarray(wrong / coverage)
