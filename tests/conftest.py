"""What every test may ask for: the shared real files, small volumes, a quiet environment."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from flows.environment import set_quiet_defaults

os.environ.setdefault("OMP_NUM_THREADS", "1")
set_quiet_defaults()
# Two busy cores: a deadline would fail at random.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared(name: str) -> Path:
    """Return a real file or folder beside the checkout; skip by name where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"shared/data/{name} is not beside this checkout")
    return path


@pytest.fixture
def shared_data():
    """The function that returns a path below shared/data or skips."""
    return shared


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed: tests do not depend on their order."""
    return np.random.default_rng(20261121)
