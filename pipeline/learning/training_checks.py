"""Refused once a training has its scans: a class without one, a network or batches that do not fit."""

from __future__ import annotations

from pipeline.config import Study, TrainingSettings
from pipeline.errors import CohortError, ConfigError
from pipeline.learning.batches import Batches
from pipeline.learning.loading import LabelledVolumes


def check_classes(training: LabelledVolumes) -> None:
    """Refuse a training part that lacks scans of a class.

    Raises
    ------
    CohortError
    """
    missing = [n for n, c in zip(training.class_names, training.class_counts, strict=True) if not c]
    if missing:
        raise CohortError(
            f"There are no scans of {', '.join(missing)}",
            where="training part of the split",
            hint="Add subjects, or leave the class out of cohort.classes",
        )


def check_dimensions(training: LabelledVolumes, study: Study) -> None:
    """Refuse a network for images where the data are volumes, or the reverse; and what only images allow.

    Raises
    ------
    ConfigError
    """
    needed, given = training.preprocessing.spatial_dims, study.network.spatial_dims
    if given != needed:
        raise ConfigError(
            f"The network has {given} dimensions, but the data have {needed}",
            where="network.spatial_dims",
            hint=f"Set it to {needed}",
        )
    if needed == 3 and (study.augmentation.flip or study.augmentation.crop_pixels):
        raise ConfigError(
            "Only images can be flipped or cropped: in a volume, side and place are evidence",
            where="augmentation",
            hint="Remove augmentation.flip and augmentation.crop_pixels",
        )


def check_ranks(batches: Batches, settings: TrainingSettings) -> None:
    """Refuse more processes than the smallest batch has scans.

    Raises
    ------
    ConfigError
    """
    if batches.smallest < batches.ranks:
        raise ConfigError(
            f"{batches.ranks} processes share a batch, but the smallest has {batches.smallest} of "
            f"{settings.batch_size} scans",
            where="training.batch_size",
            hint="Use fewer processes or larger batches",
        )
