"""The numbers and strings of a scan's report: the template draws nothing else.

Every text is cleaned on the way in (`pipeline.reporting.page.html.clean`) and escaped on the way out.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, Field, model_validator

from pipeline.reporting.page.facts import (
    Facts,
    Measured,
    Named,
    Text,
    number,
    percent,
    percent_range,
)
from pipeline.reporting.scan.centaur_status import CentaurStatus
from pipeline.reporting.scan.regional_numbers import Composite, MetaRoi, RegionRow
from pipeline.reporting.scan.tau_status import TauStatus, TypicalTau
from pipeline.wording import counted

Verdict = Literal["report", "refer", "refused"]
Quality = Literal["pass", "warn", "refuse"]


class ClassProbability(Facts):
    """One class of the answer.

    `probability` is at the prevalence of training, `trained_share`; `clinic_probability` is at the clinic's,
    `clinic_share`, where that is stated. `shown` is the one of the two that the page draws: `lower` and
    `upper`, its plausible range, and `in_set` belong to it.
    """

    name: Text
    title: Text
    probability: float
    lower: float
    upper: float
    in_set: bool
    trained_share: float
    clinic_share: float | None = None
    clinic_probability: float | None = None
    shown: float

    @property
    def range_text(self) -> str:
        """The plausible range in words."""
        return f"plausible range {percent_range(self.lower, self.upper)}"

    @property
    def sentence(self) -> str:
        """What the bar shows, for a reader who does not see it."""
        return f"{self.name}: {percent(self.shown)}, {self.range_text}"

    @model_validator(mode="before")
    @classmethod
    def _from_older(cls, stored: Any) -> Any:
        # Up to format 2 everything but `clinic_probability` was at the prevalence of training.
        return {"shown": stored["probability"], **stored} if isinstance(stored, dict) else stored


class SetCount(Facts):
    """How many test scans of a class have it in their prediction set."""

    name: Text
    held: int
    scans: int


class Likeness(Facts):
    """How often the classifier was right on test scans of similar confidence."""

    low: float
    high: float
    count: int
    right: int

    @property
    def sentence(self) -> str:
        """The counts in words."""
        similar = f"a highest probability of {percent_range(self.low, self.high)}"
        if self.count == 0:
            return f"No test scan had {similar}: how often such an answer is right is unknown."
        few = " These are few scans: read the counts, not a percentage." if self.count < 20 else ""
        were = "was" if self.right == 1 else "were"
        scans = counted(self.count, "test scan")
        return f"Of {scans} with {similar}, {self.right} {were} classified correctly.{few}"


class EntropySplit(Facts):
    """How undecided an average of several networks is, and how much of that is their disagreement, in nats.

    `entropy` is that of the mean of the networks' calibrated probabilities, at most `limit`, where nothing is
    known; `mutual_information` is the part they disagree about, `mean_entropy` the part they share.
    """

    networks: int
    entropy: float
    mutual_information: float
    mean_entropy: float
    limit: float

    @property
    def sentence(self) -> str:
        """The split in words; the part that is shared is rounded so that the parts add up."""
        shared = round(self.entropy, 2) - round(self.mutual_information, 2)
        return (
            f"Uncertainty: entropy {number(self.entropy)} nats of at most {number(self.limit)}. Of this, "
            f"{number(self.mutual_information)} is disagreement between the {self.networks} networks, which "
            f"more training scans may reduce; {number(shared)} is ambiguity that they share. It is the "
            "entropy of the mean of the networks' probabilities at the prevalence of training, each network "
            "calibrated by itself. The probabilities on the first page are calibrated after averaging, so "
            "their entropy differs."
        )


class Distance(Facts):
    """How far the scan lies from those the classifier knows."""

    label: Text
    value: float
    limit: float

    @property
    def beyond(self) -> bool:
        """Whether the scan lies beyond the limit."""
        return self.value > self.limit


class Visit(Facts):
    """The meta-ROI of one visit, `months` from the first visit shown, and what the model gives its scan.

    `probability` is that of the class that is most likely now; `lower` and `upper` are its plausible range.
    """

    label: Text
    months: float
    meta_roi: float
    probability: float | None = None
    lower: float | None = None
    upper: float | None = None


class FindingRow(Facts):
    """One quality check: what was measured against which limit."""

    rule: Text
    verdict: Quality
    measured: float | None
    limit: Text
    message: Text


class MetricRow(Measured):
    """A metric on the test scans with its interval; a calibration error with its noise floor."""

    name: Text
    noise: float | None = None


class ModelFacts(Facts):
    """What the model is for, what it was trained on, its metrics with intervals at `level`, and its limits.

    References
    ----------
    Sendak et al., Presenting machine learning model information to clinical end users with model facts
    labels, npj Digital Medicine 2020.
    """

    name: Text
    version: Text
    trained_on: Text
    tested_on: Text
    target: Text = "diagnosis"
    intended_use: Text = (
        "A second opinion for a specialist who reads the AV1451 PET scan of an adult under evaluation for "
        "cognitive impairment. For research only."
    )
    where_it_fails: tuple[Text, ...] = (
        "Other tracers, reference regions or reconstructions than those it was trained on.",
        "Non-Alzheimer tauopathies, strokes, tumours and surgery: they were not among the training scans.",
        "Early disease: many scans of impaired people look like scans of normal people.",
        "Another mix of patients: probabilities assume the prevalence stated beside them.",
    )
    metrics: tuple[MetricRow, ...] = ()
    level: float = 0.95
    versions: tuple[Named, ...] = ()
    typical_scans: tuple[TypicalTau, ...] = ()


class ScanReport(Facts):
    """All facts of a scan's report.

    A refused scan has no classes and no tau status; `reasons` and `hint` explain why. Dates are passed in, so
    that the same scan and the same model give the same bytes. `range_factor` is None where the range of a
    probability is the 5th to the 95th percentile over refits of the calibrator, and over networks.
    `pvc_resolution_mm` is the blur that second SUVR of regions and composites were corrected for; None where
    there are none. `images` stands for the images under the key of the pseudonyms, so that a report is never
    replaced by one of other images; empty where they cannot be read, None where they are known otherwise.
    Files of formats 1 to 3 are still read; they hold no tau status. In formats 1 and 2 range, set and
    confidence are at the prevalence of training, whatever the clinic's; names of `hint` and `uncertainty`
    were others in format 1.
    """

    format_version: int = 4
    subject: Text
    session: Text
    report_date: Text
    run_id: Text
    synthetic: bool
    accession_number: Text = ""
    images: Text | None = None
    tau: TauStatus | None = None
    centaur: CentaurStatus | None = None
    verdict: Verdict
    headline: Text
    reasons: tuple[Text, ...] = ()
    hint: Text = Field(default="", validation_alias=AliasChoices("hint", "mend"))
    classes: tuple[ClassProbability, ...] = ()
    prediction_set: tuple[Text, ...] = ()
    coverage: float | None = None
    tested_sets: tuple[SetCount, ...] = ()
    largest_set: int = 1
    confidence: float | None = None
    operating_point: float | None = None
    range_factor: float | None = None
    likeness: Likeness | None = None
    uncertainty: EntropySplit | None = Field(
        default=None, validation_alias=AliasChoices("uncertainty", "doubt")
    )
    distances: tuple[Distance, ...] = ()
    quality: Quality
    findings: tuple[FindingRow, ...] = ()
    acquisition: tuple[Named, ...] = ()
    regions: tuple[RegionRow, ...] = ()
    composites: tuple[Composite, ...] = ()
    meta_roi: MetaRoi | None = None
    pvc_resolution_mm: float | None = None
    norm_count: int | None = None
    hottest_region: Text = ""
    hottest_side: Literal["left", "right", "both", ""] = ""
    asymmetry_sentence: Text = ""
    visits: tuple[Visit, ...] = ()
    model: ModelFacts

    @property
    def clinic(self) -> bool:
        """Whether what is shown is at a clinic's own prevalence."""
        return any(c.clinic_probability is not None and c.shown == c.clinic_probability for c in self.classes)

    @property
    def most_likely(self) -> ClassProbability:
        """The class of the largest probability that is shown, the first of equals."""
        return max(self.classes, key=lambda c: c.shown)
