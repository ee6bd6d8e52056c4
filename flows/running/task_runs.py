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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from prefect import State, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.states import Completed, Failed, Running
from prefect.utilities.annotations import quote

from pipeline.errors import InputError

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
        @functools.wraps(work)
        def private(*given: P.args, **named: P.kwargs) -> T:
            with privately():
                return work(*given, **named)

        plain = re.sub(r"\s*\{.*", "", title)
        of_prefect = task(name=plain, retries=retries, retry_delay_seconds=10, retry_condition_fn=_may_help)(
            private
        )

        @functools.wraps(work)
        def run(*given: P.args, **named: P.kwargs) -> T:
            if not in_flow_run():
                return work(*given, **named)
            bound = inspect.signature(work).bind(*given, **named)
            bound.apply_defaults()
            mine = of_prefect.with_options(task_run_name=title.format(**bound.arguments).replace("{", ""))
            # Quoted: Prefect would look for futures in every array and every scan.
            quoted = {name: quote(value) for name, value in bound.arguments.items()}
            try:
                return cast(T, mine(**quoted))  # type: ignore[call-overload]
            except WorkFailed as failed:
                raise failed.error from None

        return run

    return decorate


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
        create_table_artifact([dict(row) for row in rows], key=key, description=description)


def show_text(key: str, markdown: str, description: str) -> None:
    """Add a text in Markdown, with links, to the flow run in Prefect."""
    if in_flow_run():
        create_markdown_artifact(markdown, key=key, description=description)


MLFLOW = "TAUCAL_MLFLOW_URL"
"""Environment variable with the address of MLflow's pages, where `taucal serve` has started them."""


def run_in_mlflow(experiment: str, run_id: str, version: int | None = None) -> str:
    """Return where a run and its version are in MLflow, in Markdown; a link where its pages are served."""
    base = os.environ.get(MLFLOW)
    name = f"[{run_id}]({base}/#/experiments/{experiment}/runs/{run_id})" if base else f"`{run_id}`"
    of_version = "" if version is None else f", model version {version}"
    return f"MLflow run {name}{of_version}. Study report and model card are among its artifacts."


class JobRuns:
    """Jobs that run in other processes, as task runs of the flow run: started, ended, failed.

    Parameters
    ----------
    titles : sequence of str
        Of the task runs.
    jobs : int
        How many there are.
    """

    def __init__(self, titles: Sequence[str], jobs: int) -> None:
        context = FlowRunContext.get()
        run = None if context is None else context.flow_run
        self._flow_run = None if run is None else run.id
        self._titles = titles
        self._size = -(-jobs // max(1, len(titles)))
        self._left = [min(self._size, jobs - n * self._size) for n in range(len(titles))]
        self._failed: dict[int, str] = {}
        self._runs: dict[int, Any] = {}

    def started(self, *jobs: int) -> None:
        """Report that jobs run."""
        for group in {job // self._size for job in jobs} - self._runs.keys():
            if self._flow_run is None:
                return
            title = self._titles[group]
            of_prefect = task(name=re.sub(r" \d.*", "", title))(lambda: None)
            with _never_a_reason_to_fail(), get_client(sync_client=True) as client:
                made = client.create_task_run(of_prefect, self._flow_run, dynamic_key=title, name=title)
                self._runs[group] = made.id
                client.set_task_run_state(made.id, Running(), force=True)

    def ended(self, *jobs: int, error: Exception | None = None) -> None:
        """Report that jobs have ended, and the class of their error; a task run ends with its last job."""
        for group in (job // self._size for job in jobs):
            self._left[group] -= 1
            if error is not None:
                self._failed[group] = type(error).__name__
            if self._left[group] or group not in self._runs:
                continue
            failed = self._failed.get(group)
            state: State[Any] = Completed() if failed is None else Failed(message=failed)
            with _never_a_reason_to_fail(), get_client(sync_client=True) as client:
                client.set_task_run_state(self._runs[group], state, force=True)


def _never_a_reason_to_fail() -> contextlib.AbstractContextManager[None]:
    """Return a block that an error of Prefect leaves: what is shown of a job never stops it."""
    return contextlib.suppress(Exception)


def _shareable(record: logging.LogRecord) -> bool:
    """Take the traceback out of what Prefect logs: its lines name folders."""
    record.exc_info = record.exc_text = None
    return True


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    _logger = logging.getLogger(_name)
    _logger.setLevel(logging.INFO)
    _logger.addFilter(_shareable)
    _logger.propagate = False  # the console has its own sentences
