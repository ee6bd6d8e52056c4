"""How often readers change answers: counts by group, intervals, and whether a rise is noticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.monitoring.agreement import (
    OverrideRate,
    agreement_of,
    check_overrides,
    overrides_since,
)
from pipeline.evaluation.monitoring.reads import AnsweredRead, Read, RecordedRead

FINDING = {"decision": "report", "most_likely": "AD", "confidence": 0.8, "prediction_set": ["AD"]}
_READ = Read("AB", "positive", "temporal", "good", verdict="accept")


def read(number: int = 1, scan: str = "sub-A_ses-1", version: str = "1", answer=FINDING, **more):
    month = more.pop("month", 1)
    recorded = RecordedRead(
        replace(_READ, **{k: v for k, v in more.items() if k != "superseded"}), "", "tr",
        f"2026-{month:02d}-01T00:00:00Z", number, more.get("superseded", False),
    )  # fmt: skip
    return AnsweredRead(scan, version, answer, recorded)


def many(count: int, overridden: int, start: int = 1, **more) -> list[AnsweredRead]:
    return [
        read(start + n, scan=f"sub-{start + n}_ses-1", verdict="reject" if n < overridden else "accept",
             reason="borderline" if n < overridden else None, **more)
        for n in range(count)
    ]  # fmt: skip


def test_the_interval_is_wilsons():
    rate = OverrideRate.of("all", many(10, 1))
    # Newcombe, Statistics in Medicine 1998, method 3, by its closed form: z = 1.95996, k = 1, n = 10.
    z, k, n = 1.959964, 1, 10
    middle, half = (k + z * z / 2) / (n + z * z), z / (n + z * z) * np.sqrt(k * (n - k) / n + z * z / 4)
    assert (rate.low, rate.high) == (pytest.approx(middle - half), pytest.approx(middle + half))
    assert (rate.overrides, rate.reads, rate.share) == (1, 10, 0.1)
    nothing = OverrideRate.of("none", [])
    assert (nothing.share, nothing.low, nothing.high) == (0.0, 0.0, 1.0)


def test_what_is_superseded_or_has_no_verdict_does_not_count():
    reads = [read(1, superseded=True, verdict="reject"), read(2), read(3, reader="CD", verdict=None)]
    found = agreement_of(reads)
    assert (found.overall.overrides, found.overall.reads, found.open_reads) == (0, 1, 1)
    assert (found.scans, found.readers) == (1, 1)


def test_confidence_has_bins_in_order_and_only_findings():
    values = (0.5, 0.500001, 0.7, 0.9, 0.91)
    reads = [read(n, answer=FINDING | {"confidence": c}) for n, c in enumerate(values)]
    reads.append(read(9, answer=FINDING | {"decision": "refer"}))
    reads.append(read(10, answer={"decision": "refused", "most_likely": None, "confidence": None}))
    found = agreement_of(reads).groups
    assert [(r.label, r.reads) for r in found["confidence"]] == [
        ("up to 50 %", 1), ("50 to 70 %", 2), ("70 to 90 %", 1), ("above 90 %", 1),
    ]  # fmt: skip
    assert [(r.label, r.reads) for r in found["decision"]] == [
        ("finding", 5), ("referred to an expert", 1), ("refused", 1),
    ]  # fmt: skip


def test_versions_are_in_order_of_their_numbers_and_months_of_the_calendar():
    reads = [read(n, version=v, month=m) for n, (v, m) in enumerate((("10", 12), ("9", 2), ("", 11)))]
    found = agreement_of(reads).groups
    assert [r.label for r in found["version"]] == ["no version", "version 9", "version 10"]
    assert [r.label for r in found["month"]] == ["2026-02", "2026-11", "2026-12"]


def test_blind_reads_stand_apart_from_those_with_the_answer_in_view():
    found = agreement_of([read(1, blind=True, verdict="modify"), read(2), read(3)])
    assert [(r.label, r.overrides, r.reads) for r in found.groups["blind"]] == [
        ("read before the answer was shown", 1, 1), ("read with the answer in view", 0, 2),
    ]  # fmt: skip


def test_readers_of_one_scan_are_compared_by_what_they_see():
    reads = [
        read(1), read(2, reader="CD"),
        read(3, "sub-B_ses-1"), read(4, "sub-B_ses-1", reader="CD", tau="negative", pattern=None),
        read(5, "sub-C_ses-1"), read(6, "sub-C_ses-1", reader="CD", tau=None, pattern=None),
    ]  # fmt: skip
    found = agreement_of(reads)
    assert (found.read_twice, found.agreed) == (2, 1), "one scan was not readable for the other"


def test_classes_are_compared_with_the_most_likely_of_findings():
    refer = FINDING | {"decision": "refer"}
    reads = [read(1, diagnosis="AD"), read(2, diagnosis="CN"), read(3), read(4, diagnosis="AD", answer=refer)]
    assert (agreement_of(reads).same_class, agreement_of(reads).classed) == (1, 2)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("AB"), st.integers(1, 12), st.booleans())))
def test_every_group_but_confidence_holds_every_read_once(drawn):
    reads = [
        read(n, verdict="reject" if o else "accept", version=v.replace("A", "1").replace("B", "2"), month=m,
             blind=b)
        for n, (o, v, m, b) in enumerate(drawn)
    ]  # fmt: skip
    found = agreement_of(reads)
    for rates in found.groups.values():
        assert sum(r.reads for r in rates) == found.overall.reads == len(drawn)
        assert sum(r.overrides for r in rates) == found.overall.overrides
        assert all(r.low <= r.share <= r.high for r in rates)


def test_a_rise_is_noticed_and_its_counts_are_stated():
    before, after = many(40, 4), many(20, 12, start=41, month=3)
    found = check_overrides([*before, *after], 40, 0.01)
    assert (found.to, found.reads, found.answer) == (60, 20, "retrain")
    assert found.sentence == (
        "Readers changed 12 of 20 answers since 2026-03-01, before that 4 of 40 (p = 0.000)."
    )


def test_the_first_reads_are_what_later_ones_are_compared_with():
    assert check_overrides(many(9, 9), 0, 0.01) is None, "too few"
    first = check_overrides(many(10, 10), 0, 0.01)
    assert (first.to, first.answer) == (10, "nothing")


def test_too_few_reads_stay_new_and_are_tested_with_those_that_follow():
    before = many(40, 4)
    assert check_overrides([*before, *many(9, 9, start=41)], 40, 0.01) is None
    assert check_overrides([*before, *many(18, 18, start=41)], 40, 0.01).reads == 18
    assert check_overrides(before, 40, 0.01) is None, "nothing is new"


def test_a_rise_that_is_significant_but_small_and_a_fall_are_none():
    small = check_overrides([*many(4000, 400), *many(4000, 600, start=4001)], 4000, 0.01)
    assert (small.p_value < 0.001, small.answer) == (True, "nothing")
    fall = check_overrides([*many(40, 30), *many(40, 2, start=41)], 40, 0.01)
    assert fall.answer == "nothing"


def test_reads_without_a_rise_are_seldom_called_risen(rng):
    alarms = 0
    for _ in range(400):
        before, after = rng.binomial(40, 0.2), rng.binomial(20, 0.2)
        found = check_overrides([*many(40, before), *many(20, after, start=41)], 40, 0.01)
        alarms += found.answer != "nothing"
    assert alarms <= 400 * 0.02


def test_reads_of_a_week_are_counted_beside_those_before():
    reads = [*many(8, 1, month=1), *many(5, 2, start=20, month=3), read(40, month=3, verdict=None)]
    reads.append(read(41, month=3, superseded=True, verdict="reject", reason="borderline"))
    now, before = overrides_since(reads, "2026-03-01")
    assert (now.overrides, now.reads, before.overrides, before.reads) == (2, 5, 1, 8)
    none, every = overrides_since(reads, "2026-03-02")
    assert (none.reads, every.reads) == (0, 13)
