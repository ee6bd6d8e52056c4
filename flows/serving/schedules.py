"""The schedules of a study, and the deployments that Prefect gets for them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect._internal.versioning import VersionType
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from pydantic import ValidationError

from flows.running.console import say
from flows.running.doors import deployment_name
from pipeline.config import Study, load_study
from pipeline.errors import ConfigError, InputError
from pipeline.tracking.study_status import is_served


@dataclass(frozen=True)
class ServedFlow:
    """A door as Prefect finds it: its name, and where it is imported from in the process that runs it."""

    name: str
    entrypoint: str


SCHEDULES = {
    "ingest": ServedFlow("ingest", "flows.ingest.ingest"),
    "reports": ServedFlow("reports", "flows.reports.new_reports.report"),
    "shift": ServedFlow("shift", "flows.retraining.shift_check.shift"),
    "week": ServedFlow("week", "flows.retraining.weekly_check.week"),
    "retrain": ServedFlow("retrain", "flows.retrain.retrain"),
}
"""Key of section `serve` -> the flow that runs then."""

NAMED_BEFORE = ("report",)
"""Flows that an earlier version scheduled, and this one by another name: `reports`."""

BY_HAND = (
    ServedFlow("train", "flows.train.train"),
    ServedFlow("compare", "flows.compare.compare"),
    ServedFlow("curve", "flows.curve.curve"),
)
"""Flows that have no schedule."""

APPROVE = ServedFlow("approve", "flows.retraining.ask_in_prefect.approve")
"""The flow that a retraining starts where its challenger waits for a person."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """A flow and when it runs; None where only a person starts it."""

    flow: ServedFlow
    cron: str | None


def planned(study: Study) -> list[Schedule]:
    """Return the schedules of a study that can be started; print which cannot and why.

    Raises
    ------
    ConfigError
        If a cron line is invalid, or no schedule is left.
    """
    schedules = []
    for key, flow in SCHEDULES.items():
        cron = getattr(study.serve, key)
        reason = None if cron is None else _why_not(study, key)
        if reason:
            say(f"serve.{key} is not started: {reason}.")
        elif cron is not None:
            schedules.append(Schedule(flow, _checked(cron, key)))
    if not schedules:
        raise ConfigError(
            "The study has no schedule that can be started",
            where="serve",
            hint="give ingest, reports, shift, week or retrain a cron line",
        )
    return schedules


def _why_not(study: Study, key: str) -> str | None:
    if study.cohort.kind != "bids":
        return f"cohort.kind is {study.cohort.kind}, but only scans (bids) can be scheduled"
    if key == "ingest" and study.ingest.source is None:
        return "ingest.source, the folder of new scans, is not set"
    return None


def _checked(cron: str, key: str) -> str:
    try:
        return CronSchedule(cron=cron, timezone="UTC").cron
    except ValidationError as error:
        raise ConfigError(
            f"{cron!r} is not a cron line",
            where=f"serve.{key}",
            hint='write minute hour day month weekday in UTC, as in "0 2 * * *" for every night at two',
        ) from error


def deployment_of(study: Study, schedule: Schedule, path: str, **more: Any) -> RunnerDeployment:
    """Return the deployment of a flow: one run at a time, with the path of the study's file.

    Parameters
    ----------
    path : str
        Of the resolved study where the flow runs.
    more
        Further fields of the deployment.
    """
    crons = [] if schedule.cron is None else [CronSchedule(cron=schedule.cron, timezone="UTC")]
    found = RunnerDeployment(
        name=deployment_name(study),
        flow_name=schedule.flow.name,
        entrypoint=schedule.flow.entrypoint,  # of a module: a path would be stored
        parameters={"study": path},
        schedules=[DeploymentScheduleCreate(schedule=cron, active=True) for cron in crons],
        paused=False,
        # A run that falls due while another is running is dropped: behind a killed one it would never start.
        # But a person's answer is never dropped.
        concurrency_limit=None if schedule.flow == APPROVE else 1,
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        version=metadata.version("taucal"),
        version_type=VersionType.SIMPLE,  # else the address and branch of a git checkout are stored
        **more,
    )
    found._parameter_openapi_schema = parameter_schema(_door)
    return found


def _door(study: str) -> None:
    """Stand for the parameters of every door, which need not be imported here.

    Parameters
    ----------
    study : str
        Path of a resolved study file.
    """


def check_name(study: Study) -> None:
    """Refuse the name of another study that is served now: its schedules would be replaced by these.

    Where the other one is not served, as the original of a study that was copied, that is only stated.

    Raises
    ------
    InputError
        Naming the other study.
    """
    with get_client(sync_client=True) as client:
        for flow in SCHEDULES.values():
            with contextlib.suppress(ObjectNotFound):
                found = client.read_deployment_by_name(f"{flow.name}/{deployment_name(study)}")
                other = _output_of(str((found.parameters or {}).get("study", "")))
                if other is not None and other != study.output.resolve():
                    _warn_or_refuse(study, other)
                    return


def _output_of(stored: str) -> Path | None:
    """Return the folder of a study whose stored file is on this machine and whose folder is still there."""
    file = Path(stored).expanduser()
    if not file.is_file():
        return None
    output = load_study(file).output
    return output.resolve() if output.is_dir() else None


def _warn_or_refuse(study: Study, other: Path) -> None:
    problem = f"Prefect has the schedules of another study of the name {study.name!r}, in {other}"
    if is_served(other):
        raise InputError(
            f"{problem}, which is served now: these would replace them",
            where="name",
            hint="give one of the two studies another name, or end that `taucal serve`",
        )
    say(f"{problem}: they are replaced. If both are in use, give one another name.")


def remove_renamed(study: Study) -> None:
    """Delete the deployments of flows that have another name now: both would run on the same schedule.

    Their runs stay.
    """
    with get_client(sync_client=True) as client:
        for name in NAMED_BEFORE:
            with contextlib.suppress(ObjectNotFound):
                found = client.read_deployment_by_name(f"{name}/{deployment_name(study)}")
                client.delete_deployment(found.id)


async def forget_schedules(study: Study) -> None:
    """Pause the deployments of an earlier process; delete the runs that fell due while none was serving."""
    async with get_client() as client:
        for flow in SCHEDULES.values():
            with contextlib.suppress(ObjectNotFound):
                found = await client.read_deployment_by_name(f"{flow.name}/{deployment_name(study)}")
                await client.pause_deployment(found.id)
                for run in await client.read_flow_runs(flow_run_filter=_due(found.id)):
                    if run.auto_scheduled:
                        await client.delete_flow_run(run.id)


def _due(deployment: UUID) -> FlowRunFilter:
    return FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
    )
