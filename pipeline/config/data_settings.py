"""Where scans come from, what is accepted of them, and what the network is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.section import Count, Fraction, Positive, Section
from pipeline.errors import ConfigError

PRESET_CLASSES = {
    "three_class": ("CN", "MCI", "AD"),
    "three_class_clinical": ("CN", "MCI", "AD"),
    "five_class": ("CN-", "CN+", "MCI+", "AD-typical", "AD-posterior"),
}
"""Class names of each `phantom.preset`; a test holds them equal to `pipeline.phantom.population.PRESETS`."""

MAX_VISITS = 3
"""Scans of a subject of the phantom."""


class CohortSettings(Section):
    """Which labelled scans or images are learned from."""

    kind: Literal["bids", "medmnist", "cifar10", "cifar100", "tiny_imagenet", "image_folder"] = "bids"
    path: Path
    classes: tuple[str, ...] = ()
    """Class names in the order of their labels; CN, MCI, AD for `bids`, those of the data for images."""
    min_subjects_per_class: Count = 8
    """Fewer cannot stand in four parts with two subjects each."""
    image_size: Annotated[int, Field(ge=8)] | None = None
    """Side in pixels to which pictures of an `image_folder` are resized; without it all have one size."""

    @model_validator(mode="before")
    @classmethod
    def _name_classes(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("kind", "bids") == "bids" and not given.get("classes"):
            return {**given, "classes": ("CN", "MCI", "AD")}
        return given


class ImbalanceSettings(Section):
    """Make the training part rarer in some classes; the other parts are held out first and keep their mix."""

    ratio: Annotated[float, Field(ge=1)] = 1.0
    """Largest over smallest class; classes between follow the usual exponential tail. 1 leaves all."""


class IngestSettings(Section):
    """Where scans come from and what is accepted."""

    source: Path | None = None
    more_sources: tuple[Path, ...] = ()
    """Further folders of scans, ingested with the first."""
    layout: Literal["auto", "dicom", "adni", "bids", "nifti"] = "auto"
    tracer: str = "AV1451"
    key_file: Path | None = None
    """Secret of the pseudonyms; outside the dataset. Made on first use where it is missing."""
    max_days_to_diagnosis: Count = 180
    workers: Count = 2
    runner: Literal["processes", "dask"] = "processes"
    wait: bool = False
    """Wait for an ingest that writes the dataset already, or refuse at once; a scheduled one waits."""
    prune: bool = False
    """Remove scans that came from this source alone and are not there any more, after listing them."""


class ImagingSettings(Section):
    """From an accepted scan to SUVR in template space."""

    window_start_min: Positive = 80.0
    window_end_min: Positive = 100.0
    """Minutes after injection over which frames are averaged."""
    resolution_mm: Positive = 8.0
    """Common resolution (FWHM) that every scan is smoothed to."""
    registration: Literal["affine", "warp"] = "warp"
    """Whether a smooth warp follows the affine; see `pipeline.imaging.warp`."""


class SplitSettings(Section):
    """Shares of subjects; what remains is for training."""

    validation: Fraction = 0.12
    calibration: Fraction = 0.2
    test: Fraction = 0.25

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        held_out = self.validation + self.calibration + self.test
        if held_out >= 0.9:
            raise ValueError(
                f"validation + calibration + test is {held_out:.3g}, but must be less than 0.9 to leave "
                "enough scans for training"
            )
        return self


class PreprocessingSettings(Section):
    """What the network sees."""

    spacing_mm: Literal[2, 4, 8] = 4
    suvr_max: Positive = 4.0


class AugmentationSettings(Section):
    """Random changes of training volumes; never a left-right flip of a brain, asymmetry is evidence."""

    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    rotate_deg: Annotated[float, Field(ge=0)] = 5.0
    translate_mm: Annotated[float, Field(ge=0)] = 4.0
    scale: Annotated[float, Field(ge=0, lt=0.5)] = 0.05
    intensity_scale: Annotated[float, Field(ge=0, lt=1)] = 0.05
    intensity_shift: Annotated[float, Field(ge=0, lt=1)] = 0.02
    noise_sd: Annotated[float, Field(ge=0)] = 0.05
    blur_sigma_mm: Annotated[float, Field(ge=0)] = 2.0
    bias_field: Annotated[float, Field(ge=0, lt=1)] = 0.1
    crop_pixels: Annotated[int, Field(ge=0)] = 0
    """Images only: zeros on every side before a random crop of the original size."""
    flip: bool = False
    """Images only: left and right exchanged half of the time."""


class BatchSettings(Section):
    """New subjects who arrive together, one scan each, and what has changed by then."""

    scans: Count = 16
    prevalence: tuple[float, ...] = ()
    """Class shares of those who come; the preset's where not given."""
    spoiled: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    new_scanner: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share from a scanner that no earlier cohort has: blurred, and too bright above the cerebellum."""
    broken: Annotated[float, Field(ge=0, lt=0.8)] = 0.0
    """Share whose attenuation correction is wrong while the header says that all is well."""


class PhantomSettings(Section):
    """A synthetic cohort, see `pipeline.phantom`."""

    preset: Literal["three_class", "three_class_clinical", "five_class"] = "three_class"
    subjects: Count = 160
    scans: Count = 200
    spoiled: Annotated[float, Field(ge=0, lt=0.5)] = 0.03
    workers: Count = 2
    batches: tuple[BatchSettings, ...] = ()
    """What comes after the cohort, a batch a month; see `pipeline.phantom.write_batch`."""
    anatomy: Annotated[Literal["affine", "people"], Field(exclude_if=lambda a: a == "affine")] = "affine"
    """The atlas's own brain in heads that differ by an affine map, or people whose anatomy varies, under
    scanners that vary as well. Not written out where it is `affine`, as before it existed."""
    anatomies: Annotated[Path | None, Field(exclude_if=lambda path: path is None)] = None
    """Folder of whole-brain label volumes of real people (NIfTI, BrainCOLOR or DLMUSE numbers): they are
    painted instead of the atlas's brain, under scanners as for `people`. Not written out where not set."""

    def check_visits(self) -> None:
        """Refuse scans that cannot be spread over the subjects.

        Raises
        ------
        ConfigError
            If a subject would have none, or more than three.
        """
        most = MAX_VISITS * self.subjects
        if not self.subjects <= self.scans <= most:
            raise ConfigError(
                f"{self.subjects} subjects cannot have {self.scans} scans: each has 1 to {MAX_VISITS}",
                where="phantom.scans",
                hint=f"choose {self.subjects} to {most} scans, or other subjects",
            )
