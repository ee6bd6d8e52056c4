"""Tables word diagnoses as ADNI does and agree with the plan."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

from pipeline.config import PhantomSettings
from pipeline.phantom import PRESETS, plan_cohort
from pipeline.phantom.tables import demographics_table, diagnosis_table, truth_table

# ADNI GO/2: the current diagnosis behind each DXCHANGE code.
CURRENT = {1: 1, 7: 1, 9: 1, 2: 2, 4: 2, 8: 2, 3: 3, 5: 3, 6: 3}


@pytest.fixture(scope="module", params=["three_class", "five_class"])
def tables(request):
    plan = plan_cohort(PhantomSettings(preset=request.param, subjects=300, scans=450), seed=4)
    preset = PRESETS[request.param]
    return plan, preset, diagnosis_table(plan, preset), demographics_table(plan), truth_table(plan, preset)


def code_of(row):
    return CURRENT[row.DXCHANGE] if row.DXCHANGE != "" else row.DIAGNOSIS


def test_the_visit_nearest_a_scan_tells_its_class(tables):
    plan, preset, visits, *_ = tables
    days = pd.to_datetime(visits.EXAMDATE)
    for scan in plan:
        own = visits.PTID.isin([scan.subject.ptid])
        distance = (days[own] - pd.Timestamp(scan.start.date())).abs()
        nearest = visits.loc[distance.idxmin()]
        assert distance.min().days <= 75
        assert code_of(nearest) == preset.diagnosis_codes[scan.label]


def test_each_phase_uses_its_own_column(tables):
    visits = tables[2]
    assert set(visits.PHASE) == {"ADNI2", "ADNI3"}
    for row in visits.itertuples():
        assert (row.DXCHANGE == "") == (row.PHASE == "ADNI3")
        assert (row.DIAGNOSIS == "") == (row.PHASE == "ADNI2")


def test_dxchange_tells_where_a_person_came_from(tables):
    visits = tables[2]
    previous = {1: 1, 4: 1, 6: 1, 2: 2, 5: 2, 7: 2, 3: 3, 8: 3, 9: 3}
    for _, own in visits[visits.PHASE == "ADNI2"].groupby("PTID", sort=False):
        codes = list(own.DXCHANGE)
        assert codes[0] in (1, 2, 3)
        for before, after in itertools.pairwise(codes):
            assert previous[after] == CURRENT[before]


def test_demographics_have_one_row_a_subject(tables):
    plan, _, _, people, _ = tables
    assert list(people.PTID) == list(dict.fromkeys(s.subject.ptid for s in plan))
    assert set(people.PTGENDER) == {1, 2}
    assert (people.RID.astype(str) == people.PTID.str.split("_S_").str[1]).all()


def test_the_truth_holds_class_and_posterior(tables):
    plan, preset, _, _, truth = tables
    columns = ["IMAGEUID", "PTID", "SCANDATE", "DIAGNOSIS", *(f"POSTERIOR_{n}" for n in preset.class_names)]
    assert list(truth.columns[: len(columns) + 2]) == [*columns, "STAGE", "SPOILED"]
    assert truth[columns[4:]].sum(axis=1).to_numpy() == pytest.approx(1)
    assert list(truth.DIAGNOSIS) == [preset.class_names[s.label] for s in plan]
    assert list(truth.SPOILED) == [s.spoiled for s in plan]


def test_every_row_says_that_it_is_synthetic(tables):
    assert all((table.SYNTHETIC == 1).all() for table in tables[2:])
