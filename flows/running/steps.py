"""Do a step once: skip it where its files are there, made with the same inputs and settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.files import read_json, write_json


def run_once(record: Path, key: str, work: Callable[[], Iterable[Path]]) -> bool:
    """Run `work` unless `record` shows that it was done with the same key and its files have their sizes.

    The record names files relative to its own folder: a study may be moved, copied or renamed as a whole.

    Parameters
    ----------
    record : Path
        JSON file, written last, so that a killed step is begun again.
    key : str
        Fingerprint of everything the result depends on.
    work : callable
        Does the step; returns the files it wrote, below the record's folder or elsewhere.

    Returns
    -------
    bool
        Whether the work was done now.
    """
    if is_done(record, key):
        return False
    folder = record.parent.resolve()
    files = {os.path.relpath(path.resolve(), folder): path.stat().st_size for path in work()}
    write_json(record, {"key": key, "files": files})
    return True


def is_done(record: Path, key: str, root: Path | None = None) -> bool:
    """Return whether `record` holds this key and every file it names has the size it had.

    Names are relative to `root`, or to the record's folder; older records hold absolute ones.
    """
    try:
        stored = read_json(record)
    except (OSError, ValueError):
        return False
    if stored.get("key") != key:
        return False
    paths = {(root or record.parent) / name: size for name, size in stored["files"].items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())
