"""Batches bring new people, posteriors exact at their own prevalence, and changes that tell no class."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from models.prevalence import adjust_prevalence
from pipeline.config import ImagingSettings, PhantomSettings
from pipeline.errors import InputError
from pipeline.files import sha256_of_file
from pipeline.imaging.process import normalise
from pipeline.phantom import PRESETS, make_scan, plan_batch, plan_cohort, posterior, write_batch, write_cohort
from pipeline.phantom.scanner import NEW_SCANNER
from pipeline.scan import Volume

DOUBLED = (0.488, 0.292, 0.220)


def settings_of(*batches, **others):
    return PhantomSettings(
        **{"subjects": 6, "scans": 8, "spoiled": 0.375, "workers": 1, **others}, batches=batches
    )


def many(**batch):
    return plan_batch(settings_of({"scans": 4000, **batch}), 3, 1)


def test_nobody_comes_twice_and_no_image_number_either():
    settings = settings_of({"scans": 30}, {"scans": 20}, {"scans": 10})
    plans = [plan_cohort(settings, 5), *(plan_batch(settings, 5, n) for n in (1, 2, 3))]
    scans = [scan for plan in plans for scan in plan]
    assert len({s.image_id for s in scans}) == len(scans) == 68
    assert len({s.subject.ptid for s in scans}) == 66
    assert len({s.subject.ptid.split("_S_")[1] for s in scans}) == 66


def test_batches_come_month_by_month_after_the_cohort():
    settings = settings_of(*[{"scans": 12}] * 13, subjects=300, scans=600)
    last = max(s.start for s in plan_cohort(settings, 5))
    plans = [plan_batch(settings, 5, n) for n in range(1, 14)]
    assert all(s.start > last for s in plans[0])
    months = [{(s.start.year, s.start.month) for s in plan} for plan in plans]
    assert months == [{(2024, n)} for n in range(1, 13)] + [{(2025, 1)}]


def test_a_batch_depends_on_no_other_and_on_its_seed():
    early, late = (
        settings_of({"scans": 9}, {"scans": 5}),
        settings_of({"scans": 9}, {"scans": 5, "broken": 0.4}),
    )
    assert plan_batch(early, 5, 1) == plan_batch(late, 5, 1)
    assert plan_batch(early, 5, 2) != plan_batch(late, 5, 2)
    assert plan_batch(early, 5, 1) != plan_batch(early, 6, 1)


def test_batches_leave_the_cohort_as_it_was():
    assert plan_cohort(settings_of({"scans": 9}), 5) == plan_cohort(settings_of(), 5)


def test_the_posterior_is_that_of_the_preset_at_the_prevalence_of_the_batch():
    plan = many(prevalence=DOUBLED)
    preset = PRESETS["three_class"]
    old = posterior(preset, np.array([s.latents.stage for s in plan]), np.ones(len(plan), dtype=bool))
    expected = adjust_prevalence(old, preset.prevalence, DOUBLED)
    assert np.allclose([s.posterior for s in plan], expected)


@pytest.mark.parametrize("shares", [PRESETS["three_class"].prevalence, DOUBLED])
def test_labels_are_fair_draws_from_the_posterior(shares):
    plan = many(prevalence=shares)
    labels, p = np.array([s.label for s in plan]), np.array([s.posterior for s in plan])
    # A share of 4000 draws has a standard error of at most .008.
    assert np.bincount(labels) / len(plan) == pytest.approx(shares, abs=0.025)
    for k in range(3):
        sure = p[:, k] > np.quantile(p[:, k], 0.8)
        error = np.sqrt((p[sure, k] * (1 - p[sure, k])).sum()) / sure.sum()
        assert abs((labels[sure] == k).mean() - p[sure, k].mean()) < 4 * error


def test_as_many_change_as_asked_and_the_class_tells_nothing_of_it():
    plan = many(new_scanner=0.5, broken=0.25, spoiled=0.05)
    on_new = np.array([s.subject.vendor == NEW_SCANNER.vendor for s in plan])
    rules = Counter(s.spoiled for s in plan)
    assert on_new.sum() == 2000
    assert rules["wrong-attenuation-map"] == rules["attenuation-only-claimed"] == 500
    assert sum(rules.values()) - rules[""] == 1200
    normal = np.array([s.label == 0 for s in plan])
    for changed in (on_new, np.array([s.spoiled != "" for s in plan])):
        assert abs(np.corrcoef(changed, normal)[0, 1]) < 0.055


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match=r"There is no batch 2: phantom\.batches plans 1"):
        plan_batch(settings_of({"scans": 4}), 1, 2)
    with pytest.raises(InputError, match="3 shares above 0 that sum to 1"):
        plan_batch(settings_of({"scans": 4, "prevalence": (0.5, 0.5)}), 1, 1)


def suvr_of(scan, seed):
    acquisition = make_scan(scan, seed)[1]
    volume = Volume(acquisition.frames[0], acquisition.affine, "Bq/mL")
    return normalise(volume, ImagingSettings())


@pytest.mark.slow
def test_the_new_scanner_and_a_wrong_map_pass_quality_control_and_change_the_regions():
    changes = {}
    for kind, batch in {"sound": {}, "new": {"new_scanner": 1.0}, "map": {"broken": 0.7}}.items():
        plan = plan_batch(settings_of({"scans": 6, **batch}), 7, 1)
        chosen = next(
            s for s in plan if len(s.frames_s) == 1 and s.spoiled in ("", "wrong-attenuation-map")
            and (kind != "map" or s.spoiled)
        )  # fmt: skip
        seen = suvr_of(chosen, 7)
        assert not [f for f in seen.findings if f.verdict != "pass" and f.rule != "window"], kind
        truth = make_scan(chosen, 7)[0].regional
        table = seen.regions.set_index(["side", "region"]).suvr
        changes[kind] = {
            r: table["left", r] / truth[f"left_{r}"] - 1 for r in ("middle_temporal", "superior_frontal")
        }
    assert abs(changes["sound"]["middle_temporal"]) < 0.06
    assert 0.06 < changes["new"]["middle_temporal"] < 0.25
    assert changes["map"]["superior_frontal"] < -0.12


@pytest.mark.slow
def test_a_batch_joins_the_cohort_on_disk(tmp_path):
    settings = settings_of({"scans": 3, "broken": 0.34}, subjects=2, scans=2, spoiled=0.0)
    out = write_cohort(settings, tmp_path / "adni", 7)
    before = {p: sha256_of_file(p) for p in out.rglob("*") if p.is_file()}
    seen = []
    write_batch(settings, out, 7, 1, lambda done, total: seen.append((done, total)))
    assert {p: sha256_of_file(p) for p in before} == before
    assert seen == [(n, 3) for n in range(4)]
    truth = pd.concat([pd.read_csv(p) for p in sorted((out / "tables").glob("PHANTOM_TRUTH*.csv"))])
    people = pd.concat([pd.read_csv(p) for p in sorted((out / "tables").glob("PTDEMOG*.csv"))])
    assert len(truth) == len(people) == 5
    assert {p.name for p in out.glob("*_S_*")} == set(people.PTID)
    assert len(list(out.rglob("AV1451*/*/I*"))) == 5
    assert json.loads((out / "phantom-batch01.json").read_text())["synthetic"] is True
    write_batch(settings, out, 7, 1)
    with pytest.raises(InputError, match="other settings"):
        write_batch(settings_of({"scans": 4}, subjects=2, scans=2, spoiled=0.0), out, 7, 1)
    with pytest.raises(InputError, match="other settings"):
        write_batch(settings, out, 8, 1)
