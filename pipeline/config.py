"""One study is one YAML file; a key or value that does not belong is refused with its mend."""

from __future__ import annotations

import difflib
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import ConfigError

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CohortSettings(_Section):
    """Which labelled scans are learned from."""

    kind: Literal["bids", "medmnist"] = "bids"
    path: Path
    classes: tuple[str, ...] = ("CN", "MCI", "AD")
    min_subjects_per_class: Count = 8
    """Fewer cannot stand in four parts with two subjects each."""


class IngestSettings(_Section):
    """Where scans come from and what is accepted."""

    source: Path | None = None
    layout: Literal["auto", "dicom", "adni", "bids", "nifti"] = "auto"
    tracer: str = "AV1451"
    key_file: Path | None = None
    """Secret of the pseudonyms; outside the dataset. Made on first use where it is missing."""
    max_days_to_diagnosis: Count = 180
    workers: Count = 2


class ImagingSettings(_Section):
    """From an accepted scan to SUVR in template space."""

    window_start_min: Positive = 80.0
    window_end_min: Positive = 100.0
    """Minutes after injection over which frames are averaged."""
    resolution_mm: Positive = 8.0
    """Common resolution (FWHM) that every scan is smoothed to."""


class SplitSettings(_Section):
    """Shares of subjects; what remains is for training."""

    validation: Fraction = 0.12
    calibration: Fraction = 0.2
    test: Fraction = 0.25

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.validation + self.calibration + self.test >= 0.9:
            raise ValueError("validation + calibration + test must leave at least a tenth for training")
        return self


class PreprocessingSettings(_Section):
    """What the network sees."""

    spacing_mm: Literal[2, 4, 8] = 4
    suvr_max: Positive = 4.0


class AugmentationSettings(_Section):
    """Random changes of training volumes; never a left-right flip, asymmetry is evidence."""

    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    rotate_deg: Annotated[float, Field(ge=0)] = 5.0
    translate_mm: Annotated[float, Field(ge=0)] = 4.0
    scale: Annotated[float, Field(ge=0, lt=0.5)] = 0.05
    intensity_scale: Annotated[float, Field(ge=0, lt=1)] = 0.05
    intensity_shift: Annotated[float, Field(ge=0, lt=1)] = 0.02
    noise_sd: Annotated[float, Field(ge=0)] = 0.05
    blur_sigma_mm: Annotated[float, Field(ge=0)] = 2.0
    bias_field: Annotated[float, Field(ge=0, lt=1)] = 0.1


class NetworkSettings(_Section):
    """A network by name, see `models.networks.NETWORKS`."""

    name: str = "small_cnn"
    options: dict[str, Any] = Field(default_factory=dict)


class LossSettings(_Section):
    """A loss by name, see `models.losses.LOSSES`."""

    name: str = "gce"
    options: dict[str, Any] = Field(default_factory=dict)
    label: str | None = None
    """How tables call it; the name where not given."""

    @property
    def title(self) -> str:
        """What tables call this loss."""
        return self.label or self.name


class TrainingSettings(_Section):
    """The optimisation of one network."""

    loss: LossSettings = LossSettings()
    epochs: Count = 30
    batch_size: Annotated[int, Field(ge=2)] = 16
    micro_batch: Count | None = None
    """Scans in memory at once; the step still equals the whole batch's."""
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    warmup_epochs: Annotated[int, Field(ge=0)] = 2
    gradient_clip: Positive | None = 1.0
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    patience: Count | None = None
    """Epochs without a better validation NLL before stopping; none trains to the end."""
    sampling: Literal["natural", "class_balanced"] = "natural"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False


class CalibrationSettings(_Section):
    """Candidates for `select_calibrator`, simplest first."""

    candidates: tuple[str, ...] = ("identity", "temperature", "adaptive_temperature")
    folds: Annotated[int, Field(ge=2)] = 5


class DecisionSettings(_Section):
    """When the classifier abstains."""

    coverage: Fraction = 0.9
    """Class-conditional coverage of the prediction sets."""
    max_risk: Fraction = 0.2
    """Share of wrong answers tolerated among calibration scans at or above the operating point."""
    ood_quantile: Fraction = 0.99
    refits: Count = 200


class EvaluationSettings(_Section):
    """Intervals of the metrics."""

    draws: Count = 2000
    level: Fraction = 0.95


class TrackingSettings(_Section):
    """Where runs and models are kept."""

    uri: str | None = None
    """SQLAlchemy address or MLflow server; a SQLite file in the output folder where not given."""
    experiment: str = "taucal"
    model_name: str = "taucal"


class PhantomSettings(_Section):
    """A synthetic cohort, see `pipeline.phantom`."""

    preset: Literal["three_class", "three_class_clinical", "five_class"] = "three_class"
    subjects: Count = 160
    scans: Count = 200
    spoiled: Annotated[float, Field(ge=0, lt=0.5)] = 0.03
    workers: Count = 2


class CompareSettings(_Section):
    """Losses x seeds, all else equal."""

    losses: tuple[LossSettings, ...] = (LossSettings(name="ce"), LossSettings(name="gce"))
    seeds: tuple[int, ...] = (0, 1, 2)
    baseline: str = "ce"


class Study(_Section):
    """Everything that decides a result; two runs of one study give the same numbers on CPU.

    Examples
    --------
    >>> study = Study(name="tiny", output="data/tiny", cohort={"path": "data/tiny/bids"})
    >>> study.training.loss.name
    'gce'
    """

    name: str
    seed: int = 2026
    output: Path
    cohort: CohortSettings
    ingest: IngestSettings = IngestSettings()
    imaging: ImagingSettings = ImagingSettings()
    split: SplitSettings = SplitSettings()
    preprocessing: PreprocessingSettings = PreprocessingSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    network: NetworkSettings = NetworkSettings()
    training: TrainingSettings = TrainingSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    decision: DecisionSettings = DecisionSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    tracking: TrackingSettings = TrackingSettings()
    phantom: PhantomSettings = PhantomSettings()
    compare: CompareSettings = CompareSettings()

    def without_places(self) -> Study:
        """Return the study without the folders scans came from: their names can identify people."""
        ingest = self.ingest.model_copy(update={"source": None, "key_file": None})
        return self.model_copy(update={"ingest": ingest})

    def to_yaml(self) -> str:
        """Return the resolved study, defaults included, as a file `load_study` reads."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_study(path: Path, overrides: tuple[str, ...] = ()) -> Study:
    """Read a study from YAML and apply ``a.b=c`` overrides.

    Parameters
    ----------
    path : Path
        YAML file.
    overrides : tuple of str
        ``"training.epochs=5"``; values are read as YAML.

    Raises
    ------
    ConfigError
        If the file is missing, is not YAML, or holds a key or value that does not belong; the message
        names the file, the key, what it must be and the nearest valid key.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"A study file must be readable, got {error}", culprit=str(path)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"A study file must be YAML: {error}", culprit=str(path)) from error
    if not isinstance(tree, dict):
        raise ConfigError(
            f"A study file must hold keys and values, got {type(tree).__name__}", culprit=str(path)
        )
    for text in overrides:
        _override(tree, text)
    try:
        return Study.model_validate(tree)
    except ValidationError as error:
        raise _explain(error, path) from error


def _override(tree: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"An override must look like a.b=c, got {text!r}", culprit="--set")
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{parent} is a value, not a section", culprit=f"--set {text}")
    try:
        node[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"The value must be YAML: {error}", culprit=f"--set {text}") from error


def _explain(error: ValidationError, path: Path) -> ConfigError:
    lines = []
    for problem in error.errors(include_url=False):
        place = [str(part) for part in problem["loc"]]
        key = ".".join(place)
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(place[-1], _valid_keys(place[:-1]), n=1, cutoff=0.4)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(_valid_keys(place[:-1]))}"
            )
            lines.append(f"{key}: no such key; {hint}")
        else:
            lines.append(f"{key or 'study'}: {problem['msg']}, got {problem.get('input')!r:.80}")
    return ConfigError(
        "A study must hold known keys with values of their type:\n  " + "\n  ".join(lines) + "\n",
        culprit=str(path),
    )


def _valid_keys(place: list[str]) -> list[str]:
    model: Any = Study
    for part in place:
        if part.isdigit():
            continue
        model = _section_of(model.model_fields[part].annotation)
    return list(model.model_fields)


def _section_of(annotation: Any) -> Any:
    origin = typing.get_origin(annotation)
    if origin in (tuple, typing.Union, types.UnionType):
        return next(_section_of(a) for a in typing.get_args(annotation) if a not in (..., type(None)))
    return annotation
