"""Times of a sidecar in whatever unit; what contradicts itself refuses the scan, never shifts a frame."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RefusedScan
from pipeline.ingest.sidecar_times import FRAMES_IN_DOUBT, delay_in, frames_in
from pipeline.scan import Frame

TWO = (Frame(0.0, 300.0), Frame(300.0, 300.0))


@pytest.mark.parametrize(
    "stated",
    [
        {"FrameTimesStart": [75, 80], "FrameDuration": [5, 5], "FrameDurationUnits": "min"},
        {"FrameTimesStart": [75, 80], "FrameDuration": [5, 5], "FrameTimesStartUnits": "minutes"},
        {"FrameTimesStart": [75, 80], "FrameDuration": [300, 300], "FrameTimesStartUnits": "min",
         "FrameDurationUnits": "s"},
        {"FrameTimesStart": [0, 300_000], "FrameDuration": [300_000, 300_000]},
        {"FrameTimesStart": ["4500,0", "4800"], "FrameDuration": ["300,0", "300"]},
        {"FrameTimesStart": [0, 300, 600], "FrameDuration": [300, 300, 0]},
    ],
)  # fmt: skip
def test_frames_in_any_unit(stated):
    assert frames_in(stated, 2) == (TWO, {})


@pytest.mark.parametrize(
    ("stated", "starts", "durations"),
    [
        ({"FrameDuration": [60, 120, 300]}, [0, 60, 180], [60, 120, 300]),
        ({"FrameDuration": 300}, [0, 300, 600], [300] * 3),
        ({"FrameDuration": [5], "FrameDurationUnits": "min"}, [0, 300, 600], [300] * 3),
        ({"FrameDuration": 300, "FrameTimesStart": [4500, 4800, 5700]}, [0, 300, 1200], [300] * 3),
        ({"FrameTimesStart": [4500, 4560, 4860]}, [0, 60, 360], [60, 300, 300]),
    ],
)
def test_what_one_list_lacks_the_other_gives_with_a_note(stated, starts, durations):
    frames, facts = frames_in(stated, 3)
    assert frames == tuple(map(Frame, starts, durations))
    assert "taken as frames that follow each other" in str(facts["time_note"])


@pytest.mark.parametrize(
    "stated",
    [
        {"FrameDuration": [300, 300]},
        {"FrameTimesStart": [0, 300]},
        {"FrameTimesStart": [0, 300, 200]},
        {"FrameTimesStart": [0, 300, 600], "FrameDuration": 400},
        {"FrameTimesStart": [0, 300_000, 600_000]},
    ],
)
def test_one_list_that_does_not_fit_the_image_is_in_doubt(stated):
    frames, facts = frames_in(stated, 3)
    assert not frames
    assert FRAMES_IN_DOUBT in facts


@pytest.mark.parametrize(
    "stated",
    [
        {"FrameTimesStart": [0, 300], "FrameDuration": [300, 300, 300]},
        {"FrameTimesStart": [0, 300, 600], "FrameDuration": [300, 300]},
        {"FrameTimesStart": [0, 300], "FrameDuration": [300, -300]},
        {"FrameTimesStart": [0, 300], "FrameDuration": [300, 0, 300, 0]},
        {"FrameTimesStart": [0, 300_000], "FrameDuration": [300, 300]},
    ],
)
def test_lists_that_do_not_fit_are_in_doubt(stated):
    frames, doubt = frames_in(stated, 2)
    assert not frames
    assert FRAMES_IN_DOUBT in doubt


def test_an_unknown_unit_of_time_is_refused():
    stated = {"FrameTimesStart": [0, 5], "FrameDuration": [5, 5], "FrameDurationUnits": "fortnights"}
    with pytest.raises(RefusedScan, match="FrameDurationUnits is no unit of time that is known") as refused:
        frames_in(stated, 2)
    assert refused.value.rule == "unreadable-sidecar"


@pytest.mark.parametrize("value", ["Doe, Jane", "Doe^Jane", "doe 19400203", ["Meier"]])
def test_what_stands_in_place_of_a_number_is_not_repeated(value):
    with pytest.raises(RefusedScan, match="holds a text, expected numbers"):
        frames_in({"FrameTimesStart": [0], "FrameDuration": value}, 1)


@pytest.mark.parametrize(
    ("stated", "delay"),
    [
        ({"InjectionStart": "09:00:00", "ScanStart": "10:20:00"}, 4800.0),
        ({"InjectionStart": "23:30:00", "ScanStart": "00:50:00"}, 4800.0),
        ({"InjectionStart": "09:00:00", "TimeZero": "10:20:00", "ScanStart": 0}, 4800.0),
        ({"InjectionStart": "09:00:00", "TimeZero": "10:00:00", "FrameTimesStart": [1200]}, 4800.0),
        ({"InjectionStart": "09:00:00", "ScanStart": 4800}, None),
        ({"InjectionStart": "10:20:00", "ScanStart": "09:00:00"}, None),
        ({"InjectionStart": -80, "ScanStart": 0, "InjectionStartUnits": "min"}, 4800.0),
        ({"InjectionStart": 0, "ScanStart": 4_800_000, "FrameDuration": [1_200_000]}, 4800.0),
    ],
)
def test_the_delay_by_clocks_and_numbers(stated, delay):
    assert delay_in(stated) == delay


@given(
    st.lists(st.floats(-1e9, 1e9) | st.sampled_from([0, 1, 5, 300, 3e5]), max_size=5),
    st.lists(st.floats(-1e9, 1e9) | st.sampled_from([0, 1, 5, 300, 3e5]), max_size=5),
    st.integers(1, 4),
    st.sampled_from(["", "s", "ms", "min"]),
)
def test_frames_fit_the_image_and_each_other_or_there_are_none(starts, durations, wanted, unit):
    stated = {"FrameTimesStart": starts, "FrameDuration": durations, "FrameDurationUnits": unit}
    frames, _ = frames_in(stated, wanted)
    assert len(frames) in (0, wanted)
    for one, later in pairwise(frames):
        assert later.start_s > one.start_s + one.duration_s - 1.0
