"""From the files of a trained study to the numbers of its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from models.arrays import Floats
from models.calibrators import softmax
from pipeline.evaluation.classifier.results import Results
from pipeline.evaluation.classifier.selection import Selection
from pipeline.evaluation.inference.intervals import bootstrap
from pipeline.evaluation.metrics.reliability import ReliabilityCurve, reliability_curves
from pipeline.evaluation.metrics.selective import risk_coverage
from pipeline.learning.predictions import Predictions
from pipeline.reporting.page.facts import Measured, Named, measured
from pipeline.reporting.study.study_decisions import coverage_of, decided_of, plausible_of, slopes_of
from pipeline.reporting.study.study_numbers import (
    SMALL_SLICE,
    CandidateRow,
    CohortRow,
    EpochRow,
    Flow,
    MetricsRow,
    PosteriorPoint,
    Refusals,
    ReliabilityPanel,
    ReliabilityPoint,
    RiskPoint,
    SliceRow,
    StudyReport,
)
from pipeline.scan import PARTS, Cohort, Split

RELIABILITY_BINS = 10
SLICED_BY = ("sex", "site", "manufacturer")


@dataclass(frozen=True, eq=False)
class StudySources:
    """What the report of a study is built from.

    Parameters
    ----------
    title, run_id, report_date : str
        The date is passed in, so that the same study gives the same bytes.
    test : Predictions
        Logits of the test scans.
    probabilities : ndarray, shape (N, K)
        Calibrated probabilities of the same scans.
    cohort : Cohort
        All accepted scans, facts included.
    history : sequence of mapping
        Per epoch, as `pipeline.learning.trained.TrainedNetwork.history`.
    posterior : ndarray, shape (N, K), optional
        The phantom's true probabilities of the test scans.
    outcomes : sequence
        One per scan found, with ``verdict``, ``rule`` and ``message``; empty where ingest was not run.
    ignored : mapping of str to int
        Series that are no tau PET, counted.
    losses : mapping of str to str
        What a comparison of losses on this cohort found, a sentence each; empty where there was none.
    losses_stage : str
        After which calibration they were compared.
    target : str
        What the classes are of.
    """

    title: str
    run_id: str
    report_date: str
    results: Results
    selection: Selection
    test: Predictions
    probabilities: Floats
    cohort: Cohort
    split: Split
    history: Sequence[Mapping[str, Any]] = ()
    posterior: Floats | None = None
    operating_point: float | None = None
    outcomes: Sequence[Any] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    synthetic: bool = False
    losses: Mapping[str, str] = field(default_factory=dict)
    losses_stage: str = ""
    target: str = "diagnosis"


def build_study_report(sources: StudySources) -> StudyReport:
    """Assemble the report of one study."""
    results, test = sources.results, sources.test
    risk = risk_coverage(sources.probabilities, test.labels)
    return StudyReport(
        title=sources.title,
        target=sources.target.replace("_", " "),
        report_date=sources.report_date,
        run_id=sources.run_id,
        synthetic=sources.synthetic,
        class_names=test.class_names,
        flow=_flow(sources),
        cohort=tuple(_cohort_rows(sources)),
        metrics=tuple(
            MetricsRow(name=r.name, kind=r.kind, metrics=measured(r.metrics.items()), noise=dict(r.noise))
            for r in results.rows
        ),
        cross_fitted=sources.split.cross_fitted,
        level=results.level,
        gain=measured(results.gain.items()),
        test_scans=results.scans,
        test_subjects=results.subjects,
        chosen=results.chosen,
        reason=results.reason,
        selection=_candidates(sources.selection),
        reliability=(
            *_panels(softmax(test.logits), test, "before calibration"),
            *_panels(sources.probabilities, test, "after calibration"),
        ),
        risk=tuple(
            RiskPoint(threshold=float(t), coverage=float(c), risk=float(r))
            for t, c, r in zip(risk.threshold, risk.coverage, risk.risk, strict=True)
        ),
        operating_point=sources.operating_point,
        confusion=_confusion(sources.probabilities, test),
        coverage=tuple(coverage_of(results.coverage, test.class_names)),
        decided=decided_of(results.decisions),
        plausible=plausible_of(results.decisions),
        slopes=tuple(slopes_of(results)),
        slices=tuple(_slices(sources)),
        training=tuple(_epochs(sources.history)),
        posterior=tuple(_posterior(sources)),
        losses=tuple(Named(label=name, value=sentence) for name, sentence in sources.losses.items()),
        losses_stage=sources.losses_stage,
        versions=tuple(Named(label=k, value=v) for k, v in sources.versions.items()),
    )


def _flow(sources: StudySources) -> Flow:
    refused = [o for o in sources.outcomes if o.verdict == "refused"]
    examples = {o.rule: o.message for o in reversed(refused)}
    of = sources.split.subject_of
    return Flow(
        found=len(sources.outcomes) or len(sources.cohort),
        refused=tuple(
            Refusals(rule=rule, scans=n, example=examples[rule])
            for rule, n in sorted(Counter(o.rule for o in refused).items())
        ),
        ignored=tuple(Named(label=what, value=n) for what, n in sorted(sources.ignored.items())),
        accepted=len(sources.cohort),
        without_diagnosis=sum(s.diagnosis is None for s in sources.cohort.scans),
        parts={title: (len(ids), len({of[i] for i in ids})) for title, ids in _parts(sources.split)},
    )


def _parts(split: Split) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield title and scan ids of each part; a cross-fitted cohort has two."""
    if split.cross_fitted:
        yield from (("development", split.train), ("test", split.test))
    else:
        yield from ((part, split.part(part)) for part in PARTS)


def _cohort_rows(sources: StudySources) -> Iterator[CohortRow]:
    for part, ids in _parts(sources.split):
        scans = sources.cohort.subset(ids).scans
        ages = _numbers(s.facts.get("age") for s in scans)
        sexes = [str(s.facts["sex"])[:1].upper() for s in scans if s.facts.get("sex")]
        sites = {s.facts["site"] for s in scans if s.facts.get("site") is not None}
        yield CohortRow(
            part=part,
            scans=len(scans),
            subjects=len({s.subject for s in scans}),
            classes={c: sum(s.diagnosis == c for s in scans) for c in sources.cohort.class_names},
            age_mean=float(np.mean(ages)) if ages else None,
            age_sd=float(np.std(ages, ddof=1)) if len(ages) > 1 else None,
            female_share=sexes.count("F") / len(sexes) if sexes else None,
            sites=len(sites) or None,
        )


def _numbers(values: Iterator[Any]) -> list[float]:
    return [float(v) for v in values if isinstance(v, int | float) and np.isfinite(v)]


def _candidates(selection: Selection) -> tuple[CandidateRow, ...]:
    return tuple(
        CandidateRow(
            **{k: v for k, v in asdict(s).items() if k != "behind_se"}, chosen=s.name == selection.chosen
        )
        for s in selection.scores
    )


def _panels(probabilities: Floats, test: Predictions, stage: str) -> Iterator[ReliabilityPanel]:
    curves = reliability_curves(probabilities, test.labels, test.class_names, bins=RELIABILITY_BINS)
    for curve in curves:
        yield ReliabilityPanel(name=curve.name, stage=stage, points=tuple(_points(curve)))


def _points(curve: ReliabilityCurve) -> Iterator[ReliabilityPoint]:
    for b in np.flatnonzero(curve.counts):
        yield ReliabilityPoint(
            stated=float(curve.confidence[b]),
            came_true=float(curve.accuracy[b]),
            low=float(curve.low[b]),
            high=float(curve.high[b]),
            scans=int(curve.counts[b]),
        )


def _confusion(probabilities: Floats, test: Predictions) -> tuple[tuple[int, ...], ...]:
    counts = np.zeros((len(test.class_names),) * 2, dtype=int)
    np.add.at(counts, (test.labels, probabilities.argmax(axis=1)), 1)
    return tuple(tuple(int(n) for n in row) for row in counts)


def _slices(sources: StudySources) -> Iterator[SliceRow]:
    test = sources.test
    facts = [scan.facts for scan in sources.cohort.subset(test.scan_ids).scans]
    for key in SLICED_BY:
        values = np.array([str(f.get(key, "")) for f in facts])
        names = sorted(set(values.tolist()) - {""}, key=_in_order)
        for name in names if len(names) > 1 else ():
            rows = np.flatnonzero(values == name)
            subjects = [test.subjects[i] for i in rows]
            intervals: dict[str, Measured] = {}
            if len(rows) >= SMALL_SLICE:
                titles = {"accuracy": "accuracy", "nll": "negative_log_likelihood"}
                p, y = sources.probabilities[rows], test.labels[rows]
                found = bootstrap(
                    p, y, subjects, tuple(titles.values()), draws=1000, level=sources.results.level
                )
                intervals = measured((title, found[name]) for title, name in titles.items())
            title, people = f"{key}: {name}", len(set(subjects))
            yield SliceRow(slice=title, scans=len(rows), subjects=people, **intervals)


def _in_order(name: str) -> tuple[int, str]:
    """Sort numbers of sites as numbers."""
    return (int(name), "") if name.isdecimal() else (-1, name)


def _epochs(history: Sequence[Mapping[str, Any]]) -> Iterator[EpochRow]:
    def value(row: Mapping[str, Any], name: str) -> float | None:
        found = row.get(name)
        return float(found) if found is not None and np.isfinite(found) else None

    for n, row in enumerate(history):
        yield EpochRow(
            epoch=int(row.get("epoch", n)),
            loss=value(row, "loss"),
            validation_nll=value(row, "validation_nll"),
            validation_balanced_accuracy=value(row, "validation_balanced_accuracy"),
        )


def _posterior(sources: StudySources) -> Iterator[PosteriorPoint]:
    if sources.posterior is None:
        return
    for k, name in enumerate(sources.test.class_names):
        for true, stated in zip(sources.posterior[:, k], sources.probabilities[:, k], strict=True):
            yield PosteriorPoint(name=name, true=float(true), stated=float(stated))
