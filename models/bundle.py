"""A stored classifier is data, never code: safetensors and JSON with checksums, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

if TYPE_CHECKING:  # a bundle is checked without torch: that takes no second
    import torch

FORMAT = "taucal-classifier"
FORMAT_VERSION = 3
"""1 holds one network, 2 several; 3 has calibrators with priors, and networks of a cross-fitting."""
DESCRIPTION = "classifier.json"
WEIGHTS = "network.safetensors"
ARRAYS = "arrays.safetensors"

Arrays = dict[str, NDArray[np.float64]]
Tensors = dict[str, "torch.Tensor"]


class BundleFormatError(ValueError):
    """A stored classifier is not whole, not ours, altered, or newer than this program."""


def write_bundle(
    folder: Path, description: dict[str, Any], weights: Tensors, arrays: Mapping[str, NDArray[Any]]
) -> Path:
    """Write a bundle beside its place and move it there; an older bundle of that name is replaced.

    Parameters
    ----------
    description : dict
        JSON-able, without NaN.

    Raises
    ------
    ValueError
        If the description cannot be written as JSON, or `folder` holds anything else than a bundle.
    """
    from safetensors.torch import save as save_tensors

    if folder.exists() and any(folder.iterdir()) and not (folder / DESCRIPTION).is_file():
        raise ValueError(f"{folder} holds other files; a bundle needs a folder of its own")
    files = {
        WEIGHTS: save_tensors({name: w.detach().cpu().contiguous() for name, w in weights.items()}),
        ARRAYS: save_arrays({name: np.ascontiguousarray(a) for name, a in arrays.items()}),
    }
    head = {"format": FORMAT, "format_version": FORMAT_VERSION, "description": description}
    head["checksums"] = {name: _sha256(content) for name, content in files.items()}
    head["sha256"] = _sha256(_canonical(head))
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".tmp-{folder.name}-"))
    try:
        new = beside / "new"
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
        text = json.dumps(head, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        (new / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(beside / "old")
        new.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def read_bundle(folder: Path) -> tuple[dict[str, Any], Tensors, Arrays]:
    """Read what `write_bundle` wrote; every byte is checked against its checksum first.

    The checksums are in the bundle itself: they reveal damage and careless edits, not forgery.

    Raises
    ------
    BundleFormatError
        If a file is missing, altered or unreadable, or the bundle was written by a newer program; the file is
        named.
    """
    from safetensors.torch import load as load_tensors

    head = _read_head(folder / DESCRIPTION)
    files = _read_files(folder, head)
    try:
        return head["description"], load_tensors(files[WEIGHTS]), load_arrays(files[ARRAYS])
    except (KeyError, SafetensorError) as error:
        raise BundleFormatError(
            f"{WEIGHTS} or {ARRAYS} cannot be read in {folder} ({error}): store or copy the bundle again"
        ) from error


def check_bundle(folder: Path) -> None:
    """Check that a bundle is whole, unaltered and of a format that this program reads, without loading it.

    Raises
    ------
    BundleFormatError
        As `read_bundle`.
    """
    _read_files(folder, _read_head(folder / DESCRIPTION))


def _read_files(folder: Path, head: dict[str, Any]) -> dict[str, bytes]:
    files = {}
    for name, expected in head["checksums"].items():
        content = _read(folder / name)
        if _sha256(content) != expected:
            raise BundleFormatError(_altered(folder / name, "checksum stored in " + DESCRIPTION))
        files[name] = content
    return files


def _read_head(path: Path) -> dict[str, Any]:
    try:
        head = json.loads(_read(path))
        kind, version = head["format"], int(head["format_version"])
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, BundleFormatError):
            raise
        raise BundleFormatError(f"{path} does not describe a classifier ({error})") from error
    if kind != FORMAT:
        raise BundleFormatError(f"{path} has the format {kind!r}, expected {FORMAT!r}")
    if version > FORMAT_VERSION:
        raise BundleFormatError(
            f"{path} has the format version {version}; this program reads {FORMAT_VERSION} and older: "
            "update taucal, or store the classifier with this version"
        )
    stored = head.pop("sha256", None)
    if stored != _sha256(_canonical(head)):
        raise BundleFormatError(_altered(path, "checksum at its end"))
    return dict(head)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleFormatError(
            f"{path.name} cannot be read in {path.parent} ({error.strerror}): store or copy the bundle again"
        ) from error


def _altered(path: Path, against: str) -> str:
    return f"{path.name} does not agree with the {against} in {path.parent}: store or copy the bundle again"


def _canonical(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
