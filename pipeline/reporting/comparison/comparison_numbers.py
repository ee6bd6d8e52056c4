"""The numbers and strings of a comparison's report: figures and tables draw nothing else."""

from __future__ import annotations

from pydantic import Field

from pipeline.evaluation.comparison.cautions import NO_COMPARISON
from pipeline.reporting.page.facts import Facts, Measured, Named, Rated, Text


class DifferenceRow(Facts):
    """A loss minus the baseline, paired by subject; `p` is adjusted over the losses.

    `detectable` is the smallest true difference that the study would have shown with 80 % power; reports
    before the fifth format have none.
    """

    value: float
    low: float
    high: float
    p: float
    verdict: Text
    detectable: float | None = None


class LossRow(Facts):
    """One loss at one stage: metrics, differences to the baseline, and what they mean in a sentence.

    `recall` maps a class to the share of its test scans that were found, `coverage` to the share whose
    conformal set holds it. `noise` holds, for each calibration error, what the same probabilities would show
    if they were true.
    """

    name: Text
    seeds: int
    folds: int = 1
    metrics: dict[str, Measured]
    noise: dict[str, float] = Field(default_factory=dict)
    difference: dict[str, DifferenceRow] = Field(default_factory=dict)
    recall: dict[str, Measured] = Field(default_factory=dict)
    coverage: dict[str, Measured] = Field(default_factory=dict)
    sentence: str


class Stage(Facts):
    """All losses before a calibrator, or after one; `note` states what was done to the logits.

    `tests` has the same predictions on the test scans weighted to other class shares, by what those are.
    `summary` has the sentences of the losses, with one for all that differ from the baseline in nothing;
    older reports have none.
    """

    name: Text
    note: Text = ""
    losses: tuple[LossRow, ...]
    summary: tuple[str, ...] = ()
    tests: dict[Text, tuple[LossRow, ...]] = Field(default_factory=dict)


class PooledPoint(Rated):
    """One bin of answers, by its place from 0.

    `scans` is the mean number of test scans over seeds; `trials` as how many independent subjects they count.
    """

    bin: int
    scans: float
    trials: float


class LossReliability(Facts):
    """Reliability of the predicted class of one loss at one stage, all its seeds and folds together."""

    name: Text
    stage: Text
    edges: tuple[float, ...]
    points: tuple[PooledPoint, ...]


class LossRisk(Facts):
    """Share of answers of one loss that are wrong, by the share answered; mean over seeds, and its area."""

    name: Text
    stage: Text
    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    area: float


class TunedRow(Facts):
    """What was tried of a loss's main option on one fold, and which value the validation scans chose.

    `nll` is that of the validation scans after one temperature; None where the training failed.
    """

    loss: Text
    fold: int
    batch_size: int | None = None
    tried: tuple[Text, ...]
    nll: tuple[float | None, ...]
    chosen: Text | None


class ComparisonReport(Facts):
    """All that the report of a comparison states. Dates are passed in: the same results give the same bytes.

    `published` holds figures from the literature beside ours, a sentence each. `cautions` state what the run
    cannot show, `choices` what was tuned, in words. Reports of the second format have no `reliability` and no
    `risk`, those of the third no noise floors, those of the fourth no `cautions`, `tuned` and `tests`.
    """

    format_version: int = 5
    title: Text
    report_date: Text
    run_id: Text
    synthetic: bool = False
    class_names: tuple[Text, ...]
    baseline: Text
    test_scans: int
    test_subjects: int
    level: float = 0.95
    set_coverage: float = 0.9
    cross_fitted: bool = False
    cautions: tuple[Text, ...] = ()
    choices: tuple[Text, ...] = ()
    tuned: tuple[TunedRow, ...] = ()
    stages: tuple[Stage, ...]
    reliability: tuple[LossReliability, ...] = ()
    risk: tuple[LossRisk, ...] = ()
    published: tuple[Text, ...] = ()
    failed: tuple[Named, ...] = ()
    versions: tuple[Named, ...] = ()

    @property
    def doubts(self) -> tuple[str, ...]:
        """Those cautions by which the run is no comparison: they stand before what it found."""
        return tuple(c for c in self.cautions if c.startswith(NO_COMPARISON))

    @property
    def over(self) -> str:
        """What the bootstrap of the intervals draws."""
        several = any(loss.seeds > 1 for stage in self.stages for loss in stage.losses)
        return "subjects and seeds" if several else "subjects"
