"""A plan holds as many scans as asked, and nothing beside stage and subtype tells the class."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import PhantomSettings
from pipeline.errors import InputError
from pipeline.phantom import PRESETS, SPOILED_RULES, plan_cohort, posterior


def by_subject(plan):
    groups = defaultdict(list)
    for scan in plan:
        groups[scan.subject.ptid].append(scan)
    return groups


@given(data=st.data(), subjects=st.integers(1, 40), seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_as_many_as_asked(data, subjects, seed):
    scans = data.draw(st.integers(subjects, 3 * subjects))
    spoiled = data.draw(st.floats(0, 0.49))
    plan = plan_cohort(PhantomSettings(subjects=subjects, scans=scans, spoiled=spoiled), seed)
    groups = by_subject(plan)
    assert len(plan) == scans
    assert len(groups) == subjects
    assert {len(g) for g in groups.values()} <= {1, 2, 3}
    assert sum(bool(s.spoiled) for s in plan) == round(spoiled * scans)
    assert len({s.image_id for s in plan}) == scans


@pytest.mark.parametrize("scans", [9, 31])
def test_scans_that_cannot_be_spread_are_refused(scans):
    with pytest.raises(InputError, match=rf"10 subjects cannot have {scans} scans: each has 1 to 3"):
        plan_cohort(PhantomSettings(subjects=10, scans=scans), 0)


def test_the_default_has_every_kind_of_spoiled_scan_and_returning_subjects():
    plan = plan_cohort(PhantomSettings(), 2026)
    spoiled = Counter(s.spoiled for s in plan if s.spoiled)
    assert sum(spoiled.values()) == 6
    assert set(spoiled) == set(SPOILED_RULES)
    visits = Counter(len(g) for g in by_subject(plan).values())
    assert visits[2] + visits[3] > 30
    assert visits[3] > 0


def test_same_seed_same_plan_other_seed_other_plan(small_settings):
    assert plan_cohort(small_settings, 1) == plan_cohort(small_settings, 1)
    assert plan_cohort(small_settings, 1) != plan_cohort(small_settings, 2)


def test_the_number_of_workers_changes_nothing(small_settings):
    more = small_settings.model_copy(update={"workers": 8})
    assert plan_cohort(more, 1) == plan_cohort(small_settings, 1)


def test_visits_follow_each_other(big_plan):
    for visits in by_subject(big_plan).values():
        for before, after in itertools.pairwise(visits):
            assert (after.start - before.start).days > 300
            assert after.latents.stage >= before.latents.stage
            assert after.latents.typical == before.latents.typical


def test_each_scan_has_the_posterior_of_its_own_latents(big_plan):
    stage = np.array([s.latents.stage for s in big_plan])
    typical = np.array([s.latents.typical for s in big_plan])
    expected = posterior(PRESETS["three_class"], stage, typical)
    assert np.allclose([s.posterior for s in big_plan], expected)


def test_ptids_look_like_adni(big_plan):
    ptids = {s.subject.ptid for s in big_plan}
    assert all(re.fullmatch(r"\d{3}_S_\d{4,5}", p) for p in ptids)
    assert any(re.fullmatch(r"\d{3}_S_\d{5}", p) for p in ptids)
    assert len({p.split("_S_")[1] for p in ptids}) == len(ptids)


def test_persons_and_scanners_tell_nothing_of_the_class():
    plan = plan_cohort(PhantomSettings(subjects=4000, scans=4000), seed=8)
    cognitively_normal = np.array([s.label == 0 for s in plan])
    facts = {
        "age": [(s.start.date() - s.subject.birth).days / 365.25 for s in plan],
        "male": [s.subject.male for s in plan],
        "weight": [s.subject.weight_kg for s in plan],
        "education": [s.subject.education_years for s in plan],
        "dose": [s.dose_bq for s in plan],
        "siemens": [s.subject.vendor == "SIEMENS" for s in plan],
        "dynamic": [len(s.frames_s) > 1 for s in plan],
        "spoiled": [bool(s.spoiled) for s in plan],
        "asymmetry": [s.latents.asymmetry for s in plan],
        "capacity": [s.latents.capacity for s in plan],
    }
    for name, values in facts.items():
        # A correlation of independent values has a standard error of 1/sqrt(4000) = .016.
        assert abs(np.corrcoef(np.array(values, dtype=float), cognitively_normal)[0, 1]) < 0.055, name


def test_most_scans_are_static_and_start_75_to_80_minutes_after_injection(big_plan):
    sound = [s for s in big_plan if not s.spoiled]
    assert 0.1 < np.mean([len(s.frames_s) > 1 for s in sound]) < 0.2
    assert {len(s.frames_s) for s in sound} == {1, 4, 6}
    assert all(74 * 60 <= s.after_injection_s <= 81 * 60 for s in sound)
    assert all(s.after_injection_s + sum(s.frames_s) <= 106 * 60 for s in sound)


def test_mistimed_scans_end_half_an_hour_after_injection(big_plan):
    mistimed = [s for s in big_plan if s.spoiled == "outside-window"]
    assert mistimed
    assert all(s.after_injection_s + sum(s.frames_s) <= 1800 for s in mistimed)
