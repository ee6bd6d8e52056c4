"""MedMNIST: small volumes and images with an official split, one ``.npz`` a set."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.preprocessing import Preprocessing
from pipeline.errors import CohortError
from pipeline.files import fingerprint, sha256_of_file
from pipeline.learning.images import labelled_images
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.split import assign_parts
from pipeline.scan import Split

_OFFICIAL = ("train", "val", "test")
_CROP_MM = 64.0
"""Side of AdrenalMNIST3D's volumes; the other 3D sets do not tell theirs."""


def load_medmnist(
    path: Path,
    class_names: tuple[str, ...] = (),
    *,
    validation: float = 0.12,
    seed: int = 0,
) -> tuple[LabelledVolumes, Split]:
    """Read a MedMNIST set of one label an image, 2D or 3D, with its official split.

    The official test part is the test part. The official validation part is the calibration part: what
    calibrates must be independent of what chose the weights. Early stopping needs scans too, so a stratified
    share of the official training part is held out as validation. The official parts were cut by patient, but
    the file does not say which images belong to one: every image counts as a subject, and this last cut
    alone may part the two adrenal glands of a patient.

    Parameters
    ----------
    path : Path
        The ``.npz``: ``{train,val,test}_images`` uint8 (N, X, Y, Z), (N, H, W) or (N, H, W, 3), and
        ``{train,val,test}_labels`` (N, 1).
    class_names : tuple of str
        In the order of the labels; the labels themselves where not given.
    validation : float
        Share of the official training part held out for early stopping.
    seed : int
        Decides which.

    Raises
    ------
    CohortError
        If the file is missing, is no such archive, has several labels an image, or a label without a name.

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
            f"Every label needs a class name, got labels {labels.min()} to {labels.max()} "
            f"and {len(names)} names",
            where=path.name,
            hint="name every class in cohort.classes, in the order of the labels, or leave it out",
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
            "The cohort's file must exist, got no such file",
            where=str(path),
            hint="see data/README.md for where to get it, and set cohort.path",
        )
    wanted = [f"{part}_{what}" for part in _OFFICIAL for what in ("images", "labels")]
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in wanted}
    except (KeyError, OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise CohortError(
            f"A MedMNIST archive must hold {', '.join(wanted)}: {error}",
            where=path.name,
            hint="download it again, see data/README.md",
        ) from error
    _check(arrays, path.name)
    return arrays


def _check(arrays: dict[str, NDArray[Any]], where: str) -> None:
    shapes = {arrays[f"{part}_images"].shape[1:] for part in _OFFICIAL}
    types = {arrays[f"{part}_images"].dtype for part in _OFFICIAL}
    if len(shapes) != 1 or types != {np.dtype(np.uint8)} or len(next(iter(shapes))) not in (2, 3):
        raise CohortError(
            "MedMNIST images must be bytes of one shape, (N, X, Y, Z), (N, H, W) or (N, H, W, 3), got "
            f"{', '.join(str(arrays[f'{part}_images'].shape) for part in _OFFICIAL)}",
            where=where,
            hint="download it again, see data/README.md",
        )
    for part in _OFFICIAL:
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        if labels.size != len(images) or not len(images):
            raise CohortError(
                f"Every image must have one label, got labels {labels.shape} for {len(images)} images in "
                f"{part}",
                where=where,
                hint="use a set of one label an image, not ChestMNIST",
            )


def _channels_first(images: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return 2D images as (N, C, H, W), None for volumes."""
    if images.ndim == 3:
        return images[:, None]
    if images.shape[3] == 3:
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return None


def _official_split(ids: tuple[str, ...], labels: NDArray[np.int64], validation: float, seed: int) -> Split:
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
