"""Tests of models.names: the same names as the tables that build, without importing torch."""

import subprocess
import sys

import pytest

from models import names
from models.calibrators import CALIBRATORS, calibrator
from models.losses import LOSSES, option
from models.networks import IMAGE_NETWORKS, NETWORKS


def test_names_are_those_of_the_tables():
    assert tuple(LOSSES) == names.LOSS_NAMES
    assert tuple(CALIBRATORS) == names.CALIBRATOR_NAMES
    assert tuple(NETWORKS) == names.NETWORK_NAMES
    assert tuple(IMAGE_NETWORKS) == names.IMAGE_NETWORK_NAMES


def test_names_are_imported_without_anything_heavy():
    code = "import sys, models.names; print(*[m for m in ('torch', 'numpy', 'scipy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_nearest_ignores_case_and_lists_all_where_nothing_is_near():
    assert names.nearest("GCE", names.LOSS_NAMES) == "Did you mean 'gce'?"
    assert names.nearest("xyz", ["mean", "sum"]) == "Known: mean, sum."
    assert names.nearest("xyz", []) == "Known: none."


@pytest.mark.parametrize("word", ["GCE", "focall", "temperatur", "xyz"])
def test_folders_that_stand_alone_give_the_same_hint(word):
    for known in (names.LOSS_NAMES, names.CALIBRATOR_NAMES, ()):
        hint = names.nearest(word, known)
        assert calibrator.nearest(word, known) == option.nearest(word, known) == hint
