"""Defaults that must stand before Prefect or MLflow is imported: quiet, local, nothing phones home.

What the user has set in the environment wins.
"""

from __future__ import annotations

import logging
import os

_DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # errors are told once, by the command line
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # its 20 s are too few on a busy machine
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven idle worker processes for what is not used here
    "GIT_PYTHON_REFRESH": "quiet",
}


def set_quiet_defaults() -> None:
    """Set what the user has not set."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    # Style sheets are written for browsers too; what the PDF cannot use is no news to a user.
    logging.getLogger("weasyprint").setLevel(logging.ERROR)
