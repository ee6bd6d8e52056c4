"""An ingest adds: what another source, an empty one or a vanished scan leaves of the dataset."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingested import cohort, table, tree

from flows import ingest as flow
from flows.ingestion.ingest_tables import REGION_TABLE, read_outcomes
from pipeline.config import Study
from pipeline.errors import InputError
from pipeline.ingest.records import RECORDS


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
