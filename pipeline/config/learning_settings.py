"""How a network is trained, calibrated and evaluated, and when it gives a prediction."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Count, Fraction, NotNegative, Positive, Section
from pipeline.errors import ConfigError
from pipeline.files import sha256_of_file

_log = logging.getLogger(__name__)


class NetworkSettings(Section):
    """A network by name, see `models.networks.NETWORKS`."""

    name: str = "small_cnn"
    """Name of the network; models/README.md lists them."""
    spatial_dims: Literal[2, 3] = 3
    """3 for scans and volumes, 2 for images."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Its options by name."""
    weights: Annotated[Path | None, Field(exclude_if=lambda path: path is None)] = None
    """File of safetensors that training starts from; a head of another number of classes is not loaded."""
    weights_sha256: Annotated[str | None, Field(exclude_if=lambda digest: digest is None)] = None
    """What the file must be, or training is refused; what it was, where stored."""

    @field_validator("weights_sha256")
    @classmethod
    def _hex(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", value):
            raise ValueError(f"{value!r} is no SHA-256; expected 64 hex digits, as `sha256sum FILE` prints")
        return value.lower() if value else value

    def learned(self) -> dict[str, Any]:
        """Return the settings that decide what is learned, JSON-able: given weights by their content.

        Raises
        ------
        ConfigError
            If the file of the weights is not there.
        """
        settings = self.model_dump(mode="json", exclude={"weights", "weights_sha256"})
        if self.weights is not None:
            settings["weights"] = self.weights_sha256 or sha256_of_file(self.weights_file())
        return settings

    def without_place(self) -> NetworkSettings:
        """Return the settings without the folder of the weights, which are known by their content."""
        if self.weights is None:
            return self
        found = self.weights_sha256 or (sha256_of_file(self.weights) if self.weights.is_file() else None)
        return self.model_copy(update={"weights": Path(self.weights.name), "weights_sha256": found})

    def weights_file(self) -> Path:
        """Return the file of the weights that training starts from.

        Raises
        ------
        ConfigError
            If it is not there.
        """
        if self.weights is None or not self.weights.is_file():
            raise ConfigError(
                "There is no such file of weights",
                where=f"network.weights ({self.weights})",
                hint="correct the path; the file holds safetensors",
            )
        return self.weights


class LossSettings(Section):
    """A loss by name, see `models.losses.LOSSES`."""

    name: str = "gce"
    """Name of the loss; models/README.md lists them and their options."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Its options by name."""
    label: str | None = None
    """Name in tables and figures; `name` where not given."""

    @property
    def title(self) -> str:
        """What tables call this loss."""
        return self.label or self.name


class TrainingSettings(Section):
    """The optimisation of one network."""

    loss: LossSettings = LossSettings()
    """What is minimised."""
    epochs: Count = 30
    """Passes over the training part."""
    batch_size: Annotated[int, Field(ge=2)] = 16
    """Scans of a step."""
    micro_batch: Count | None = None
    """Scans in memory at once; the step still equals the whole batch's. It costs a second forward pass, about
    a third of a step's time, and takes no network with batch statistics."""
    learning_rate: Positive = 1e-3
    """Peak, after the warm-up; then half a cosine towards zero."""
    weight_decay: NotNegative = 1e-2
    """Of the optimizer, decoupled for `adamw`."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with Nesterov momentum."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Nesterov momentum of `sgd`."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 2
    """Epochs of a linear rise to the learning rate."""
    gradient_clip: Positive | None = 1.0
    """Largest norm of the gradient; null clips nothing."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of the moving average of the weights, which is then used; null averages nothing."""
    patience: Count | None = None
    """Epochs without a better validation NLL, after its best temperature, before stopping; none trains to the
    end."""
    sampling: Literal["natural", "class_balanced"] = "natural"
    """Scans as they are, or each class equally often."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""
    compile: bool = False
    """Whether `torch.compile` compiles the network: a minute or more before the first step, shorter steps."""
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"], Field(exclude_if=lambda precision: precision == "auto")
    ] = "auto"
    """Of the activations. `bfloat16` halves their memory at 8 bits of precision and is fast on a GPU, slow on
    most CPUs; weights, loss and validation stay float32. `auto`: bfloat16 on a GPU that has it
    (Ampere and later), else float32."""
    tf32: Annotated[bool, Field(exclude_if=lambda tf32: not tf32)] = False
    """Whether a GPU multiplies float32 numbers with 11 bits of precision: several times faster, which matters
    where `precision` is float32; no effect on a CPU."""
    fused: Annotated[bool | None, Field(exclude_if=lambda fused: fused is None)] = None
    """Whether the optimizer updates all weights in one kernel: shorter steps, other last digits; if not
    given, on a GPU only."""
    deterministic: Annotated[bool, Field(exclude_if=lambda deterministic: not deterministic)] = False
    """Whether a GPU gives the same bytes every time: slower, and an error where a layer has no such
    algorithm, as 3D pooling. A CPU gives them anyway, with the same number of threads."""


class CalibrationSettings(Section):
    """Which scans calibrate, and how."""

    scheme: Literal["auto", "cross_fit", "split"] = "auto"
    """`cross_fit`: every scan outside the test part is predicted by networks that never saw its subject, and
    calibrates. `split`: a calibration part is left out of training. `auto`: `cross_fit` below 1,000 labelled
    scans, unless `ensemble` asks for several networks on one split."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Parts of a cross-fitting, by subject."""
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
    """Of the one-sided limit on the share of wrong answers, from the calibration scans."""
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
    """Bootstrap draws, of subjects."""
    level: Fraction = 0.95
    """Of the intervals."""
