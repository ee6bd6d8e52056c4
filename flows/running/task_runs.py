"""Steps of a flow as Prefect shows them: tasks with names, the shared log, artifacts.

Outside of a flow run, as in a command where no server records it, a step is a plain function and nothing is
logged. Only what may be shared goes this way: pseudonyms, numbers, names of classes and models.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, cast

from prefect import State, get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext, TagsContext
from prefect.exceptions import CancelledRun
from prefect.utilities.annotations import quote

from flows.running.console import Tick, progress, warn
from flows.running.lifetime import is_process_tag
from pipeline.errors import InputError
from pipeline.tracking import STUDY_REPORT, Store, reports_experiment, runs_page

_MOVE_EVERY_SECONDS = 2.0
P = ParamSpec("P")
T = TypeVar("T")


class WorkFailed(Exception):  # noqa: N818 - reads as "the work failed"
    """What Prefect stores and logs in place of an error: the name of its class alone."""

    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__)
        self.error = error


@contextlib.contextmanager
def privately() -> Iterator[None]:
    """Let an error leave the block as `WorkFailed`."""
    try:
        yield
    except WorkFailed:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is
        raise WorkFailed(error) from None


def in_flow_run() -> bool:
    """Whether this thread works for a flow run that Prefect records."""
    return FlowRunContext.get() is not None


def step(title: str, *, retries: int = 0) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that makes a function a Prefect task wherever a flow run calls it.

    Parameters
    ----------
    title : str
        Name of the task run; may hold arguments of the function in braces.
    retries : int
        How often it is tried again, ten seconds later; not where its input is wrong.
    """

    def decorate(work: Callable[P, T]) -> Callable[P, T]:
        plain = re.sub(r"\s*\{.*", "", title)

        @functools.wraps(work)
        def run(*given: P.args, **named: P.kwargs) -> T:
            if not in_flow_run():
                return work(*given, **named)
            bound = inspect.signature(work).bind(*given, **named)
            bound.apply_defaults()
            once = Attempt(functools.partial(work, *given, **named))

            @functools.wraps(work)
            def private(*_given: P.args, **_named: P.kwargs) -> T:
                with privately():
                    return once.tried()

            of_prefect = task(
                name=plain,
                task_run_name=title.format(**bound.arguments).replace("{", ""),
                retries=retries,
                retry_delay_seconds=10,
                retry_condition_fn=_may_help,
            )(private)
            # Quoted: Prefect would look for futures in every array and every scan.
            quoted = {name: quote(value) for name, value in bound.arguments.items()}
            try:
                with _without_tags_of_processes():
                    return cast(T, of_prefect(**quoted))  # type: ignore[call-overload]
            except WorkFailed as failed:
                raise failed.error from None
            except CancelledRun:
                raise
            except Exception as error:  # noqa: BLE001 - Prefect's own
                warn(f"Prefect cannot show the step {plain!r} ({type(error).__name__}); it goes on.")
                return once.whatever_prefect_says()

        return run

    return decorate


class Attempt(Generic[T]):
    """What a step or a door did, kept for the case that Prefect fails before it or after it.

    Parameters
    ----------
    work : callable
        What it does.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._results: list[T] = []
        self._error: Exception | None = None

    def tried(self) -> T:
        """Do the work."""
        self._error = None
        try:
            self._results = [self._work()]
        except Exception as error:
            self._error = error
            raise
        return self._results[0]

    def whatever_prefect_says(self) -> T:
        """Return the result of the work, which is done now unless it was before."""
        if self._error is not None:
            raise self._error
        return self._results[0] if self._results else self.tried()


@contextlib.contextmanager
def _without_tags_of_processes() -> Iterator[None]:
    """Start task runs without the tag by which a killed process is known.

    Only the flow run needs it. For every tag of a task run Prefect asks its server for a limit, through a
    connection that stays with the first server of a process.
    """
    with TagsContext(current_tags={tag for tag in TagsContext.get().current_tags if not is_process_tag(tag)}):
        yield


def _may_help(_task: object, _run: object, state: State[Any]) -> bool:
    try:
        state.result(raise_on_failure=True)
    except WorkFailed as failed:
        return not isinstance(failed.error, InputError)
    except Exception:  # noqa: BLE001 - Prefect's own
        return True
    return False


def log_shared(sentence: str) -> None:
    """Write a sentence to the log of the flow run in Prefect. It names nobody: no path, no patient."""
    if in_flow_run():
        get_run_logger().info(sentence)


def show_rows(key: str, rows: Sequence[Mapping[str, object]], description: str) -> None:
    """Add a table to the flow run in Prefect."""
    if in_flow_run() and rows:
        with never_a_reason_to_fail():
            create_table_artifact([dict(row) for row in rows], key=key, description=description)


def show_text(key: str, markdown: str, description: str) -> None:
    """Add a text in Markdown, with links, to the flow run in Prefect."""
    if in_flow_run():
        with never_a_reason_to_fail():
            create_markdown_artifact(markdown, key=key, description=description)


@contextlib.contextmanager
def shared_progress(title: str) -> Iterator[Tick]:
    """As `console.progress`, and the share that is done is an artifact of the flow run in Prefect."""
    with progress(title) as tick:
        if not in_flow_run():
            yield tick
            return
        shown = _ProgressArtifact(title)

        def both(done: int, total: int, note: str = "") -> None:
            tick(done, total, note)
            shown.update(done, total)

        yield both


class _ProgressArtifact:
    """A bar in Prefect, moved at most every other second; the last move always."""

    def __init__(self, title: str) -> None:
        self._id, self._moved = None, 0.0
        with never_a_reason_to_fail():
            made = create_progress_artifact(0.0, key=f"progress-{title}", description=f"Progress of {title}")
            self._id = cast(Any, made)

    def update(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._id is None or not total or (done < total and now - self._moved < _MOVE_EVERY_SECONDS):
            return
        self._moved = now
        with never_a_reason_to_fail():
            update_progress_artifact(self._id, 100 * done / total)


MLFLOW = "TAUCAL_MLFLOW_URL"
"""Environment variable with the address of MLflow's pages, where `taucal serve` has started them."""


def run_in_mlflow(
    experiment: str, run_id: str, version: int | None = None, report: str = f"{STUDY_REPORT}/study.html"
) -> str:
    """Return where a run, its version and its report are in MLflow, in Markdown; linked where possible."""
    base = os.environ.get(MLFLOW)
    of_version = "" if version is None else f", model version {version}"
    if not base:
        return f"MLflow run `{run_id}`{of_version}. The report is its artifact `{report}`."
    run = f"{base}/#/experiments/{experiment}/runs/{run_id}"
    links = f"[report]({run}/artifacts/{report}), [all runs]({base}/{runs_page(experiment)})"
    return f"MLflow run [{run_id}]({run}){of_version}: {links}."


def answers_in_mlflow(store: Store) -> str:
    """Return where the recorded answers are in MLflow, in Markdown; a link where its pages are served."""
    base, name = os.environ.get(MLFLOW), f"{store.experiment} reports"
    if not base or store.is_new():
        return f"Reports and predictions: experiment `{name}` in MLflow."
    return f"[Reports and predictions in MLflow]({base}/#/experiments/{reports_experiment(store)}/traces)"


def never_a_reason_to_fail() -> contextlib.AbstractContextManager[None]:
    """Return a block that an error of Prefect leaves: what is shown of a job never stops it."""
    return contextlib.suppress(Exception)


def _shareable(record: logging.LogRecord) -> bool:
    """Take the traceback out of what Prefect logs: its lines name folders."""
    record.exc_info = record.exc_text = None
    return True


# On a busy machine it counts, at the end of a command, what it has not sent yet; and then sends it.
logging.getLogger("EventsWorker").setLevel(logging.ERROR)
for _name in ("prefect.flow_runs", "prefect.task_runs"):
    _logger = logging.getLogger(_name)
    _logger.setLevel(logging.INFO)
    _logger.addFilter(_shareable)
    _logger.propagate = False  # the console has its own sentences
