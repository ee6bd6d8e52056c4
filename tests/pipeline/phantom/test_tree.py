"""A cohort on disk: complete, the same bytes from the same seed, and whole after any interruption."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd
import psutil
import pydicom
import pytest

from pipeline.config import PhantomSettings
from pipeline.errors import InputError
from pipeline.files import exclusive, sha256_of_file
from pipeline.phantom import PRESETS, plan_cohort, write_cohort
from pipeline.phantom.decoys import has_decoys
from pipeline.phantom.dicom_writer import folder_of


def digests(folder):
    return {p.relative_to(folder).as_posix(): sha256_of_file(p) for p in folder.rglob("*") if p.is_file()}


def test_the_tree_is_an_adni_download(small_cohort):
    out, plan, _ = small_cohort
    pattern = re.compile(
        r"\d{3}_S_\d{4,5}/AV1451_[^/]+/\d{4}-\d\d-\d\d_\d\d_\d\d_\d\d\.0/I\d+/ADNI_\d{3}_S_\d+_PT_AV1451_.+_I\d+\.dcm"
    )
    files = [p.relative_to(out).as_posix() for p in out.rglob("AV1451*/**/*.dcm")]
    assert files
    assert all(pattern.fullmatch(name) for name in files)
    assert len({name.rsplit("/", 1)[0] for name in files}) == len(plan)
    assert all(name.split("/")[0] == name.split("ADNI_")[1].split("_PT_")[0] for name in files)


def test_other_series_lie_beside_some_scans_and_none_passes_for_one(small_cohort):
    out, plan, _ = small_cohort
    others = [p for p in out.rglob("*.dcm") if "AV1451" not in p.as_posix()]
    datasets = [pydicom.dcmread(p) for p in others]
    assert Counter(d.Modality for d in datasets) == {"MR": 3, "CT": 3, "PT": 3}
    assert {d.PatientID for d in datasets} <= {scan.subject.ptid for scan in plan}
    drugs = {
        d.RadiopharmaceuticalInformationSequence[0].Radiopharmaceutical
        for d in datasets
        if d.Modality == "PT"
    }
    assert drugs == {"Florbetaben"}
    assert all(d.pixel_array.shape == (32, 32) for d in datasets)
    # Every first subject in sixteen: a few of a cohort, never all.
    assert sum(has_decoys(s) for s in plan_cohort(PhantomSettings(), seed=1)) == 10


def test_dciodvfy_finds_no_error_in_other_series(small_cohort):
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed: it comes with Debian's package dicom3tools")
    for path in small_cohort[0].rglob("*.dcm"):
        if "AV1451" not in path.as_posix() and "_2_S" in path.name:
            said = subprocess.run([program, path], capture_output=True, text=True, check=False).stderr
            assert re.search(r"(MR|CT|PET)Image", said)
            assert "Error" not in said, said


def test_tables_lie_beside_the_scans(small_cohort):
    out, plan, _ = small_cohort
    (visits,), (people,) = (list((out / "tables").glob(g)) for g in ("DXSUM_*.csv", "PTDEMOG_*.csv"))
    assert set(pd.read_csv(visits).PTID) == set(pd.read_csv(people).PTID) == {s.subject.ptid for s in plan}
    truth = pd.read_csv(out / "tables" / "PHANTOM_TRUTH.csv", keep_default_na=False)
    assert len(truth) == len(plan)
    assert set(truth.DIAGNOSIS) <= set(PRESETS["three_class"].class_names)


def test_as_many_scans_are_spoiled_as_asked(small_cohort, small_settings):
    out, _, _ = small_cohort
    truth = pd.read_csv(out / "tables" / "PHANTOM_TRUTH.csv", keep_default_na=False)
    assert (truth.SPOILED != "").sum() == round(small_settings.spoiled * small_settings.scans)


def test_each_scan_has_its_truth(small_cohort):
    out, plan, _ = small_cohort
    for scan in plan:
        truth = json.loads((out / "truth" / f"I{scan.image_id}.json").read_text())
        assert truth["synthetic"] is True
        assert truth["regional_suvr"]["inferior_cerebellar_grey"] == 1.0
        assert len(truth["template_to_native_mm"]) == len(scan.frames_s)
        determinant = np.linalg.det(np.array(truth["template_to_native_mm"][0])[:3, :3])
        assert 0.7 < determinant < 1.4


def test_everything_says_that_it_is_synthetic(small_cohort):
    out, _, _ = small_cohort
    for path in out.rglob("*"):
        if path.is_file():
            assert b"synthetic" in path.read_bytes().lower(), path.name


@pytest.mark.slow
def test_same_seed_same_bytes_with_two_workers(small_cohort, small_settings, tmp_path):
    out, _, seed = small_cohort
    seen = []
    again = write_cohort(
        small_settings.model_copy(update={"workers": 2}),
        tmp_path / "again",
        seed,
        lambda done, total: seen.append((done, total)),
    )
    assert digests(again) == digests(out)
    assert seen == [(n, small_settings.scans) for n in range(small_settings.scans + 1)]


@pytest.mark.slow
def test_a_killed_cohort_is_finished_and_its_workers_end(small_cohort, small_settings, tmp_path, wait_for):
    out, plan, seed = small_cohort
    killed = tmp_path / "killed"
    settings = small_settings.model_dump() | {"workers": 2}
    script = f"""
from pathlib import Path
from pipeline.config import PhantomSettings
from pipeline.phantom import write_cohort
write_cohort(PhantomSettings(**{settings!r}), Path({str(killed)!r}), {seed})
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    made = "truth/*.json"
    wait_for(lambda: len(list(killed.glob(made))) >= 3 or process.poll() is not None, pause=0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(worker.is_running() for worker in workers))
    assert 0 < sum((killed / folder_of(s)).is_dir() for s in plan) < len(plan)
    write_cohort(small_settings, killed, seed)
    assert digests(killed) == digests(out)


def test_a_second_writer_is_refused(small_cohort, small_settings):
    out, _, seed = small_cohort
    with (
        exclusive(out.parent / f".{out.name}.lock", "cohort"),
        pytest.raises(InputError, match=r"Another process has locked the cohort"),
    ):
        write_cohort(small_settings, out, seed)
    assert write_cohort(small_settings, out, seed) == out


def test_a_disk_that_is_full_gives_one_clear_error_and_leaves_no_half(small_settings, tmp_path):
    script = f"""
import resource, signal
from pathlib import Path
from pipeline.config import PhantomSettings
from pipeline.errors import TaucalError
from pipeline.phantom import write_cohort
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
settings = PhantomSettings(**{small_settings.model_dump()!r})
out = Path({str(tmp_path / "out")!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    write_cohort(settings, out, 1)
except TaucalError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "cannot be written (File too large)" in said
    assert "run the same command again" in said
    assert not list((tmp_path / "out").rglob("AV1451*/**/*.dcm"))


def test_what_is_there_is_not_made_again(small_cohort, small_settings):
    out, _, seed = small_cohort
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.dcm")}
    seen = []
    write_cohort(small_settings, out, seed, lambda done, total: seen.append((done, total)))
    assert seen == [(small_settings.scans, small_settings.scans)]
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.dcm")} == before


def test_another_cohort_is_not_mixed_in(small_cohort, small_settings):
    out, _, seed = small_cohort
    with pytest.raises(InputError, match="other settings or another seed"):
        write_cohort(small_settings, out, seed + 1)
    with pytest.raises(InputError, match="other settings or another seed"):
        write_cohort(small_settings.model_copy(update={"spoiled": 0.0}), out, seed)


def test_a_folder_that_holds_something_else_is_left_alone(small_settings, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="needs an empty folder"):
        write_cohort(small_settings, tmp_path, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_way_is_refused(small_settings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="needs an empty folder"):
        write_cohort(small_settings, tmp_path / "file", 1)
