"""Clocks of frames: set, paused, past midnight, missing or contradictory; frames never overlap."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import RefusedScan
from pipeline.ingest.dicom import read_series
from pipeline.ingest.times import (
    Moment,
    without_clock_change,
)

FAST = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _clocks(clocks, references=None):
    def edit(ds, _, t):
        ds.AcquisitionTime, ds.SeriesTime = clocks[t], clocks[0]
        ds.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartTime = "003000"
        del ds.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime
        if references:
            ds.FrameReferenceTime = str(1000 * references[t])

    return edit


@pytest.mark.parametrize(
    "clocks",
    [["025000", "025500", "020000", "020500"], ["015000", "015500", "030000", "030500"]],
    ids=["autumn", "spring"],
)
def test_a_clock_set_by_an_hour_between_frames(make_series, clocks):
    series = make_series(frames=4, edit=_clocks(clocks))
    volume = read_series(series.folder)
    np.testing.assert_allclose(volume.array, series.values, rtol=1e-6)
    assert [frame.start_s for frame in volume.frames] == [0, 300, 600, 900]
    assert "the clock changed by an hour between frames" in volume.facts["time_note"]


def test_a_pause_between_frames_is_kept(make_series):
    clocks, references = ["015000", "015500", "030000"], [148, 448, 4348]
    volume = read_series(make_series(frames=3, edit=_clocks(clocks, references)).folder)
    assert [frame.start_s for frame in volume.frames] == [0, 300, 4200]
    assert volume.facts["time_note"] is None


def test_midnight_written_as_24_hours(make_series):
    def edit(ds, _, t):
        _clocks(["235500", "240000", "000500"])(ds, _, t)
        ds.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartTime = "223500"
        ds.AcquisitionDate = ("20190510", "20190510", "20190511")[t]

    volume = read_series(make_series(frames=3, edit=edit).folder)
    assert [frame.start_s for frame in volume.frames] == [0, 300, 600]
    assert volume.facts["scan_after_injection_s"] == 80 * 60


def test_times_that_contradict_each_other_are_reported(make_series):
    volume = read_series(
        make_series(frames=3, edit=_clocks(["015000", "015500", "020000"], [148, 1048, 1948])).folder
    )
    assert [frame.start_s for frame in volume.frames] == [0, 300, 600]
    assert "Frame Reference Time place frames up to 1200 s apart" in volume.facts["time_note"]


def test_frames_some_of_which_lack_a_clock_are_ordered_by_their_reference(make_series):
    series = make_series(
        frames=3, edit=lambda ds, _, t: setattr(ds, "AcquisitionTime", "" if t else "102000")
    )
    volume = read_series(series.folder)
    np.testing.assert_allclose(volume.array, series.values, rtol=1e-6)
    assert [frame.start_s for frame in volume.frames] == pytest.approx([0, 300, 600])


@pytest.mark.parametrize(
    ("copied", "rule", "match"),
    [
        (True, "missing-slices", r"1 slices are missing at z = 40\.0 mm"),
        (False, "overlapping-frames", "Frames 1 and 2 hold images of the same time"),
    ],
    ids=["a copy", "another image"],
)
def test_a_frame_with_an_image_of_another_is_refused(make_series, rewrite, copied, rule, match):
    series = make_series(frames=2)

    def twice(ds, _):
        if ds.InstanceNumber == 6:  # the first place of the second frame gets the first frame's time
            first = series.datasets[0]
            ds.AcquisitionTime, ds.FrameReferenceTime = first.AcquisitionTime, first.FrameReferenceTime
            if copied:
                ds.PixelData, ds.RescaleSlope = first.PixelData, first.RescaleSlope

    rewrite(series.folder, twice)
    with pytest.raises(RefusedScan, match=match) as refusal:
        read_series(series.folder)
    assert refusal.value.rule == rule


@FAST
@given(
    starts=st.lists(st.integers(0, 8000), min_size=2, max_size=5, unique=True),
    change=st.sampled_from([-3600.0, 3600.0]),
    at=st.integers(1, 4),
)
def test_a_changed_clock_is_undone_and_no_other_is_touched(starts, change, at):
    starts = sorted(starts)
    true = [Moment(1e9 + s) for s in starts]
    references = [float(s) for s in starts]
    assert without_clock_change(true, references) == true
    changed = [m._replace(local=m.local + change * (n >= at)) for n, m in enumerate(true)]
    assert without_clock_change(changed, references) == true
    assert without_clock_change(changed, [0.0] * len(starts)) == changed


def _times(starts, durations=None, date=None):
    """Write acquisition times in seconds after 23:40."""

    def edit(ds, _, t):
        begin = datetime(2019, 5, 10, 23, 40, tzinfo=UTC) + timedelta(seconds=starts[t])
        ds.AcquisitionDate, ds.AcquisitionTime = date or f"{begin:%Y%m%d}", f"{begin:%H%M%S}"
        ds.ActualFrameDuration = str(1000 * (durations[t] if durations else 300))
        ds.FrameReferenceTime = "0"
        ds.ImageIndex = ds.InstanceNumber

    return edit


@pytest.mark.parametrize("date", [None, "20190510"], ids=["the date changes", "the date stays"])
def test_frames_across_midnight_keep_their_order(make_series, date):
    series = make_series(frames=6, edit=_times([0, 300, 600, 900, 1200, 1500], date=date))
    volume = read_series(series.folder)
    assert [frame.start_s for frame in volume.frames] == [0, 300, 600, 900, 1200, 1500]
    np.testing.assert_allclose(volume.array, series.values, rtol=1e-6)


@pytest.mark.parametrize(
    ("starts", "durations", "early"),
    [
        ([0, 200, 600], None, "100 s"),
        ([0, 300, 300], None, "300 s"),
        ([0, 300, 600], [300, 900, 300], "600 s"),
    ],
    ids=["overlap", "repeat", "a sum of two"],
)
def test_frames_that_overlap_or_repeat_are_refused(make_series, starts, durations, early):
    with pytest.raises(RefusedScan, match="frames overlap or repeat in time") as refusal:
        read_series(make_series(frames=3, edit=_times(starts, durations)).folder)
    assert (refusal.value.rule, refusal.value.measured) == ("overlapping-frames", early)


def test_frames_of_one_time_are_read_with_a_warning(make_series):
    volume = read_series(make_series(frames=3, edit=_times([0, 0, 0])).folder)
    assert volume.frames == ()
    assert volume.facts["time_note"] == "the 3 frames state no times of their own"


@FAST
@given(
    starts=st.lists(st.integers(0, 3000), min_size=2, max_size=4),
    durations=st.lists(st.integers(1, 900), min_size=4, max_size=4),
)
def test_frames_are_disjoint_or_refused(make_series, make_drug, tmp_path_factory, starts, durations):
    written = _times(starts, durations)

    def edit(ds, slice_, frame):
        written(ds, slice_, frame)
        # Not half a day before a scan that begins after midnight: that is refused for its own reason.
        ds.RadiopharmaceuticalInformationSequence = [make_drug(start="20190510220000.00")]

    folder = tmp_path_factory.mktemp("s")
    series = make_series(folder=folder, shape=(3, 3, 2), frames=len(starts), edit=edit)
    with suppress(RefusedScan):
        frames = read_series(series.folder).frames
        assert (frames == ()) == (len(set(starts)) == 1)
        assert all(b.start_s - a.start_s >= 0.99 * a.duration_s - 1 for a, b in pairwise(frames))
        return
    ordered = sorted(zip(starts, durations, strict=False))
    assert any(b[0] - a[0] < a[1] for a, b in pairwise(ordered))  # it was refused with reason


def test_short_frames_that_would_overlap_in_seconds_stay_short(make_series):
    frames = read_series(make_series(frames=2, edit=_times([0, 901], [1, 1])).folder).frames
    assert [(frame.duration_s, frame.start_s - frames[0].start_s) for frame in frames] == [(1, 0), (1, 901)]
