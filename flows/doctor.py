"""What is there and what is missing, with the command that mends it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pipeline import tracking


@dataclass(frozen=True)
class HealthCheck:
    """One line of the doctor: what, whether it is well, what was seen, and the mend where it is not."""

    name: str
    ok: bool
    seen: str
    hint: str = ""
    required: bool = True


def examine(output: Path) -> list[HealthCheck]:
    """Look at everything a run needs.

    Parameters
    ----------
    output : Path
        Folder a study would write to; disk space is read there.
    """
    looks: list[Callable[[], HealthCheck]] = [
        _python, _torch, _cuda, _prefect, lambda: _store(output), _pango, lambda: _disk(output), _memory,
    ]  # fmt: skip
    return [look() for look in looks]


def _python() -> HealthCheck:
    seen = ".".join(map(str, sys.version_info[:3]))
    return HealthCheck(
        "Python", sys.version_info[:2] in {(3, 11), (3, 12)}, seen, "install CPython 3.11 or 3.12"
    )


def _torch() -> HealthCheck:
    try:
        return HealthCheck("torch", ok=True, seen=metadata.version("torch"))
    except metadata.PackageNotFoundError:
        return HealthCheck("torch", ok=False, seen="not installed", hint="make install")


def _cuda() -> HealthCheck:
    import torch

    if torch.cuda.is_available():
        return HealthCheck("CUDA", ok=True, seen=torch.cuda.get_device_name(0), required=False)
    cores = os.cpu_count() or 1
    mend = "optional: install the CUDA build of the same torch pin"
    return HealthCheck(
        "CUDA", ok=False, seen=f"no device; {cores} CPU cores are used", hint=mend, required=False
    )


def _prefect() -> HealthCheck:
    url = os.environ.get("PREFECT_API_URL")
    version = metadata.version("prefect")
    try:
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            failure = client.api_healthcheck()
    except (OSError, RuntimeError, TypeError) as error:
        failure = error
    where = url or "embedded server"
    mend = (
        "mend PREFECT_API_URL"
        if url
        else "pip install -c constraints.txt -e . (a newer FastAPI breaks the server)"
    )
    return HealthCheck(
        "Prefect server", failure is None, f"{version}, {where}" + (f": {failure}" if failure else ""), mend
    )


def _store(output: Path) -> HealthCheck:
    version, mend = metadata.version("mlflow"), "choose a writable output folder, or mend tracking.uri"
    store = tracking.store_at(output)
    if not store.is_new():
        problem = tracking.try_store(store)
        return HealthCheck("MLflow store", problem is None, problem or f"{version}, {store.address}", mend)
    place = _nearest(output)
    if place.is_dir() and os.access(place, os.W_OK):
        return HealthCheck("MLflow store", ok=True, seen=f"{version}; the first run makes SQLite in {output}")
    return HealthCheck("MLflow store", ok=False, seen=f"{place} is not a writable folder", hint=mend)


def _nearest(path: Path) -> Path:
    return next(p for p in (path.resolve(), *path.resolve().parents) if p.exists())


def _pango() -> HealthCheck:
    from pipeline.reporting.page.pdf import why_no_pdf

    problem = why_no_pdf()
    mend = "apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-dejavu-core"
    return HealthCheck(
        "Pango for PDF",
        problem is None,
        problem or f"WeasyPrint {metadata.version('weasyprint')}",
        mend,
        required=False,
    )


def _disk(output: Path) -> HealthCheck:
    free = shutil.disk_usage(_nearest(output)).free / 2**30
    return HealthCheck("Disk", free > 5, f"{free:.0f} GiB free", "free 5 GiB: the demo writes about 2")


def _memory() -> HealthCheck:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError):
        return HealthCheck("Memory", ok=True, seen="unknown", required=False)
    return HealthCheck(
        "Memory", total > 3.5, f"{total:.0f} GiB", "4 GiB are needed to train; lower training.batch_size"
    )
