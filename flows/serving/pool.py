"""Register the flows of a study with a work pool of Prefect: process, Docker, Kubernetes."""

from __future__ import annotations

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL

from flows.running.doors import check_reachable, store_study
from flows.serving.schedules import (
    APPROVE,
    BY_HAND,
    Schedule,
    check_name,
    deployment_of,
    planned,
    remove_renamed,
)
from pipeline.config import Study
from pipeline.errors import ConfigError, InputError


def deploy(study: Study, pool: str, *, image: str | None = None, study_file: str | None = None) -> list[str]:
    """Register the doors of a study with an existing work pool; return the names of their deployments.

    They have the schedules of section `serve`; training and comparison have none.

    Parameters
    ----------
    pool : str
        Its workers run the flows; where they run, this version of taucal must be installed.
    image : str, optional
        Container image, for a pool of containers.
    study_file : str, optional
        Path of the study's file where the flows run; a private file of this user where not given.

    Raises
    ------
    ConfigError
        If no Prefect server is named.
    InputError
        If the server does not answer, or has no such pool.
    """
    api = PREFECT_API_URL.value()
    if not api:
        raise ConfigError(
            "No Prefect server is named",
            where="PREFECT_API_URL",
            hint="set it to the server that the workers ask, as in http://HOST:4200/api",
        )
    check_reachable(str(api))
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound as error:
            raise InputError(
                "The Prefect server has no such work pool",
                where=f"--pool {pool}",
                hint=f"`prefect work-pool create {pool} --type process` makes one; "
                "`prefect work-pool ls` lists them",
            ) from error
    check_name(study)
    remove_renamed(study)
    path = study_file or store_study(study)
    made = []
    for schedule in [*planned(study), *(Schedule(flow, None) for flow in (APPROVE, *BY_HAND))]:
        deployment = deployment_of(study, schedule, path, work_pool_name=pool)
        deployment.apply(image=image)
        made.append(deployment.full_name)
    return made
