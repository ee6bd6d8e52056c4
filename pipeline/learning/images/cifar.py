"""CIFAR-10 and CIFAR-100, binary version."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CohortError
from pipeline.files import fingerprint
from pipeline.learning.images.archive import WHERE_FROM, read_members
from pipeline.learning.images.naming import named
from pipeline.learning.images.sets import ImageSet

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
        ``cifar-10-batches-bin``, ``cifar-10-binary.tar.gz`` or a folder that holds the former; for CIFAR-100
        ``cifar-100-binary`` and ``cifar-100-binary.tar.gz``.
    kind : {"cifar10", "cifar100"}
    classes : tuple of str
        Other names of the classes, in the order of their labels.

    Raises
    ------
    CohortError
        If a file is missing, does not consist of whole records, or holds a label beyond the classes.

    References
    ----------
    Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    layout = LAYOUTS[kind]
    files = read_members(path, layout.folder, [*layout.train, layout.test, layout.names])
    lines = files[layout.names].decode("utf-8", errors="replace").splitlines()
    names = named(tuple(line.strip() for line in lines if line.strip()), classes, layout.names)
    parts = [_records(files[name], layout, name, len(names)) for name in (*layout.train, layout.test)]
    labels = np.concatenate([labels for labels, _ in parts])
    return ImageSet(
        pixels=np.concatenate([pixels for _, pixels in parts]),
        labels=labels,
        class_names=names,
        training=len(labels) - len(parts[-1][0]),
        content=fingerprint([hashlib.sha256(files[n]).hexdigest() for n in (*layout.train, layout.test)]),
    )


def _records(
    content: bytes, layout: Layout, name: str, classes: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    size = layout.label_bytes + int(np.prod(_SHAPE))
    if not content or len(content) % size:
        raise CohortError(
            f"A batch must consist of records of {size} bytes, got {len(content)} bytes",
            where=name,
            hint=f"unpack the archive again or download it again, {WHERE_FROM}",
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, size)
    labels = records[:, layout.label_bytes - 1].astype(np.int64)
    beyond = np.flatnonzero(labels >= classes)
    if len(beyond):
        raise CohortError(
            f"A label must be one of the {classes} classes of {layout.names}, got {labels[beyond[0]]} in "
            f"record {beyond[0] + 1} of {len(labels)}",
            where=name,
            hint=f"see that cohort.kind is that of the files, or download them again, {WHERE_FROM}",
        )
    return labels, records[:, layout.label_bytes :].reshape(-1, *_SHAPE)
