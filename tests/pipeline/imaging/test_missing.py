"""Values that were not measured are counted where they are: in the brain they refuse, beside it they warn.

So do values that were cut off, or that overflowed where they were stored.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.atlas import AFFINE, SHAPE, load_atlas
from pipeline.config import ImagingSettings
from pipeline.errors import RefusedScan
from pipeline.imaging.missing import doubtful_values, locate, one_valued
from pipeline.imaging.process import normalise
from pipeline.scan import Volume

SETTINGS = ImagingSettings()


def region_centre(head, name: str) -> tuple[int, ...]:
    """Voxel of the scan in the middle of a region."""
    atlas = load_atlas()
    voxels = np.argwhere(atlas.labels == atlas.names.index(name))
    middle = voxels[np.argmin(np.linalg.norm(voxels - voxels.mean(axis=0), axis=1))]
    place = np.linalg.inv(head.volume.affine) @ head.matrix @ AFFINE @ np.append(middle, 1.0)
    return tuple(int(n) for n in np.rint(place[:3]))


def with_block(head, name: str | tuple[int, ...], value: float, half: int = 4) -> Volume:
    """The scan with a cube of one value in a region, or at a voxel."""
    middle = region_centre(head, name) if isinstance(name, str) else name
    array = head.volume.array.copy()
    array[tuple(slice(max(n - half, 0), n + half + 1) for n in middle)] = value
    return replace(head.volume, array=array)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("region", ["left_middle_temporal", "inferior_cerebellum"])
def test_a_block_that_is_no_number_in_the_brain_is_refused_with_count_and_place(head, region, value):
    name = region if region in load_atlas().names else next(n for n in load_atlas().names if "cereb" in n)
    with pytest.raises(
        RefusedScan, match=r"729 voxels, .*of the brain, most in .*Export the series again"
    ) as refusal:
        normalise(with_block(head, name, value), SETTINGS)
    assert refusal.value.rule == "invalid-voxels"


def test_a_single_voxel_that_is_no_number_in_the_brain_warns(head):
    found = normalise(with_block(head, "left_middle_temporal", np.nan, half=0), SETTINGS)
    (finding,) = [f for f in found.findings if f.rule == "invalid-voxels"]
    assert finding.verdict == "warn"
    assert "(1 voxel, " in finding.message
    assert "middle temporal" in finding.message


def test_a_background_that_is_no_number_warns_and_changes_no_value(head):
    array = head.volume.array.copy()
    array[:6] = np.nan
    found = normalise(replace(head.volume, array=array), SETTINGS)
    (finding,) = [f for f in found.findings if f.rule == "invalid-voxels"]
    assert finding.verdict == "warn"
    assert "none of them in the brain" in finding.message
    there = normalise(head.volume, SETTINGS)
    assert found.composites["meta_roi"] == pytest.approx(there.composites["meta_roi"], rel=2e-3)


def test_padding_beside_the_brain_is_noted_and_in_it_refused(head):
    array = head.volume.array.copy()
    array[:6] = np.nan
    beside = replace(
        head.volume, array=array, facts={**head.volume.facts, "padded_voxels": int(np.isnan(array).sum())}
    )
    (finding,) = [f for f in normalise(beside, SETTINGS).findings if f.rule == "invalid-voxels"]
    assert finding.verdict == "pass"
    assert "hold no measurement (Pixel Padding Value), none of them in the brain" in finding.message
    middle = np.array(array.shape) // 2
    array[tuple(slice(n - 9, n + 9) for n in middle)] = np.nan
    inside = replace(beside, array=array, facts={**beside.facts, "padded_voxels": int(np.isnan(array).sum())})
    with pytest.raises(RefusedScan, match="of the brain, most in"):
        normalise(inside, SETTINGS)


@pytest.mark.parametrize("value", [0.0, 4000.0])
def test_a_block_of_one_value_in_the_brain_is_refused(head, value):
    with pytest.raises(RefusedScan, match=r"one constant value .* most in ") as refusal:
        normalise(with_block(head, "left_inferior_temporal", value), SETTINGS)
    assert refusal.value.rule == "constant-voxels"


def test_in_a_dynamic_scan_one_bad_frame_is_enough(head):
    bad = with_block(head, "left_middle_temporal", np.nan).array
    volume = Volume(
        np.stack([head.volume.array, bad], axis=3), head.volume.affine, "Bq/mL", facts=head.volume.facts
    )
    with pytest.raises(RefusedScan, match="NaN or infinite voxels"):
        normalise(volume, SETTINGS)


@pytest.mark.parametrize("scale", [1000.0, 0.001])
def test_a_head_of_another_size_than_any_is_refused_before_memory_is_taken(head, scale):
    affine = head.volume.affine.copy()
    affine[:3] *= scale
    with pytest.raises(RefusedScan, match=r"The field of view is .* mm, which no PET scanner has") as refusal:
        normalise(replace(head.volume, affine=affine), SETTINGS)
    assert refusal.value.rule == "implausible-geometry"


@given(st.integers(0, 2**32), st.integers(0, 4), st.integers(0, 3), st.integers(0, 2), st.integers(1, 6))
def test_a_block_is_found_from_five_voxels_on_and_noise_never(seed, x, y, z, size):
    array = np.random.default_rng(seed).normal(size=(9, 8, 7)).astype(np.float32)
    assert not one_valued(array).any()
    array[x : x + size, y : y + size, z : z + size] = 1.5
    found = one_valued(array)
    assert found.any() == (min(size, 9 - x, 8 - y, 7 - z) >= 5)
    assert (array[found] == 1.5).all()


@settings(max_examples=20)
@given(st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[1] - 1), st.integers(0, SHAPE[2] - 1))
def test_a_voxel_is_counted_in_the_region_it_lies_in(x, y, z):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[x, y, z] = True
    found = locate([mask], [np.eye(4)], AFFINE)
    atlas = load_atlas()
    label = int(atlas.labels[x, y, z])
    assert found.voxels == 1
    assert (found.in_brain > 0) == bool(atlas.brain[x, y, z])
    assert found.region == (atlas.names[label] if label else "no region" * bool(atlas.brain[x, y, z]))


@pytest.fixture
def activity():
    """Values of a small scan."""
    return np.random.default_rng(0).gamma(2.0, 20_000.0, (12, 12, 12))


def test_values_cut_off_at_the_largest_that_can_be_stored_are_reported(activity):
    (doubt,) = doubtful_values(np.minimum(activity, 65535).astype(np.float32))
    assert "voxels hold the largest value" in doubt


def test_values_that_overflowed_are_reported(activity):
    assert "may overflow" in " ".join(doubtful_values(activity.astype(np.int64).astype(np.int16)))


@pytest.mark.parametrize("kind", [np.float32, np.uint16])
def test_a_whole_scan_is_not_doubted(activity, kind):
    noisy = (activity / activity.max() * 60_000 - (0 if kind is np.uint16 else 500)).astype(kind)
    assert doubtful_values(noisy) == []


@pytest.mark.parametrize("factor", [1, 0, np.nan])
def test_what_was_noted_when_the_values_were_read_is_a_doubt(activity, factor):
    assert doubtful_values(activity * factor, "compressed with loss")[0] == "compressed with loss"


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_what_is_not_a_number_is_counted_elsewhere(activity, strange):
    values = activity.astype(np.float32)
    values[:3] = strange
    assert doubtful_values(values) == []


def test_a_scan_that_was_cut_off_is_warned_of_wherever_it_is_processed(head):
    array = head.volume.array
    cut = replace(head.volume, array=np.minimum(array, np.quantile(array, 0.9999)))
    (sound,), (doubted,) = (
        [f for f in normalise(volume, SETTINGS).findings if f.rule == "stored-values"]
        for volume in (head.volume, cut)
    )
    assert (sound.verdict, doubted.verdict) == ("pass", "warn")
    assert "voxels hold the largest value" in doubted.message
