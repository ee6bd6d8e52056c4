"""Public image benchmarks as their authors publish them, read into `LabelledVolumes` with a split."""

from pipeline.learning.images.image_cohort import read_images
from pipeline.learning.images.sets import ImageSet, labelled_images

__all__ = ["ImageSet", "labelled_images", "read_images"]
