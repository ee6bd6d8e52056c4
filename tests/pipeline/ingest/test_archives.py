"""Archives are read as the folders they hold; hostile and broken ones are refused by name."""

from __future__ import annotations

import gzip
import io
import random
import shutil
import stat
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from pipeline.errors import InputError, RefusedScan
from pipeline.ingest import unpacking
from pipeline.ingest.archives import UNREAD_ARCHIVES, opened, remove_left_over
from pipeline.ingest.convert import read_found
from pipeline.ingest.scan_reading import read_scan
from pipeline.ingest.sources import find_scans, scans_at
from pipeline.ingest.unpacking import BROKEN, LINKS, NESTED, OUTSIDE, ArchiveError


def pack_zip(folder, archive):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder.parent))


def pack_tar(folder, archive):
    mode = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[archive.suffix]
    with tarfile.open(archive, mode) as packed:
        packed.add(folder, folder.name)


PACKERS = {"zip": pack_zip, **dict.fromkeys(("tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"), pack_tar)}


def read_all(source):
    """Return the arrays of all scans of a source, with what was left alone."""
    with opened(source) as view:
        found = find_scans(source, view=view)
        return [read_found(scan).array for scan in found.scans], found


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_packed_series_is_read_where_it_is(make_series, tmp_path, suffix):
    series = make_series(tmp_path / "out" / "series")
    archive = tmp_path / "in" / f"scan.{suffix}"
    archive.parent.mkdir()
    PACKERS[suffix](series.folder, archive)
    for source in (archive, archive.parent):
        (array,), found = read_all(source)
        np.testing.assert_allclose(array, series.values, rtol=1e-6)
        assert (found.ignored, found.unopened) == ({}, ())
        assert found.scans[0].origin.startswith(str(archive.parent / "scan."))
    np.testing.assert_allclose(read_scan(archive).array, series.values, rtol=1e-6)
    np.testing.assert_allclose(read_scan(archive.parent).array, series.values, rtol=1e-6)
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


def test_slices_that_are_packed_one_by_one(make_series, tmp_path):
    series = make_series(tmp_path / "in" / "series")
    for path in list(series.folder.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    (array,), _ = read_all(tmp_path / "in")
    np.testing.assert_allclose(array, series.values, rtol=1e-6)


def test_a_slice_that_is_there_packed_and_unpacked_is_taken_once(make_series, tmp_path):
    series = make_series(tmp_path / "in" / "series")
    for path in list(series.folder.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    (array,), found = read_all(tmp_path / "in")
    np.testing.assert_allclose(array, series.values, rtol=1e-6)
    assert (found.unopened, found.ignored) == ((), {"packed copies of a file that is there": 5})


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_packed_slices_in_an_archive(make_series, tmp_path, suffix):
    series = make_series(tmp_path / "out" / "series")
    for path in list(series.folder.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    PACKERS[suffix](series.folder, tmp_path / f"a.{suffix}")
    (array,), _ = read_all(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(array, series.values, rtol=1e-6)


def test_packed_tables_of_bids_make_no_archive_of_it(tmp_path):
    folder = tmp_path / "sub-01" / "pet"
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4)), folder / "sub-01_pet.nii.gz")
    (folder / "sub-01_recording-manual_blood.tsv.gz").write_bytes(gzip.compress(b"time\n0\n"))
    with opened(tmp_path) as view:
        assert view.origins == ()


def test_a_dicomdir_is_the_scans_of_its_medium(make_series, make_header, tmp_path):
    series = make_series(tmp_path / "medium" / "DICOM")
    directory = make_header("1.2.3")
    directory.SOPClassUID = directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.FileSetID = "DISC"
    directory.save_as(tmp_path / "medium" / "DICOMDIR", enforce_file_format=True)
    (scan,) = scans_at(tmp_path / "medium" / "DICOMDIR")
    np.testing.assert_allclose(read_found(scan).array, series.values, rtol=1e-6)
    np.testing.assert_allclose(read_scan(tmp_path / "medium" / "DICOMDIR").array, series.values, rtol=1e-6)


def test_a_download_in_parts_with_its_tables_beside(make_series, tmp_path):
    for n, subject in enumerate(("011_S_4321", "012_S_10001")):
        folder = tmp_path / "raw" / "ADNI" / subject / "AV1451" / "2019-05-10_09_00_00.0" / f"I{n}00000"
        make_series(folder, seed=n)
        (tmp_path / "in").mkdir(exist_ok=True)
        pack_zip(tmp_path / "raw" / "ADNI", tmp_path / "in" / f"AV1451_{n}.zip")
        shutil.rmtree(tmp_path / "raw")
    table = "RID,PTID,EXAMDATE,DIAGNOSIS\n4321,011_S_4321,2019-05-11,1\n10001,012_S_10001,2019-05-12,3\n"
    (tmp_path / "in" / "DXSUM_1Jan2020.csv").write_text(table)
    with opened(tmp_path / "in") as view:
        found = find_scans(tmp_path / "in", view=view)
    assert found.layout == "adni"
    assert [(s.subject_label, s.diagnosis) for s in found.scans] == [
        ("011_S_4321", "CN"),
        ("012_S_10001", "AD"),
    ]


def test_a_packed_bids_dataset(tmp_path):
    image = tmp_path / "ds" / "sub-01" / "pet" / "sub-01_trc-18FAV1451_pet.nii.gz"
    image.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4)), image)
    (tmp_path / "ds" / "dataset_description.json").write_text("{}")
    (tmp_path / "ds" / "participants.tsv").write_text("participant_id\tdx\nsub-01\tHC\n")
    pack_zip(tmp_path / "ds", tmp_path / "ds.zip")
    with opened(tmp_path / "ds.zip") as view:
        found = find_scans(tmp_path / "ds.zip", view=view)
    assert (found.layout, found.scans[0].diagnosis) == ("bids", "CN")


def test_the_name_of_an_archive_is_that_of_its_folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("S001", "S002"):
        folder = tmp_path / "raw" / name
        folder.mkdir(parents=True)
        nib.save(
            nib.Nifti1Image(np.full((3, 3, 3), int(name[1:]), np.float32), np.eye(4)), folder / "pet.nii.gz"
        )
        with zipfile.ZipFile(tmp_path / "in" / f"{name}.zip", "w") as packed:
            packed.write(folder / "pet.nii.gz", "pet.nii.gz")
    with opened(tmp_path / "in") as view:
        assert [s.subject_label for s in find_scans(tmp_path / "in", view=view).scans] == ["S001", "S002"]


def test_a_source_without_archives_is_read_as_it_is(make_series, tmp_path):
    make_series(tmp_path / "in" / "series")
    with opened(tmp_path / "in") as view:
        assert (view.root, view.origins) == (tmp_path / "in", ())


def hostile_zip(path, *names, link=False):
    with zipfile.ZipFile(path, "w") as packed:
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK if link else stat.S_IFREG | 0o644) << 16
            packed.writestr(info, "/etc/passwd")


def hostile_tar(path, *members):
    with tarfile.open(path, "w") as packed:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, target, 4 if kind == tarfile.REGTYPE else 0
            packed.addfile(info, io.BytesIO(b"evil") if info.size else None)


ESCAPES = ("../evil", "/tmp/taucal-evil", "a/../../evil", "..\\evil", "C:\\evil", "a/b/../../../evil")


@pytest.mark.parametrize("name", ESCAPES)
def test_nothing_is_written_outside(make_series, tmp_path, name):
    series = make_series(tmp_path / "in" / "series")
    hostile_zip(tmp_path / "in" / "a.zip", name)
    hostile_tar(tmp_path / "in" / "b.tar", (name, tarfile.REGTYPE, ""))
    before = set(tmp_path.rglob("*"))
    with opened(tmp_path / "in", tmp_path / "aside") as view:
        found = find_scans(tmp_path / "in", view=view)
        inside = {path for path in tmp_path.rglob("*") if path.is_relative_to(tmp_path / "aside")}
        assert set(tmp_path.rglob("*")) - inside == before
    assert found.ignored[OUTSIDE] == 2
    assert len(found.scans) == 1
    assert not Path("/tmp/taucal-evil").exists()
    assert series.folder.is_dir()


def test_links_and_devices_are_left_out(tmp_path):
    (tmp_path / "in").mkdir()
    hostile_zip(tmp_path / "in" / "a.zip", "link.dcm", link=True)
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
    hostile_tar(
        tmp_path / "in" / "b.tar", *((f"m{n}.dcm", kind, "/etc/passwd") for n, kind in enumerate(kinds))
    )
    with opened(tmp_path / "in") as view:
        assert not [path for path in view.root.rglob("*") if path.is_symlink() or path.is_file()]
        assert view.ignored == {LINKS: 5}


def test_archives_inside_of_archives_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("inner.zip", b"PK")
        packed.writestr("inner.tar.gz", b"")
    with opened(tmp_path / "a.zip") as view:
        assert view.ignored == {NESTED: 2}


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "dcm.gz"])
def test_a_bomb_is_stopped_and_leaves_nothing(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(unpacking, "ALWAYS_ALLOWED", 1 << 20)
    archive, zeros = tmp_path / f"bomb.{kind}", b"\0" * (8 << 20)
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("a", zeros)
    elif kind == "tar.gz":
        with tarfile.open(archive, "w:gz") as packed:
            info = tarfile.TarInfo("a")
            info.size = len(zeros)
            packed.addfile(info, io.BytesIO(zeros))
    else:
        archive.write_bytes(gzip.compress(zeros))
    with (
        pytest.raises(ArchiveError, match="unpacks to more than 200 times its size"),
        opened(archive, tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == [archive]


def test_more_files_than_a_source_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MOST_FILES", 3)
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as packed:
        for n in range(9):
            packed.writestr(f"{n}.dcm", b"")
    with pytest.raises(ArchiveError, match="holds more than"), opened(tmp_path / "many.zip"):
        pass


def encrypted(path):
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.dcm", b"x")
    raw = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(mark) + place] |= 1
    path.write_bytes(raw)


def test_a_password_a_cut_and_no_archive_are_named(make_series, tmp_path):
    series = make_series(tmp_path / "in" / "series")
    encrypted(tmp_path / "in" / "secret.zip")
    pack_zip(series.folder, tmp_path / "in" / "cut.zip")
    whole = (tmp_path / "in" / "cut.zip").read_bytes()
    (tmp_path / "in" / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "text.zip").write_text("not an archive")
    for name, problem in (("secret", "needs a password"), ("cut", "is broken"), ("text", "is broken")):
        with pytest.raises(ArchiveError, match=problem), opened(tmp_path / "in" / f"{name}.zip"):
            pass
    _, found = read_all(tmp_path / "in")
    assert len(found.scans) == 1
    assert found.ignored[UNREAD_ARCHIVES] == 3
    assert {path.name for path in found.unopened} == {"secret.zip", "cut.zip", "text.zip"}


def test_a_broken_member_is_counted_and_the_others_are_read(make_series, tmp_path):
    series = make_series(tmp_path / "out" / "series")
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in series.folder.iterdir():
            packed.write(path, path.name)
        packed.writestr("other/other.dcm", b"0123456789" * 50)  # beside the series it might be a slice of it
    raw = archive.read_bytes()
    archive.write_bytes(raw.replace(b"0123456789" * 50, b"0123456788" * 50))
    (array,), found = read_all(archive)
    np.testing.assert_allclose(array, series.values, rtol=1e-6)
    assert found.ignored[BROKEN] == 1


@pytest.mark.parametrize("packed", ["zip", "stored", "slices"])
@pytest.mark.parametrize("which", [0, -1, 3])
@pytest.mark.parametrize("damage", ["bytes", "method"])
def test_a_scan_whose_slice_cannot_be_unpacked_is_not_a_shorter_scan(
    make_series, tmp_path, packed, which, damage
):
    series = make_series(tmp_path / "out" / "series")
    slices = [Path(ds.filename) for ds in sorted_by_place(series.folder)]
    folder = tmp_path / "in"
    folder.mkdir()
    if packed == "slices":
        for path in slices:
            (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        broken = folder / f"{slices[which].name}.gz"
        raw = bytearray(broken.read_bytes())
        raw[-5 if damage == "bytes" else 2] ^= 0xFF  # the checksum, or how it is packed
        broken.write_bytes(raw)
    else:
        kind = zipfile.ZIP_DEFLATED if packed == "zip" else zipfile.ZIP_STORED
        with zipfile.ZipFile(folder / "a.zip", "w", kind) as archive:
            for path in slices:
                archive.write(path, path.name)
            member = archive.infolist()[which]
            if damage == "method":
                member.compress_type = 97
        if damage == "bytes":
            raw = bytearray((folder / "a.zip").read_bytes())
            raw[member.header_offset + 30 + len(member.filename) + member.compress_size - 3] ^= 0xFF
            (folder / "a.zip").write_bytes(raw)
    with opened(folder) as view:
        for scan in find_scans(folder, view=view).scans:
            with pytest.raises(RefusedScan):
                read_found(scan)


def test_two_members_of_one_name_are_not_one_slice_less(make_series, tmp_path):
    series = make_series(tmp_path / "out" / "series")
    *slices, last = (Path(ds.filename) for ds in sorted_by_place(series.folder))
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in slices:
            packed.write(path, path.name)
        with pytest.warns(UserWarning, match="Duplicate name"):
            packed.write(last, slices[-1].name)
    with opened(archive) as view:
        scans = find_scans(archive, view=view).scans
        assert scans
        for scan in scans:
            with pytest.raises(RefusedScan):
                read_found(scan)


def sorted_by_place(folder: Path) -> list[pydicom.FileDataset]:
    return sorted(map(pydicom.dcmread, folder.iterdir()), key=lambda ds: float(ds.ImagePositionPatient[2]))


def test_what_a_killed_process_left_is_removed(tmp_path):
    for name in (".taucal-unpacked-999999999-x", ".taucal-unpacked-1-x", "other"):
        (tmp_path / name).mkdir()
    remove_left_over(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".taucal-unpacked-1-x", "other"}


def outcome_of(source: Path) -> str:
    """Read every scan of a source to its last pixel."""
    try:
        with opened(source) as view:
            for scan in find_scans(source, view=view).scans:
                read_found(scan)
    except RefusedScan as error:
        return "refused by name" if error.problem and error.rule else "no name"
    except InputError as error:
        return "refused by name" if error.problem and error.where else "no name"
    return "read"


@pytest.mark.parametrize("packed", ["slice", "index"])
def test_mutated_packed_slices_and_media_are_read_or_refused_by_name(make_series, tmp_path, packed):
    series = make_series(tmp_path / "in" / "series", shape=(3, 3, 3))
    first = min(series.folder.iterdir())
    if packed == "slice":
        path = first.with_name(first.name + ".gz")
        whole = gzip.compress(first.read_bytes())
        first.unlink()
    else:
        path = tmp_path / "in" / "DICOMDIR"
        directory = pydicom.dcmread(first)
        directory.SOPClassUID = directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
        directory.save_as(path)
        whole = path.read_bytes()
    rng, outcomes = random.Random(11), Counter()
    for _ in range(60):
        mutated = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            mutated[rng.randrange(len(mutated))] = rng.randrange(256)
        path.write_bytes(mutated)
        outcomes[outcome_of(tmp_path / "in")] += 1
    assert outcomes["read"] + outcomes["refused by name"] == 60, outcomes


def test_mutated_archives_are_read_or_refused_by_name(make_series, tmp_path):
    series = make_series(tmp_path / "raw" / "series", shape=(3, 3, 2))
    rng, outcomes = random.Random(7), Counter()
    for suffix, pack in PACKERS.items():
        archive = tmp_path / f"a.{suffix}"
        pack(series.folder, archive)
        whole = archive.read_bytes()
        for _ in range(40):
            mutated = bytearray(whole)
            for _ in range(rng.randint(1, 8)):
                mutated[rng.randrange(len(mutated))] = rng.randrange(256)
            archive.write_bytes(mutated[: rng.randint(1, len(mutated))] if rng.random() < 0.3 else mutated)
            outcomes[outcome_of(archive)] += 1
    assert set(outcomes) == {"read", "refused by name"}, "anything else is an error of the test"
    assert sum(outcomes.values()) == 40 * len(PACKERS)
    assert outcomes["refused by name"] > outcomes["read"] > 0


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [("tar", "header"), ("tar", "cut"), ("tar.gz", "header"), ("tar.gz", "cut"), ("tar.gz", "checksum")],
)
def test_a_tar_that_ends_early_is_broken_not_short(make_series, tmp_path, suffix, damage):
    series = make_series(tmp_path / "out" / "series")
    archive = tmp_path / f"a.{suffix}"
    pack_tar(series.folder, archive)
    whole = archive.read_bytes()
    plain = bytearray(gzip.decompress(whole) if suffix == "tar.gz" else whole)
    if damage == "header":
        with tarfile.open(archive) as opened_tar:
            place = opened_tar.getmembers()[2].offset
        plain[place : place + 20] = b"\xff" * 20
    elif damage == "cut":
        plain = plain[: len(plain) // 1024 * 512 + 100]
    data = gzip.compress(bytes(plain)) if suffix == "tar.gz" else bytes(plain)
    if damage == "checksum":
        data = data[:-8] + bytes(4) + data[-4:]
    archive.write_bytes(data)
    with pytest.raises(ArchiveError, match="is broken"), opened(archive):
        pass
