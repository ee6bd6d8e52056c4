"""What a classifier was trained and tested on: the facts that its reports and its model card print."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.bundle import BundleFormatError


class _Facts(BaseModel):
    """A part of the card; a key that this program does not know is stored again as it was read."""

    model_config = ConfigDict(frozen=True, extra="allow")


class NamedLoss(_Facts):
    """The loss the networks were trained with; its options follow as they were set."""

    name: str = "unknown"


class ChosenCalibrator(_Facts):
    """The calibrator of the classifier, and why it was chosen, in one sentence."""

    name: str = "unknown"
    reason: str = ""


class PartSizes(_Facts):
    """How many scans or subjects each part of the split has; None where that is not known."""

    train: int | None = None
    validation: int | None = None
    calibration: int | None = None
    test: int | None = None


class MetricInterval(_Facts):
    """A metric on the test scans, with the limits of its interval over subjects."""

    value: float
    low: float
    high: float


class ConfidenceBin(NamedTuple):
    """Test scans whose confidence is above `low` and at most `high`, and how many of them were right."""

    low: float
    high: float
    scans: int
    right: int


class RegionNorm(_Facts):
    """Mean and SD of a region's SUVR over `n` normal subjects; side is left, right or both."""

    region: str
    side: str
    mean: float
    sd: float
    n: int


class Card(_Facts):
    """Facts of training and test, stored with the classifier; a fact an older program did not store is empty.

    Parameters
    ----------
    scheme : str
        ``"cross_fit"`` where every scan outside the test part was predicted by networks that never saw its
        subject, and calibrated: ``split.train`` counts them all. ``"split"`` where a part was left out.
    target : str
        What the classes are of.
    synthetic : bool
        Whether the scans are of the phantom.
    imaging : dict
        Settings of the normalisation; the defaults where empty.
    split, subjects : PartSizes
        Scans, and subjects, of each part.
    class_counts : dict of str to int
        Training scans of each class.
    noise : dict of str to float
        For each calibration error in `metrics`, what the same probabilities would show if they were true.
    level : float
        Of the intervals in `metrics`, in (0, 1).
    coverage : dict of str to (int, int)
        For each class the test scans whose prediction set holds it, and all test scans of it.

    Examples
    --------
    >>> card = Card.from_dict({"tracer": "AV1451", "subjects": {"test": 25}, "reviewer": "JB"})
    >>> card.subjects.test, card.subjects.train, card.to_dict()["reviewer"]
    (25, None, 'JB')
    """

    study: str = ""
    target: str = Field(default="diagnosis", exclude_if=lambda target: target == "diagnosis")
    scheme: str = "split"
    synthetic: bool = False
    tracer: str = "AV1451"
    imaging: dict[str, Any] = Field(default_factory=dict)
    loss: NamedLoss = NamedLoss()
    calibrator: ChosenCalibrator = ChosenCalibrator()
    split: PartSizes = PartSizes()
    subjects: PartSizes = PartSizes()
    class_counts: dict[str, int] = Field(default_factory=dict)
    metrics: dict[str, MetricInterval] = Field(default_factory=dict)
    noise: dict[str, float] = Field(default_factory=dict)
    level: float = Field(default=0.95, exclude_if=lambda level: level == 0.95)
    coverage: dict[str, tuple[int, int]] = Field(default_factory=dict)
    likeness: tuple[ConfidenceBin, ...] = ()
    norms: tuple[RegionNorm, ...] = ()
    data_digest: str = "unknown"
    split_digest: str = "unknown"

    def bin_of(self, confidence: float) -> ConfidenceBin | None:
        """Return the bin that holds a confidence, or None."""
        bins = (b for b in self.likeness if b.low < confidence <= b.high or b.low == 0 == confidence)
        return next(bins, None)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave, now or in an older program.

        Raises
        ------
        BundleFormatError
            If a value has another type than its key asks for; the key is named.
        """
        try:
            return cls.model_validate_json(json.dumps(stored), strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(("card", *map(str, first["loc"])))
            raise BundleFormatError(f"{key}: {first['msg']}, found {first['input']!r:.60}") from error
