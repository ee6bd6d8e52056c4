"""A preparation that is killed anywhere leaves its volumes to the next; two at once prepare none twice."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from killed_volumes import FORK, SETTINGS, Clinic, at_line, in_the_middle_of_row, killed

from pipeline.atlas import AFFINE, SHAPE
from pipeline.config import PreprocessingSettings
from pipeline.learning import loading
from pipeline.learning.loading import load_volumes
from pipeline.learning.row_files import whole_rows
from pipeline.scan import Cohort, Scan


@pytest.fixture
def clinic(tmp_path, monkeypatch) -> Clinic:
    """No scan is prepared yet."""
    made = Clinic(tmp_path)
    monkeypatch.setattr(loading, "_prepare", made.prepare)
    return made


@pytest.mark.parametrize("row", [0, 1, 3])
def test_a_row_that_the_kill_tore_is_prepared_again(clinic, row):
    assert killed(lambda: in_the_middle_of_row(row, lambda: clinic.load(1, 2, 3, 4)))
    assert clinic.prepared() == [1, 2, 3, 4][: row + 1]
    resumed = clinic.load(1, 2, 3, 4)
    assert clinic.prepared() == [1, 2, 3, 4][row:]
    shutil.rmtree(clinic.cache)
    assert clinic.load(1, 2, 3, 4) == resumed
    assert not clinic.leftovers()


def test_of_a_killed_preparation_only_a_changed_scan_is_prepared_again(clinic):
    assert killed(lambda: in_the_middle_of_row(3, lambda: clinic.load(1, 2, 3, 4)))
    clinic.prepared()
    clinic.change(2, "registered anew")
    resumed = clinic.load(1, 2, 3, 4)
    assert clinic.prepared() == [2, 4]
    assert not clinic.leftovers()
    shutil.rmtree(clinic.cache)
    assert clinic.load(1, 2, 3, 4) == resumed


def test_scans_that_are_added_after_a_kill_are_prepared_with_the_missing_ones(clinic):
    parts: list[int] = []
    clinic.load(3, 1)
    assert killed(lambda: in_the_middle_of_row(3, lambda: clinic.load(1, 2, 3, 4)))
    assert clinic.prepared() == [3, 1, 2, 4]
    resumed = clinic.load(5, 4, 2, 3, 1, progress=lambda *_: parts.append(len(clinic.parts())))
    assert clinic.prepared() == [5, 4]
    assert parts[:-1] == [1, 1], "what was taken over is not on disk twice while the rest is prepared"
    assert not clinic.leftovers()
    shutil.rmtree(clinic.cache)
    assert clinic.load(5, 4, 2, 3, 1) == resumed


def test_what_was_abandoned_for_another_setting_or_a_finished_cohort_is_removed(clinic):
    clinic.load(1, 2)
    for finished in (True, False):
        assert killed(lambda: in_the_middle_of_row(3, lambda: clinic.load(1, 2, 3, 4)))
        assert clinic.leftovers()
        if finished:
            clinic.load(1, 2)
        else:
            load_volumes(clinic.cohort(1, 2), PreprocessingSettings(spacing_mm=8, suvr_max=3), clinic.cache)
        assert not clinic.leftovers()


def both(clinic: Clinic, *cohorts: tuple[int, ...]) -> None:
    """Prepare cohorts in processes that start at the same time."""
    clinic.pause = 0.05
    for scans in cohorts:
        clinic.cohort(*scans)  # else both would write the volumes while they read them
    start = FORK.Barrier(len(cohorts))
    processes = [
        FORK.Process(target=lambda scans=scans: (start.wait(), clinic.load(*scans))) for scans in cohorts
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == [0] * len(cohorts)


def test_two_at_once_prepare_each_scan_once(clinic):
    both(clinic, (1, 2, 3, 4), (1, 2, 3, 4))
    assert clinic.prepared() == [1, 2, 3, 4]
    assert not clinic.leftovers()
    found = clinic.load(1, 2, 3, 4)
    shutil.rmtree(clinic.cache)
    assert clinic.load(1, 2, 3, 4) == found


def test_two_cohorts_at_once_share_what_they_have_in_common(clinic):
    both(clinic, (1, 2, 3, 4), (3, 4, 5))
    assert sorted(clinic.prepared()) == [1, 2, 3, 4, 5]
    assert not clinic.leftovers()
    found = clinic.load(1, 2, 3, 4), clinic.load(3, 4, 5)
    shutil.rmtree(clinic.cache)
    assert (clinic.load(1, 2, 3, 4), clinic.load(3, 4, 5)) == found


def test_one_that_waits_goes_on_with_what_a_killed_one_left(clinic, wait_for):
    clinic.pause = 0.2
    first = FORK.Process(target=lambda: clinic.load(1, 2, 3, 4))
    first.start()
    wait_for(lambda: len(clinic.parts()) == 1)
    second = FORK.Process(target=lambda: clinic.load(1, 2, 3, 4))
    second.start()
    wait_for(lambda: clinic._notes.exists() and "3" in clinic._notes.read_text().split())
    first.kill()
    second.join(240)
    assert second.exitcode == 0
    # Unless the first was killed between two scans, that which it was at is prepared twice.
    prepared = clinic.prepared()
    assert prepared[:3] == [1, 2, 3]
    assert prepared[3:] in ([4], [3, 4], [4, 4])
    assert not clinic.leftovers()


@pytest.mark.slow
def test_killed_before_any_line_nothing_is_lost_torn_or_left(clinic, tmp_path):
    """A cohort one of whose scans another file has, two were abandoned, one has changed since, one is new."""
    scans = (1, 2, 3, 4, 5)
    clinic.load(1, 9)
    assert killed(lambda: in_the_middle_of_row(3, lambda: clinic.load(2, 3, 4, 6)))
    clinic.change(4, "registered anew")
    clinic.cohort(*scans)
    start = tmp_path / "start"
    shutil.copytree(clinic.cache, start)
    expected = clinic.load(*scans)
    finished = {path.name for path in clinic.cache.iterdir()}
    line, running = 0, True
    while running:
        shutil.rmtree(clinic.cache)
        shutil.copytree(start, clinic.cache)
        clinic.prepared()
        running = killed(lambda line=line: at_line(line, lambda: clinic.load(*scans)))
        before = clinic.prepared()
        assert clinic.load(*scans) == expected, line
        after = clinic.prepared()
        assert before + after in ([4, 5], [4, 4, 5], [4, 5, 5]), line
        assert {path.name for path in clinic.cache.iterdir()} == finished, line
        line += 1
    assert line > 100, "the lines of the code that prepares volumes are killed one by one"


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 3, 5])
def test_a_killed_command_goes_on_with_the_volumes_it_has(tmp_path, rng, wait_for, rows):
    scans = []
    for n in range(6):
        path = tmp_path / f"{n}.nii.gz"
        nib.save(nib.Nifti1Image(rng.uniform(0, 5, SHAPE).astype(np.float32), AFFINE), path)
        scans.append(Scan(f"{n:02d}", "M00", path, diagnosis="CN"))
    cohort = Cohort(tuple(scans), ("CN", "AD"))
    whole = load_volumes(cohort, SETTINGS, tmp_path / "undisturbed").volumes
    name = Path(str(whole.filename)).name
    cohort.write_tsv(tmp_path / "cohort.tsv")
    script = f"""
from pathlib import Path
from pipeline.config import PreprocessingSettings
from pipeline.learning.loading import load_volumes
from pipeline.scan import Cohort
cohort = Cohort.read_tsv(Path({str(tmp_path / "cohort.tsv")!r}))
load_volumes(cohort, PreprocessingSettings(spacing_mm=8, suvr_max=4), Path({str(tmp_path / "cache")!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    target = tmp_path / "cache" / name

    def kept() -> int:
        with contextlib.suppress(FileNotFoundError):  # it may be renamed meanwhile
            return len(whole_rows(target, whole.shape, np.float32))
        return 0

    wait_for(lambda: kept() >= rows or target.exists(), pause=0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = 6 if target.exists() else kept()
    assert there >= rows
    counted: list[tuple[int, int]] = []
    load_volumes(cohort, SETTINGS, tmp_path / "cache", lambda *counts: counted.append(counts))
    assert counted == ([(done, 6) for done in range(there, 7)] if there < 6 else [])
    assert target.read_bytes() == Path(str(whole.filename)).read_bytes()
