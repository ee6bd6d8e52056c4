import numpy as np
import pandas as pd
import pytest

from pipeline.reporting.scan.regional import (
    Norms,
    composite_rows,
    hottest_region,
    meta_roi_of,
    region_rows,
    regional_norms,
)


def test_few_normal_scans_give_no_z(regions):
    few, enough = Norms(regional_norms([regions] * 4, [])), Norms(regional_norms(_shifted(regions), []))
    assert few.count is None
    assert few.z("precuneus", "left", 3.0) is None
    assert enough.count == 6
    assert enough.z("precuneus", "left", 2.5 + 0.1) == pytest.approx(0.1 / np.std([0.1, -0.1] * 3, ddof=1))


def _shifted(regions) -> list[pd.DataFrame]:
    return [regions.assign(suvr=regions.suvr + shift) for shift in [0.1, -0.1] * 3]


def test_norms_that_do_not_differ_give_no_z(regions):
    assert Norms(regional_norms([regions] * 6, [])).z("precuneus", "left", 3.0) is None


def test_norms_are_mean_sd_and_count_over_scans(regions):
    table = regional_norms(
        [regions, regions.assign(suvr=regions.suvr + 0.2)], [{"meta_roi": 1.0}, {"meta_roi": 1.2}]
    )
    (meta,) = (norm for norm in table if (norm.region, norm.side) == ("meta_roi", "both"))
    assert meta.mean == pytest.approx(1.1)
    assert meta.sd == pytest.approx(np.sqrt(0.02))
    assert meta.n == 2


def test_there_are_no_norms_of_no_scans():
    assert regional_norms([], []) == ()


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
    assert meta_roi_of({}, Norms(norms)) is None
    found = meta_roi_of({"meta_roi": 1.25}, Norms(norms))
    assert found is not None
    assert found.norm_mean == pytest.approx(1.2)
