"""An ingest adds, goes on past one bad scan, and says which input it speaks of."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows import ingest as flow
from flows.ingestion import scan_jobs
from flows.ingestion.ingest_tables import COHORT_TABLE, REGION_TABLE, read_outcomes
from pipeline.config import Study
from pipeline.errors import InputError, OutputError
from pipeline.files import sha256_of_file
from pipeline.ingest import found
from pipeline.ingest.records import RECORDS
from pipeline.ingest.source_map import log_beside, map_beside, read_map, who
from pipeline.scan import Cohort

CLASSES = ("CN", "MCI", "AD")


def cohort(bids: Path) -> set[str]:
    return set(Cohort.read_tsv(bids / COHORT_TABLE, CLASSES).scan_ids)


def table(bids: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(bids / name, sep="\t", dtype=str)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class TestAnIngestAdds:
    def test_a_second_source_to_every_table(self, put, run, tmp_path):
        put(tmp_path / "a", "01"), put(tmp_path / "a", "02"), put(tmp_path / "b", "03")
        bids = tmp_path / "bids"
        run(tmp_path / "a", bids)
        first = cohort(bids)
        done = run(tmp_path / "b", bids)
        assert (done.accepted + done.warned, done.scans) == (1, 3)
        assert len(cohort(bids)) == 3
        assert first < cohort(bids)
        assert len(table(bids, REGION_TABLE)) == len(table(bids, "participants.tsv")) == 3
        assert len(table(bids, "derivatives/taucal/ingest_report.tsv")) == len(read_outcomes(bids)[0]) == 3

    @pytest.mark.parametrize("what", ["empty", "unplugged", "nothing of PET"])
    def test_a_source_without_scans_changes_nothing(self, put, run, tmp_path, what):
        put(tmp_path / "a", "01")
        run(tmp_path / "a", tmp_path / "bids")
        before = tree(tmp_path / "bids")
        shutil.rmtree(tmp_path / "a")
        if what != "unplugged":
            (tmp_path / "a").mkdir()
        if what == "nothing of PET":
            (tmp_path / "a" / "notes.txt").write_text("none")
        with pytest.raises(InputError):
            run(tmp_path / "a", tmp_path / "bids", prune=True)
        assert tree(tmp_path / "bids") == before

    def test_what_a_source_no_longer_holds_stays_until_it_is_pruned(self, put, run, tmp_path, capsys):
        gone = put(tmp_path / "a", "01")
        put(tmp_path / "a", "02"), put(tmp_path / "b", "03")
        bids = tmp_path / "bids"
        run(tmp_path / "a", bids), run(tmp_path / "b", bids)
        shutil.rmtree(gone.parents[2])
        run(tmp_path / "a", bids)
        assert len(cohort(bids)) == 3
        before = cohort(bids)
        capsys.readouterr()
        done = run(tmp_path / "a", bids, prune=True)
        assert (done.pruned, done.scans) == (1, 2)
        (lost,) = before - cohort(bids)
        assert f"To be removed, its source does not hold it any more: {lost}" in capsys.readouterr().err
        assert not [name for name in tree(bids) if lost.partition("_")[0] in name]

    def test_a_scan_of_two_sources_is_pruned_when_neither_holds_it(self, put, run, tmp_path):
        bids, one, other = tmp_path / "bids", tmp_path / "a", tmp_path / "b"
        for source in (one, other):
            put(source, "01"), put(source, "02")
            run(source, bids)
        for source, left in ((one, 2), (other, 1)):
            shutil.rmtree(source / "sub-01")
            assert run(source, bids, prune=True).scans == left

    def test_a_record_without_its_source_is_never_pruned(self, put, run, tmp_path):
        bids = tmp_path / "bids"
        put(tmp_path / "a", "01"), put(tmp_path / "a", "02")
        run(tmp_path / "a", bids)
        for path in (bids / RECORDS).glob("*.json"):  # as version .1 wrote them
            old = json.loads(path.read_text())
            path.write_text(
                json.dumps({k: v for k, v in old.items() if k not in ("sources", "settings", "content")})
            )
        shutil.rmtree(tmp_path / "a" / "sub-01")
        done = run(tmp_path / "a", bids, prune=True)
        assert (done.pruned, done.scans) == (0, 2)

    def test_another_image_under_a_name_that_is_taken_is_refused_and_the_first_stays(
        self, put, run, tmp_path
    ):
        bids = tmp_path / "bids"
        put(tmp_path / "a", "01"), put(tmp_path / "b", "01", value=7.0)
        run(tmp_path / "a", bids)
        image = {name: content for name, content in tree(bids).items() if name.endswith(".nii.gz")}
        done = run(tmp_path / "b", bids)
        assert [r["rule"] for r in done.refusals] == ["name-taken"]
        assert {name: content for name, content in tree(bids).items() if name.endswith(".nii.gz")} == image
        assert {o.rule for o in read_outcomes(bids)[0] if o.verdict == "refused"} == {"name-taken"}
        assert len(cohort(bids)) == 1

    @pytest.mark.parametrize("labels", [None, {"file": "mine.csv"}])
    def test_missing_labels_are_counted_apart_from_warnings(self, put, run, tmp_path, labels, capsys):
        put(tmp_path / "in", "01")
        put(tmp_path / "in", "02", AttenuationCorrection=None)
        study = Study(
            name="s",
            output=tmp_path / "out",
            cohort={"path": tmp_path / "bids", "labels": labels},
            ingest={"source": tmp_path / "in", "key_file": tmp_path / "key", "workers": 1},
        )
        result = flow.ingest_study(study)
        assert (result.accepted, result.warned, result.without_label) == (1, 1, 2)
        printed = " ".join(capsys.readouterr().err.split())
        assert "1 accepted, 1 with a warning (conversion: 1), 0 refused." in printed
        assert "No diagnosis in the source for 2 of 2 scans" in printed
        assert ("they get theirs from cohort.labels" in printed) == (labels is not None)

    @pytest.mark.parametrize("what", ["empty", "nothing of PET"])
    def test_an_empty_source_is_named_and_the_dataset_stays(self, put, run, tmp_path, what, capsys):
        put(tmp_path / "a", "01")
        run(tmp_path / "a", tmp_path / "bids")
        before = tree(tmp_path / "bids")
        (tmp_path / "night").mkdir()
        if what == "nothing of PET":
            (tmp_path / "night" / "notes.txt").write_text("none")
        done = run(tmp_path / "night", tmp_path / "bids")
        assert (done.scans, done.exit_code, done.empty) == (1, 0, (str(tmp_path / "night"),))
        assert "No PET scan in this folder" in (said := " ".join(capsys.readouterr().err.split()))
        assert "The dataset keeps its 1 scans." in said
        assert tree(tmp_path / "bids") == before

    def test_an_empty_source_before_anything_was_read_is_an_error(self, run, tmp_path):
        (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
        with pytest.raises(InputError, match="No PET scan in this folder"):
            run([tmp_path / "a", tmp_path / "b"], tmp_path / "bids")

    def test_an_empty_source_never_prunes(self, put, run, tmp_path):
        put(tmp_path / "a", "01"), put(tmp_path / "b", "02")
        run([tmp_path / "a", tmp_path / "b"], tmp_path / "bids")
        before = tree(tmp_path / "bids")
        shutil.rmtree(tmp_path / "a" / "sub-01")
        with pytest.raises(InputError, match="--prune would remove every scan that came from it") as error:
            run([tmp_path / "b", tmp_path / "a"], tmp_path / "bids", prune=True)
        assert error.value.where == str(tmp_path / "a")
        assert tree(tmp_path / "bids") == before

    def test_a_source_that_never_held_a_scan_is_no_reason_not_to_prune_another(
        self, put, run, tmp_path, capsys
    ):
        gone = put(tmp_path / "a", "01")
        put(tmp_path / "a", "02"), (tmp_path / "night").mkdir()
        sources = [tmp_path / "a", tmp_path / "night"]
        run(sources, tmp_path / "bids")
        shutil.rmtree(gone.parents[2])
        done = run(sources, tmp_path / "bids", prune=True)
        assert (done.pruned, done.scans) == (1, 1)
        run(tmp_path / "night", tmp_path / "bids", prune=True)  # nothing came from it
        shutil.rmtree(tmp_path / "a" / "sub-02")
        capsys.readouterr()
        assert run(sources, tmp_path / "bids").scans == 1
        assert "1 scans that were in this source are not there now; they stay" in " ".join(
            capsys.readouterr().err.split()
        )

    @pytest.mark.parametrize("inside", ["", "sub-01"])
    def test_the_dataset_is_no_source_of_itself(self, put, run, tmp_path, inside):
        put(tmp_path / "a", "01")
        run(tmp_path / "a", tmp_path / "bids")
        before = tree(tmp_path / "bids")
        (tmp_path / "bids" / inside).mkdir(exist_ok=True)
        with pytest.raises(InputError, match="The source is the dataset itself, or lies inside it"):
            run(tmp_path / "bids" / inside, tmp_path / "bids")
        assert tree(tmp_path / "bids") == before

    def test_a_dataset_below_its_source_is_not_ingested_again(self, put, run, tmp_path):
        image = put(tmp_path / "a", "01")
        (tmp_path / "data").mkdir()
        image.rename(tmp_path / "data" / "S001_pet.nii.gz")
        for _ in range(2):
            done = run(tmp_path / "data", tmp_path / "data" / "bids", key_file=tmp_path / "key")
            assert (done.scans, done.accepted + done.warned, done.refused) == (1, 1, 0)
        assert read_outcomes(tmp_path / "data" / "bids")[1]["images of the dataset itself"] == 2

    def test_several_sources_in_one_call_as_in_one_after_the_other(self, put, run, tmp_path):
        put(tmp_path / "a", "01"), put(tmp_path / "b", "02"), put(tmp_path / "b", "03")
        sources = [tmp_path / "a", tmp_path / "b"]
        for source in sources:
            run(source, tmp_path / "bids")
        done = run([*sources, tmp_path / "a"], tmp_path / "bids")  # named twice, read once
        assert done.accepted + done.warned == 3
        again = tree(tmp_path / "bids")
        shutil.rmtree(tmp_path / "bids")
        run(sources, tmp_path / "bids")
        assert tree(tmp_path / "bids") == again
        assert len(cohort(tmp_path / "bids")) == 3

    def test_a_disk_that_is_mounted_elsewhere_gives_the_same_scans(self, put, run, tmp_path):
        bids = tmp_path / "bids"
        put(tmp_path / "a", "01")
        run(tmp_path / "a", bids)
        (tmp_path / "a").rename(tmp_path / "b")
        assert run(tmp_path / "b", bids).refused == 0
        assert len(cohort(bids)) == 1

    def test_what_a_moved_source_leaves_alone_is_counted_once(self, put, run, tmp_path):
        bids = tmp_path / "bids"
        for source in ("a", "b"):
            put(tmp_path / source, source)
            (tmp_path / source / "sub-x_ct.nii.gz").write_bytes(b"")
        run(tmp_path / "a", bids), run(tmp_path / "b", bids)
        counts = read_outcomes(bids)[1]
        (tmp_path / "a").rename(tmp_path / "moved")
        run(tmp_path / "moved", bids)
        assert read_outcomes(bids)[1] == counts
        assert sum(counts.values()) >= 2
        shutil.rmtree(tmp_path / "moved" / "sub-a")  # emptied, then moved
        run(tmp_path / "moved", bids)
        (tmp_path / "moved").rename(tmp_path / "again")
        put(tmp_path / "again", "a")
        run(tmp_path / "again", bids)
        assert read_outcomes(bids)[1] == counts

    def test_a_scan_that_was_refused_and_is_accepted_now_is_updated(self, put, run, tmp_path):
        bids = tmp_path / "bids"
        put(tmp_path / "a", "01", AttenuationCorrection="none"), put(tmp_path / "a", "02")
        assert run(tmp_path / "a", bids).refused == 1
        put(tmp_path / "a", "01")
        assert run(tmp_path / "a", bids).refused == 0
        assert {o.verdict for o in read_outcomes(bids)[0]} <= {"accepted", "warned"}
        assert len(cohort(bids)) == 2

    def test_a_refused_scan_of_another_source_stays_in_the_report(self, put, run, tmp_path):
        bids = tmp_path / "bids"
        put(tmp_path / "a", "01", AttenuationCorrection="none"), put(tmp_path / "a", "02")
        put(tmp_path / "b", "03")
        run(tmp_path / "a", bids), run(tmp_path / "b", bids)
        rules = [o.rule for o in read_outcomes(bids)[0]]
        assert rules.count("not-attenuation-corrected") == 1

    def test_an_accepted_scan_whose_source_is_broken_now_stays(self, put, run, tmp_path):
        bids = tmp_path / "bids"
        image = put(tmp_path / "a", "01")
        run(tmp_path / "a", bids)
        before = tree(bids)
        image.write_bytes(image.read_bytes()[:40])
        done = run(tmp_path / "a", bids)
        assert done.refusals[0]["rule"] == "truncated-file"
        assert "was ingested before stays" in done.refusals[0]["message"]
        assert tree(bids) == before

    def test_two_scans_of_one_day_from_two_sources_are_two_sessions(self, put, run, tmp_path):
        bids = tmp_path / "bids"
        for source, name in (("a", "first"), ("b", "second")):
            image = put(tmp_path / source, "01", "01", value=float(len(name)))
            renamed = image.with_name(f"sub-01_ses-01_rec-{name}_pet.nii.gz")
            image.rename(renamed)
            image.with_name("sub-01_ses-01_pet.json").rename(renamed.with_name(renamed.name[:-7] + ".json"))
        for source in ("a", "b", "a", "b"):
            run(tmp_path / source, bids)
            sessions = cohort(bids)
        assert len(sessions) == 2
        assert len({s.partition("_ses-")[0] for s in sessions}) == 1

    def test_files_removed_by_hand_are_reported_and_in_no_table(self, put, run, tmp_path, capsys):
        bids = tmp_path / "bids"
        put(tmp_path / "a", "01"), put(tmp_path / "b", "02")
        run(tmp_path / "a", bids)
        (withdrawn,) = bids.glob("sub-*")
        shutil.rmtree(withdrawn)
        assert run(tmp_path / "b", bids).scans == 1
        assert "Files of 1 scans are missing" in capsys.readouterr().err

    def test_a_broken_record_of_another_source_is_an_error_that_names_it(self, put, run, tmp_path):
        bids = tmp_path / "bids"
        put(tmp_path / "a", "01"), put(tmp_path / "b", "02")
        run(tmp_path / "a", bids)
        (record,) = (bids / RECORDS).glob("*.json")
        record.write_text("{")
        with pytest.raises(InputError, match="A record of the dataset cannot be read") as error:
            run(tmp_path / "b", bids)
        assert error.value.where == str(record)
        assert run(tmp_path / "a", bids).scans == 2

    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(order=st.lists(st.sampled_from("abc"), min_size=1, max_size=5))
    def test_any_order_of_sources_leaves_every_scan_of_each(self, put, run, tmp_path_factory, order):
        folder = tmp_path_factory.mktemp("order")
        held = {"a": ("01", "02"), "b": ("02", "03"), "c": ("04",)}
        for source in order:
            for subject in held[source]:
                put(folder / source, subject)
            run(folder / source, folder / "bids")
        assert len(cohort(folder / "bids")) == len({s for source in order for s in held[source]})


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


def test_the_way_back_from_a_pseudonym_is_private(put, run, tmp_path):
    image = put(tmp_path / "a", "01")
    run(tmp_path / "a", tmp_path / "bids")
    (scan,) = cohort(tmp_path / "bids")
    subject = scan.partition("_ses-")[0]
    for name in (scan, subject, subject.removeprefix("sub-")):
        (found,) = who(name, tmp_path / "key").values()
        assert (found["subject"], found["paths"]) == ("01", [str(image)])
    path = map_beside(tmp_path / "key")
    assert path.stat().st_mode & 0o777 == 0o600
    assert not path.is_relative_to(tmp_path / "bids")
    assert not [n for n, content in tree(tmp_path / "bids").items() if str(tmp_path).encode() in content]
    with pytest.raises(InputError, match="does not hold sub-NOBODY"):
        who("NOBODY", tmp_path / "key")


def test_a_map_that_is_absent_or_broken_is_named(tmp_path):
    with pytest.raises(InputError, match="There is no map") as error:
        who("X", tmp_path / "key")
    assert error.value.where == str(map_beside(tmp_path / "key"))
    map_beside(tmp_path / "key").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        who("X", tmp_path / "key")


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("Smith", "is a str, expected a JSON object"), (None, "is a NoneType"), (["a"], "is a list"),
        ({}, "has no usable subject, date, series, paths"), ({"paths": []}, "series, paths"),
        ({"paths": [1]}, "paths"), ({"paths": ["/a"], "subject": 7}, "has no usable subject, date"),
    ],
)  # fmt: skip
def test_a_map_with_a_strange_entry_is_an_error_that_names_it(tmp_path, entry, problem):
    path = map_beside(tmp_path / "key")
    whole = {"subject": "01", "date": "", "session": "", "series": "", "paths": ["/x"]}
    path.write_text(json.dumps({"sub-A_ses-1": whole, "sub-B_ses-1": entry}))
    with pytest.raises(
        InputError, match=f"Entry 'sub-B_ses-1' of the map of the pseudonyms .*{problem}"
    ) as error:
        who("A", tmp_path / "key")
    assert error.value.where == str(path)
    assert "ingest the sources again" in (error.value.hint or "")


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
