"""CIFAR-10 and CIFAR-100, binary version, from the folder or from the archive as downloaded."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from models.arrays import Ints
from pipeline.errors import CohortError
from pipeline.files import fingerprint
from pipeline.learning.images.image_set import WHERE_FROM, Bytes, ImageSet, chosen_names, folder_below

_SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Layout:
    """How one of the two is laid out: records of label bytes and 3,072 bytes of red, green and blue rows."""

    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    label_bytes: int
    """The class is the last of them; CIFAR-100 has its superclass before."""


LAYOUTS = {
    "cifar10": Layout(
        "cifar-10-batches-bin",
        tuple(f"data_batch_{n}.bin" for n in range(1, 6)),
        "test_batch.bin",
        "batches.meta.txt",
        1,
    ),
    "cifar100": Layout("cifar-100-binary", ("train.bin",), "test.bin", "fine_label_names.txt", 2),
}


def read_cifar(path: Path, kind: str, classes: tuple[str, ...] = ()) -> ImageSet:
    """Read CIFAR-10 or CIFAR-100 from its folder, the folder around that, or its archive.

    Parameters
    ----------
    path : Path
        ``cifar-10-batches-bin``, ``cifar-10-binary.tar.gz`` or a folder that contains the former; for
        CIFAR-100 ``cifar-100-binary`` and ``cifar-100-binary.tar.gz``. An archive is read in memory; nothing
        of it is written.
    kind : {"cifar10", "cifar100"}
    classes : tuple of str
        Other names of the classes, in the order of their labels.

    Raises
    ------
    CohortError
        If the archive cannot be read to its end, a file is missing or does not consist of whole records, or
        a label is beyond the classes.

    References
    ----------
    Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    layout = LAYOUTS[kind]
    batches = [*layout.train, layout.test]
    files = _files(path, layout.folder, [*batches, layout.names])
    lines = files[layout.names].decode("utf-8", errors="replace").splitlines()
    names = chosen_names(tuple(line.strip() for line in lines if line.strip()), classes, layout.names)
    parts = [_records(files[name], layout, name, len(names)) for name in batches]
    labels = np.concatenate([labels for labels, _ in parts])
    return ImageSet(
        pixels=np.concatenate([pixels for _, pixels in parts]),
        labels=labels,
        class_names=names,
        training=len(labels) - len(parts[-1][0]),
        content=fingerprint([hashlib.sha256(files[name]).hexdigest() for name in batches]),
    )


def _files(path: Path, folder: str, names: list[str]) -> dict[str, bytes]:
    place = folder_below(path, folder)
    if place.is_dir():
        found = {name: (place / name).read_bytes() for name in names if (place / name).is_file()}
        others = sorted(p.name for p in place.iterdir() if p.name not in names)
    else:
        found, others = _from_tar(place, names)
    missing = [name for name in names if name not in found]
    if missing:
        present = ", ".join([*sorted(found), *others][:6]) or "nothing"
        raise CohortError(
            f"{folder} lacks {', '.join(missing)}; found {present}",
            where=str(path),
            hint=f"Get the binary version, not the one for Python or MATLAB, and keep it whole; {WHERE_FROM}",
        )
    return found


def _from_tar(path: Path, names: list[str]) -> tuple[dict[str, bytes], list[str]]:
    found: dict[str, bytes] = {}
    others = []
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is None:
                    continue
                if name in names and name not in found:
                    found[name] = stream.read()
                else:
                    others.append(name)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        reason = str(error).partition("\n")[0].rstrip(":")  # tarfile lists every format it has tried
        raise CohortError(
            f"The archive cannot be read to its end ({reason})",
            where=str(path),
            hint=f"The copy is incomplete or is not a tar archive. Download it again, {WHERE_FROM}",
        ) from error
    return found, sorted(others)


def _records(content: bytes, layout: Layout, name: str, classes: int) -> tuple[Ints, Bytes]:
    size = layout.label_bytes + int(np.prod(_SHAPE))
    if not content or len(content) % size:
        raise CohortError(
            f"The file has {len(content)} bytes, which is not a multiple of a record's {size}",
            where=name,
            hint=f"Unpack or download the archive again, {WHERE_FROM}",
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, size)
    labels = records[:, layout.label_bytes - 1].astype(np.int64)
    beyond = np.flatnonzero(labels >= classes)
    if len(beyond):
        raise CohortError(
            f"Record {beyond[0] + 1} of {len(labels)} has the label {labels[beyond[0]]}, but {layout.names} "
            f"names {classes} classes",
            where=name,
            hint=f"Check that cohort.kind fits the files, or download them again, {WHERE_FROM}",
        )
    return labels, records[:, layout.label_bytes :].reshape(-1, *_SHAPE)
