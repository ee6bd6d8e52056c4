"""Do a step once: skip it where the same inputs and settings have left their files already."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from prefect import flow

from pipeline.files import read_json, write_json

T = TypeVar("T")


def run_once(record: Path, key: str, work: Callable[[], Iterable[Path]]) -> bool:
    """Run `work` unless `record` tells that it was done with the same key and its files still stand.

    Parameters
    ----------
    record : Path
        JSON file that remembers; written last, so a killed step is begun again.
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
    files = {str(path.resolve()): path.stat().st_size for path in work()}
    write_json(record, {"key": key, "files": files})
    return True


def is_done(record: Path, key: str) -> bool:
    """Tell whether `record` holds this key and every file it names stands with the size it had."""
    try:
        remembered = read_json(record)
    except (OSError, ValueError):
        return False
    if remembered.get("key") != key:
        return False
    return all(
        Path(name).is_file() and Path(name).stat().st_size == size
        for name, size in remembered["files"].items()
    )


def as_flow(name: str, work: Callable[[], T]) -> T:
    """Run `work` as a Prefect flow that has no parameters.

    Prefect stores parameters in its database; a folder's name can identify a patient. Without parameters
    there is nothing to leak.
    """

    @flow(name=name, validate_parameters=False)
    def run() -> T:
        return work()

    return run()
