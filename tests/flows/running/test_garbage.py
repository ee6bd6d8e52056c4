import gc
import subprocess
import sys

import pytest

from flows.commands import scans
from flows.running.garbage import NEW_OBJECTS, few_searches_for_garbage, no_search_for_garbage
from pipeline.errors import InputError


def test_garbage_is_collected_again_once_all_is_imported():
    try:
        with no_search_for_garbage():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_garbage_is_searched_for_seldom_until_the_work_ends():
    before = gc.get_threshold()
    with few_searches_for_garbage():
        assert gc.isenabled()
        assert gc.get_threshold() == (NEW_OBJECTS, *before[1:])
    assert gc.get_threshold() == before


@pytest.mark.parametrize("command", [scans.predict, scans.report])
def test_a_command_that_fails_leaves_the_setting_of_python(command, monkeypatch, tmp_path):
    before, during = gc.get_threshold(), []

    def no_study(*_args, **_kwargs):
        during.append(gc.get_threshold()[0])
        raise InputError("There is no study")

    monkeypatch.setattr(scans, "locate", no_study)
    with pytest.raises(InputError, match="no study"):
        command([tmp_path], **({"out": tmp_path / "out"} if command is scans.report else {}))
    assert during == [NEW_OBJECTS]
    assert gc.get_threshold() == before


_LEAVES_A_CIRCLE = """
class Circle:
    def __del__(self):
        print("collected")
circle = Circle()
circle.itself = circle
"""


@pytest.mark.parametrize(("asked", "printed"), [("", "collected"), ("end_without_search_for_garbage()", "")])
def test_a_process_can_end_without_a_last_search(asked, printed):
    call = f"from flows.running.garbage import end_without_search_for_garbage\n{asked}{_LEAVES_A_CIRCLE}"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == printed
