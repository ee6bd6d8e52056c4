"""Regional SUVR as ingest wrote it: which regions are used, and what is normal."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.learning.region_table import RegionTable

TABLE = """scan_id\tleft_amygdala\tright_amygdala\tleft_insula\tboth_brainstem\tcomposite_meta_roi
sub-1_ses-a\t1.0\t1.1\tn/a\t0.9\t1.2
sub-2_ses-a\t1.2\t1.3\t1.0\t0.8\t1.4
sub-3_ses-a\t1.4\t1.2\t1.1\t1.0\t1.6
"""


@pytest.fixture
def regions(tmp_path) -> RegionTable:
    path = tmp_path / "regional_suvr.tsv"
    path.write_text(TABLE)
    return RegionTable.read(path)


def test_sided_regions_known_of_every_scan_are_features_in_the_order_asked_for(regions):
    assert regions.names == ("left_amygdala", "right_amygdala")
    np.testing.assert_array_equal(regions.suvr(["sub-3_ses-a", "sub-1_ses-a"]), [[1.4, 1.2], [1.0, 1.1]])


def test_norms_leave_out_what_is_not_known_and_what_one_scan_alone_has(regions):
    norms = {(n.region, n.side): n for n in regions.norms(["sub-1_ses-a", "sub-2_ses-a"])}
    assert ("insula", "left") not in norms, "one scan has no spread"
    assert set(norms) == {
        ("amygdala", "left"),
        ("amygdala", "right"),
        ("brainstem", "both"),
        ("meta_roi", "both"),
    }
    found = norms["amygdala", "left"]
    assert (found.mean, found.sd, found.n) == pytest.approx((1.1, 0.2 / np.sqrt(2), 2))
