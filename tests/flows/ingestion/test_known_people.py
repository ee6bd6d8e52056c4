"""Who is known already: two people under one label, one person or image under two, the key of the dataset."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from ingested import cohort, table, tree

from flows.ingestion.ingest_tables import COHORT_TABLE
from pipeline.errors import InputError
from pipeline.ingest.records import RECORDS
from pipeline.ingest.source_map import map_beside, read_map


class TestOneImageTwoNames:
    def test_a_renamed_subject_is_not_counted_twice(self, put, run, tmp_path):
        bids = tmp_path / "bids"
        put(tmp_path / "a", "01", value=4.0), put(tmp_path / "a", "02")
        run(tmp_path / "a", bids)
        before = cohort(bids)
        shutil.rmtree(tmp_path / "a" / "sub-01")
        put(tmp_path / "a", "01x", value=4.0)
        for _ in range(2):
            done = run(tmp_path / "a", bids)
            assert [r["rule"] for r in done.refusals] == ["same-image"]
            assert "taucal who" in done.refusals[0]["message"]
            assert cohort(bids) == before
            assert len(list(bids.glob("sub-*"))) == 2
        assert run(tmp_path / "a", bids, prune=True).refused == 0
        assert len(cohort(bids)) == 2
        assert len(cohort(bids) & before) == 1

    def test_copies_in_one_source_are_one_scan(self, put, run, tmp_path):
        put(tmp_path / "a", "01", value=4.0), put(tmp_path / "a", "02", value=4.0)
        done = run(tmp_path / "a", tmp_path / "bids")
        assert (done.scans, [r["rule"] for r in done.refusals], done.exit_code) == (1, ["same-image"], 0)
        assert len(table(tmp_path / "bids", "participants.tsv")) == 1

    def test_a_conversion_of_a_scan_under_another_name_is_no_second_scan(self, put, run, tmp_path):
        bids = tmp_path / "bids"
        put(tmp_path / "a", "01"), put(tmp_path / "a", "02", value=4.0)
        run(tmp_path / "a", bids)
        before = cohort(bids)
        # What an ingest wrote holds the same voxels in other bytes; here, under the pseudonym.
        shutil.copytree(bids, tmp_path / "copy", ignore=shutil.ignore_patterns("derivatives"))
        for _ in range(2):  # the second night neither lets them in nor tries them again
            done = run(tmp_path / "copy", bids)
            assert [r["rule"] for r in done.refusals] == ["same-image", "same-image"]
            assert cohort(bids) == before
            for record in (bids / RECORDS).glob("*.json"):  # as earlier versions wrote them
                values = json.loads(record.read_text())
                record.write_text(json.dumps(values | {"volume": ""}))
        assert len(list(bids.glob("sub-*"))) == 2
        shutil.rmtree(tmp_path / "a"), (tmp_path / "a").mkdir()
        put(tmp_path / "a", "02", value=4.0)
        run(tmp_path / "a", bids, prune=True)
        assert run(tmp_path / "copy", bids).refused == 1  # the other one is the only one of its scan now

    def test_a_copy_is_let_in_once_the_other_one_shows_something_else(self, put, run, tmp_path):
        bids = tmp_path / "bids"
        put(tmp_path / "a", "01")
        run(tmp_path / "a", bids)
        shutil.copytree(bids, tmp_path / "copy", ignore=shutil.ignore_patterns("derivatives"))
        assert run(tmp_path / "copy", bids).refused == 1
        put(tmp_path / "a", "01", value=4.0)
        run(tmp_path / "a", bids)
        done = run(tmp_path / "copy", bids)
        assert (done.refused, len(cohort(bids))) == (0, 2)

    def test_a_folder_mounted_one_level_up_does_not_double_its_bare_images(self, put, run, tmp_path):
        bids = tmp_path / "bids"
        (tmp_path / "disk" / "night").mkdir(parents=True)
        shutil.copyfile(put(tmp_path / "a", "01"), tmp_path / "disk" / "night" / "Meier.nii.gz")
        run(tmp_path / "disk" / "night", bids)
        done = run(tmp_path / "disk", bids)
        assert (done.scans, done.exit_code) == (1, 0)


class TestTwoPeopleOneLabel:
    def people(self, source: Path, *rows: str) -> None:
        (source / "participants.tsv").write_text(
            "\n".join(("participant_id\tsex\tage\tdiagnosis", *rows)) + "\n"
        )

    @pytest.mark.parametrize("row", ["sub-01\tF\t70\tCN", "sub-01\tM\t40\tCN"])
    def test_of_another_sex_or_age_are_not_one_subject(self, put, run, tmp_path, row):
        put(tmp_path / "a", "01", "01"), put(tmp_path / "b", "01", "02")
        self.people(tmp_path / "a", "sub-01\tM\t70\tCN"), self.people(tmp_path / "b", row)
        run(tmp_path / "a", tmp_path / "bids")
        done = run(tmp_path / "b", tmp_path / "bids")
        assert [r["rule"] for r in done.refusals] == ["whose-scan"]
        assert "another sex or age" in done.refusals[0]["message"]
        assert (run(tmp_path / "a", tmp_path / "bids").refused, done.scans) == (0, 1)
        for _ in range(2):  # another night changes nothing
            assert run(tmp_path / "b", tmp_path / "bids").scans == 1

    def test_who_may_be_one_are_named(self, put, run, tmp_path, capsys):
        put(tmp_path / "a", "01", "01"), put(tmp_path / "b", "01", "02")
        self.people(tmp_path / "a", "sub-01\tM\t70\tCN"), self.people(tmp_path / "b", "sub-01\tM\t72\tCN")
        assert run([tmp_path / "a", tmp_path / "b"], tmp_path / "bids").scans == 2
        assert "are taken as the same people: sub-" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("first", "second"), [("M01", "m01"), ("0007", "7"), ("7", "007"), ("S12", "s12")]
    )
    def test_who_are_spelled_in_two_ways_are_one_subject(self, put, run, tmp_path, capsys, first, second):
        bids = tmp_path / "bids"
        put(tmp_path / "a", first), put(tmp_path / "b", second, "02")
        run(tmp_path / "a", bids)
        capsys.readouterr()
        for _ in range(2):  # and they stay one
            assert run(tmp_path / "b", bids).scans == 2
            assert len({scan.partition("_")[0] for scan in cohort(bids)}) == 1
        assert {entry["subject"] for entry in read_map(map_beside(tmp_path / "key")).values()} == {first}

    def test_whose_ids_differ_by_zeros_are_two_where_the_source_has_both(self, put, run, tmp_path):
        bids = tmp_path / "bids"
        put(tmp_path / "a", "01"), put(tmp_path / "b", "01", "02"), put(tmp_path / "b", "1", "03")
        run(tmp_path / "a", bids), run(tmp_path / "b", bids)
        assert len({scan.partition("_")[0] for scan in cohort(bids)}) == 2
        put(tmp_path / "c", "001", "04")
        assert [r["rule"] for r in run(tmp_path / "c", bids).refusals] == ["whose-scan"]

    def test_whose_ids_differ_by_zeros_are_two_where_their_sex_does(self, put, run, tmp_path):
        bids = tmp_path / "bids"
        for source, subject, sex in (("a", "01", "F"), ("b", "1", "M")):
            put(tmp_path / source, subject)
            (tmp_path / source / "participants.tsv").write_text(
                f"participant_id\tsex\nsub-{subject}\t{sex}\n"
            )
            assert not run(tmp_path / source, bids).refusals
        assert len({scan.partition("_")[0] for scan in cohort(bids)}) == 2

    def test_a_second_source_without_a_diagnosis_takes_none_away(self, put, run, tmp_path):
        bids = tmp_path / "bids"
        put(tmp_path / "a", "01"), put(tmp_path / "b", "01")
        self.people(tmp_path / "a", "sub-01\tM\t70\tAD")
        for source in ("a", "b", "b"):
            assert run(tmp_path / source, bids).refused == 0
            assert list(table(bids, COHORT_TABLE).diagnosis) == ["AD"]

    def test_a_changed_diagnosis_is_taken_and_named(self, put, run, tmp_path, capsys):
        put(tmp_path / "a", "01")
        self.people(tmp_path / "a", "sub-01\tM\t70\tMCI")
        run(tmp_path / "a", tmp_path / "bids")
        self.people(tmp_path / "a", "sub-01\tM\t70\tAD")
        run(tmp_path / "a", tmp_path / "bids")
        assert list(table(tmp_path / "bids", COHORT_TABLE).diagnosis) == ["AD"]
        assert "The diagnosis of 1 scans changed" in (said := capsys.readouterr().err)
        assert "MCI -> AD" in said


class TestTheKeyOfADataset:
    @pytest.mark.parametrize("key", ["missing", "another"])
    def test_that_is_missing_or_another_is_refused_as_everybody_would_be_there_twice(
        self, put, run, tmp_path, key
    ):
        put(tmp_path / "a", "01")
        run(tmp_path / "a", tmp_path / "bids")
        (tmp_path / "key").rename(tmp_path / "lost")
        if key == "another":
            put(tmp_path / "b", "01")
            run(tmp_path / "b", tmp_path / "other")
        before = tree(tmp_path / "bids")
        with pytest.raises(InputError, match=r"key of this dataset is missing|not the key that the") as error:
            run(tmp_path / "a", tmp_path / "bids")
        assert error.value.where == str(tmp_path / "key")
        assert tree(tmp_path / "bids") == before
        assert (tmp_path / "key").exists() == (key == "another")
        assert run(tmp_path / "a", tmp_path / "bids", key_file=tmp_path / "lost").scans == 1
