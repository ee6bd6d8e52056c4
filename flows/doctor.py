"""What a run needs of this machine, what was found, and how to fix what is missing."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

_PYTHONS = ((3, 11), (3, 12), (3, 13))
_SECONDS_TO_ANSWER = 5
_PDF_LIBRARIES = (
    "libgobject-2.0.so.0",
    "libpango-1.0.so.0",
    "libharfbuzz.so.0",
    "libfontconfig.so.1",
    "libpangoft2-1.0.so.0",
)
"""What WeasyPrint loads, by the names on Linux."""


@dataclass(frozen=True)
class HealthCheck:
    """One check: what, whether it is well, what was found, and the fix where it is not."""

    name: str
    ok: bool
    seen: str
    hint: str = ""
    required: bool = True

    @property
    def state(self) -> str:
        """In one word: ok, missing, or optional where nothing needs it."""
        return "ok" if self.ok else ("missing" if self.required else "optional")


def examine(output: Path, study: Path | None = None) -> list[HealthCheck]:
    """Check everything a run needs; nothing is written and nothing slow is imported.

    Parameters
    ----------
    output : Path
        Folder a study writes to: disk space is measured there.
    study : Path, optional
        Whose store is checked, as `pipeline.tracking.store_at` takes it; the folder where not given.
    """
    checks: list[Callable[[], HealthCheck]] = [
        _python, _packages, _cuda, _prefect, lambda: _store(output, study or output), _pango,
        lambda: _disk(output), _memory,
    ]  # fmt: skip
    return [check() for check in checks]


def _python() -> HealthCheck:
    seen = ".".join(map(str, sys.version_info[:3]))
    known = [".".join(map(str, version)) for version in _PYTHONS]
    return HealthCheck("Python", sys.version_info[:2] in _PYTHONS, seen, f"install CPython {known[-2]}")


def _packages() -> HealthCheck:
    """Compare the installed packages with what this version of taucal was tested with."""
    try:
        wanted = metadata.requires("taucal") or []
    except metadata.PackageNotFoundError:
        return HealthCheck("Packages", ok=False, seen="taucal is not installed", hint="make install")
    wrong = [problem for text in wanted if (problem := _problem(text))]
    torch = _version("torch") or "missing"
    seen = "; ".join(wrong) or f"all of {len(wanted)} requirements, torch {torch}"
    return HealthCheck("Packages", not wrong, seen, "pip install -c constraints.txt -e .")


def _problem(text: str) -> str | None:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return None
    version = _version(requirement.name)
    if version is None:
        return f"{requirement.name} is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{requirement.name} {version} is not {requirement.specifier}"
    return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cuda() -> HealthCheck:
    """Ask the driver, not torch, which takes seconds to import."""
    devices, build = _cuda_devices(), _cuda_build()
    if devices and build:
        return HealthCheck("CUDA", ok=True, seen=f"{devices} devices, torch for CUDA {build}", required=False)
    cores = os.cpu_count() or 1
    seen = f"{devices} devices, torch without CUDA" if devices else f"no device; {cores} CPU cores are used"
    hint = "optional: install the CUDA build of the same torch version"
    return HealthCheck("CUDA", ok=False, seen=seen, hint=hint, required=False)


def _cuda_devices() -> int:
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    except (OSError, AttributeError):
        return 0
    return 0 if failed else count.value


def _cuda_build() -> str | None:
    """Return the CUDA version that torch was built for, as its version file says."""
    try:
        files = metadata.files("torch") or []
        path = next(p for p in files if p.as_posix() == "torch/version.py")
        found = re.search(r"^cuda.*=\s*'([\d.]+)'", path.read_text(), flags=re.MULTILINE)
    except (metadata.PackageNotFoundError, StopIteration, OSError):
        return None
    return found[1] if found else None


def _prefect() -> HealthCheck:
    version, url = _version("prefect") or "not installed", os.environ.get("PREFECT_API_URL")
    if not url:
        return HealthCheck(
            "Prefect server", version[0].isdigit(), f"{version}; none is named, `taucal serve` starts one"
        )
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=_SECONDS_TO_ANSWER):
            return HealthCheck("Prefect server", ok=True, seen=f"{version}, {url}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        hint = "start it, correct PREFECT_API_URL, or unset it: commands then run without a server"
        return HealthCheck("Prefect server", ok=False, seen=f"{url} does not answer: {reason}", hint=hint)


def _store(output: Path, study: Path) -> HealthCheck:
    from pipeline import tracking

    version, hint = metadata.version("mlflow"), "choose a writable output folder, or correct tracking.uri"
    if study == output and output.is_file():
        return HealthCheck("MLflow store", ok=False, seen=f"{output} is not a writable folder", hint=hint)
    store = tracking.store_at(study)
    if not store.is_new():
        problem = tracking.try_store(store)
        return HealthCheck("MLflow store", problem is None, problem or f"{version}, {store.address}", hint)
    place = _nearest(output)
    if place.is_dir() and os.access(place, os.W_OK):
        return HealthCheck("MLflow store", ok=True, seen=f"{version}, made by the first run in {output}")
    return HealthCheck("MLflow store", ok=False, seen=f"{place} is not a writable folder", hint=hint)


def _nearest(path: Path) -> Path:
    return next(p for p in (path.resolve(), *path.resolve().parents) if p.exists())


def _pango() -> HealthCheck:
    problem = None
    if not _loads(*_PDF_LIBRARIES):  # importing WeasyPrint takes a second: then it is asked for its reason
        from pipeline.reporting.page.pdf import why_no_pdf

        problem = why_no_pdf()
    hint = "apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-dejavu-core"
    seen = problem or f"WeasyPrint {metadata.version('weasyprint')}"
    return HealthCheck("Pango for PDF", problem is None, seen, hint, required=False)


def _loads(*libraries: str) -> bool:
    try:
        for name in libraries:
            ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _disk(output: Path) -> HealthCheck:
    free = shutil.disk_usage(_nearest(output)).free / 2**30
    return HealthCheck("Disk", free > 5, f"{free:.0f} GiB free", "free 5 GiB: the demo writes about 2")


def _memory() -> HealthCheck:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError):
        return HealthCheck("Memory", ok=True, seen="unknown", required=False)
    return HealthCheck(
        "Memory", total > 3.5, f"{total:.0f} GiB", "training needs 4 GiB: use a larger machine"
    )
