"""Do a step once: skip it where the same inputs and settings have left their files already."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from prefect import flow, tags, task
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, get_current_settings, temporary_settings

from flows.running.ephemeral import end_server_with_this_process
from flows.running.orphans import process_tag
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


def is_done(record: Path, key: str, root: Path = Path()) -> bool:
    """Tell whether `record` holds this key and every file it names stands with the size it had.

    Names that are not absolute count from `root`.
    """
    try:
        remembered = read_json(record)
    except (OSError, ValueError):
        return False
    if remembered.get("key") != key:
        return False
    return all(
        (root / name).is_file() and (root / name).stat().st_size == size
        for name, size in remembered["files"].items()
    )


class WorkFailed(Exception):  # noqa: N818 - what Prefect is told instead of the error
    """Stands in Prefect's database and logs for an error, of which it tells the kind only."""


def as_flow(name: str, work: Callable[[], T]) -> T:
    """Run `work` as a Prefect flow.

    Prefect stores parameters and the text of errors in its database, and a folder's name can identify a
    patient. So the flow has no parameters, and an error reaches Prefect by its kind alone; the caller gets it
    whole. The run bears the tag of its process, by which `flows.running.orphans` finds it when that
    was killed.
    """
    with tags(process_tag()), _without_heartbeat():
        return _kept_private(flow(name=name, validate_parameters=False), work)


def as_task(name: str, work: Callable[[], T]) -> T:
    """Run `work` as a task of the flow around it, as private as `as_flow`."""
    return _kept_private(task(name=name), work)


@contextlib.contextmanager
def _without_heartbeat() -> Iterator[None]:
    """Run flows without Prefect's sign of life, unless somebody has set one: its end takes a second."""
    if "heartbeat_frequency" in get_current_settings().flows.model_fields_set:
        yield
    else:
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield


def _kept_private(decorate: Callable[[Callable[[], T]], Callable[[], T]], work: Callable[[], T]) -> T:
    caught: list[Exception] = []

    def run() -> T:
        end_server_with_this_process()
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - raised again below, whatever it is
            caught.append(error)
            raise WorkFailed(type(error).__name__) from None

    try:
        return decorate(run)()
    except WorkFailed:
        raise caught[-1] from None
