"""Which reader belongs to which kind of cohort."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import CohortSettings, SplitSettings
from pipeline.learning.images.cifar import read_cifar
from pipeline.learning.images.folders import read_image_folder
from pipeline.learning.images.sets import ImageSet
from pipeline.learning.images.tiny_imagenet import read_tiny_imagenet
from pipeline.learning.loading import LabelledVolumes
from pipeline.scan import Split


def read_images(
    cohort: CohortSettings, split: SplitSettings, *, seed: int, cache: Path
) -> tuple[LabelledVolumes, Split]:
    """Read the images of a cohort of kind cifar10, cifar100, tiny_imagenet or image_folder.

    Parameters
    ----------
    cohort : CohortSettings
    split : SplitSettings
        See `ImageSet.learnable`.
    seed : int
        Decides who is held out.
    cache : Path
        Folder for pixels decoded from picture files.

    Raises
    ------
    CohortError
        If something is missing, broken or of another kind.
    """
    found = _read(cohort, cache)
    return found.learnable(split, seed=seed, least=cohort.min_subjects_per_class)


def _read(cohort: CohortSettings, cache: Path) -> ImageSet:
    if cohort.kind == "tiny_imagenet":
        return read_tiny_imagenet(cohort.path, cache, cohort.classes)
    if cohort.kind == "image_folder":
        return read_image_folder(cohort.path, cache, cohort.classes, cohort.image_size)
    return read_cifar(cohort.path, cohort.kind, cohort.classes)
