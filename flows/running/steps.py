"""Do a step once: skip it where its files are there, made with the same inputs and settings."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from prefect import flow, tags, task
from prefect.exceptions import TerminationSignal
from prefect.settings import (
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    get_current_settings,
    temporary_settings,
)

from flows.running.lifetime import end_server_with_this_process, process_tag
from pipeline.files import read_json, write_json

T = TypeVar("T")


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


class WorkFailed(Exception):  # noqa: N818 - reads as "the work failed"
    """What Prefect stores and logs in place of an error: the name of its class alone."""


def as_flow(name: str, work: Callable[[], T]) -> T:
    """Run `work` as a Prefect flow.

    Prefect stores parameters and the text of errors in its database, and a folder's name can identify a
    patient. So the flow has no parameters, and Prefect gets the class name of an error alone; the caller gets
    the error itself. The run bears the tag of its process, by which `lifetime.end_orphans` finds it when that
    was killed.
    """
    with tags(process_tag()), _without_heartbeat():
        return _privately(flow(name=name, validate_parameters=False), work)


def as_task(name: str, work: Callable[[], T]) -> T:
    """Run `work` as a task of the flow around it, as private as `as_flow`."""
    return _privately(task(name=name), work)


@contextlib.contextmanager
def _without_heartbeat() -> Iterator[None]:
    """Run flows without Prefect's heartbeat, unless the user has set one: its end takes a second."""
    if "heartbeat_frequency" in get_current_settings().flows.model_fields_set:
        yield
    else:
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield


def _privately(decorate: Callable[[Callable[[], T]], Callable[[], T]], work: Callable[[], T]) -> T:
    caught: list[BaseException] = []

    def run() -> T:
        end_server_with_this_process()
        try:
            return work()
        except (KeyboardInterrupt, TerminationSignal):
            caught.append(KeyboardInterrupt())
            # What ended this process has often ended its server too: Prefect would wait a minute for it.
            leaving.enter_context(temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}))
            raise
        except Exception as error:  # noqa: BLE001 - raised again below, whatever it is
            caught.append(error)
            raise WorkFailed(type(error).__name__) from None

    with contextlib.ExitStack() as leaving:
        try:
            return decorate(run)()
        except (Exception, TerminationSignal):
            # Where this process is being ended, also what Prefect cannot report to its server any more.
            if caught:
                raise caught[-1] from None
            raise
