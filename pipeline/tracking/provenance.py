"""What a run was made with: the commit of the code, the interpreter and every installed distribution."""

from __future__ import annotations

import functools
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from pipeline.files import fingerprint


def git_revision() -> str:
    """Return the commit of the code that runs, or ``"unknown"`` outside a checkout."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return answer.stdout.strip() or "unknown"


def installed() -> list[str]:
    """Return every installed distribution as ``name==version``, sorted; no paths."""
    found = {d.name.lower().replace("_", "-"): d.version for d in metadata.distributions() if d.name}
    return [f"{name}=={version}" for name, version in sorted(found.items())]


@functools.cache  # hundreds of runs of a comparison have one environment
def environment_digest() -> str:
    """Return sixteen hex digits for the interpreter and every installed distribution."""
    return fingerprint(sys.version_info[:3], installed())
