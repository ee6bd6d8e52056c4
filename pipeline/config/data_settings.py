"""Where scans come from, what is accepted of them, and what the network is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Count, Fraction, Positive, Section
from pipeline.diagnoses import DIAGNOSIS, ClassWords, classes_of
from pipeline.errors import ConfigError

PRESET_CLASSES = {
    "three_class": ("CN", "MCI", "AD"),
    "three_class_clinical": ("CN", "MCI", "AD"),
    "five_class": ("CN-", "CN+", "MCI+", "AD-typical", "AD-posterior"),
}
"""Class names of each `phantom.preset`; a test holds them equal to `pipeline.phantom.population.PRESETS`."""

MAX_VISITS = 3
"""Scans of a subject of the phantom."""


class LabelSettings(Section):
    """A table of labels, text with a header. Columns that are not named here are found by their names."""

    file: Path
    """CSV or TSV with a header."""
    scan: str | None = None
    """Column of what names a scan: its file, folder, image number, series or pseudonym."""
    subject: str | None = None
    """Column of the person, as the source or the dataset calls them."""
    session: str | None = None
    """Column of the session or visit."""
    date: str | None = None
    """Column of the day of the label; that nearest the scan counts, within `ingest.max_days_to_diagnosis`."""
    diagnosis: str | None = None
    """Column of the label itself, whatever the target is; where not named, that of `cohort.target`."""


class ReadLabelSettings(Section):
    """Whether the class that a reader gives a scan becomes its label, see `taucal read`."""

    from_reads: bool = False
    """A scan without a diagnosis takes the class about which its readers agree. It trains, and calibrates
    where the study is cross-fitted; it is never in the test part."""
    blind_only: bool = True
    """Only reads that were stored before the model's answer was shown (`report.blind_reads`); with others a
    model would learn from itself."""


class CohortSettings(Section):
    """Which labelled scans or images are learned from."""

    kind: Literal["bids", "medmnist", "cifar10", "cifar100", "tiny_imagenet", "image_folder"] = "bids"
    """BIDS dataset of scans, or a public or own set of images, see data/README.md."""
    path: Path
    """Folder of the BIDS dataset, or file or folder of the images."""
    classes: tuple[str, ...] = ()
    """Class names in the order of their labels; CN, MCI, AD for `bids`, those of the data for images."""
    merge: dict[str, tuple[str, ...]] = Field(default_factory=dict, exclude_if=lambda merge: not merge)
    """Words of a class, as `{CN: [CN, SMC], impaired: [MCI, AD]}`; takes effect without a new ingest."""
    target: Annotated[str, Field(min_length=1, exclude_if=lambda target: target == DIAGNOSIS)] = DIAGNOSIS
    """What the classes are of: the diagnosis, or another column of the cohort's table or of `labels`."""
    labels: Annotated[LabelSettings | None, Field(exclude_if=lambda labels: labels is None)] = None
    """A table of labels, which takes the place of what the source states where it has a row of the scan."""
    min_subjects_per_class: Count = 8
    """Fewest subjects of a class: each of the four parts of a split needs two."""
    image_size: Annotated[int, Field(ge=8)] | None = None
    """Side in pixels to which pictures of an `image_folder` are resized; without it all have one size."""

    @field_validator("classes", "merge", mode="before")
    @classmethod
    def _numbers_are_words(cls, given: Any) -> Any:
        """Take numbers, and the yes and no that YAML reads as true and false, for the words they are."""
        if isinstance(given, dict):
            return {_word(name): cls._numbers_are_words(words) for name, words in given.items()}
        return tuple(map(_word, given)) if isinstance(given, list | tuple) else given

    @model_validator(mode="before")
    @classmethod
    def _name_classes(cls, given: Any) -> Any:
        """Name the classes of scans where the study does not; what is malformed is left to its own check."""
        if not isinstance(given, dict) or given.get("kind", "bids") != "bids" or given.get("classes"):
            return given
        merge, target = given.get("merge") or {}, given.get("target", DIAGNOSIS)
        if not isinstance(merge, dict) or not all(
            isinstance(words, list | tuple) for words in merge.values()
        ):
            return given
        texts = {_word(name): tuple(map(_word, words)) for name, words in merge.items()}
        return {**given, "classes": classes_of((), texts, str(target).strip().lower() or DIAGNOSIS)}

    @property
    def words(self) -> ClassWords:
        """The classes, and which words belong to each."""
        return ClassWords(self.classes, self.merge, self.target)


def _word(given: Any) -> Any:
    if isinstance(given, bool):
        return "yes" if given else "no"
    return str(given) if isinstance(given, int | float) else given


class ImbalanceSettings(Section):
    """Make the training part rarer in some classes; the other parts are held out first and keep their mix."""

    ratio: Annotated[float, Field(ge=1)] = 1.0
    """Largest over smallest class; classes between follow the usual exponential tail. 1 leaves all."""


class IngestSettings(Section):
    """Where scans come from and what is accepted."""

    source: Path | None = None
    """Folder or archive (zip, tar) of scans; archives in a folder are read too."""
    more_sources: tuple[Path, ...] = ()
    """Further folders of scans, ingested with the first."""
    layout: Literal["auto", "dicom", "adni", "bids", "nifti"] = "auto"
    """How the source is organised; `auto` recognises it."""
    tracer: str = "AV1451"
    """Tracer of the study; scans of another are refused."""
    prefer: Annotated[tuple[str, ...], Field(exclude_if=lambda prefer: not prefer)] = ()
    """Words of the reconstruction that is taken where an acquisition has several, the most wanted first."""
    key_file: Path | None = None
    """Secret of the pseudonyms; outside the dataset. Made on first use where it is missing."""
    max_days_to_diagnosis: Count = 180
    """Days between scan and diagnosis, at most; a scan further from any has no diagnosis."""
    workers: Count = 2
    """Processes that convert scans."""
    runner: Literal["processes", "dask"] = "processes"
    """Processes of this machine, or the cluster of section `dask`."""
    wait: bool = False
    """Wait for an ingest that writes the dataset already, or refuse at once; a scheduled one waits."""
    prune: bool = False
    """Remove scans that came from this source alone and are not there any more, after listing them."""


class ImagingSettings(Section):
    """From an accepted scan to SUVR in template space."""

    window_start_min: Positive = 80.0
    """Minutes after injection from which frames are averaged."""
    window_end_min: Positive = 100.0
    """Minutes after injection over which frames are averaged."""
    resolution_mm: Positive = 8.0
    """Common resolution (FWHM) that every scan is smoothed to."""
    registration: Literal["affine", "warp"] = "warp"
    """Whether a smooth warp follows the affine; see `pipeline.imaging.warp`."""
    partial_volume: Annotated[bool, Field(exclude_if=lambda wanted: not wanted)] = False
    """Write regional SUVR corrected for blur beside those as read, also in reports of scans; see
    `pipeline.imaging.partial_volume`."""
    centaur_masks: Annotated[Path | None, Field(exclude_if=lambda path: path is None)] = None
    """Folder of CenTauR's masks, in which reports then measure too; see `taucal centaur fit`."""

    def processing(self) -> dict[str, Any]:
        """Return the settings that a scan's SUVR depends on, JSON-able."""
        return self.model_dump(mode="json", exclude={"centaur_masks", "partial_volume"})

    def written(self) -> dict[str, Any]:
        """Return the settings that the files of a scan depend on, JSON-able: `processing` and more."""
        return self.model_dump(mode="json", exclude={"centaur_masks"})


class SplitSettings(Section):
    """Shares of subjects; what remains is for training."""

    validation: Fraction = 0.12
    """Share on which the epoch of the weights is chosen, with `training.patience`."""
    calibration: Fraction = 0.2
    """Share that calibrates, with `calibration.scheme: split` alone."""
    test: Fraction = 0.25
    """Share that is tested on; the gate compares models on it."""

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
    """Voxel size that the network sees."""
    suvr_max: Positive = 4.0
    """SUVR that becomes 1; higher values are cut off."""


class AugmentationSettings(Section):
    """Random changes of training volumes; never a left-right flip of a brain, asymmetry is evidence."""

    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of each change, for each volume; 0 turns augmentation off."""
    rotate_deg: Annotated[float, Field(ge=0)] = 5.0
    """Largest rotation about each axis."""
    translate_mm: Annotated[float, Field(ge=0)] = 4.0
    """Largest shift along each axis."""
    scale: Annotated[float, Field(ge=0, lt=0.5)] = 0.05
    """Largest relative change of size."""
    intensity_scale: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Largest relative change of all SUVR."""
    intensity_shift: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Largest addition to all SUVR."""
    noise_sd: Annotated[float, Field(ge=0)] = 0.05
    """Standard deviation of Gaussian noise, in SUVR."""
    blur_sigma_mm: Annotated[float, Field(ge=0)] = 2.0
    """Largest sigma of a Gaussian blur."""
    bias_field: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Largest coefficient of a smooth field of brightness."""
    crop_pixels: Annotated[int, Field(ge=0)] = 0
    """Images only: zeros on every side before a random crop of the original size."""
    flip: bool = False
    """Images only: left and right exchanged half of the time."""


class BatchSettings(Section):
    """New subjects who arrive together, one scan each, and what has changed by then."""

    scans: Count = 16
    """How many arrive."""
    prevalence: tuple[float, ...] = ()
    """Class shares of those who come; the preset's where not given."""
    spoiled: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share with a defect for which ingest refuses the scan."""
    new_scanner: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share from a scanner that no earlier cohort has: blurred, and too bright above the cerebellum."""
    broken: Annotated[float, Field(ge=0, lt=0.8)] = 0.0
    """Share whose attenuation correction is wrong while the header says that all is well."""


class PhantomSettings(Section):
    """A synthetic cohort, see `pipeline.phantom`."""

    preset: Literal["three_class", "three_class_clinical", "five_class"] = "three_class"
    """The classes, and how much they overlap."""
    subjects: Count = 160
    """Number of subjects."""
    scans: Count = 200
    """Number of scans; a subject has one to three."""
    spoiled: Annotated[float, Field(ge=0, lt=0.5)] = 0.03
    """Share with a defect for which ingest refuses the scan."""
    workers: Count = 2
    """Processes that write scans."""
    batches: tuple[BatchSettings, ...] = ()
    """What comes after the cohort, a batch a month; see `pipeline.phantom.write_batch`."""
    anatomy: Annotated[Literal["affine", "people"], Field(exclude_if=lambda a: a == "affine")] = "affine"
    """The atlas's own brain in heads that differ by an affine map, or people whose anatomy varies, under
    scanners that vary as well."""
    anatomies: Annotated[Path | None, Field(exclude_if=lambda path: path is None)] = None
    """Folder of whole-brain label volumes of real people (NIfTI, BrainCOLOR or DLMUSE numbers): they are
    painted instead of the atlas's brain, under scanners as for `people`."""

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
