"""Jobs that run in other processes, as Prefect shows them: task runs that start, end and fail."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from prefect import State, task
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.states import Completed, Failed, Running

from flows.running.task_runs import never_a_reason_to_fail


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
            with never_a_reason_to_fail(), get_client(sync_client=True) as client:
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
            with never_a_reason_to_fail(), get_client(sync_client=True) as client:
                client.set_task_run_state(self._runs[group], state, force=True)
