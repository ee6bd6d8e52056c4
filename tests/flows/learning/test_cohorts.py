"""The labelled cohort of a study: merged, left out or labelled anew, without a new ingest."""

from __future__ import annotations

import dataclasses
import json
import threading
from contextlib import nullcontext
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from flows.ingestion.ingest_tables import COHORT_TABLE
from flows.learning.cohorts import READ_LABELS, labelled_cohort, prepare_volumes, split_of, whole_cohort
from flows.running import locks, task_runs
from pipeline import tracking
from pipeline.atlas import AFFINE, SHAPE
from pipeline.config import Study
from pipeline.errors import CohortError
from pipeline.evaluation.monitoring.reads import Read
from pipeline.files import exclusive
from pipeline.scan import STATED, Cohort, Scan


@pytest.fixture
def study(tmp_path):
    """The function that returns a study of ten CN, nine MCI, five AD and two FTD, with these settings."""
    words = ["HC"] * 10 + ["LMCI"] * 9 + ["AD dementia"] * 5 + ["FTD"] * 2
    meanings = ["CN"] * 10 + ["MCI"] * 9 + ["AD"] * 5 + [None] * 2
    scans = [
        Scan(f"P{n:02d}", "M0", Path("x.nii.gz"), diagnosis=meaning, facts={STATED: word, "age": 70.0 + n})
        for n, (word, meaning) in enumerate(zip(words, meanings, strict=True))
    ]
    Cohort(tuple(scans), ("CN", "MCI", "AD")).write_tsv(tmp_path / "bids" / COHORT_TABLE)

    def make(**cohort):
        return Study(name="s", output=tmp_path / "out", cohort={"path": tmp_path / "bids", **cohort})

    return make


def counts(cohort):
    return [sum(s.diagnosis == name for s in cohort.scans) for name in cohort.class_names]


def test_words_of_no_class_are_printed_with_the_line_that_maps_them(study, capsys):
    assert counts(labelled_cohort(study())) == [10, 9, 5]
    printed = " ".join(capsys.readouterr().err.split())
    assert "2 scans state 'FTD'" in printed
    assert "To count 'FTD', write it into the list of its class: cohort.merge: {CN: [CN]," in printed
    assert "2 scans whose diagnosis is in no class are left out: sub-P24_ses-M0, sub-P25_ses-M0." in printed
    assert "without a diagnosis" not in printed


def test_scans_of_an_omitted_class_are_counted_apart_from_those_without_a_diagnosis(study, tmp_path, capsys):
    table = Cohort.read_tsv(tmp_path / "bids" / COHORT_TABLE)
    silent = Scan("P99", "M0", Path("x.nii.gz"), facts={"age": 70.0})
    Cohort((*table.scans, silent), table.class_names).write_tsv(tmp_path / "bids" / COHORT_TABLE)
    assert counts(labelled_cohort(study(classes=["CN", "MCI"]))) == [10, 9]
    printed = capsys.readouterr().err
    assert "7 scans whose diagnosis is in no class are left out: sub-P19_ses-M0," in printed
    assert "1 scan without a diagnosis is left out: sub-P99_ses-M0." in printed
    assert "5 scans state 'AD dementia', which belongs to none of CN, MCI: they are left out." in printed


def test_classes_are_left_out_and_merged(study):
    assert counts(labelled_cohort(study(classes=["CN", "MCI"]))) == [10, 9]
    assert counts(labelled_cohort(study(merge={"impaired": ["MCI", "AD"]}))) == [10, 14]
    assert counts(labelled_cohort(study(merge={"AD": ["AD", "FTD"]}))) == [10, 9, 7]


def followed(study, settings, hint, start):
    """Split the cohort of a study by the advice of a hint that starts so, and return its classes."""
    (advice,) = [way for way in hint.split(", or ") if way.startswith(start)]
    lines = advice.partition(": ")[2].split(" with ")
    given = {k.removeprefix("cohort."): v for line in lines for k, v in yaml.safe_load(line).items()}
    then = study(**settings | given)
    split_of(then, labelled_cohort(then))
    return then.cohort.classes


@pytest.mark.parametrize("names", [{}, {"classes": ["CN", "MCI", "AD"]}])
@pytest.mark.parametrize("merge", [{}, {"AD": ["AD", "dat"], "CN": ["CN", "SMC"]}])
def test_the_advice_about_a_small_class_leads_to_a_split(study, names, merge):
    given = {**names, **({"merge": merge} if merge else {})}
    with pytest.raises(CohortError, match=r"AD has 5 subjects.*at least 8 of each class") as refused:
        split_of(study(**given), labelled_cohort(study(**given)))
    assert followed(study, given, refused.value.hint, "merge MCI and AD: ") == ("CN", "impaired")
    assert followed(study, given, refused.value.hint, "leave AD out: ") == ("CN", "MCI")
    if not merge:
        line = "cohort.merge: {impaired: [MCI, AD]} with cohort.classes: [CN, impaired]"
        assert line in refused.value.hint


def test_a_small_class_of_healthy_people_is_advised_into_no_other(study):
    with pytest.raises(CohortError, match="class FTD: FTD has 2 subjects") as refused:
        split_of(study(classes=["FTD", "CN", "MCI"]), labelled_cohort(study(classes=["FTD", "CN", "MCI"])))
    assert "cohort.merge" not in refused.value.hint


@pytest.mark.parametrize(
    ("scheme", "parts"),
    [("auto", "Cross-fitting and the test part"), ("split", "train, validation, calibration, test")],
)
def test_an_error_names_the_parts_that_the_study_has(study, scheme, parts):
    given = study()
    calibration = given.calibration.model_copy(update={"scheme": scheme})
    given = given.model_copy(update={"calibration": calibration})
    with pytest.raises(CohortError, match=rf"AD has 5 subjects\. {parts} together need at least 8 of each"):
        split_of(given, labelled_cohort(given))


def test_nothing_is_advised_that_would_leave_one_class(study):
    two = study(classes=["CN", "AD"])
    with pytest.raises(CohortError, match="AD has 5 subjects") as refused:
        split_of(two, labelled_cohort(two))
    assert refused.value.hint == "Add subjects of AD"


def test_two_small_classes_that_are_enough_together_are_advised_to_merge(study):
    given = study(min_subjects_per_class=10)
    with pytest.raises(CohortError, match="MCI has 9 subjects, AD has 5 subjects") as refused:
        split_of(given, labelled_cohort(given))
    assert "cohort.merge: {impaired: [MCI, AD]}" in str(refused.value)
    merged = study(min_subjects_per_class=10, merge={"impaired": ["MCI", "AD"]})
    split_of(merged, labelled_cohort(merged))


def test_labels_of_a_table_take_the_place_of_those_of_the_source(study, tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text(
        "subject,dx\n" + "".join(f"P{n:02d},{'AD' if n % 2 else 'control'}\n" for n in range(20))
    )
    found = labelled_cohort(study(labels={"file": str(table)}))
    assert counts(found) == [10, 0, 14]


def test_a_cohort_without_a_label_names_the_words_it_has(study):
    with pytest.raises(CohortError, match=r"No scan .* classes a, b\. 10 scans state 'HC'.*cohort\.merge"):
        labelled_cohort(study(classes=["a", "b"]))


def test_every_scan_stays_in_the_table_of_the_whole_cohort(study):
    assert len(whole_cohort(study(classes=["CN", "MCI"])).scans) == 26


def test_another_target(study, tmp_path):
    table = tmp_path / "reads.csv"
    table.write_text("subject,read\n" + "".join(f"P{n:02d},{'pos' if n % 2 else 'neg'}\n" for n in range(26)))
    given = study(target="visual_read", labels={"file": str(table), "diagnosis": "read"})
    assert given.cohort.classes == ("negative", "positive")
    assert counts(labelled_cohort(given)) == [13, 13]


@pytest.mark.parametrize(
    ("cohort", "problem"),
    [
        ({"merge": {"CN": ["SMC"], "x": ["SMC"]}}, "smc is in two classes"),
        ({"classes": ["CN", "AD"], "merge": {"x": ["MCI"]}}, "x is not in cohort.classes"),
        ({"classes": ["CN", "MCI", "x"], "merge": {"x": ["MCI", "AD"]}}, "MCI is merged into x"),
    ],
)
def test_settings_that_contradict_each_other(study, cohort, problem):
    with pytest.raises(ValueError, match=problem):
        study(**cohort)


def test_the_settings_are_read_back_as_they_were_written(study):
    given = study(merge={"low": [0, "no"], "high": [1]}, target="stage")
    assert given.cohort.merge == {"low": ("0", "no"), "high": ("1",)}
    assert "merge" not in study().to_yaml()
    assert dataclasses.astuple(given.cohort.words)[0] == ("low", "high")


_CLASSES = ("CN", "MCI", "AD")


@pytest.fixture
def judged(tmp_path) -> Study:
    """Sixty diagnosed subjects, three without a class, of whom one states another diagnosis; reads of all."""
    (tmp_path / "bids" / COHORT_TABLE).parent.mkdir(parents=True)
    scans = [Scan(f"{n:02}", "M0", Path("x"), diagnosis=_CLASSES[n % 3]) for n in range(60)]
    scans += [Scan(name, "M0", Path("x")) for name in ("blind", "seen")]
    scans.append(Scan("other", "M0", Path("x"), facts={STATED: "FTD"}))
    Cohort(tuple(scans), _CLASSES).write_tsv(tmp_path / "bids" / COHORT_TABLE)
    audit = tracking.audit_of(tmp_path / "out")
    for subject in ("blind", "seen", "00", "other"):
        facts = Read("AB", "positive", "temporal", "good", "AD", blind=subject != "seen").to_dict()
        del facts["comment"]
        more = {"scan": f"sub-{subject}_ses-M0", "trace": "tr", "supersedes": None, "answer": {}}
        audit.append("read", key=subject, who="AB", version=1, facts={**facts, **more})
    return Study(name="tiny", output=tmp_path / "out", cohort={"path": tmp_path / "bids"})


def with_reads(study: Study, **more: bool) -> Study:
    labels = study.labels.model_copy(update={"from_reads": True, **more})
    return study.model_copy(update={"labels": labels})


def test_without_the_setting_a_read_labels_nothing(judged):
    cohort = labelled_cohort(judged)
    assert len(cohort) == 60
    assert not (judged.output / READ_LABELS).exists()
    assert "labels" not in judged.learning_settings(), "studies of before are as they were"


def test_a_blind_read_labels_a_scan_without_a_diagnosis_for_training_alone(judged, capsys):
    cohort = labelled_cohort(with_reads(judged))
    assert {s.subject: s.diagnosis for s in cohort.scans if s.subject in ("blind", "seen", "00")} == {
        "00": "CN", "blind": "AD",
    }  # fmt: skip
    assert "1 scans without a diagnosis have the class that readers gave." in capsys.readouterr().err
    (row,) = json.loads((judged.output / READ_LABELS).read_text())
    assert row == {
        "scan": "sub-blind_ses-M0", "diagnosis": "AD", "readers": ["AB"], "entries": [1], "blind": True,
    }  # fmt: skip
    split, without = split_of(with_reads(judged), cohort), split_of(judged, labelled_cohort(judged))
    assert split.test == without.test
    assert set(split.train) - set(without.train) == {"sub-blind_ses-M0"}


def test_a_scan_of_a_class_that_is_left_out_keeps_its_diagnosis(judged):
    two = judged.cohort.model_copy(update={"classes": ("CN", "AD")})
    cohort = labelled_cohort(with_reads(judged.model_copy(update={"cohort": two})))
    assert len(cohort) == 41, "forty, and the one that states nothing"


def test_reads_with_the_answer_in_view_count_where_the_study_wants_them(judged):
    cohort = labelled_cohort(with_reads(judged, blind_only=False))
    assert {"blind", "seen"} <= set(cohort.subjects)
    assert "labels" in with_reads(judged).learning_settings(), "what is learned has changed"


def test_volumes_are_prepared_with_a_bar_and_whoever_waits_is_told_for_whom(study, tmp_path, monkeypatch):
    path = tmp_path / "x.nii.gz"
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.float32), AFFINE), path)
    cohort = Cohort((Scan("P01", "M0", path, diagnosis="CN"),), ("CN", "AD"))
    moved, lines, held, release = [], [], threading.Event(), threading.Event()
    monkeypatch.setattr(
        task_runs, "shared_progress", lambda title: nullcontext(lambda *counts: moved.append((title, counts)))
    )
    monkeypatch.setattr(locks, "say", lambda sentence: (lines.append(sentence), release.set()))

    def hold():
        with exclusive(tmp_path / "out" / "cache" / ".lock", "prepared volumes"):
            held.set()
            release.wait(240)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(240)
    made = study()
    first = prepare_volumes(made, cohort)
    holder.join()
    assert [line[:57] for line in lines] == ["Waiting. Another process has locked the prepared volumes:"]
    assert moved == [("volumes", (0, 1, "")), ("volumes", (1, 1, ""))]
    assert prepare_volumes(made, cohort).digest() == first.digest()
    assert len(moved) == 2, "nothing is left to prepare"
