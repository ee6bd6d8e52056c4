"""Clocks of scanners: zones, summer time, midnight, blanked clocks, frames that overlap."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sequence import Sequence

from pipeline.errors import RefusedScan
from pipeline.ingest.dicom import read_series
from pipeline.ingest.times import (
    Moment,
    delay_after_injection,
    on_one_clock,
    parse_clock,
    parse_datetime,
    parse_moment,
)


@pytest.fixture
def facts_of(make_series, make_drug, tmp_path_factory):
    """A function that writes a series with these header values and returns its facts."""

    def read(injection=None, clock=None, **values):
        def edit(ds, *_):
            item = make_drug()
            if injection is None:
                del item.RadiopharmaceuticalStartDateTime
            else:
                item.RadiopharmaceuticalStartDateTime = injection
                item.RadiopharmaceuticalStartTime = injection[8:14]
            if clock is not None:
                item.RadiopharmaceuticalStartTime = clock
            ds.RadiopharmaceuticalInformationSequence = Sequence([item])
            for keyword, value in values.items():
                setattr(ds, keyword, value)

        return read_series(make_series(folder=tmp_path_factory.mktemp("s"), edit=edit).folder).facts

    return read


@pytest.mark.parametrize(
    ("injection", "values"),
    [
        ("20190510090500.00", {}),
        ("20190510090500+0200", {"TimezoneOffsetFromUTC": "+0200"}),
        ("20190510080500+0100", {"TimezoneOffsetFromUTC": "+0200"}),
        ("20190510070500+0000", {"TimezoneOffsetFromUTC": "+0200"}),
        ("20190510030500-0400", {"TimezoneOffsetFromUTC": "+0200"}),
        ("20190510123500+05:30", {"TimezoneOffsetFromUTC": "+02:00"}),
        ("20190510070500+0000", {"TimezoneOffsetFromUTC": "+02:00"}),
        ("20190510090500+0200", {}),  # the same place: its acquisition states no offset
        ("20190510090500", {"TimezoneOffsetFromUTC": "+0200"}),
        ("20190510080500+0100", {"AcquisitionDateTime": "20190510102000+0200"}),
    ],
)
def test_75_minutes_are_75_minutes_in_every_zone(facts_of, injection, values):
    assert facts_of(injection, **values)["scan_after_injection_s"] == 75 * 60


def test_an_injection_in_utc_beside_its_local_clock(facts_of):
    facts = facts_of("20190510070500+0000", clock="090500")
    assert facts["scan_after_injection_s"] == 75 * 60


def test_the_night_of_summer_time(facts_of):
    facts = facts_of(
        "20190331013000+0100", AcquisitionDate="20190331", AcquisitionTime="034500", SeriesDate="20190331",
        SeriesTime="034500", TimezoneOffsetFromUTC="+0200",
    )  # fmt: skip
    assert facts["scan_after_injection_s"] == 75 * 60
    assert facts["time_note"] is None


def test_an_injection_before_midnight(facts_of):
    night = {"AcquisitionDate": "20190511", "SeriesDate": "20190511", "AcquisitionTime": "001500"}
    assert facts_of("20190510230000", **night)["scan_after_injection_s"] == 75 * 60
    facts = facts_of(clock="230000", **night)
    assert facts["scan_after_injection_s"] == 75 * 60
    assert facts["time_note"] == "injection before midnight assumed"


@pytest.mark.parametrize("blank", ["000000", "000000.00", "000000.000000", "", None])
def test_blanked_clocks_are_unknown(facts_of, blank):
    blanked = facts_of(clock=blank or "", AcquisitionTime=blank, SeriesTime=blank, StudyTime=blank)
    assert blanked["scan_after_injection_s"] is None
    assert blanked["suv_factor"] is None
    assert facts_of(clock=blank or "")["scan_after_injection_s"] is None
    assert facts_of("20190510090500", AcquisitionTime=blank)["scan_after_injection_s"] is None
    assert facts_of(f"20190510{blank or '000000'}")["scan_after_injection_s"] is None


def test_the_same_clock_everywhere_was_blanked(facts_of):
    clocks = dict.fromkeys(("StudyTime", "SeriesTime", "ContentTime", "AcquisitionTime"), "120000")
    for injection in ("20190510120000", "20190510120000.000000"):
        facts = facts_of(injection, **clocks)
        assert (facts["scan_after_injection_s"], facts["suv_factor"]) == (None, None)
        assert facts["time_note"] == "all clocks of the header are the same: taken as blanked"
    assert facts_of(clock="120000", **clocks)["scan_after_injection_s"] is None
    assert facts_of("20190510110000", **clocks)["scan_after_injection_s"] == 3600


def test_an_injection_a_few_seconds_after_the_start_is_the_start(facts_of):
    facts = facts_of("20190510102010", SeriesTime="101900")
    assert facts["scan_after_injection_s"] == 0
    assert facts["time_note"] == "the injection is 10 s after the scan began: taken as its beginning"


def test_an_injection_of_the_day_before_is_no_uptake_of_23_hours(facts_of):
    with pytest.raises(RefusedScan, match=r"injection is 40\.0 min after the scan") as refusal:
        facts_of("20190509110000")
    assert refusal.value.rule == "injection-after-scan"


def test_a_series_that_was_opened_before_the_injection(facts_of):
    facts = facts_of(SeriesTime="085000", injection="20190510090000")
    assert facts["scan_after_injection_s"] == 80 * 60
    assert facts["suv_factor"] == pytest.approx(70_000 / (3.7e8 * 2 ** (-4800 / 6586.2)), rel=1e-3)


def test_an_offset_that_a_deidentifier_made_up_gives_way_to_the_clock(facts_of):
    facts = facts_of("20190510090000-0500", TimezoneOffsetFromUTC="+0000")
    assert facts["scan_after_injection_s"] == 80 * 60
    assert facts["time_note"] == "offsets from UTC ignored"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("08:30:00", 30600), ("0830", 30600), ("083000.000000", 30600), ("08:30", 30600), ("08", 28800),
        ("240000", 86400), ("240001", None), ("12000", None), ("8:30:00", None), ("083060", 30660),
        ("0830-0900", None), ("08:3000", None), ("083000.5 ", 30600.5),
    ],
)  # fmt: skip
def test_clocks_as_scanners_write_them(written, seconds):
    assert parse_clock(written) == seconds


ZONES = st.integers(-48, 56).map(lambda quarters: timezone(timedelta(minutes=15 * quarters)))


@given(
    injected=st.integers(631_238_400, 1_893_456_000),
    delay=st.integers(0, 12 * 3600),
    zones=st.tuples(ZONES, ZONES),
)
def test_the_delay_does_not_depend_on_the_zones(injected, delay, zones):
    one = datetime.fromtimestamp(injected, UTC)
    there, here = one.astimezone(zones[0]), (one + timedelta(seconds=delay)).astimezone(zones[1])
    injection = parse_datetime(f"{there:%Y%m%d%H%M%S%z}")
    scan = parse_moment(f"{here:%Y%m%d}", f"{here:%H%M%S}", f"{here:%z}")
    assert delay_after_injection(scan, injection, None) == (delay, None)


@given(st.lists(st.none() | st.tuples(st.floats(0, 1e9), st.none() | st.sampled_from([0.0, 3600.0]))))
def test_one_clock_loses_no_time(stated):
    moments = [None if m is None else Moment(*m) for m in stated]
    one = on_one_clock(moments)
    assert len(one) == len(moments)
    known = [m for m in moments if m is not None]
    if all(m.offset is not None for m in known):
        for (a, b), (x, y) in zip(pairwise(moments), pairwise(one), strict=True):
            if a and b and x and y:
                apart = x.since(y) - a.since(b)
                assert min(abs(apart), abs(abs(apart) - 86400)) < 1e-3


def test_an_offset_of_the_injection_alone_is_reported(make_series):
    def edit(ds, _slice, _frame):
        (item,) = ds.RadiopharmaceuticalInformationSequence
        item.RadiopharmaceuticalStartDateTime = "20190510080500+0000"
        del item.RadiopharmaceuticalStartTime

    facts = read_series(make_series(edit=edit).folder).facts
    assert "states an offset from UTC and the scan none" in str(facts["time_note"])


@pytest.mark.parametrize(("frames", "durations"), [(1, ["1200"]), (3, ["300"] * 3)])
def test_durations_in_seconds_are_read_as_such_with_a_warning(make_series, frames, durations):
    def edit(ds, _slice, frame):
        ds.ActualFrameDuration = durations[frame]

    volume = read_series(make_series(frames=frames, edit=edit).folder)
    assert [frame.duration_s for frame in volume.frames] == [float(text) for text in durations]
    assert "is taken as seconds" in str(volume.facts["time_note"])


def test_two_times_of_one_injection_are_reported(make_series):
    def edit(ds, _slice, _frame):
        ds.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartTime = "083000"

    facts = read_series(make_series(edit=edit).folder).facts
    assert "differ; the latter is used" in str(facts["time_note"])
