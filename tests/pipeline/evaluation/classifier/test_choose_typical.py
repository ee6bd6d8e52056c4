from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from pipeline.atlas import AFFINE, SHAPE, load_atlas
from pipeline.config import TauThresholds
from pipeline.evaluation.classifier.choose_typical import choose_typical
from pipeline.learning.region_table import RegionTable
from pipeline.scan import Scan

LIMITS = TauThresholds(uncertain_from=1.2, positive_from=1.4)


@pytest.fixture
def cohort_of(tmp_path):
    """A cohort of scans with a regional SUVR each, one for each subject: ``(meta_roi, precuneus)``."""

    def make(values, quality="accepted", shape=SHAPE):
        scans, rows = [], {}
        for n, (meta_roi, precuneus) in enumerate(values):
            path = tmp_path / f"{n}.nii.gz"
            nib.save(nib.Nifti1Image(np.full(shape, meta_roi, dtype=np.float32), AFFINE), path)
            scans.append(Scan(f"S{n}", "1", path, facts={"quality": quality}))
            rows[scans[-1].scan_id] = {
                "composite_meta_roi": meta_roi, "left_precuneus": precuneus, "right_precuneus": precuneus,
                "left_putamen": float(n), "right_putamen": 0.0,
            }  # fmt: skip
        table = pd.DataFrame.from_dict(rows, orient="index")
        split = SimpleNamespace(train=tuple(rows))
        return SimpleNamespace(cohort=SimpleNamespace(scans=tuple(scans)), split=split), RegionTable(table)

    return make


def test_the_scan_nearest_to_the_mean_of_its_status_is_chosen(cohort_of):
    values = [(1.0, 1.0), (1.1, 1.12), (1.15, 1.3), (1.3, 1.14), (1.5, 1.5), (1.6, 1.9), (1.7, 2.6)]
    negative, positive = choose_typical(*cohort_of(values), LIMITS)
    assert (negative.status, negative.meta_roi, negative.among) == ("negative", 1.1, 3)
    assert (positive.status, positive.meta_roi, positive.among) == ("positive", 1.6, 3)


def test_only_the_brain_and_what_is_around_it_is_stored(cohort_of):
    [negative] = choose_typical(*cohort_of([(1.0, 1.0)] * 3), LIMITS)
    assert (negative.suvr[load_atlas().brain] == 1.0).all()
    for corner in (0, -1):
        assert negative.suvr[corner, corner, corner] == 0
    assert (negative.suvr > 0).mean() < 0.6


def test_a_status_with_few_scans_has_none(cohort_of):
    assert choose_typical(*cohort_of([(1.0, 1.0), (1.0, 1.1), (1.3, 1.0), (1.3, 1.0)]), LIMITS) == ()


def test_scans_outside_training_and_of_warned_quality_are_not_looked_at(cohort_of):
    scans, regions = cohort_of([(1.0, 1.0)] * 5)
    assert choose_typical(scans, regions, LIMITS)[0].among == 5
    part = SimpleNamespace(cohort=scans.cohort, split=SimpleNamespace(train=scans.split.train[:3]))
    assert choose_typical(part, regions, LIMITS)[0].among == 3
    assert choose_typical(*cohort_of([(1.0, 1.0)] * 5, quality="warned"), LIMITS) == ()


def test_a_subject_counts_once_with_its_first_scan(cohort_of):
    scans, regions = cohort_of([(1.0, 1.0), (1.1, 1.1), (1.15, 1.2), (1.0, 1.3)])
    *others, last = scans.cohort.scans
    again = Scan("S0", "2", last.path, facts=last.facts)
    table = regions.table.rename(index={last.scan_id: again.scan_id})
    both = SimpleNamespace(
        cohort=SimpleNamespace(scans=(*others, again)), split=SimpleNamespace(train=tuple(table.index))
    )
    assert choose_typical(both, RegionTable(table), LIMITS)[0].among == 3


def test_without_a_table_of_regions_or_a_meta_roi_there_is_none(cohort_of):
    scans, regions = cohort_of([(1.0, 1.0)] * 3)
    assert choose_typical(scans, None, LIMITS) == ()
    assert choose_typical(scans, RegionTable(regions.table.drop(columns="composite_meta_roi")), LIMITS) == ()


def test_scans_on_another_grid_or_without_a_file_are_none(cohort_of):
    assert choose_typical(*cohort_of([(1.0, 1.0)] * 3, shape=(8, 8, 8)), LIMITS) == ()
    scans, regions = cohort_of([(1.0, 1.0)] * 3)
    scans.cohort.scans[0].path.unlink()
    assert choose_typical(scans, regions, LIMITS) == ()
