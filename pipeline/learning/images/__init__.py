"""Public image benchmarks as their authors publish them, read into `LabelledVolumes` with a split.

torchvision's readers are not used: that of CIFAR unpickles downloaded files and needs them unpacked, that of
folders converts grey to colour and reads truncated pictures where another library allows Pillow to.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.config import CohortSettings, SplitSettings
from pipeline.learning.images.cifar import read_cifar
from pipeline.learning.images.image_set import ImageSet, labelled_images
from pipeline.learning.images.picture_folders import read_image_folder, read_tiny_imagenet
from pipeline.learning.loading import LabelledVolumes
from pipeline.scan import Split

__all__ = ["ImageSet", "labelled_images", "read_images"]


def read_images(
    cohort: CohortSettings, split: SplitSettings, *, seed: int, cache: Path
) -> tuple[LabelledVolumes, Split]:
    """Read the images of a cohort of kind cifar10, cifar100, tiny_imagenet or image_folder.

    Parameters
    ----------
    split : SplitSettings
        See `ImageSet.learnable`.
    seed : int
        Decides who is held out.
    cache : Path
        Folder for pixels decoded from picture files.

    Raises
    ------
    CohortError
        If a file is missing or broken, or does not have the format of the kind.
    """
    if cohort.kind == "tiny_imagenet":
        images = read_tiny_imagenet(cohort.path, cache, cohort.classes)
    elif cohort.kind == "image_folder":
        images = read_image_folder(cohort.path, cache, cohort.classes, cohort.image_size)
    else:
        images = read_cifar(cohort.path, cohort.kind, cohort.classes)
    return images.learnable(split, seed=seed, least=cohort.min_subjects_per_class)
