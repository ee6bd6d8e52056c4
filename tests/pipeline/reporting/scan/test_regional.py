import numpy as np
import pytest

from pipeline.config import TauThresholds
from pipeline.reporting.scan.regional import (
    Norms,
    composite_rows,
    hottest_region,
    meta_roi_of,
    region_rows,
)


def test_few_normal_scans_give_no_z(norms_of):
    few, enough = Norms(norms_of([-0.1, 0.1] * 2)), Norms(norms_of([-0.1, 0.1] * 3))
    assert few.count is None
    assert few.z("precuneus", "left", 3.0) is None
    assert enough.count == 6
    sd = np.std([0.1, -0.1] * 3, ddof=1)
    assert enough.z("precuneus", "left", 1.13 + 0.1) == pytest.approx(0.1 / sd)


def test_norms_that_do_not_differ_give_no_z(norms_of):
    assert Norms(norms_of([0.0] * 6)).z("precuneus", "left", 3.0) is None


def test_the_hottest_region_is_of_the_side_that_is_hotter(regions):
    assert hottest_region(region_rows(regions, Norms(()))) == ("precuneus", "left")
    assert hottest_region(()) == ("", "")


def test_known_composites_come_first_with_their_norm(norms):
    rows = composite_rows({"other": 1.0, "meta_roi": 1.3}, Norms(norms))
    assert [row.name for row in rows] == ["meta_roi", "other"]
    assert rows[0].norm_count == 10
    assert rows[0].z == pytest.approx(0.1 / np.std([0.1, -0.1] * 5, ddof=1))
    assert rows[1].z is None


def test_without_a_meta_roi_there_is_no_band(norms):
    assert meta_roi_of({}, Norms(norms), TauThresholds()) is None
    found = meta_roi_of({"meta_roi": 1.25}, Norms(norms), TauThresholds())
    assert found is not None
    assert found.norm_mean == pytest.approx(1.2)
