"""An ingest goes on past one bad scan or folder, says which, and reads only what is new."""

from __future__ import annotations

import os
import shutil
import time

import pytest
from ingested import tree

from flows.ingestion import scan_jobs
from flows.ingestion.ingest_tables import read_outcomes
from pipeline.errors import InputError, OutputError
from pipeline.files import sha256_of_file
from pipeline.ingest import found
from pipeline.ingest.source_map import log_beside, map_beside, read_map


class TestFoldersThatCannotBeOpened:
    @pytest.fixture
    def shut(self, monkeypatch):
        """The function that shuts a folder, also for root, who may read everything."""
        import os

        scan = os.scandir
        closed: set[str] = set()

        def scandir(path="."):
            if not isinstance(path, int) and os.fspath(path) in closed:  # pytest cleans up by descriptor
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", scandir)
        return lambda folder: closed.add(str(folder))

    def test_are_named_and_their_scans_are_never_pruned(self, put, run, tmp_path, shut, capsys):
        put(tmp_path / "a", "01"), put(tmp_path / "a", "02")
        run(tmp_path / "a", tmp_path / "bids")
        shut(tmp_path / "a" / "sub-02")
        for prune in (False, True):
            done = run(tmp_path / "a", tmp_path / "bids", prune=prune)
            assert (done.scans, done.exit_code) == (2, 1)
            assert done.unopened == (str(tmp_path / "a" / "sub-02"),)
        assert "cannot be opened" in (said := " ".join(capsys.readouterr().err.split()))
        assert "Nothing is removed" in said
        assert read_outcomes(tmp_path / "bids")[1]["folders that cannot be opened"] == 1

    def test_with_nothing_else_is_an_error(self, put, run, tmp_path, shut):
        put(tmp_path / "a", "01"), put(tmp_path / "b", "02")
        run(tmp_path / "a", tmp_path / "bids")
        shut(tmp_path / "b")
        with pytest.raises(InputError, match="Correct the permissions of"):
            run(tmp_path / "b", tmp_path / "bids")


class TestOneBadScan:
    def test_of_any_error_is_refused_and_the_others_go_on(self, put, run, tmp_path, monkeypatch, capsys):
        for subject in ("01", "02", "03"):
            put(tmp_path / "a", subject)
        good = scan_jobs.convert_scan

        def convert(found, *rest):
            if found.subject_label == "02":
                raise ZeroDivisionError("secret of Mr Smith")
            return good(found, *rest)

        monkeypatch.setattr(scan_jobs, "convert_scan", convert)
        done = run(tmp_path / "a", tmp_path / "bids")
        assert (done.scans, done.refused, done.failed, done.exit_code) == (2, 1, 1, 1)
        (refusal,) = done.refusals
        assert refusal["rule"] == "unexpected-error"
        assert "ZeroDivisionError" in refusal["message"]
        assert refusal["input"].endswith("sub-02_ses-01_pet.nii.gz")
        log = log_beside(tmp_path / "key")
        assert log.stat().st_mode & 0o777 == 0o600
        assert "secret of Mr Smith" in log.read_text()
        assert str(log) in capsys.readouterr().err.replace("\n", "")
        assert not [n for n, content in tree(tmp_path / "bids").items() if b"Smith" in content]

    def test_that_failed_is_tried_again(self, put, run, tmp_path, monkeypatch):
        put(tmp_path / "a", "01")
        with monkeypatch.context() as broken:
            broken.setattr(scan_jobs, "convert_scan", lambda *_: 1 / 0)
            assert run(tmp_path / "a", tmp_path / "bids").exit_code == 1
        assert run(tmp_path / "a", tmp_path / "bids").exit_code == 0

    def test_that_fails_now_keeps_what_was_ingested_before(self, put, run, tmp_path, monkeypatch):
        put(tmp_path / "a", "01")
        run(tmp_path / "a", tmp_path / "bids")
        before = tree(tmp_path / "bids")
        put(tmp_path / "a", "01", value=3.0)
        monkeypatch.setattr(scan_jobs, "convert_scan", lambda *_: 1 / 0)
        assert run(tmp_path / "a", tmp_path / "bids").failed == 1
        assert tree(tmp_path / "bids") == before

    def test_refused_by_a_rule_is_no_failure_but_nothing_usable_is(self, put, run, tmp_path):
        put(tmp_path / "a", "01"), put(tmp_path / "a", "02", AttenuationCorrection="none")
        put(tmp_path / "b", "03", AttenuationCorrection="none")
        assert run(tmp_path / "a", tmp_path / "bids").exit_code == 0
        assert run(tmp_path / "b", tmp_path / "bids").exit_code == 1

    def test_an_output_that_cannot_be_written_ends_the_ingest(self, put, run, tmp_path, monkeypatch):
        put(tmp_path / "a", "01")

        def full(*_):
            raise OutputError("The disk is full")

        monkeypatch.setattr(scan_jobs, "convert_scan", full)
        with pytest.raises(OutputError, match="The disk is full"):
            run(tmp_path / "a", tmp_path / "bids")

    def test_bytes_in_a_file_name_that_are_no_text_do_not_matter(self, put, run, tmp_path):
        image = put(tmp_path / "source", "01")
        folder = tmp_path / "bare"
        folder.mkdir()
        shutil.copyfile(image, bytes(folder) + b"/M\xfcller.nii.gz")
        shutil.copyfile(put(tmp_path / "source", "02"), folder / "Meier.nii.gz")
        done = run(folder, tmp_path / "bids")
        assert (done.layout, done.scans, done.refused) == ("nifti", 2, 0)
        assert len(read_map(map_beside(tmp_path / "key"))) == 2


class TestWhatIsNew:
    """What is new is found by names, sizes and times; of an old scan nothing is read."""

    @pytest.fixture
    def aged(self, put, run, tmp_path):
        """A source of two scans that are an hour old, and its dataset, ingested twice."""
        paths = [put(tmp_path / "source", subject) for subject in ("A", "B")]
        for path in (tmp_path / "source").rglob("*.*"):
            os.utime(path, (time.time() - 3600,) * 2)
        run(tmp_path / "source", tmp_path / "bids")
        return paths

    @pytest.fixture
    def read(self, monkeypatch):
        """Names of the source's files whose bytes were read."""
        names = []
        real = found.sha256_of_file
        monkeypatch.setattr(found, "sha256_of_file", lambda path: names.append(path.name) or real(path))
        return names

    def test_an_old_scan_is_not_read_again(self, aged, run, read, tmp_path):
        result = run(tmp_path / "source", tmp_path / "bids")
        assert (result.accepted + result.warned, read) == (2, [])

    def test_a_changed_one_is(self, aged, run, put, read, tmp_path):
        put(tmp_path / "source", "A", value=7.0)
        run(tmp_path / "source", tmp_path / "bids")
        assert set(read) == {"sub-A_ses-01_pet.nii.gz", "sub-A_ses-01_pet.json"}

    def test_one_of_the_same_size_and_time_is(self, aged, run, read, tmp_path):
        path = next((tmp_path / "source").rglob("sub-A*_pet.json"))
        before, text = path.stat(), path.read_text()
        path.write_text(text.replace(": ", ":\t", 1))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = path.stat()
        assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        run(tmp_path / "source", tmp_path / "bids")
        assert "sub-A_ses-01_pet.json" in read

    def test_a_file_that_was_written_moments_ago_is_read_next_time_too(self, put, run, read, tmp_path):
        put(tmp_path / "source", "A")
        for _ in range(2):
            run(tmp_path / "source", tmp_path / "bids")
        assert read.count("sub-A_ses-01_pet.nii.gz") == 2

    def test_volumes_have_their_fingerprint_beside_them(self, aged, tmp_path):
        volumes = list((tmp_path / "bids").rglob("*_desc-suvr_pet.nii.gz"))
        assert len(volumes) == 2
        for volume in volumes:
            stored = volume.with_name(volume.name + ".sha256").read_text()
            assert stored == f"{sha256_of_file(volume)}  {volume.name}\n"
