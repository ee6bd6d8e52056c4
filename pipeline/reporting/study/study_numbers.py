"""The numbers and strings of a study's report: figures and tables draw nothing else."""

from __future__ import annotations

from pydantic import Field

from models.names import CALIBRATOR_TITLES
from pipeline.reporting.page.facts import Facts, Measured, Named, Rated, Text, listed, signed

RANGE_SHARE = 0.8
"""Share of the true probabilities that plausible ranges were made to hold."""
SMALL_SLICE = 20
"""A subgroup with fewer scans gets no interval: it would look like evidence."""
FEW_SCANS = 10
"""Of a class in the test part: a bootstrap of fewer gives intervals that are too narrow."""


class Refusals(Facts):
    """How many scans one rule refused."""

    rule: Text
    scans: int
    example: Text = ""


class Flow(Facts):
    """Where the scans of a study went; `parts` maps a part of the split to (scans, subjects)."""

    found: int
    refused: tuple[Refusals, ...] = ()
    ignored: tuple[Named, ...] = ()
    accepted: int
    without_diagnosis: int
    parts: dict[str, tuple[int, int]]


class CohortRow(Facts):
    """One part of the split: who is in it."""

    part: Text
    scans: int
    subjects: int
    classes: dict[str, int]
    age_mean: float | None = None
    age_sd: float | None = None
    female_share: float | None = None
    sites: int | None = None


class MetricsRow(Facts):
    """One source of probabilities; `kind` as in `pipeline.evaluation.classifier.results.Row`.

    `noise` holds, for each calibration error, what the same probabilities would show if they were true.
    """

    name: Text
    kind: Text
    metrics: dict[str, Measured]
    noise: dict[str, float] = Field(default_factory=dict)


class CandidateRow(Facts):
    """One calibrator in cross-validation on the calibration split."""

    name: Text
    nll: float
    nll_se: float
    classwise_ece: float
    behind: float
    chosen: bool
    noise: float | None = None

    @property
    def title(self) -> str:
        """What pages call it."""
        return CALIBRATOR_TITLES.get(self.name, self.name)


class ReliabilityPoint(Rated):
    """One bin that holds scans."""

    scans: int


class ReliabilityPanel(Facts):
    """Reliability of the top label or of one class, before or after calibration."""

    name: Text
    stage: Text
    points: tuple[ReliabilityPoint, ...]


class Coverage(Facts):
    """How many test scans of a class have it in their prediction set; interval by Wilson."""

    name: Text
    covered: int
    scans: int
    low: float
    high: float

    @property
    def share(self) -> float | None:
        """Share covered; None without scans."""
        return self.covered / self.scans if self.scans else None


class Decided(Facts):
    """What the classifier decided on the test scans, quality control aside.

    `too_large` counts the sets with more than `largest_set` classes. `true_size` and `true_too_large`
    are those of sets made in the same way from the true posterior. `missed` names classes that the sets
    hold in fewer scans than chance explains.
    """

    promised: float
    largest_set: int
    mean_size: float
    too_large: int
    answered: int
    right: int
    missed: tuple[Text, ...] = ()
    true_size: float | None = None
    true_too_large: int | None = None

    def referred(self, scans: int) -> str:
        """How many of the sets of so many scans are too large, in words."""
        size = f"{self.largest_set} class{'es' * (self.largest_set != 1)}"
        if not self.too_large:
            return f"None of the {scans} sets has more than {size}."
        one = self.too_large == 1
        verb, whose = ("has", "this scan is") if one else ("have", "these scans are")
        return f"{self.too_large} of {scans} sets {verb} more than {size}: {whose} referred."


class PlausibleRanges(Facts):
    """Share of plausible ranges that hold the true probability, and their mean width.

    Of all scans and classes, and (`_first`) of the most likely class of each scan.
    """

    factor: float
    held: float
    held_first: float
    width: float
    width_first: float

    @property
    def too_rare(self) -> bool:
        """Whether either share is below the one that the factor was chosen for."""
        return min(self.held, self.held_first) < RANGE_SHARE


class SlopeRow(Facts):
    """Calibration slope and intercepts by class of one source; None or left out where undetermined."""

    name: Text
    slope: Measured | None
    intercepts: dict[str, Measured]


class RiskPoint(Facts):
    """Share of scans answered at a confidence threshold, and how many of those answers were wrong."""

    threshold: float
    coverage: float
    risk: float


class SliceRow(Facts):
    """One slice of the test scans; intervals are left out where they would mislead."""

    slice: Text
    scans: int
    subjects: int
    accuracy: Measured | None = None
    nll: Measured | None = None


class EpochRow(Facts):
    """One epoch of training; None where it was not measured."""

    epoch: int
    loss: float | None
    validation_nll: float | None
    validation_balanced_accuracy: float | None


class PosteriorPoint(Facts):
    """One scan and class of the phantom: its true probability and the stated one."""

    name: Text
    true: float
    stated: float


class StudyReport(Facts):
    """All facts of a study's report. Dates are passed in: the same study gives the same bytes."""

    format_version: int = 1
    title: Text
    target: Text = "diagnosis"
    report_date: Text
    run_id: Text
    synthetic: bool
    class_names: tuple[Text, ...]
    flow: Flow
    cohort: tuple[CohortRow, ...]
    metrics: tuple[MetricsRow, ...]
    gain: dict[str, Measured]
    cross_fitted: bool = False
    level: float = 0.95
    test_scans: int
    test_subjects: int
    chosen: Text
    reason: Text
    selection: tuple[CandidateRow, ...]
    reliability: tuple[ReliabilityPanel, ...]
    risk: tuple[RiskPoint, ...]
    operating_point: float | None
    confusion: tuple[tuple[int, ...], ...]
    coverage: tuple[Coverage, ...] = ()
    decided: Decided | None = None
    plausible: PlausibleRanges | None = None
    slopes: tuple[SlopeRow, ...] = ()
    slices: tuple[SliceRow, ...] = ()
    training: tuple[EpochRow, ...] = ()
    posterior: tuple[PosteriorPoint, ...] = ()
    losses: tuple[Named, ...] = ()
    losses_stage: Text = ""
    versions: tuple[Named, ...] = ()

    @property
    def few_scans(self) -> tuple[str, ...]:
        """Which classes have no test scans or few, and what that does to the metrics, a sentence each."""
        counts = {str(c): sum(row) for c, row in zip(self.class_names, self.confusion, strict=True)}
        none = [c for c, n in counts.items() if not n]
        few = [f"{c} ({n})" for c, n in counts.items() if 0 < n < FEW_SCANS]
        found = []
        if none:
            found.append(
                f"No test scan is of {listed(none, 'or')}: nothing here shows how it is recognised, and "
                "balanced accuracy and AUROC leave it out."
            )
        if few:
            found.append(
                f"Few test scans are of {listed(few)}: with fewer than {FEW_SCANS} of a class, intervals of "
                "metrics that depend on it are probably too narrow."
            )
        return tuple(found)

    @property
    def calibrator(self) -> str:
        """What pages call the calibrator that was chosen."""
        return CALIBRATOR_TITLES.get(self.chosen, self.chosen)

    @property
    def conclusion(self) -> str:
        """What the test scans show about calibration, in a sentence."""
        gain = self.gain.get("negative_log_likelihood")
        if gain is None:
            return ""
        if self.chosen == "identity":
            return "No calibration was applied: the network's own probabilities are used"
        ends = f"{signed(gain.low, 3)} to {signed(gain.high, 3)}"
        seen = f"{signed(gain.value, 3)} ({100 * self.level:g} % interval {ends})"
        if gain.high < 0:
            found = "Calibration lowered the negative log-likelihood of the test scans"
        elif gain.low > 0:
            found = "Calibration raised the negative log-likelihood of the test scans, which is worse"
        else:
            found = "Whether calibration changed the negative log-likelihood of the test scans is not clear"
        return f"{found}: difference {seen}, paired by subject."
