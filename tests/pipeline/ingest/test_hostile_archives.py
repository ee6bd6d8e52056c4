"""Hostile and broken archives are refused by name, and leave nothing behind."""

from __future__ import annotations

import gzip
import io
import random
import stat
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from packed_scans import PACKERS, pack_tar, pack_zip, read_all

from pipeline.errors import InputError, RefusedScan
from pipeline.ingest import unpacking
from pipeline.ingest.archives import UNREAD_ARCHIVES, opened, remove_left_over
from pipeline.ingest.convert import read_found
from pipeline.ingest.sources import find_scans
from pipeline.ingest.unpacking import BROKEN, LINKS, NESTED, OUTSIDE, ArchiveError


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
