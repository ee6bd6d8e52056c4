"""Which losses are better or worse than the baseline, and where the difference is not significant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from models.arrays import Floats
from pipeline.errors import InputError
from pipeline.evaluation.comparison.loss_results import (
    Comparison,
    Difference,
    LossResult,
    Verdict,
    ground_of,
    sentence_on,
)
from pipeline.evaluation.comparison.seed_runs import (
    COVERAGE,
    ERROR_OF,
    RECALL,
    Draws,
    Key,
    MetricTable,
    Run,
    runs_by_loss,
)
from pipeline.evaluation.inference.significance import (
    components_variance,
    detectable,
    holm,
    resampled_variance,
    t_test,
)
from pipeline.evaluation.metrics import METRICS, metric_named

__all__ = ["DEFAULT_METRICS", "Comparison", "Difference", "LossResult", "Run", "Verdict", "compare_runs"]

_ROUNDING = 1e-9
DEFAULT_METRICS = ("negative_log_likelihood", "classwise_ece_above_noise", "balanced_accuracy")


def compare_runs(  # noqa: PLR0913 - what is judged, by what, and three keywords of the bootstrap
    runs: Iterable[Run],
    baseline: str,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    measured: Sequence[str] = (),
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    shares: Floats | None = None,
) -> Comparison:
    """Compare every loss with the baseline on the seeds and folds that both have.

    Intervals come from drawing test subjects with replacement, the same draws for all losses, and n - 1 of
    the n seeds, which gives the mean over seeds the right variance.

    P-values come from the corrected resampled t-test over seeds and folds where there are several folds.
    With one split they come from a t-test whose variance is that over draws of subjects plus that over
    seeds, with Satterthwaite's degrees of freedom; with one seed the second part is not known, which the
    sentence states. Holm's adjustment covers the losses, within each metric.

    Parameters
    ----------
    runs : iterable of Run
        All of one calibrator, or all uncalibrated.
    metrics : sequence of str
        What is tested: names in `pipeline.evaluation.metrics.METRICS` or `ABOVE_NOISE`, or per-scan values
        that all runs have and of which less is better. Other per-scan values are measured only.
    measured : sequence of str
        Names in `pipeline.evaluation.metrics.METRICS` that get a mean and an interval, but no test.
    level : float
        In (0, 1).
    seed : int
        Of the draws.
    shares : ndarray, shape (K,), optional
        Class shares of the test: its scans are weighted to have them. Not for calibration errors.

    Raises
    ------
    InputError
        If the baseline has no run, a metric is unknown, a run is given twice, or two runs of one seed and
        fold have different test scans.

    References
    ----------
    Nadeau & Bengio, Inference for the Generalization Error, Machine Learning 52, 2003, section 3, equation 8.
    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.
    Draws of n - 1: Rao & Wu, Resampling inference with complex survey data, JASA 83, 1988.
    """
    runs = tuple(runs)
    known = {*METRICS, *ERROR_OF, *(name for run in runs[:1] for name in run.per_scan)}
    unknown = [name for name in metrics if name not in known]
    unknown += [name for name in measured if name not in METRICS]
    if unknown or not metrics:
        raise InputError(
            f"There is no metric named {', '.join(unknown)}" if unknown else "There is no metric to compare",
            hint=f"name some of {', '.join(METRICS)}",
        )
    by_loss = runs_by_loss(runs, baseline)
    of_baseline = by_loss[baseline]
    people = np.unique([subject for run in of_baseline.values() for subject in run.subjects])
    shown = tuple(dict.fromkeys(ERROR_OF.get(name, name) for name in (*metrics, *measured)))
    table = MetricTable(by_loss, shown, Draws(people, draws, level, seed), shares)
    shared = {loss: frozenset(by_loss[loss] & of_baseline.keys()) for loss in by_loss if loss != baseline}
    compared = {loss: keys for loss, keys in shared.items() if keys}
    differences = _differences(table, metrics, compared, baseline)
    results = [_result(table, baseline, frozenset(of_baseline), (), f"{baseline} is the baseline.")]
    for loss, keys in compared.items():
        ground = ground_of(keys, len(compared))
        sentence = sentence_on(loss, baseline, differences[loss], ground)
        results.append(_result(table, loss, keys, differences[loss], sentence, ground))
    return Comparison(
        baseline=baseline,
        results=tuple(results),
        level=level,
        scans=len({scan for run in of_baseline.values() for scan in run.scan_ids}),
        subjects=len(people),
        missing=tuple(loss for loss, keys in shared.items() if not keys),
    )


def _result(
    table: MetricTable,
    loss: str,
    keys: frozenset[Key],
    differences: tuple[Difference, ...],
    sentence: str,
    ground: str = "",
) -> LossResult:
    intervals = table.intervals(loss, keys)
    return LossResult(
        loss=loss,
        seeds=len({seed for seed, _ in keys}),
        folds=len({fold for _, fold in keys}),
        metrics={name: interval for name, interval in intervals.items() if " of class " not in name},
        recall=tuple(interval for name, interval in intervals.items() if name.startswith(RECALL)),
        coverage=tuple(i for name, i in intervals.items() if name.startswith(f"{COVERAGE} of class ")),
        differences=differences,
        sentence=sentence,
        noise=table.noise(loss, keys),
        ground=ground,
    )


def _mean_and_variance(
    table: MetricTable, metric: str, loss: str, baseline: str, keys: frozenset[Key]
) -> tuple[float, float, float]:
    """Return the mean difference that is tested, its variance, and the degrees of freedom."""
    if len({fold for _, fold in keys}) > 1:
        runs = [table.by_loss[loss][key] for key in keys]
        ratio = float(np.mean([len(run.labels) / run.training_scans for run in runs]))
        gaps = table.gaps_per_run(metric, loss, baseline, keys)
        return float(gaps.mean()), *resampled_variance(gaps, ratio)
    gaps = table.gaps(metric, loss, baseline, keys)
    over_subjects = float(np.nanvar(gaps[:, 1:].mean(axis=0), ddof=1))
    return float(gaps[:, 0].mean()), *components_variance(over_subjects, gaps[:, 0])


def _differences(
    table: MetricTable, metrics: Sequence[str], compared: Mapping[str, frozenset[Key]], baseline: str
) -> dict[str, tuple[Difference, ...]]:
    found: dict[str, tuple[Difference, ...]] = dict.fromkeys(compared, ())
    for metric in metrics:
        tested = {loss: _mean_and_variance(table, metric, loss, baseline, k) for loss, k in compared.items()}
        p_values = {loss: t_test(*of_loss) for loss, of_loss in tested.items()}
        alpha = 1 - table.draws.level
        adjusted = holm(list(p_values.values())).tolist()
        for (loss, keys), p_holm in zip(compared.items(), adjusted, strict=True):
            interval = table.draws.interval(table.gaps(metric, loss, baseline, keys), metric)
            verdict = _verdict(metric, interval.value, p_holm, alpha)
            least = detectable(*tested[loss][1:], alpha / len(compared))
            least = least if least > _ROUNDING else 0.0  # of two that are the same
            found[loss] += (Difference(metric, interval, p_values[loss], p_holm, verdict, least),)
    return found


def _verdict(metric: str, difference: float, p_holm: float, alpha: float) -> Verdict:
    if not p_holm <= alpha or difference == 0:
        return "not significant"
    return "better" if (difference > 0) == (metric_named(metric).better == "higher") else "worse"
