"""Defaults that are set before Prefect or MLflow is imported: quiet, local, nothing phones home.

What the user has set in the environment wins.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_DEFAULTS = {
    "PYTHONSAFEPATH": "1",  # a folder `flows` or `models` where the command was typed is not ours
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # errors are printed once, by the command line
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",  # a command starts no server of its own
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven idle worker processes for what is not used here
    "GIT_PYTHON_REFRESH": "quiet",
}
SERVED = Path(".serve") / "prefect.json"
"""Below a study's output folder: the address of the server that `taucal serve` runs, and its process."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_AT_HOME = {"PREFECT_HOME": ".prefect", "MPLCONFIGDIR": "matplotlib", "XDG_CACHE_HOME": "cache"}
"""What libraries write to the home folder, and its name in the folder that takes its place."""


def set_quiet_defaults() -> None:
    """Set what the user has not set; no proxy for this machine, and no home folder that cannot be written."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    bypass_proxy(*_LOOPBACK)
    if not _can_be_written(Path(os.path.expanduser("~"))):  # noqa: PTH111 - never raises
        for name, folder in _AT_HOME.items():
            os.environ.setdefault(name, str(_own_temporary_folder() / folder))


def bypass_proxy(*hosts: str) -> None:
    """Let this process and all it starts reach these hosts without the proxy of ``http_proxy``."""
    for name in ("no_proxy", "NO_PROXY"):
        known = [host.strip() for host in os.environ.get(name, "").split(",") if host.strip()]
        if "*" not in known:
            os.environ[name] = ",".join([*known, *(host for host in hosts if host not in known)])


def server_may_be_known(output: Path) -> bool:
    """Whether a Prefect server can be known to record runs of a study; asked before Prefect is imported.

    Parameters
    ----------
    output : Path
        Folder of the study.
    """
    home = os.environ.get("PREFECT_HOME") or os.path.expanduser("~/.prefect")  # noqa: PTH111 - never raises
    profiles = Path(home) / "profiles.toml"
    return "PREFECT_API_URL" in os.environ or (output / SERVED).is_file() or profiles.is_file()


def state_folder() -> Path:
    """Return the private folder of this user for what outlives a command, made where it is missing."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - never raises
    stated = os.environ.get("XDG_STATE_HOME")
    folder = Path(stated) if stated else home / ".local" / "state"
    if not _can_be_written(folder):
        folder = _own_temporary_folder()
    folder = folder / "taucal"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _can_be_written(folder: Path) -> bool:
    """Whether files can be made in a folder, or the folder itself, which need not exist."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    # Root may write everywhere but where nothing can be made, as below /proc.
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) and not str(folder).startswith("/proc")


def _own_temporary_folder() -> Path:
    """Return a folder of this user alone, the same for all commands; another user cannot have laid it out."""
    uid = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"taucal-{uid}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if found.st_uid == uid and not found.st_mode & 0o077 and not folder.is_symlink():
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="taucal-"))


def log_to_console() -> None:
    """Let the libraries' log messages be seen on standard error."""
    import logging

    os.environ["PREFECT_LOGGING_LEVEL"] = os.environ["MLFLOW_LOGGING_LEVEL"] = "INFO"
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
