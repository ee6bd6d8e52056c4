import numpy as np
import pytest

from models.typical_scans import TypicalScan, arrays_of, typical_scans_in


@pytest.fixture
def scans():
    suvr = np.random.default_rng(0).uniform(0, 3.9, (4, 5, 6))
    return (TypicalScan("negative", suvr, 1.17, 12), TypicalScan("positive", suvr[::-1], 1.9, 7))


def test_what_is_stored_is_read_again_to_the_step(scans):
    read = typical_scans_in(arrays_of(scans))
    assert [(s.status, s.meta_roi, s.among) for s in read] == [("negative", 1.17, 12), ("positive", 1.9, 7)]
    for before, after in zip(scans, read, strict=True):
        np.testing.assert_allclose(after.suvr, before.suvr, atol=1 / 128 + 1e-6)


def test_the_negative_scan_is_first_whatever_their_order(scans):
    assert [s.status for s in typical_scans_in(arrays_of(scans[::-1]))] == ["negative", "positive"]


def test_one_status_alone_is_stored_alone(scans):
    assert [s.status for s in typical_scans_in(arrays_of(scans[1:]))] == ["positive"]


def test_an_older_bundle_has_none():
    assert typical_scans_in({"means": np.zeros(3)}) == ()


def test_values_beyond_the_steps_and_no_values_are_stored_as_their_ends():
    odd = np.array([[[np.nan, -1.0, 9.0]]])
    [read] = typical_scans_in(arrays_of([TypicalScan("negative", odd, 1.0, 3)]))
    np.testing.assert_allclose(read.suvr, [[[0, 0, 255 / 64]]])
