"""Tiny-ImageNet: 200 classes of 64 x 64 pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import CohortError
from pipeline.files import fingerprint
from pipeline.learning.images.archive import WHERE_FROM, folder_below
from pipeline.learning.images.naming import named
from pipeline.learning.images.pictures import decode_pictures, pictures_in
from pipeline.learning.images.sets import ImageSet

_FOLDER = "tiny-imagenet-200"
_ANNOTATIONS = "val/val_annotations.txt"


def read_tiny_imagenet(path: Path, cache: Path, classes: tuple[str, ...] = ()) -> ImageSet:
    """Read Tiny-ImageNet from its unpacked folder or the folder around that.

    The labels of its test part were never published: as in the literature its validation part is the test
    part. Classes are in the order of their WordNet ids, and called by the first of their words.

    Parameters
    ----------
    path : Path
        ``tiny-imagenet-200``.
    cache : Path
        Folder for the decoded pixels.
    classes : tuple of str
        Other names of the classes, in the order of their WordNet ids.

    Raises
    ------
    CohortError
        If a file is missing, a class has no pictures, or an annotation names another class.

    References
    ----------
    Le & Yang, Tiny ImageNet Visual Recognition Challenge, Stanford CS231N, 2015.
    """
    root = folder_below(path, _FOLDER)
    ids = sorted(line.strip() for line in _lines(root, "wnids.txt") if line.strip())
    label_of = {wnid: k for k, wnid in enumerate(ids)}
    train = [(name, label_of[wnid]) for wnid in ids for name in _training_pictures(root, wnid)]
    test = _annotated(root, label_of)
    pixels, content = decode_pictures(root, [name for name, _ in (*train, *test)], cache)
    labels = np.array([k for _, k in (*train, *test)], dtype=np.int64)
    return ImageSet(
        pixels,
        labels,
        named(_names(root, ids), classes, "wnids.txt"),
        training=len(train),
        content=fingerprint(content, labels.tolist()),
    )


def _lines(root: Path, name: str) -> list[str]:
    try:
        return (root / name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CohortError(
            f"{_FOLDER} must hold wnids.txt, words.txt, train and {_ANNOTATIONS}, {name} cannot be read",
            where=str(root),
            hint=f"unpack the archive again and leave the folders as they are; {WHERE_FROM}",
        ) from error


def _training_pictures(root: Path, wnid: str) -> list[str]:
    folder = root / "train" / wnid / "images"
    found = pictures_in(folder) if folder.is_dir() else []
    if not found:
        raise CohortError(
            "Every class of wnids.txt must have training pictures, got none",
            where=f"train/{wnid}/images",
            hint="unpack the archive again",
        )
    return [picture.relative_to(root).as_posix() for picture in found]


def _annotated(root: Path, label_of: dict[str, int]) -> list[tuple[str, int]]:
    found = []
    for number, line in enumerate(_lines(root, _ANNOTATIONS), start=1):
        if not line.strip():
            continue
        name, wnid = [*line.split("\t"), "", ""][:2]
        if wnid not in label_of or Path(name).name != name:
            raise CohortError(
                f"An annotation must be a file name, a class of wnids.txt and a box, got {line[:60]!r} in "
                f"line {number}",
                where=_ANNOTATIONS,
                hint="unpack the archive again",
            )
        found.append((f"val/images/{name}", label_of[wnid]))
    return found


def _names(root: Path, ids: list[str]) -> tuple[str, ...]:
    words = dict(line.split("\t", 1) for line in _lines(root, "words.txt") if "\t" in line)
    names = [words.get(wnid, wnid).split(",")[0].strip() for wnid in ids]
    # Two classes can share their first word: both then carry their id.
    return tuple(
        name if names.count(name) == 1 else f"{name} {wnid}" for name, wnid in zip(names, ids, strict=True)
    )
