"""Images as published, and the labelled images and split made of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.arrays import Ints
from models.preprocessing import ImagePreprocessing
from pipeline.config import SplitSettings
from pipeline.errors import CohortError
from pipeline.files import fingerprint
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.split import assign_parts
from pipeline.scan import PARTS, Split

Bytes = NDArray[np.uint8]
WHERE_FROM = "see data/README.md for where to get it"
_IMAGES_AT_ONCE = 2048


def folder_below(path: Path, name: str) -> Path:
    """Return the folder `name` in `path` if there is one, else `path` itself, which must exist.

    Raises
    ------
    CohortError
        If there is nothing at `path`.
    """
    if not path.exists():
        raise CohortError(
            "There is no such file or folder", where=str(path), hint=f"Set cohort.path; {WHERE_FROM}"
        )
    inside = path / name
    return inside if inside.is_dir() else path


def chosen_names(own: tuple[str, ...], given: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Return the class names that the study gives, or those of the data where it gives none.

    Raises
    ------
    CohortError
        If there are fewer than two classes, a name occurs twice, or the study gives another number of names.

    Examples
    --------
    >>> chosen_names(("0", "1"), ("normal", "mass"), "labels")
    ('normal', 'mass')
    """
    if len(set(own)) != len(own) or len(own) < 2:
        raise CohortError(
            f"The class names are {', '.join(own) or 'missing'}. Expected at least two different ones",
            where=where,
            hint=f"Download the data again; {WHERE_FROM}",
        )
    if given and (len(given) != len(own) or len(set(given)) != len(given)):
        raise CohortError(
            f"cohort.classes is {', '.join(given)}. Expected {len(own)} different names",
            where=where,
            hint="Name each class once in cohort.classes, or leave it out for the names of the data",
        )
    return given or own


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size with their labels and their place in the published split.

    Parameters
    ----------
    pixels : ndarray or memmap of uint8, shape (N, C, H, W)
    labels : ndarray of int64, shape (N,)
    training : int
        Number of images in the published training part; they come first, the test part follows. All of them
        where no split is published.
    content : str
        Fingerprint of pixels and labels.
    """

    pixels: Bytes
    labels: Ints
    class_names: tuple[str, ...]
    training: int
    content: str

    @property
    def image_ids(self) -> tuple[str, ...]:
        """``train-00000`` and on, then ``test-00000`` and on: file names can identify people."""
        n = len(self.labels)
        return tuple(
            f"train-{i:05d}" if i < self.training else f"test-{i - self.training:05d}" for i in range(n)
        )

    def learnable(self, settings: SplitSettings, *, seed: int, least: int) -> tuple[LabelledVolumes, Split]:
        """Return the images with their preprocessing, and the split.

        The published test part is the test part. The shares of `settings` for validation and calibration are
        shares of the training part, stratified by class; so is that for test where no test part is published.
        Every image is its own subject. Mean and standard deviation are those of the training part as split,
        before any class is made rarer.

        Parameters
        ----------
        least : int
            Fewest training images of a class that are accepted, at least 4.

        Raises
        ------
        CohortError
            If a class has too few images, or none to test on.
        """
        ids = self.image_ids
        self._check_classes(max(4, least))
        shares = {"validation": settings.validation, "calibration": settings.calibration}
        published = self.training < len(ids)
        if not published:
            shares["test"] = settings.test
        class_of = {i: str(k) for i, k in zip(ids[: self.training], self.labels.tolist(), strict=False)}
        part_of = assign_parts(class_of, shares, seed=seed) | dict.fromkeys(ids[self.training :], "test")
        parts = {part: tuple(i for i in ids if part_of[i] == part) for part in PARTS}
        split = Split(**parts, subject_of={i: i for i in ids})
        return labelled_images(ids, self.pixels, self.labels, self.class_names, split, self.content), split

    def _check_classes(self, least: int) -> None:
        for part, labels, fewest in (
            ("training", self.labels[: self.training], least),
            ("test", self.labels[self.training :], min(1, len(self.labels) - self.training)),
        ):
            counts = Counter(labels.tolist())
            few = [f"{name} has {counts[k]}" for k, name in enumerate(self.class_names) if counts[k] < fewest]
            if few:
                raise CohortError(
                    f"Some classes have fewer than {fewest} {part} images: {', '.join(few[:5])}",
                    hint="Add images, or leave the class out",
                )


def labelled_images(
    ids: tuple[str, ...],
    pixels: Bytes,
    labels: Ints,
    class_names: tuple[str, ...],
    split: Split,
    content: str,
) -> LabelledVolumes:
    """Return images with the mean and standard deviation of the channels over the training part.

    Parameters
    ----------
    ids : tuple of str, length N
    pixels : ndarray of uint8, shape (N, C, H, W)
    labels : ndarray of int64, shape (N,)
    split : Split
        Its training part gives mean and standard deviation.
    content : str
        Fingerprint of pixels and labels.

    Raises
    ------
    CohortError
        If all pixels of a channel have the same value.
    """
    training = set(split.train)
    rows = np.array([row for row, i in enumerate(ids) if i in training], dtype=np.int64)
    mean, sd = channel_statistics(pixels, rows)
    if min(sd) <= 0:
        raise CohortError("All pixels of a channel have the same value in the training part")
    channels, height, width = pixels.shape[1:]
    preprocessing = ImagePreprocessing((channels, height, width), mean, sd)
    made_of = fingerprint(content, class_names, preprocessing.to_dict())
    return LabelledVolumes(ids, ids, pixels, labels, class_names, preprocessing, content=made_of)


def channel_statistics(pixels: Bytes, rows: Ints) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel over the given rows, both in [0, 1].

    They come from counts of the 256 values, so that neither order nor number of images costs precision.

    Examples
    --------
    >>> channel_statistics(np.array([[[[0, 255]]], [[[9, 9]]]], dtype=np.uint8), np.array([0]))
    ((0.5,), (0.5,))
    """
    counts = np.zeros((pixels.shape[1], 256), dtype=np.int64)
    for start in range(0, len(rows), _IMAGES_AT_ONCE):
        block = pixels[rows[start : start + _IMAGES_AT_ONCE]]
        counts += np.stack([np.bincount(channel.ravel(), minlength=256) for channel in block.swapaxes(0, 1)])
    values = np.arange(256) / 255
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    variance = (shares * (values - mean[:, None]) ** 2).sum(axis=1)
    return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())
