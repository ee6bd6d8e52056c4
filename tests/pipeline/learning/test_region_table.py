import numpy as np
import pandas as pd
import pytest

from pipeline.learning.region_table import RegionTable


@pytest.fixture
def table() -> RegionTable:
    rows = {"a": (1.0, 1.1, 1.2), "b": (1.4, np.nan, 1.4), "c": (9.0, 9.0, 9.0)}
    columns = ["left_cuneus", "right_cuneus", "composite_meta_roi"]
    return RegionTable(pd.DataFrame.from_dict(rows, orient="index", columns=columns))


def test_norms_are_mean_sd_and_count_over_the_named_scans(table):
    norms = {(n.region, n.side): n for n in table.norms(["a", "b"])}
    meta = norms["meta_roi", "both"]
    assert meta.mean == pytest.approx(1.3)
    assert meta.sd == pytest.approx(np.sqrt(0.02))
    assert meta.n == 2
    assert norms["cuneus", "left"].mean == pytest.approx(1.2)


def test_one_scan_is_no_norm(table):
    assert ("cuneus", "right") not in {(n.region, n.side) for n in table.norms(["a", "b"])}
    assert table.norms([]) == ()


def test_features_are_the_regions_that_every_scan_has(table, tmp_path):
    assert table.names == ("left_cuneus",)
    np.testing.assert_array_equal(table.suvr(["c", "a"]), [[9.0], [1.0]])
    path = tmp_path / "regional_suvr.tsv"
    table.table.rename_axis("scan_id").reset_index().to_csv(path, sep="\t", index=False, na_rep="n/a")
    pd.testing.assert_frame_equal(RegionTable.read(path).table, table.table, check_names=False)
