"""What part of a champion's lead counts as luck, against its definition and against simulated selections."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from pipeline.evaluation.monitoring.champions_luck import ChampionsLead, shared_part

ERROR, SUBJECTS = 0.05, 50


def luck(lead: float, spare: float, *, subjects: int = SUBJECTS, shared: float = 1.0) -> float:
    return ChampionsLead(lead, spare, subjects, shared).luck(ERROR, SUBJECTS)


@pytest.mark.parametrize(("lead", "spare"), [(0.06, 0.05), (0.1, 0.07), (0.12, 0.1)])
def test_it_is_half_of_what_the_likeliest_lead_given_selection_leaves(lead, spare):
    """The likelihood of the lead, cut at the least that passes, on a grid."""
    true = np.linspace(0, lead, 200_001)
    limit = lead - spare
    likelihood = norm.logpdf(lead, true, ERROR) - norm.logsf(limit, true, ERROR)
    assert luck(lead, spare) == pytest.approx((lead - true[likelihood.argmax()]) / 2, abs=1e-6)


def test_who_passed_narrowly_was_lucky_and_who_passed_by_far_was_not():
    assert luck(0.06, 0.0) == pytest.approx(0.03), "all of the lead, and half of it the champion's"
    found = [luck(lead, lead - 0.007) for lead in (0.05, 0.1, 0.15, 0.3)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 1e-6
    assert luck(-0.01, 0.02) == luck(0.0, 0.03) == 0.0


def test_only_scans_that_chose_the_champion_hold_its_luck_and_many_hold_little():
    assert luck(0.06, 0.05, shared=0.25) == pytest.approx(luck(0.06, 0.05) / 4)
    assert luck(0.06, 0.05, subjects=500) < luck(0.06, 0.05) / 10
    assert ChampionsLead(0.06, 0.05, SUBJECTS, 1.0).luck(0.0, SUBJECTS) == 0.0
    assert shared_part(("a", "a", "b"), ("b",)) == 0.5


@pytest.mark.parametrize(("true", "share"), [(0.0, (0.4, 1.0)), (0.03, (0.5, 1.2)), (0.3, (0.0, 0.0))])
def test_on_average_it_is_at_most_about_the_luck_of_those_that_passed(true, share):
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(scale=ERROR / np.sqrt(2), size=(2, 4_000))
    leads, limit = true + ours - theirs, 0.007
    passed = leads > limit
    found = np.mean([luck(lead, lead - limit) for lead in leads[passed]])
    least, most = (part * ours[passed].mean() for part in share)
    assert least - 1e-4 <= found <= most + 1e-4
