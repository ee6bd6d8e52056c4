"""The reference is one, and every mean is the mean it says."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.atlas import SHAPE, braak_composite, load_atlas
from pipeline.errors import RefusedScan
from pipeline.imaging.suvr import COLUMNS, composites, keep_brain, regional_table, to_suvr


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(3).uniform(500, 1500, SHAPE).astype(np.float32)


def test_reference_mean_is_one(image):
    assert to_suvr(image)[load_atlas().reference].mean(dtype=np.float64) == pytest.approx(1, abs=1e-6)


def test_ratio_is_free_of_scale(image):
    np.testing.assert_allclose(to_suvr(7 * image), to_suvr(image), rtol=1e-6)


@pytest.mark.parametrize(("level", "advice"), [(0.0, "cerebellum lies in"), (-1.0, "slope and intercept")])
def test_an_empty_reference_is_refused(level, advice):
    with pytest.raises(RefusedScan, match="expected a positive value") as refusal:
        to_suvr(np.full(SHAPE, level, np.float32))
    assert refusal.value.rule == "no-reference"
    assert advice in refusal.value.hint


def test_table_holds_every_region_once_a_side(image):
    table = regional_table(image)
    assert tuple(table.columns) == COLUMNS
    assert not table.duplicated(["region", "side"]).any()
    entorhinal = table[table.region == "entorhinal"].set_index("side")
    assert set(entorhinal.index) == {"left", "right", "both"}
    assert entorhinal.loc["left", "suvr"] == pytest.approx(
        image[load_atlas().mask("entorhinal", "left")].mean(), rel=1e-5
    )


def test_both_sides_are_weighted_by_volume(image):
    table = regional_table(image)
    for _, sides in table[table.region != ""].groupby("region"):
        by_side = sides.set_index("side")
        if "left" not in by_side.index:
            continue
        volume, value = by_side["volume_ml"], by_side["suvr"]
        assert volume["both"] == pytest.approx(volume["left"] + volume["right"])
        total = value["left"] * volume["left"] + value["right"] * volume["right"]
        assert value["both"] == pytest.approx(total / volume["both"])


def test_composites_are_means_over_their_voxels(image):
    found = composites(image)
    assert set(found) == {"meta_roi", "meta_roi_adni", "braak_1_2", "braak_3_4", "braak_5_6"}
    where = np.any([load_atlas().mask(r) for r in braak_composite("III/IV")], axis=0)
    assert found["braak_3_4"] == pytest.approx(image[where].mean(), rel=1e-5)


def test_adni_meta_roi_leaves_out_the_parahippocampal_gyrus():
    image = np.where(load_atlas().mask("parahippocampal"), 2.0, 1.0).astype(np.float32)
    found = composites(image)
    assert found["meta_roi_adni"] == pytest.approx(1.0)
    assert found["meta_roi"] > 1.05


def test_the_face_is_removed_and_the_brain_is_not(image):
    kept = keep_brain(image)
    brain = load_atlas().brain
    np.testing.assert_array_equal(kept[brain], image[brain])
    assert kept[48, 104, 6] == 0
