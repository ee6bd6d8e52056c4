"""A long tail takes from the training part alone, as much as the formula says, and repeats itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import CohortError
from pipeline.learning.imbalance import long_tail, tail_counts
from pipeline.scan import Split

NAMES = ("a", "b", "c", "d")


def make_split(counts=(40, 40, 40, 40)) -> tuple[Split, dict[str, int]]:
    train = [f"train-{k}-{n}" for n in range(max(counts)) for k in range(len(counts)) if n < counts[k]]
    others = {
        part: [f"{part}-{k}-{n}" for k in range(len(counts)) for n in range(5)] for part in ("v", "c", "t")
    }
    label_of = {i: int(i.split("-")[1]) for i in [*train, *(i for ids in others.values() for i in ids)]}
    parts = (tuple(ids) for ids in (train, *others.values()))
    return Split(*parts, subject_of={i: i for i in label_of}), label_of


def counted(split: Split, label_of: dict[str, int]) -> list[int]:
    return [sum(label_of[i] == k for i in split.train) for k in range(len(NAMES))]


@pytest.mark.parametrize(
    ("classes", "most", "ratio", "total"),
    [(10, 5000, 100, 12406), (10, 5000, 10, 20431), (100, 500, 100, 10847)],
)
def test_the_benchmarks_have_their_published_size(classes, most, ratio, total):
    # Cao et al. 2019 and everyone after: CIFAR-10-LT 100 has 12,406 images, CIFAR-100-LT 100 has 10,847.
    counts = tail_counts([most] * classes, ratio)
    assert sum(counts) == total
    assert counts[0] == most
    assert counts[-1] == most // ratio


@given(st.lists(st.integers(0, 3000), min_size=2, max_size=20), st.floats(1, 500))
def test_no_class_gains_and_the_order_of_sizes_stays(counts, ratio):
    kept = tail_counts(counts, ratio)
    assert all(k <= n for k, n in zip(kept, counts, strict=True))
    assert max(kept) == max(counts)
    places = sorted(range(len(counts)), key=lambda k: -counts[k])
    assert [kept[k] for k in places] == sorted(kept, reverse=True)


@given(st.lists(st.integers(0, 3000), min_size=2, max_size=20))
def test_a_ratio_of_one_leaves_all(counts):
    assert tail_counts(counts, 1) == tuple(counts)


def test_only_the_training_part_is_thinned():
    split, label_of = make_split()
    rarer = long_tail(split, label_of, NAMES, ratio=8, seed=0)
    assert counted(rarer, label_of) == [40, 20, 10, 5]
    assert (rarer.validation, rarer.calibration, rarer.test) == (
        split.validation,
        split.calibration,
        split.test,
    )
    kept = set(rarer.train)
    assert rarer.train == tuple(i for i in split.train if i in kept)


def test_data_that_are_imbalanced_keep_their_order_and_what_they_have():
    split, label_of = make_split((9, 40, 3, 30))
    assert counted(long_tail(split, label_of, NAMES, ratio=8, seed=0), label_of) == [9, 40, 3, 20]


def test_the_seed_decides_who_stays_and_a_steeper_tail_holds_part_of_a_gentler_one():
    split, label_of = make_split()
    gentle, steep, other = (
        long_tail(split, label_of, NAMES, ratio=ratio, seed=seed) for ratio, seed in ((4, 0), (20, 0), (4, 1))
    )
    assert set(steep.train) < set(gentle.train)
    assert gentle.train == long_tail(split, label_of, NAMES, ratio=4, seed=0).train
    assert gentle.train != other.train


def test_a_class_left_without_a_scan_is_named():
    split, label_of = make_split((40, 30, 20, 10))
    with pytest.raises(
        CohortError, match=r"imbalance.ratio: A ratio of 100 leaves no training scan of d \(of 10\)"
    ):
        long_tail(split, label_of, NAMES, ratio=100, seed=0)
