"""Classes of a study from the words of the cohort's table, without a new ingest."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import CohortSettings
from pipeline.errors import CohortError
from pipeline.learning.class_labels import in_words, with_classes
from pipeline.scan import STATED, Cohort, Scan


def scan(name, diagnosis=None, stated=None, posterior=None, **facts):
    given = {**facts, **({STATED: stated} if stated else {})}
    return Scan(name, "M0", Path("x"), diagnosis=diagnosis, facts=given, posterior=posterior)


def classed(scans, **settings):
    cohort = Cohort(tuple(scans), ("CN", "MCI", "AD"))
    found, left_out = with_classes(cohort, CohortSettings(path="x", **settings).words)
    return [s.diagnosis for s in found.scans], left_out, found


SCANS = [scan("1", "CN", "SMC"), scan("2", "MCI", "LMCI"), scan("3", "AD"), scan("4", None, "FTD")]


def test_merging_and_leaving_out_take_effect_on_the_table_as_it_is():
    assert classed(SCANS)[0] == ["CN", "MCI", "AD", None]
    assert classed(SCANS, classes=["CN", "MCI"])[:2] == (["CN", "MCI", None, None], {"AD": 1, "FTD": 1})
    merged = {"CN": ["CN", "SMC"], "impaired": ["MCI", "AD"]}
    assert classed(SCANS, merge=merged)[0] == ["CN", "impaired", "impaired", None]
    assert classed(SCANS, merge={"FTD": ["FTD"]})[0] == ["CN", "MCI", "AD", "FTD"]


def test_a_word_nobody_knows_is_named_with_its_count_and_the_line_that_maps_it():
    _, left_out, _ = classed([*SCANS, scan("5", None, "FTD")])
    sentence, line = in_words(left_out, CohortSettings(path="x").words)
    assert sentence == "2 scans state 'FTD', which belongs to none of CN, MCI, AD."
    assert line == (
        "To count 'FTD', write it into the list of its class: cohort.merge: {CN: [CN], MCI: [MCI], AD: [AD]}."
    )


def test_a_class_that_is_left_out_on_purpose_is_not_advised_into_another():
    two = CohortSettings(path="x", classes=["CN", "AD"]).words
    mild = [scan("1", "MCI"), scan("2", "MCI", "LMCI"), scan("3", "MCI")]
    assert in_words(classed(mild, classes=["CN", "AD"])[1], two) == [
        "2 scans state 'MCI', which belongs to none of CN, AD: they are left out.",
        "1 scan states 'LMCI', which belongs to none of CN, AD: it is left out.",
    ]
    *_, line = in_words(classed([*mild, scan("4", None, "FTD")], classes=["CN", "AD"])[1], two)
    assert line == (
        "To count 'FTD', write it into the list of its class: cohort.merge: {CN: [CN], AD: [AD]}."
    )
    reads = CohortSettings(path="x", target="read", classes=["negative", "other"]).words
    assert len(in_words(classed([scan("1", read="pos")], target="read", classes=reads.names)[1], reads)) == 1


def test_of_several_words_none_is_given_a_class_that_it_may_not_have():
    """Three lines that each count a word as CN would overwrite each other, and be wrong for codes 1 and 2."""
    codes = [scan("1", None, "0"), scan("2", None, "1"), scan("3", None, "2")]
    *counts, line = in_words(classed(codes)[1], CohortSettings(path="x").words)
    assert [sentence.split(",")[0] for sentence in counts] == [f"1 scan states '{n}'" for n in range(3)]
    assert line == (
        "To count unknown words, write each into the list of its class: "
        "cohort.merge: {CN: [CN], MCI: [MCI], AD: [AD]}."
    )


def test_the_true_probabilities_are_those_of_the_classes_alone():
    truth = scan("1", "CN", posterior=(0.5, 0.3, 0.2))
    assert classed([truth])[2].scans[0].posterior == (0.5, 0.3, 0.2)
    assert classed([truth], merge={"impaired": ["MCI", "AD"]})[2].scans[0].posterior == (0.5, 0.5)
    assert classed([truth], classes=["CN", "MCI"])[2].scans[0].posterior == pytest.approx((0.625, 0.375))


def test_another_target_is_read_from_its_column():
    scans = [scan("1", "CN", amyloid_status="Neg"), scan("2", "AD", amyloid_status="A+"), scan("3", "AD")]
    assert classed(scans, target="amyloid_status")[0] == ["negative", "positive", None]
    numbers = [scan("1", stage=0.0), scan("2", stage=2.0)]
    merged = {"low": [0, 1], "high": [2, 3]}
    assert classed(numbers, target="stage", merge=merged)[0] == ["low", "high"]


def test_a_target_that_no_scan_states_is_refused_with_the_way_to_give_it():
    with pytest.raises(CohortError, match=r"cohort.target is read.*columns are age.*cohort\.labels: \{file"):
        classed([scan("1", "CN", age=70.0)], target="read")
