"""Defaults that are set before Prefect or MLflow is imported: quiet, local, nothing phones home.

What the user has set in the environment wins.
"""

from __future__ import annotations

import os

_DEFAULTS = {
    "PYTHONSAFEPATH": "1",  # a folder `flows` or `models` where the command was typed is not ours
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # errors are printed once, by the command line
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # its 20 s are too few on a busy machine
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven idle worker processes for what is not used here
    "GIT_PYTHON_REFRESH": "quiet",
}


def set_quiet_defaults() -> None:
    """Set what the user has not set."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def log_to_console() -> None:
    """Let the libraries' log messages be seen on standard error."""
    import logging

    os.environ["PREFECT_LOGGING_LEVEL"] = os.environ["MLFLOW_LOGGING_LEVEL"] = "INFO"
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
