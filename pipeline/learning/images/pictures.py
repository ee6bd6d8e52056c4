"""Picture files, decoded once and mapped from disk afterwards."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from pipeline.errors import CohortError
from pipeline.files import fingerprint
from pipeline.learning.images.image_set import Bytes
from pipeline.learning.row_files import tidy, write_rows

SUFFIXES = (".png", ".jpg", ".jpeg")
_GREY = ("1", "L")
_COLOUR = ("RGB", "RGBA", "P", "PA", "LA", "CMYK", "YCbCr")


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures of a folder by name, without hidden files."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    return sorted(found, key=lambda p: p.name)


def decode_pictures(
    root: Path, names: Sequence[str], cache: Path, size: int | None = None
) -> tuple[Bytes, str]:
    """Return the pixels of pictures, shape (N, C, H, W), and a fingerprint of their bytes.

    C is 1 where every picture is grey, else 3; transparency is dropped.

    Parameters
    ----------
    names : sequence of str
        Files below `root`.
    cache : Path
        Folder for the decoded pixels, one ``.npy`` for these bytes and this size.
    size : int or None
        Side of the square every picture is resized to; where None, all must have one size.

    Raises
    ------
    CohortError
        If a picture is missing, cannot be decoded, has more than 8 bits per channel or another size.
    """
    hashes = [hashlib.sha256(_bytes_of(root, name)).hexdigest() for name in names]
    made_of = fingerprint(hashes, size)
    path = cache / f"images-{made_of}.npy"
    if not path.is_file():
        shape = (len(names), *_common_shape(root, names, size))
        decoded = functools.partial(_decoded, root, channels=shape[1], size=size)
        write_rows(path, shape, np.uint8, lambda missing: ((n, decoded(names[n])) for n in missing))
    tidy(cache, path)
    return np.load(path, mmap_mode="r"), made_of


def _bytes_of(root: Path, name: str) -> bytes:
    try:
        return (root / name).read_bytes()
    except OSError as error:
        raise CohortError(
            f"The picture cannot be read: {error.strerror}", where=name, hint="Unpack the images again"
        ) from error


def _common_shape(root: Path, names: Sequence[str], size: int | None) -> tuple[int, int, int]:
    first, grey = None, True
    for name in names:
        image = _opened(root, name)
        grey = grey and image.mode in _GREY
        if first is None:
            first = image.size
        if size is None and image.size != first:
            raise CohortError(
                f"The image is {image.width} x {image.height}, but the first is {first[0]} x {first[1]}",
                where=name,
                hint="Resize the images to one size, or set cohort.image_size",
            )
    if first is None:
        raise CohortError("There are no images", where=str(root), hint="Set cohort.path to the images")
    width, height = (size, size) if size else first
    return 1 if grey else 3, height, width


def _opened(root: Path, name: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(_bytes_of(root, name)), formats=("PNG", "JPEG"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _broken(name, "is not a PNG or JPEG file") from error
    if image.mode not in (*_GREY, *_COLOUR):
        raise CohortError(
            f"The picture has the mode {image.mode}. Expected 8 bits per channel",
            where=name,
            hint="Convert it to grey or colour of 8 bits",
        )
    return image


def _decoded(root: Path, name: str, channels: int, size: int | None) -> Bytes:
    try:
        with _only_whole():
            image = _opened(root, name).convert("L" if channels == 1 else "RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise _broken(name, "is truncated or damaged") from error
    if size:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


@contextlib.contextmanager
def _only_whole() -> Iterator[None]:
    """Refuse truncated pictures: WeasyPrint, once imported, lets Pillow fill missing parts with grey."""
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def _broken(name: str, how: str) -> CohortError:
    return CohortError(
        f"The picture {how}", where=name, hint="Unpack or download the images again, or remove the file"
    )
