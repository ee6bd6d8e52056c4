"""Sets of picture files: a folder per class, the usual layout, and Tiny-ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.arrays import Ints
from pipeline.errors import CohortError
from pipeline.files import fingerprint
from pipeline.learning.images.image_set import WHERE_FROM, Bytes, ImageSet, chosen_names, folder_below
from pipeline.learning.images.pictures import SUFFIXES, decode_pictures, pictures_in

_TINY = "tiny-imagenet-200"
_ANNOTATIONS = "val/val_annotations.txt"
_LAYOUT = "Sort the images into train/CLASS and test/CLASS, or into CLASS alone"


def read_image_folder(
    path: Path, cache: Path, classes: tuple[str, ...] = (), size: int | None = None
) -> ImageSet:
    """Read pictures sorted into one folder per class.

    Parameters
    ----------
    path : Path
        Contains ``train/CLASS/*`` and ``test/CLASS/*``, or ``CLASS/*`` alone; PNG or JPEG. Deeper folders are
        not read.
    cache : Path
        Folder for the decoded pixels.
    classes : tuple of str
        The folders in the order of their labels; by name where not given.
    size : int or None
        Side every picture is resized to; where None, all must have one size.

    Raises
    ------
    CohortError
        If the two parts or `classes` differ in their classes, a class has no pictures, or a picture cannot
        be read or has another size.
    """
    root = folder_below(path, "")
    if not root.is_dir():
        raise CohortError("This is a file, expected a folder of images", where=str(path), hint=_LAYOUT)
    parts = [part for part in ("train", "test") if (root / part).is_dir()] or ["."]
    if parts in (["train"], ["test"]):
        other = "test" if parts == ["train"] else "train"
        raise CohortError(f"There is a folder {parts[0]} without {other}", where=str(root), hint=_LAYOUT)
    names = classes or tuple(_folders(root / parts[0]))
    found = []
    for part in parts:
        there = _folders(root / part)
        if len(there) < 2 or sorted(names) != there:
            raise CohortError(
                f"The folders are {', '.join(there) or 'missing'}. Expected at least two classes, "
                f"{', '.join(names) or 'one folder each'}",
                where=str(root / part),
                hint=f"{_LAYOUT}. cohort.classes, if given, names the same folders",
            )
        pictures = [(picture, k) for k, name in enumerate(names) for picture in _pictures(root, part, name)]
        found.append(pictures)
    pixels, labels, content = _decoded(root, [picture for part in found for picture in part], cache, size)
    ends = np.cumsum([len(part) for part in found]).tolist()
    return ImageSet(pixels, labels, names, ends[0], fingerprint(content, labels.tolist(), ends))


def _folders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _pictures(root: Path, *folder: str) -> list[str]:
    place = root.joinpath(*folder)
    found = pictures_in(place) if place.is_dir() else []
    if not found:
        raise CohortError(
            f"The class has no pictures ({', '.join(SUFFIXES)})",
            where=str(place),
            hint="Add its pictures, or unpack the set again",
        )
    return [picture.relative_to(root).as_posix() for picture in found]


def _decoded(
    root: Path, pictures: Sequence[tuple[str, int]], cache: Path, size: int | None = None
) -> tuple[Bytes, Ints, str]:
    """Return pixels, labels and a fingerprint of the pixels of (file, label) pairs."""
    pixels, content = decode_pictures(root, [name for name, _ in pictures], cache, size)
    return pixels, np.array([k for _, k in pictures], dtype=np.int64), content


def read_tiny_imagenet(path: Path, cache: Path, classes: tuple[str, ...] = ()) -> ImageSet:
    """Read Tiny-ImageNet, 200 classes of 64 x 64 pictures, from its folder or the folder around that.

    The labels of its test part were never published: as in the literature its validation part is the test
    part. Classes are in the order of their WordNet ids and have the first of their words as names.

    Parameters
    ----------
    path : Path
        ``tiny-imagenet-200``, unpacked.
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
    root = folder_below(path, _TINY)
    ids = sorted(line.strip() for line in _lines(root, "wnids.txt") if line.strip())
    train = [
        (picture, k) for k, wnid in enumerate(ids) for picture in _pictures(root, "train", wnid, "images")
    ]
    test = _annotated(root, {wnid: k for k, wnid in enumerate(ids)})
    words = dict(line.split("\t", 1) for line in _lines(root, "words.txt") if "\t" in line)
    first = [words.get(wnid, wnid).split(",")[0].strip() for wnid in ids]
    # Two classes can share their first word: both then carry their id.
    names = tuple(n if first.count(n) == 1 else f"{n} {wnid}" for n, wnid in zip(first, ids, strict=True))
    names = chosen_names(names, classes, "wnids.txt")
    pixels, labels, content = _decoded(root, [*train, *test], cache)
    return ImageSet(pixels, labels, names, len(train), fingerprint(content, labels.tolist()))


def _lines(root: Path, name: str) -> list[str]:
    try:
        return (root / name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CohortError(
            f"{name} cannot be read. {_TINY} consists of wnids.txt, words.txt, train and {_ANNOTATIONS}",
            where=str(root),
            hint=f"Unpack the archive again and leave the folders as they are; {WHERE_FROM}",
        ) from error


def _annotated(root: Path, label_of: dict[str, int]) -> list[tuple[str, int]]:
    found = []
    for number, line in enumerate(_lines(root, _ANNOTATIONS), start=1):
        if not line.strip():
            continue
        name, wnid = [*line.split("\t"), "", ""][:2]
        if wnid not in label_of or Path(name).name != name:
            raise CohortError(
                f"Line {number} is {line[:60]!r}. Expected a file name, a class of wnids.txt and a box",
                where=_ANNOTATIONS,
                hint="Unpack the archive again",
            )
        found.append((f"val/images/{name}", label_of[wnid]))
    return found
