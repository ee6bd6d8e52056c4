"""Real-looking scans are noisier in the middle and at the ends, blurred by motion, and sometimes cut."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.atlas import REFERENCE, SHAPE
from pipeline.phantom.anatomy import Rendering, draw_uptake, render
from pipeline.phantom.cohort import CUT_RULE
from pipeline.phantom.conditions import Conditions, draw_conditions, noise_gain, wander
from pipeline.phantom.population import Latents
from pipeline.phantom.scanner import SCANNERS, acquire


def test_noise_is_strongest_on_the_axis_and_at_the_ends():
    scanner = SCANNERS["SIEMENS"]
    gain = noise_gain(scanner.shape, scanner.spacing_mm)
    x, y, z = (n // 2 for n in scanner.shape)
    assert gain[x, y, z] > 1.1 * gain[x + 40, y, z]
    assert gain[x, y, 0] > 1.3 * gain[x, y, z]
    assert gain[x, y, z - 12] == pytest.approx(gain[x, y, z], rel=1e-3)
    assert 0.9 < gain[x - 40 : x + 40, y - 40 : y + 40].mean() < 1.1


def flat(vendor, conditions):
    uniform = Rendering(np.ones(SHAPE, dtype=np.float32), {REFERENCE: 1.0})
    frame = acquire(uniform, vendor, (1200.0,), [2], [3], conditions).frames[0]
    return frame[35:75, 35:75, 15:45] / frame[35:75, 35:75, 15:45].mean() - 1


def test_a_point_spread_model_gives_smoother_weaker_noise():
    seen = {v: flat(v, Conditions(realistic=True)) for v in ("SIEMENS", "Philips")}
    assert seen["SIEMENS"].std() < seen["Philips"].std()
    neighbours = {v: np.mean(d[1:] * d[:-1]) / d.var() for v, d in seen.items()}
    assert neighbours["SIEMENS"] > neighbours["Philips"]


def test_a_head_wanders_about_its_pose():
    rng = np.random.default_rng(1)
    for duration_s, pieces in ((300.0, 2), (1200.0, 3)):
        walks = [wander(duration_s, rng) for _ in range(200)]
        assert all(t.shape == s.shape == (pieces, 3) for t, s in walks)
        assert np.abs([s.mean(axis=0) for _, s in walks]).max() < 1e-9
        reach = np.sqrt(np.mean([((s[-1] - s[0]) ** 2).sum() for _, s in walks]))
        assert reach == pytest.approx(0.7 * np.sqrt(duration_s / 300), rel=0.15)


def test_motion_within_a_frame_blurs():
    # A point far brighter than its noise: its second moment grows where the head moves.
    point = np.zeros(SHAPE, dtype=np.float32)
    point[60, 80, 60] = 1e7
    wider = []
    for seed in range(6):
        still, moved = (
            acquire(
                Rendering(point, {REFERENCE: 1.0}),
                "SIEMENS",
                (1800.0,),
                [seed],
                [seed],
                Conditions(realistic=r),
            )
            for r in (False, True)
        )
        wider.append(second_moment(moved.frames[0]) - second_moment(still.frames[0]))
    assert np.mean(wider) > 0.05
    assert max(wider) < 4


def second_moment(image):
    """Variance in square voxels of what is brighter than a hundredth of the peak, summed over the axes."""
    where = np.argwhere(image > 0.01 * image.max())
    weights = image[tuple(where.T)].astype(np.float64)
    return np.average(
        ((where - np.average(where, axis=0, weights=weights)) ** 2).sum(axis=1), weights=weights
    )


def test_a_cut_scan_ends_above_the_lower_cerebellum():
    conditions = draw_conditions([1, 4, 9], CUT_RULE)
    assert 50 <= conditions.table_shift_mm <= 65
    rendering = render(draw_uptake(Latents(0.2), [1, 1], [1, 2]))
    usual = acquire(rendering, "SIEMENS", (1200.0,), [1], [2])
    cut = acquire(rendering, "SIEMENS", (1200.0,), [1], [2], conditions)
    assert cut.affine[2, 3] - usual.affine[2, 3] == pytest.approx(conditions.table_shift_mm, abs=0.01)
    assert np.allclose(cut.template_to_native, usual.template_to_native)


def test_one_sound_scan_in_twenty_has_its_vertex_at_the_edge():
    shifts = np.array([draw_conditions([1, 4, k], "").table_shift_mm for k in range(1000)])
    assert 0.03 < (shifts < 0).mean() < 0.07
    assert shifts.max() == 0
    assert shifts.min() > -36
