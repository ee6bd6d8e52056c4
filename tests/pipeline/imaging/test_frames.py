"""Which frames count, and whether the head's motion between them is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.config import ImagingSettings
from pipeline.errors import RefusedScan
from pipeline.imaging.frames import choose_window, realign
from pipeline.scan import Frame, Volume

SETTINGS = ImagingSettings()


def dynamic(after_min: float, durations_min: tuple[float, ...]) -> Volume:
    starts = np.cumsum([0.0, *durations_min])[:-1] * 60
    frames = tuple(Frame(float(s), 60.0 * d) for s, d in zip(starts, durations_min, strict=True))
    shape = (2, 2, 2, len(frames)) if len(frames) > 1 else (2, 2, 2)
    return Volume(np.ones(shape), np.eye(4), "Bq/mL", frames, {"scan_after_injection_s": after_min * 60})


def test_adni_frames_are_cut_to_the_window():
    window = choose_window(dynamic(75, (5,) * 6), SETTINGS)
    assert window.frames == (1, 2, 3, 4)
    assert (window.start_min, window.end_min, window.overlap) == (80, 100, 1)


def test_time_weights_follow_duration():
    window = choose_window(dynamic(80, (5, 15)), SETTINGS)
    assert window.weights == (0.25, 0.75)


@pytest.mark.parametrize(("after", "length"), [(75, 30), (80, 20), (70, 15), (99, 20), (101, 20)])
def test_a_scan_that_touches_the_window_is_taken(after, length):
    assert choose_window(dynamic(after, (length,)), SETTINGS).frames == (0,)


@pytest.mark.parametrize(
    ("after", "length", "span"), [(45, 20, "45-65"), (110.25, 20, "110.2-130.2"), (0, 60, "0-60")]
)
def test_a_scan_outside_the_window_is_refused(after, length, span):
    stated = f"covers {span} min after injection, outside the window of 80-100 min"
    with pytest.raises(RefusedScan, match=stated) as refusal:
        choose_window(dynamic(after, (length,)), SETTINGS)
    assert (refusal.value.rule, refusal.value.measured) == ("outside-window", f"{span} min")


def test_unknown_times_average_everything():
    whole = choose_window(Volume(np.ones((2, 2, 2, 3)), np.eye(4), "Bq/mL"), SETTINGS)
    assert whole.frames == (0, 1, 2)
    assert whole.overlap is None


def changing(levels, frames=()):
    array = np.ones((2, 2, 2, len(levels)), np.float32) * np.array(levels, np.float32)
    array[0, 0, 0, 0] = np.nan
    return Volume(array, np.eye(4), "Bq/mL", frames)


@pytest.mark.parametrize("levels", [(0, 3, 5, 4, 3), (0.9, 2, 1.9), (5, 4, 2.2)])
@pytest.mark.parametrize("timed", [False, True])
def test_frames_of_unknown_time_that_begin_with_the_injection_are_refused(levels, timed):
    frames = tuple(Frame(300.0 * k, 300.0) for k in range(len(levels))) if timed else ()
    with pytest.raises(RefusedScan, match="as in a scan from the injection on") as refusal:
        choose_window(changing(levels, frames), SETTINGS)
    assert refusal.value.rule == "frame-times"
    assert "FrameTimesStart" in (refusal.value.hint or "")


def test_late_frames_of_unknown_time_may_fall_with_decay():
    assert choose_window(changing([2 ** (-k / 22) for k in range(6)]), SETTINGS).frames == tuple(range(6))


@given(after=st.floats(65, 99), durations=st.lists(st.floats(10.1, 20), min_size=1, max_size=8))
def test_chosen_frames_are_a_run_and_weights_sum_to_one(after, durations):
    window = choose_window(dynamic(after, tuple(durations)), SETTINGS)
    assert list(window.frames) == list(range(window.frames[0], window.frames[-1] + 1))
    assert sum(window.weights) == pytest.approx(1)


def test_motion_between_frames_is_found_and_corrected(make_head):
    """A frame that is shifted by a known amount comes back to within half a millimetre."""
    still = make_head(5, noise=0.05).volume
    shift_mm = np.array([3.0, -2.0, 1.5])
    moved = ndimage.shift(still.array, shift_mm / np.diag(still.affine)[:3], order=1)
    frames = (Frame(0, 600), Frame(600, 600))
    both = Volume(np.stack([still.array, moved], -1), still.affine, "Bq/mL", frames, still.facts)
    found = realign(both, choose_window(both, SETTINGS))
    between = found.matrices[1] @ np.linalg.inv(found.matrices[0])
    np.testing.assert_allclose(between[:3, 3], shift_mm, atol=0.5)
    assert found.motion_mm == pytest.approx(np.linalg.norm(shift_mm), abs=0.6)


def test_a_static_scan_passes_through(head):
    found = realign(head.volume, choose_window(head.volume, SETTINGS))
    assert found.motion_mm == 0
    np.testing.assert_array_equal(found.arrays[0], head.volume.array)
    np.testing.assert_array_equal(found.average.array, head.volume.array)


def test_the_window_is_that_of_av1451_only():
    frames = (Frame(0.0, 240.0),)
    early = {"scan_after_injection_s": 2700.0}
    with pytest.raises(RefusedScan, match="outside the window of 80-100 min"):
        choose_window(
            Volume(np.zeros((2, 2, 2)), np.eye(4), "SUV", frames, early | {"tracer": "AV1451"}),
            ImagingSettings(),
        )
    fdg = Volume(np.zeros((2, 2, 2)), np.eye(4), "SUV", frames, early | {"tracer": "FDG"})
    window = choose_window(fdg, ImagingSettings())
    assert (window.start_min, window.end_min, window.frames) == (45.0, 49.0, (0,))
