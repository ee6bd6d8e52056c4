"""Bland-Altman and intraclass correlation against published numbers and what must be true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.evaluation.inference.method_agreement import (
    intraclass_correlation,
    method_agreement,
    region_agreement,
    repeat_agreement,
    write_agreement,
)
from pipeline.scan import Scan

SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
"""Table 2 of Shrout & Fleiss, Psychol Bull 1979; 86:420: four judges, six targets."""
BLAND_ALTMAN = {
    "wright": [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427],
    "mini": [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451],
}
"""Table 1 of Bland & Altman, Lancet 1986; 327:307: peak flow in l/min by two meters, 17 people."""


def test_intraclass_correlations_are_those_of_shrout_and_fleiss():
    absolute, consistency = intraclass_correlation(SHROUT_FLEISS)
    assert absolute == pytest.approx(0.29, abs=0.005)
    assert consistency == pytest.approx(0.71, abs=0.005)


def test_bias_and_limits_are_those_of_bland_and_altman():
    people = [str(n) for n in range(17)]
    found = method_agreement("pefr", BLAND_ALTMAN["wright"], BLAND_ALTMAN["mini"], people)
    assert found.bias.value == pytest.approx(-2.1, abs=0.05)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    # The paper takes 2 SD in place of 1.96: -79.7 and 75.5.
    assert found.bias.value - 2 * found.sd == pytest.approx(-79.7, abs=0.1)
    assert found.lower.value == pytest.approx(found.bias.value - 1.96 * found.sd, abs=0.01)
    assert found.upper.value == pytest.approx(found.bias.value + 1.96 * found.sd, abs=0.01)


def simulated(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(1.3, 0.25, n)
    return truth + rng.normal(0.04, 0.08, n), truth + rng.normal(0, 0.08, n)


def test_intervals_of_single_scans_are_near_those_of_theory():
    own, other = simulated(400)
    found = method_agreement("x", own, other, [str(n) for n in range(400)])
    half = stats.t.ppf(0.975, 399) * found.sd / np.sqrt(400)
    assert found.bias.high - found.bias.low == pytest.approx(2 * half, rel=0.1)
    # Shrout & Fleiss's interval of ICC(3,1) by the distribution of F.
    table = np.column_stack([own, other])
    ratio = np.var(table.mean(axis=1), ddof=1) * 2 / (np.var(own - other, ddof=1) / 2)
    limits = [ratio / stats.f.ppf(0.975, 399, 399), ratio * stats.f.ppf(0.975, 399, 399)]
    low, high = ((f - 1) / (f + 1) for f in limits)
    assert (found.consistency.low, found.consistency.high) == pytest.approx((low, high), abs=0.01)
    assert (found.absolute.value, found.consistency.value) == pytest.approx(intraclass_correlation(table))
    slope = stats.linregress(table.mean(axis=1), own - other).slope
    assert found.trend.value == pytest.approx(slope, abs=1e-9)
    assert found.trend.low < slope < found.trend.high


def test_scans_of_one_person_are_no_further_evidence():
    own, other = simulated(60)
    single = method_agreement("x", own, other, [str(n) for n in range(60)])
    thrice = method_agreement("x", np.repeat(own, 3), np.repeat(other, 3), [str(n // 3) for n in range(180)])
    assert (thrice.scans, thrice.people) == (180, 60)
    assert thrice.bias.value == pytest.approx(single.bias.value)
    assert thrice.bias.high - thrice.bias.low == pytest.approx(single.bias.high - single.bias.low, rel=1e-6)


def test_equal_measurements_agree_and_a_shift_lowers_absolute_agreement_alone():
    own, _ = simulated(30)
    people = [str(n) for n in range(30)]
    same = method_agreement("x", own, own, people)
    assert (same.bias.value, same.sd, same.trend.value) == pytest.approx((0, 0, 0), abs=1e-7)
    assert (same.absolute.value, same.consistency.value) == pytest.approx((1, 1))
    moved = method_agreement("x", own + 0.3, own, people)
    assert moved.bias.value == pytest.approx(0.3)
    assert moved.consistency.value == pytest.approx(1)
    assert moved.absolute.value < 0.7
    steeper = method_agreement("x", 1.2 * own, own, people)
    assert steeper.trend.value == pytest.approx(0.2 / 1.1)


def test_too_few_people_or_no_number_is_refused():
    own, other = simulated(12)
    with pytest.raises(ValueError, match="at least 10 people are needed, found 4"):
        method_agreement("x", own, other, [str(n // 3) for n in range(12)])
    own[3] = np.nan
    with pytest.raises(ValueError, match="not a number"):
        method_agreement("x", own, other, [str(n) for n in range(12)])


def test_regions_with_few_people_are_counted_and_the_table_has_every_interval(tmp_path):
    own, other = simulated(14)
    scans = [f"sub-{n}_ses-1" for n in range(14)]
    table = pd.DataFrame({"left_a": own, "both_a": own, "composite_m": own, "both_b": own}, index=scans)
    table.loc[scans[0], "left_a"] = np.nan
    rows = {
        scan: {"left_a": value, "both_a": value, "composite_m": value} | ({"both_b": value} if n < 5 else {})
        for n, (scan, value) in enumerate(zip(scans, other, strict=True))
    }
    found, few = region_agreement(table, rows, {scan: scan for scan in scans})
    assert [one.name for one in found] == ["composite_m", "both_a", "left_a"]
    assert [one.scans for one in found] == [14, 14, 13]
    assert few == {"both_b": 5}
    written = pd.read_csv(write_agreement(found, tmp_path / "a.tsv"), sep="\t")
    assert list(written["region"]) == ["composite_m", "both_a", "left_a"]
    for name in ("bias", "lower", "upper", "trend", "absolute", "consistency"):
        assert (written[f"{name}_low"] <= written[name]).all()
        assert (written[name] <= written[f"{name}_high"]).all()


def test_the_second_scan_of_each_person_is_compared_with_the_first():
    rng = np.random.default_rng(0)
    truth, scans, rows = rng.normal(1.3, 0.2, 40), [], {}
    for n, value in enumerate(truth):
        for visit in ("visit2", "visit1", "visit3")[: 1 + (n < 30) + (n < 3)]:
            scan = Scan(f"P{n:02d}", visit, Path("x"), diagnosis="CN" if n % 2 else "AD")
            scans.append(scan)
            later = 0.02 * (int(visit[-1]) - 1)
            rows[scan.scan_id] = {"both_a": value + later + rng.normal(0, 0.03)}
    table = pd.DataFrame.from_dict(rows, orient="index").assign(both_reference=1.0)
    found, people = repeat_agreement(table, scans)
    assert (people, found[0].scans, found[0].people) == (30, 30, 30)
    assert [one.name for one in found] == ["both_a"], "the reference is 1 in every scan"
    assert found[0].bias.low < 0.02 < found[0].bias.high
    assert found[0].variation_percent == pytest.approx(100 * 0.03 / 1.3, rel=0.3)
    assert found[0].variation_percent == pytest.approx(
        100 * found[0].sd / 2**0.5 / ((found[0].own_mean + found[0].other_mean) / 2)
    )
    assert [one.scans for one in repeat_agreement(table, scans, "CN")[0]] == [15]
    assert repeat_agreement(table, scans[:9]) == ([], 3)
