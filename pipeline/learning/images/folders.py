"""A folder a class: the layout most other image sets come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import CohortError
from pipeline.files import fingerprint
from pipeline.learning.images.archive import folder_below
from pipeline.learning.images.pictures import SUFFIXES, decode_pictures, pictures_in
from pipeline.learning.images.sets import ImageSet


def read_image_folder(
    path: Path, cache: Path, classes: tuple[str, ...] = (), size: int | None = None
) -> ImageSet:
    """Read pictures sorted into a folder a class.

    Parameters
    ----------
    path : Path
        Holds ``train/CLASS/*`` and ``test/CLASS/*``, or ``CLASS/*`` alone; PNG or JPEG. Deeper folders are
        not looked into.
    cache : Path
        Folder for the decoded pixels.
    classes : tuple of str
        The folders in the order of their labels; by name where not given.
    size : int or None
        Side every picture is resized to; where None, all must have one size.

    Raises
    ------
    CohortError
        If the two parts or `classes` do not hold the same classes, a class has no pictures, or a picture
        cannot be read or has another size.
    """
    root = folder_below(path, "")
    if not root.is_dir():
        raise CohortError("A cohort of images must be a folder, got a file", where=str(path), hint=_MEND)
    parts = _parts(root)
    names = classes or tuple(_classes_in(root / parts[0]))
    found: list[tuple[str, int]] = []
    ends = []
    for part in parts:
        _check_folders(root / part, names)
        for label, name in enumerate(names):
            found += [(p.relative_to(root).as_posix(), label) for p in _pictures(root / part / name)]
        ends.append(len(found))
    pixels, content = decode_pictures(root, [name for name, _ in found], cache, size)
    labels = np.array([k for _, k in found], dtype=np.int64)
    return ImageSet(pixels, labels, names, ends[0], fingerprint(content, labels.tolist(), ends))


_MEND = "sort the images into train/CLASS and test/CLASS, or into CLASS alone"


def _parts(root: Path) -> tuple[str, ...]:
    there = tuple(part for part in ("train", "test") if (root / part).is_dir())
    if len(there) == 1:
        raise CohortError(
            f"A folder with train must have test beside it and the other way round, got {there[0]} alone",
            where=str(root),
            hint=_MEND,
        )
    return there or (".",)


def _classes_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _check_folders(folder: Path, names: tuple[str, ...]) -> None:
    there = _classes_in(folder)
    if len(there) < 2 or set(there) != set(names) or len(set(names)) != len(names):
        raise CohortError(
            f"The folders must be those of at least two classes, {', '.join(names) or 'a folder each'}; got "
            f"{', '.join(there) or 'none'}",
            where=str(folder),
            hint=f"{_MEND}; cohort.classes, if given, names the same folders",
        )


def _pictures(folder: Path) -> list[Path]:
    found = pictures_in(folder)
    if not found:
        raise CohortError(
            f"Every class must have pictures ({', '.join(SUFFIXES)}), got none",
            where=str(folder),
            hint="add some, or remove the folder",
        )
    return found
