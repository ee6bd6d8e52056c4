"""How a network is trained, calibrated and evaluated, and when it gives a prediction."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.config.section import Count, Fraction, NotNegative, Positive, Section

_log = logging.getLogger(__name__)


class NetworkSettings(Section):
    """A network by name, see `models.networks.NETWORKS`."""

    name: str = "small_cnn"
    spatial_dims: Literal[2, 3] = 3
    options: dict[str, Any] = Field(default_factory=dict)


class LossSettings(Section):
    """A loss by name, see `models.losses.LOSSES`."""

    name: str = "gce"
    options: dict[str, Any] = Field(default_factory=dict)
    label: str | None = None
    """How tables call it; the name where not given."""

    @property
    def title(self) -> str:
        """What tables call this loss."""
        return self.label or self.name


class TrainingSettings(Section):
    """The optimisation of one network."""

    loss: LossSettings = LossSettings()
    epochs: Count = 30
    batch_size: Annotated[int, Field(ge=2)] = 16
    micro_batch: Count | None = None
    """Scans in memory at once; the step still equals the whole batch's."""
    learning_rate: Positive = 1e-3
    weight_decay: NotNegative = 1e-2
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of `sgd`, after Nesterov."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 2
    gradient_clip: Positive | None = 1.0
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    patience: Count | None = None
    """Epochs without a better validation NLL, after its best temperature, before stopping; none trains to the
    end."""
    sampling: Literal["natural", "class_balanced"] = "natural"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False


class CalibrationSettings(Section):
    """Which scans calibrate, and how."""

    scheme: Literal["auto", "cross_fit", "split"] = "auto"
    """`cross_fit`: every scan outside the test part is predicted by networks that never saw its subject, and
    calibrates. `split`: a calibration part is left out of training. `auto`: `cross_fit` below 1,000 labelled
    scans, unless `ensemble` asks for several networks on one split."""
    folds: Annotated[int, Field(ge=2)] = 5
    repeats: Count = 1
    """Of cross-fitting: `repeats` x `folds` networks are trained."""
    workers: Count | None = None
    """Networks of a cross-fitting that are trained at once; if not given, one for each core or GPU."""
    method: str = "adaptive_temperature"
    """The calibrator that is shipped; `auto` ships the candidate with the least cross-validated NLL."""
    candidates: tuple[str, ...] = (
        "identity",
        "temperature",
        "bias_corrected_temperature",
        "adaptive_temperature",
        "vector",
    )
    """Fitted and shown beside the one that is shipped."""


class DecisionSettings(Section):
    """When the classifier abstains."""

    coverage: Fraction = 0.9
    """Share of the scans of each class whose prediction set holds it, at least."""
    largest_set: Count | None = None
    """Most classes in the prediction set of a reported scan; where not given 2, or 1 of two classes."""
    max_risk: Fraction = 0.2
    """Share of wrong answers tolerated among calibration scans at or above the operating point."""
    certainty: Fraction = 0.95
    """That the share of wrong answers is within `max_risk`: one-sided, of the calibration scans."""
    range_factor: Positive = 1.6
    """Widening of the plausible range of a probability, chosen on simulated scans."""
    ood_quantile: Fraction = 0.99
    """Share of held-out scans within each limit of out of distribution."""

    @model_validator(mode="before")
    @classmethod
    def _without_refits(cls, value: Any) -> Any:
        # Every study.yaml that an older version wrote has this key, so it is no error.
        if isinstance(value, dict) and "refits" in value:
            _log.warning(
                "decision.refits: this setting has no effect any more; the range of a probability comes from "
                "the draws of the calibrator and the networks, widened by decision.range_factor. Remove it."
            )
            return {key: own for key, own in value.items() if key != "refits"}
        return value

    def set_limit(self, classes: int) -> int:
        """Return `largest_set`, or its default for a number of classes."""
        return self.largest_set or (2 if classes > 2 else 1)


class EvaluationSettings(Section):
    """Intervals of the metrics."""

    draws: Count = 2000
    level: Fraction = 0.95
