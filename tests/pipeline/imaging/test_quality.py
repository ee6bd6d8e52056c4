"""Rules fail closed, and every spoiled scan meets the rule that is about it."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.atlas import SPACING_MM, load_atlas
from pipeline.config import ImagingSettings
from pipeline.errors import RefusedScan
from pipeline.imaging import process
from pipeline.imaging.head import brain_within
from pipeline.imaging.measures import (
    coefficient_of_variation,
    deep_white_matter,
    judge_air,
    judge_pattern,
    judge_reference,
)
from pipeline.imaging.process import normalise
from pipeline.imaging.quality import LIMITS, judge, note, refuse_if_needed
from pipeline.imaging.registration import register
from pipeline.scan import Volume

SETTINGS = ImagingSettings()
ORDER = {"pass": 0, "warn": 1, "refuse": 2}


@pytest.mark.parametrize("rule", LIMITS)
def test_not_a_number_fails_closed(rule):
    assert judge(rule, math.nan).verdict == "refuse"


@given(st.sampled_from(sorted(LIMITS)), st.floats(-2, 100), st.floats(-2, 100))
def test_worse_values_are_never_judged_better(rule, a, b):
    better, worse = sorted((a, b), reverse=LIMITS[rule].bad == "below")
    assert ORDER[judge(rule, better).verdict] <= ORDER[judge(rule, worse).verdict]


def test_refusal_tells_rule_value_and_mend():
    findings = [judge("frame-motion", 1.0), judge("frame-motion", 40.0)]
    with pytest.raises(
        RefusedScan, match=r"Motion between frames .* is 40 \(warn above 6.*Choose a window without motion"
    ) as refusal:
        refuse_if_needed(findings)
    assert (refusal.value.rule, refusal.value.measured) == ("frame-motion", "40")
    assert refusal.value.findings == tuple(findings)
    assert pickle.loads(pickle.dumps(refusal.value)).findings == tuple(findings)


def test_notes_and_warnings_refuse_nothing():
    findings = [note("window", "warn", "unknown"), judge("frame-motion", 7.0)]
    assert "refuse" not in {f.verdict for f in findings}
    refuse_if_needed(findings)


def cut(volume: Volume, low: int, high: int) -> Volume:
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 2] * low
    return Volume(volume.array[:, :, low:high], affine, volume.unit, facts=volume.facts)


def test_sound_scans_pass(make_head):
    for seed, tau, resolution in [(1, 0.0, 5.0), (2, 1.0, 8.0)]:
        found = normalise(make_head(seed, tau=tau, resolution_mm=resolution).volume, SETTINGS)
        assert {f.rule: f.message for f in found.findings if f.verdict != "pass"} == {}


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lambda v: v.with_array(v.array[:, :, ::-1]), "upside-down"),
        (lambda v: v.with_array(v.array[:, ::-1]), "upside-down"),
        (lambda v: cut(v, 0, 52), "brain-coverage"),
        (lambda v: cut(v, 24, 73), "reference-coverage"),
        (lambda v: v.with_array(np.where(np.arange(73) < 52, v.array, 0)), "brain-coverage"),
        (lambda v: v.with_array(np.where(v.array > 5000, np.nan, v.array)), "invalid-voxels"),
    ],
    ids=["slices-reversed", "rows-reversed", "no-top", "no-cerebellum", "top-erased", "nan"],
)
def test_spoiled_scan_is_refused_by_its_own_rule(make_head, spoil, rule):
    with pytest.raises(RefusedScan, match=r" is .*[( ](warn|refuse) (above|below) ") as refusal:
        normalise(spoil(make_head(3, tau=0.5).volume), SETTINGS)
    assert refusal.value.rule == rule


def test_a_real_volume_of_another_body_part_is_refused(shared_data):
    image = nib.load(shared_data("pet_ge_suv_crop/nifti/image.nii.gz"))
    volume = Volume(np.asanyarray(image.dataobj, dtype=np.float32), image.affine, "SUV")
    with pytest.raises(RefusedScan, match=r" is .*[( ](warn|refuse) (above|below) ") as refusal:
        normalise(volume, SETTINGS)
    assert refusal.value.rule in ("not-a-brain", "registration-failed")


@pytest.mark.parametrize(("around", "fluid_mm"), [(0.9, 2.0), (1.1, 4.0)])
def test_a_sound_head_whose_tissues_look_alike_is_read(make_head, true_suvr, around, fluid_mm):
    """White matter as dark as cortex, skull and scalp as bright as either: a model has little to explain."""
    atlas, truth = load_atlas(), true_suvr(0.0)
    truth[atlas.mask("white_matter")] = 1.0
    truth[brain_within(14.0) & ~brain_within(fluid_mm)] = around
    head = make_head(5, truth=truth)
    found = normalise(head.volume, SETTINGS)
    assert head.error_mm(found.registration.matrix).mean() < 1.0
    (fit,) = [f for f in found.findings if f.rule == "registration-failed"]
    assert fit.verdict == "warn"


@pytest.mark.parametrize(
    "change",
    [np.diag([1.2, 1.2, 1.2, 1.0]), [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -16], [0, 0, 0, 1]]],
    ids=["a-fifth-too-large", "16-mm-too-low"],
)
def test_a_head_placed_wrongly_is_refused_by_its_reference(make_head, monkeypatch, change):
    """However much the model explains: skull and scalp decide about that as well."""
    volume = make_head(4, tau=0.5).volume
    right = register(volume, 6.0)
    wrong = replace(right, matrix=right.matrix @ np.asarray(change, dtype=float), explained=0.9)
    monkeypatch.setattr(process, "register", lambda *_: wrong)
    with pytest.raises(RefusedScan) as refusal:
        normalise(volume, SETTINGS)
    assert refusal.value.rule.startswith(("reference-", "cerebell", "pons-"))


@pytest.mark.parametrize("seed", range(3))
def test_blobs_are_no_brain(seed):
    rng = np.random.default_rng(seed)
    blobs = np.maximum(ndimage.gaussian_filter(rng.normal(size=(80, 80, 60)), 5), 0)
    with pytest.raises(RefusedScan, match=r" is .*[( ](warn|refuse) (above|below) "):
        normalise(Volume(blobs, np.diag([3.0, 3.0, 3.5, 1.0]), "counts"), SETTINGS)


def test_unknown_time_and_resolution_are_told(head):
    bare = Volume(head.volume.array, head.volume.affine, "Bq/mL")
    found = {f.rule: f for f in normalise(bare, SETTINGS).findings}
    assert found["window"].verdict == "warn"
    assert "6 mm was assumed" in found["resolution"].message


def test_doubt_about_left_and_right_is_told(head):
    facts = {**head.volume.facts, "geometry_note": "sform and qform disagree"}
    volume = Volume(head.volume.array, head.volume.affine, "Bq/mL", facts=facts)
    found = {f.rule: f.verdict for f in normalise(volume, SETTINGS).findings}
    assert found["left-right"] == "warn"


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_white_matter_as_the_reference_is_refused(make_head, tau):
    suvr = normalise(make_head(4, tau=tau).volume, SETTINGS).suvr.array
    sound, wrong = (
        {f.rule: f.verdict for f in judge_reference(suvr, where)}
        for where in (load_atlas().reference, deep_white_matter())
    )
    assert set(sound.values()) == {"pass"}
    assert "refuse" in wrong.values()


def test_tissues_and_shape_together_see_a_reference_elsewhere(make_head):
    """Some tissues read nearly like the reference, but do not look like it."""
    suvr, atlas = normalise(make_head(4, tau=0.5).volume, SETTINGS).suvr.array, load_atlas()
    sound = judge_pattern(suvr, atlas.reference)
    assert sound.verdict == "pass"
    elsewhere = {
        "occipital": atlas.mask("lateral_occipital") | atlas.mask("lingual"),
        "temporal": atlas.mask("inferior_temporal"),
        "14 mm back": np.roll(atlas.reference, -7, axis=1),
        "putamen": atlas.mask("putamen"),
    }
    verdicts = {name: judge_pattern(suvr, where).verdict for name, where in elsewhere.items()}
    assert verdicts == dict.fromkeys(elsewhere, "refuse")
    up = judge_pattern(suvr, np.roll(atlas.reference, 8, axis=2))
    assert up.measured > 1.5 * sound.measured
    # A spot of the meninges shines into a sound region: however bright, that is no other region.
    spot = np.zeros(suvr.shape, dtype=np.float32)
    spot[70, 32, 17] = 1.0
    spot = ndimage.gaussian_filter(spot, 4.0 / SPACING_MM)
    lit = suvr + 3.0 * spot / spot.max()
    assert lit[atlas.reference].mean() > 1.02
    assert judge_pattern(lit, atlas.reference).verdict != "refuse"


@pytest.mark.parametrize(
    ("move", "verdict"), [((0, 0, -8), "refuse"), ((0, -7, 0), "refuse"), ((0, 0, 0), "pass")]
)
def test_a_reference_that_was_moved_is_refused(make_head, move, verdict):
    """Down into the neck, back into skull and fluid."""
    suvr = normalise(make_head(4, tau=0.5).volume, SETTINGS).suvr.array
    where = np.roll(load_atlas().reference, move, axis=(0, 1, 2))
    found = [judge("reference-uniformity", coefficient_of_variation(suvr, where))]
    verdicts = {f.verdict for f in [*found, *judge_reference(suvr, where)]}
    assert verdict in verdicts
    assert verdict == "refuse" or verdicts == {"pass"}


def test_a_reference_of_nothing_fails_closed():
    found = judge_reference(np.zeros((96, 112, 96), np.float32), load_atlas().reference)
    assert {f.verdict for f in found} == {"refuse"}


@pytest.mark.parametrize(
    ("measured", "shown"), [(0.549996, "0.549996"), (0.55, "0.55"), (0.5312345, "0.531")]
)
def test_a_refused_value_never_reads_like_its_limit(measured, shown):
    finding = judge("registration-failed", measured)
    assert f": {shown} " in finding.message or finding.message.endswith(f": {shown}")
    if finding.verdict == "refuse":
        with pytest.raises(RefusedScan) as refused:
            refuse_if_needed([finding])
        assert refused.value.measured == shown
        assert f" is {shown} (" in refused.value.problem


@pytest.mark.parametrize(("share", "sign"), [(0.15, "+"), (-0.15, "-")])
def test_a_constant_added_to_all_values_is_told(make_head, share, sign):
    sound = make_head(3, tau=1.0).volume
    offset = sound.with_array(sound.array + np.float32(share * 5000))
    found = normalise(offset, SETTINGS)
    before = normalise(sound, SETTINGS).composites["meta_roi"]
    assert abs(found.composites["meta_roi"] / before - 1) > 0.04
    (air,) = [f for f in found.findings if f.rule == "air-level"]
    assert air.verdict == "warn"
    assert air.detail.startswith(sign)
    assert "intercept" in air.message
    far = sound.with_array(sound.array + np.float32(3 * share * 5000))
    with pytest.raises(RefusedScan, match=r"Level of the air against the reference region is") as refusal:
        normalise(far, SETTINGS)
    assert refusal.value.rule == "air-level"


def test_an_image_without_air_is_not_judged_by_it():
    air = judge_air(np.ones((96, 112, 96), np.float32), load_atlas().brain)
    assert (air.verdict, air.measured, air.detail) == ("pass", 0.0, "no air in the field of view")


def test_a_region_at_the_edge_of_the_field_of_view_is_told(make_head):
    """A fiftieth of the brain may be half of a region."""
    sound = make_head(3, tau=1.0)
    left = (np.linalg.inv(sound.volume.affine) @ sound.matrix @ [-70.0, -30.0, -12.0, 1.0])[0]
    cut = Volume(sound.volume.array[: int(left)], sound.volume.affine, "Bq/mL", facts=sound.volume.facts)
    found = {f.rule: f for f in normalise(cut, SETTINGS).findings}
    assert found["brain-coverage"].verdict == "pass"
    assert found["region-coverage"].verdict == "warn"
    assert found["region-coverage"].detail.startswith("most of left ")


def test_a_cerebellum_that_is_darker_on_one_side_is_told(make_head):
    suvr = normalise(make_head(4, tau=0.5).volume, SETTINGS).suvr.array
    right = np.broadcast_to((np.arange(96) >= 48)[:, None, None], suvr.shape)
    for loss, verdict in ((0.0, "pass"), (0.2, "warn"), (0.4, "refuse")):
        dark = np.where(right & load_atlas().reference, suvr * (1 - loss), suvr)
        found = {f.rule: f for f in judge_reference(dark, load_atlas().reference)}
        assert found["reference-sides"].verdict == verdict
    assert found["reference-sides"].detail == "left is higher"
