"""Ingest as a user meets it: every layout, other series, interruptions, a second process, a full disk."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import psutil
import pytest

from flows import ingest as flow
from flows.ingestion.ingest_tables import COHORT_TABLE, DERIVATIVES, read_outcomes
from pipeline.config import ImagingSettings, IngestSettings, PhantomSettings
from pipeline.errors import InputError
from pipeline.files import exclusive
from pipeline.ingest.bids import read_pet
from pipeline.phantom import make_scan, plan_cohort, write_cohort
from pipeline.scan import Cohort

CLASSES = ("CN", "MCI", "AD")
SCANS = PhantomSettings(subjects=3, scans=4, spoiled=0.25, workers=1)
SEED = 3
ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
from pathlib import Path
from flows import ingest
from pipeline.config import ImagingSettings, IngestSettings
if __name__ == "__main__":
    bids, key, *sources = map(Path, sys.argv[1:])
    print("begin", flush=True)
    settings = IngestSettings(key_file=key, workers=2)
    for source in sources:
        ingest._ingest(source, bids, settings, ImagingSettings(), ("CN", "MCI", "AD"))
"""


@pytest.fixture(scope="session")
def adni(tmp_path_factory) -> Path:
    """Four phantom scans of three subjects, one of them spoiled, with other series beside some."""
    source = write_cohort(SCANS, tmp_path_factory.mktemp("source") / "adni", SEED)
    for path in source.rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)  # what is moments old is read again by the next ingest
    return source


@pytest.fixture
def run():
    """The function that ingests in this process."""

    def ingest(source: Path, bids: Path, **settings):
        told = IngestSettings(**{"key_file": bids.parent / "key", "workers": 1, **settings})
        return flow._ingest(source, bids, told, ImagingSettings(), CLASSES)

    return ingest


@pytest.fixture(scope="session")
def undisturbed(adni, tmp_path_factory) -> Path:
    """The folder that holds what an ingest makes of it in `bids`, and its `key`."""
    folder = tmp_path_factory.mktemp("undisturbed")
    start(folder, adni).communicate(timeout=300)
    return folder


def start(folder: Path, *sources: Path) -> subprocess.Popen:
    """Start an ingest of sources by two workers in a process of its own; return when its imports are done."""
    script = folder / "ingest.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder / "bids"), str(folder / "key"), *map(str, sources)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    return process


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def rows(bids: Path) -> pd.DataFrame:
    return pd.read_csv(
        bids / DERIVATIVES / "ingest_report.tsv", sep="\t", na_values=[], keep_default_na=False
    )


def test_other_series_are_left_alone_and_counted(undisturbed):
    outcomes, ignored = read_outcomes(undisturbed / "bids")
    assert ignored == {"MR images": 3, "CT images": 3, "FBB series": 1}
    assert len(outcomes) == SCANS.scans
    page = (undisturbed / "bids" / DERIVATIVES / "ingest_report.html").read_text()
    assert "FBB series" in page
    assert "adni layout" in page


def test_the_spoiled_scan_alone_is_refused_by_its_rule(undisturbed):
    table = rows(undisturbed / "bids")
    (spoiled,) = [s.spoiled for s in plan_cohort(SCANS, SEED) if s.spoiled]
    assert list(table.rule[table.verdict == "refused"]) == [spoiled]
    assert len(Cohort.read_tsv(undisturbed / "bids" / COHORT_TABLE, CLASSES)) == SCANS.scans - 1


def test_the_official_validator_finds_no_error_in_the_whole_dataset(undisturbed):
    validator = Path(sysconfig.get_path("scripts")) / "bids-validator-deno"
    if not validator.is_file():
        pytest.skip("bids-validator-deno is not installed")
    command = [validator, undisturbed / "bids", "--format", "json"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if not said.stdout.startswith("{"):
        pytest.skip(f"bids-validator-deno does not run here: {said.stderr[:200]}")
    report = json.loads(said.stdout)
    assert "PET" in str(report["summary"]["modalities"]).upper()
    assert [i for i in report["issues"]["issues"] if i["severity"] == "error"] == []


def test_no_path_of_the_machine_is_written(undisturbed):
    for path in (undisturbed / "bids").rglob("*"):
        assert path.is_dir() or str(undisturbed).encode() not in path.read_bytes(), path


def test_a_dataset_that_was_moved_is_not_made_again(undisturbed, adni, run, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "moved")
    bids = tmp_path / "moved" / "bids"
    before = {p: p.stat().st_mtime_ns for p in bids.rglob("*.nii.gz")}
    run(adni, bids)
    assert {p: p.stat().st_mtime_ns for p in bids.rglob("*.nii.gz")} == before
    assert digests(bids) == digests(undisturbed / "bids")


@pytest.fixture(scope="session")
def two_sources(adni, tmp_path_factory) -> list[Path]:
    """The cohort in two folders: one subject in the first, the others in the second."""
    folder = tmp_path_factory.mktemp("two")
    subjects = sorted(p.name for p in adni.iterdir() if p.name[0].isdigit())
    for name, left_out in (("first", subjects[1:]), ("second", subjects[:1])):
        shutil.copytree(adni, folder / name, ignore=shutil.ignore_patterns(*left_out))
    return [folder / "first", folder / "second"]


def _has_written_or_ended(process: subprocess.Popen, bids: Path, images: int) -> bool:
    return len(list(bids.rglob("*.nii.gz"))) >= images or process.poll() is not None


@pytest.mark.slow
def test_a_killed_ingest_of_two_sources_run_again_equals_an_undisturbed_one(two_sources, tmp_path, wait_for):
    calm = tmp_path / "calm"
    calm.mkdir()
    start(calm, *two_sources).communicate(timeout=300)
    shutil.copyfile(calm / "key", tmp_path / "key")
    (tmp_path / "key").chmod(0o600)
    bids = tmp_path / "bids"
    for images in (1, 4):  # killed when so many images are there: in the first source, then in the second
        process = start(tmp_path, *two_sources)
        stopped = functools.partial(_has_written_or_ended, process, bids, images)
        wait_for(stopped, pause=0.005)
        workers = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        wait_for(lambda: not any(map(psutil.pid_exists, workers)))  # noqa: B023
        for image in bids.rglob("sub-*.nii.gz"):  # what is there under its name is whole
            np.asarray(nib.load(image).dataobj)
    (bids / "sub-X").mkdir()
    (bids / "sub-X" / ".tmp-abc-left.nii.gz").write_bytes(b"half")
    start(tmp_path, *two_sources).communicate(timeout=300)
    assert digests(bids) == digests(calm / "bids")
    assert len(Cohort.read_tsv(bids / COHORT_TABLE, CLASSES)) == SCANS.scans - 1


def test_a_second_ingest_into_one_folder_is_refused(adni, run, tmp_path):
    bids = tmp_path / "bids"
    with (
        exclusive(tmp_path / ".bids.lock", "dataset"),
        pytest.raises(InputError, match=r"Another process has locked the dataset: process \d+"),
    ):
        run(adni, bids)
    assert not bids.exists()
    assert not (tmp_path / "key").exists()


def test_an_ingest_that_waits_comes_next_and_sees_what_has_come_meanwhile(adni, run, tmp_path):
    source, later = tmp_path / "adni", tmp_path / "later"
    shutil.copytree(adni, source)
    subject = next(path for path in sorted(source.iterdir()) if path.name[0].isdigit())
    subject.rename(later)
    held = threading.Event()

    def hold() -> None:
        with exclusive(tmp_path / ".bids.lock", "dataset"):
            held.set()
            time.sleep(0.5)
            later.rename(subject)

    threading.Thread(target=hold).start()
    held.wait()
    assert len(run(source, tmp_path / "bids", wait=True).cohort.read_text().splitlines()) == SCANS.scans


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MB and the function that makes it larger; only root may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs cannot be mounted here: that takes root")
    try:
        yield disk, lambda: subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_full_disk_is_one_clear_error_and_the_next_run_goes_on(adni, undisturbed, run, small_disk):
    disk, enlarge = small_disk
    key = undisturbed / "key"
    with pytest.raises(
        InputError, match=r"does not fit on the disk \(No space left on device\)\. Free space"
    ) as full:
        run(adni, disk / "bids", key_file=key)
    assert str(disk) in full.value.where
    stood = digests(disk / "bids")
    assert stood
    assert not [name for name in stood if ".tmp-" in name]
    wanted = digests(undisturbed / "bids")
    assert {n: d for n, d in stood.items() if wanted[n] != d} == {}
    enlarge()
    run(adni, disk / "bids", key_file=key)
    assert digests(disk / "bids") == wanted


def test_a_refusal_removes_what_other_settings_had_made(run, tmp_path, monkeypatch):
    source = write_cohort(
        PhantomSettings(subjects=1, scans=1, spoiled=0.0, workers=1), tmp_path / "adni", SEED
    )
    bids = tmp_path / "bids"
    assert run(source, bids).refused == 0
    assert list(bids.rglob("*desc-suvr_pet.nii.gz"))
    late = ImagingSettings(window_start_min=150, window_end_min=170)
    monkeypatch.setattr(flow, "ImagingSettings", lambda: late)
    told = IngestSettings(key_file=tmp_path / "key", workers=1)
    assert flow._ingest(source, bids, told, late, CLASSES).refused == 1
    assert not list(bids.rglob("*desc-suvr_pet.nii.gz"))


class TestTheRealGeSeries:
    """A part of a body that is no brain, with a tracer that is not AV1451."""

    def test_is_refused_by_the_name_of_its_tracer(self, shared_data, run, tmp_path):
        done = run(shared_data("pet_ge_suv_crop"), tmp_path / "bids")
        (row,) = rows(done.bids).to_dict("records")
        assert (row["verdict"], row["rule"], row["measured"]) == ("refused", "wrong-tracer", "FDG")
        assert "--tracer FDG" in row["message"]
        assert not list(done.bids.rglob("*.nii.gz"))

    def test_is_converted_for_who_asks_for_its_tracer_and_refused_as_no_brain(
        self, shared_data, run, tmp_path
    ):
        folder = shared_data("pet_ge_suv_crop")
        done = run(folder, tmp_path / "bids", tracer="FDG")
        assert (done.layout, done.converted, done.refused) == ("dicom", 1, 1)
        (row,) = rows(done.bids).to_dict("records")
        assert (row["stage"], row["rule"]) == ("imaging", "not-a-brain")
        (image,) = done.bids.rglob("*_trc-18FFDG_pet.nii.gz")
        made = read_pet(image)
        (published,) = (nib.load(p) for p in folder.rglob("*.nii*") if "mask" not in p.as_posix())
        there = np.linalg.inv(published.affine) @ made.affine  # our voxel to theirs: a flip of axes
        np.testing.assert_allclose(np.abs(there[:3, :3]), np.eye(3), atol=1e-4)
        corners = np.array([[0, 0, 0, 1], [*(n - 1 for n in made.array.shape), 1]]).T
        start, stop = np.rint((there @ corners)[:3].T).astype(int)
        theirs = np.asarray(published.dataobj, dtype=np.float64)
        for axis in range(3):
            if stop[axis] < start[axis]:
                theirs = np.flip(theirs, axis)
        np.testing.assert_allclose(made.array, theirs, rtol=2e-6, atol=2e-6)
        assert made.unit == "SUV"


def test_the_dlbs_layout_goes_the_whole_way(shared_data, run, tmp_path):
    """Real sidecars and participants, with a phantom's voxels beside them."""
    published = shared_data("dlbs_av1451")
    source = tmp_path / "ds004856"
    source.mkdir()
    for name in ("participants.tsv", "participants.json", "dataset_description.json"):
        shutil.copyfile(published / name, source / name)
    static = [s for s in plan_cohort(PhantomSettings(), 1) if len(s.frames_s) == 1 and not s.spoiled]
    for scan, told in zip(static, sorted((published / "sidecars").glob("*.json"))[:2], strict=False):
        subject, session = told.name.split("_")[:2]
        pet = source / subject / session / "pet"
        pet.mkdir(parents=True)
        shutil.copyfile(told, pet / told.name)
        seen = make_scan(scan, 1)[1]
        image = nib.Nifti1Image(seen.frames[0], seen.affine)
        nib.save(image, pet / told.name.replace(".json", ".nii.gz"))
        anatomy = pet.parent / "anat" / f"{subject}_{session}_T1w.nii.gz"
        anatomy.parent.mkdir()
        nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), anatomy)
    done = run(source, tmp_path / "bids")
    assert (done.layout, done.converted, done.refused) == ("bids", 2, 0)
    assert read_outcomes(done.bids)[1] == {"images that are not PET": 2}
    cohort = Cohort.read_tsv(done.cohort, CLASSES)
    assert {scan.session for scan in cohort.scans} == {"wave3"}
    assert {scan.diagnosis for scan in cohort.scans} == {None}
    people = pd.read_csv(published / "participants.tsv", sep="\t").set_index("participant_id")
    subjects = {p.name.split("_")[0] for p in source.rglob("*_pet.json")}
    ages = sorted(min(float(people.loc[s, "AgePETTau_W3"]), 89.0) for s in subjects)
    assert sorted(float(scan.facts["age"]) for scan in cohort.scans) == ages
    (first, _) = sorted(done.bids.glob("sub-*/ses-*/pet/*_pet.json"))
    told = json.loads(first.read_text())
    assert told["FrameDuration"] == [1200.0]
    assert told["InjectionStart"] == -4800.0
    assert 300 < told["InjectedRadioactivity"] < 450
    written = b"".join(p.read_bytes() for p in done.bids.rglob("*") if p.suffix in (".json", ".tsv", ".html"))
    assert b"Southwestern" not in written
    assert b"PARKS" not in written
