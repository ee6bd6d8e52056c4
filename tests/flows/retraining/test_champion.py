"""What a retraining asks of the champion before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.retraining.champion import Champion
from pipeline.errors import CohortError
from pipeline.scan import Cohort, Scan, Split


def scans(*subjects: str) -> Cohort:
    return Cohort(tuple(Scan(s, "1", Path("x.nii.gz"), diagnosis="CN") for s in subjects), ("CN", "AD"))


@pytest.fixture
def champion(small_classifier) -> Champion:
    ids = {f"sub-{s}_ses-1": s for s in "ABCDE"}
    a, b, c, d, e = ids
    return Champion(1, small_classifier, Split((a, b), (c,), (d,), (e,), ids), Path())


def test_a_cohort_with_fewer_scans_stops_with_the_numbers_the_names_and_the_way_on(champion):
    with pytest.raises(CohortError, match=r"has 2 labelled scans, but the champion was made from 5") as error:
        champion.check_cohort(scans("A", "B"))
    assert "sub-C_ses-1, sub-D_ses-1, sub-E_ses-1" in error.value.problem
    assert "--accept-smaller" in error.value.hint


@pytest.mark.parametrize("subjects", ["ABCDE", "ABCDEF", "AVWXYZ"])
def test_one_of_the_same_size_goes_on(champion, subjects):
    champion.check_cohort(scans(*subjects))


def test_a_dataset_that_was_made_again_with_another_key_stops_before_its_people_count_as_new(champion):
    with pytest.raises(
        CohortError, match=r"None of the 5 scans .* is in the dataset, as sub-A_ses-1"
    ) as error:
        champion.check_cohort(scans("V", "W", "X", "Y", "Z"))
    assert "restore DATASET.key" in error.value.hint
    assert "--accept-smaller" in error.value.hint
