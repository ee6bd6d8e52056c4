"""MedMNIST: small volumes and images with an official split, one ``.npz`` per set."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.arrays import Ints
from models.preprocessing import Preprocessing
from pipeline.errors import CohortError
from pipeline.files import fingerprint, sha256_of_file
from pipeline.learning.images import labelled_images
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.split import assign_parts
from pipeline.scan import Split

_OFFICIAL = ("train", "val", "test")
_CROP_MM = 64.0
"""Side of AdrenalMNIST3D's volumes; the other 3D sets do not state theirs."""


def load_medmnist(
    path: Path,
    class_names: tuple[str, ...] = (),
    *,
    validation: float = 0.12,
    seed: int = 0,
) -> tuple[LabelledVolumes, Split]:
    """Read a MedMNIST set with one label per image, 2D or 3D, with its official split.

    The official test part is the test part. The official validation part is the calibration part: calibration
    data must be independent of those that chose the weights. For early stopping a stratified share of the
    official training part is held out as validation. The official parts were cut by patient, but the file
    does not state which images belong to one: every image counts as a subject, and only this last cut may
    separate the two adrenal glands of a patient.

    Parameters
    ----------
    path : Path
        The ``.npz``: ``{train,val,test}_images`` uint8 (N, X, Y, Z), (N, H, W) or (N, H, W, 3), and
        ``{train,val,test}_labels`` (N, 1).
    class_names : tuple of str
        In the order of the labels; by default the labels themselves.
    validation : float
        Share of the official training part held out for early stopping.
    seed : int
        Decides which.

    Raises
    ------
    CohortError
        If the file is missing or not such an archive, an image has several labels, or a label has no name.

    References
    ----------
    Yang et al., MedMNIST v2, Scientific Data 10, 41 (2023).
    """
    arrays = _read(path)
    counts = {part: len(arrays[f"{part}_images"]) for part in _OFFICIAL}
    images = np.concatenate([arrays[f"{part}_images"] for part in _OFFICIAL])
    labels = np.concatenate([arrays[f"{part}_labels"] for part in _OFFICIAL]).reshape(-1).astype(np.int64)
    names = class_names or tuple(str(k) for k in range(labels.max() + 1))
    if labels.min() < 0 or labels.max() >= len(names):
        raise CohortError(
            f"There are labels {labels.min()} to {labels.max()}, but {len(names)} class names",
            where=path.name,
            hint="Name every class in cohort.classes, in the order of the labels, or leave it out",
        )
    ids = tuple(f"{part}-{n:04d}" for part in _OFFICIAL for n in range(counts[part]))
    split = _official_split(ids, labels, validation, seed)
    content = fingerprint(sha256_of_file(path), names)
    channels = _channels_first(images)
    if channels is not None:
        return labelled_images(ids, channels, labels, names, split, content), split
    spacing = _CROP_MM / images.shape[1]
    volumes = LabelledVolumes(
        ids,
        ids,
        images.astype(np.float32) / np.float32(255),
        labels,
        names,
        Preprocessing(spacing, suvr_max=1.0, grid_shape=images.shape[1:], grid_spacing_mm=spacing),
        content=content,
    )
    return volumes, split


def _read(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise CohortError(
            "There is no such file",
            where=str(path),
            hint="Set cohort.path; see data/README.md for where to get it",
        )
    names = [f"{part}_{what}" for part in _OFFICIAL for what in ("images", "labels")]
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in names}
    except (KeyError, OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise CohortError(
            f"This is not a MedMNIST archive of {', '.join(names)} ({str(error).partition('.')[0]})",
            where=path.name,
            hint="Download it again, see data/README.md",
        ) from error
    _check(arrays, path.name)
    return arrays


def _check(arrays: dict[str, NDArray[Any]], where: str) -> None:
    images = [f"{part}_images" for part in _OFFICIAL]
    shapes, types = {arrays[n].shape[1:] for n in images}, {arrays[n].dtype for n in images}
    if len(shapes) != 1 or types != {np.dtype(np.uint8)} or len(next(iter(shapes))) not in (2, 3):
        raise CohortError(
            f"The images are {', '.join(f'{arrays[n].dtype} {arrays[n].shape}' for n in images)}. "
            "Expected uint8 of one shape, (N, X, Y, Z), (N, H, W) or (N, H, W, 3)",
            where=where,
            hint="Download it again, see data/README.md",
        )
    for part in _OFFICIAL:
        number, labels = len(arrays[f"{part}_images"]), arrays[f"{part}_labels"]
        if labels.size != number or not number:
            raise CohortError(
                f"The part {part} has labels of shape {labels.shape} for {number} images. "
                "Expected one per image",
                where=where,
                hint="Use a set with one label per image, unlike ChestMNIST",
            )


def _channels_first(images: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return 2D images as (N, C, H, W), None for volumes."""
    if images.ndim == 3:
        return images[:, None]
    if images.shape[3] == 3:
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return None


def _official_split(ids: tuple[str, ...], labels: Ints, validation: float, seed: int) -> Split:
    official = {part: tuple(i for i in ids if i.startswith(part)) for part in _OFFICIAL}
    class_of = {i: str(k) for i, k in zip(ids, labels, strict=True) if i.startswith("train")}
    held_out = assign_parts(class_of, {"validation": validation}, seed=seed)
    return Split(
        train=tuple(i for i in official["train"] if held_out[i] == "train"),
        validation=tuple(i for i in official["train"] if held_out[i] == "validation"),
        calibration=official["val"],
        test=official["test"],
        subject_of={i: i for i in ids},
    )
