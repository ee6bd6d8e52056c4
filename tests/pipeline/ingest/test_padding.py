"""Pixels that a header calls padding are no activity, whatever they would be with slope and intercept."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import RefusedScan
from pipeline.ingest.dicom import read_series

CORNER = (slice(0, 6), slice(0, 5))


def padded(value: int, vr: str = "SS", limit: int | None = None):
    """Return an edit that fills a corner of every slice with padding."""

    def edit(ds, *_):
        stored = np.frombuffer(ds.PixelData, "<i2").reshape(ds.Rows, ds.Columns).copy()
        stored[CORNER] = np.array(value).astype("<i2")
        ds.PixelData = stored.tobytes()
        ds.add_new(0x00280120, vr, value if limit is None else limit)
        if limit is not None:
            ds.add_new(0x00280121, vr, value)

    return edit


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (padded(-32768), "of the scanner"),
        (padded(-2000), "of another program"),
        (padded(-1500, limit=-2000), "a range"),
    ],
    ids=["lowest", "other", "range"],
)
def test_padding_is_no_number_and_the_rest_is_as_it_was(make_series, rewrite, edit, where):
    folder = make_series(shape=(32, 31, 4)).folder
    plain = read_series(folder)
    rewrite(folder, edit)
    found = read_series(folder)
    blank = np.isnan(found.array)
    assert blank.sum() == 6 * 5 * 4 == found.facts["padded_voxels"], where
    np.testing.assert_array_equal(found.array[~blank], plain.array[~blank])


def test_a_sign_that_implicit_vr_does_not_state_is_that_of_the_pixels(make_series, rewrite):
    series = make_series(shape=(32, 31, 4), edit=padded(-32768))

    def as_unsigned(ds, _):
        ds[0x00280120].VR = "US"
        ds.PixelPaddingValue = 32768

    rewrite(series.folder, as_unsigned)
    assert np.isnan(read_series(series.folder).array).sum() == 6 * 5 * 4


def test_padding_with_zeros_stays_zero(make_series):
    found = read_series(make_series(shape=(32, 31, 4), edit=padded(0)).folder)
    assert not np.isnan(found.array).any()
    assert found.facts["padded_voxels"] is None


def test_a_slice_of_padding_between_others_is_missing(make_series):
    def edit(ds, place, _frame):
        ds.add_new(0x00280120, "SS", -32768)
        if place == 2:
            ds.PixelData = np.full(ds.Rows * ds.Columns, -32768, "<i2").tobytes()

    with pytest.raises(RefusedScan, match="one value throughout in 1 slices along z, the first is number 3"):
        read_series(make_series(shape=(32, 31, 5), edit=edit).folder)
