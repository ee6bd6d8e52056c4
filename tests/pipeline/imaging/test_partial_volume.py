"""Partial-volume correction: exact where its model holds, nearer the truth where it does not, never alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from pipeline.atlas import REFERENCE, SHAPE, load_atlas
from pipeline.config import ImagingSettings
from pipeline.errors import InputError
from pipeline.imaging.partial_volume import compartments, transfer_matrix, unblur
from pipeline.imaging.process import normalise, read_derivative, write_derivative

SIGMA = 8.0 / 2.3548 / 2.0
STEM = "sub-01_ses-01_trc-18FAV1451"


def painted(uptake: dict[str, float]) -> np.ndarray:
    """A sharp image of the compartments."""
    found, image = compartments(), np.zeros(SHAPE, dtype=np.float32)
    for name, box, share in zip(found.names, found.boxes, found.shares, strict=True):
        image[box] += np.float32(uptake[name]) * share
    return image


@pytest.fixture(scope="module")
def uptake() -> dict[str, float]:
    rng = np.random.default_rng(4)
    drawn = {name: float(rng.uniform(0.6, 3.0)) for name in compartments().names}
    return drawn | {REFERENCE: 1.0}


def test_a_blurred_image_of_uniform_regions_is_unblurred_exactly(uptake):
    image = ndimage.gaussian_filter(painted(uptake), SIGMA, mode="constant")
    found = unblur(5000 * image, 8.0, (1.0, 1.0, 1.0))
    sided = found.regions[(found.regions.side != "both")]
    true = [uptake[f"{side}_{region}"] for side, region in zip(sided.side, sided.region, strict=True)]
    np.testing.assert_allclose(sided.suvr, true, rtol=2e-3)
    atlas = load_atlas()
    names = [f"{side}_entorhinal" for side in ("left", "right")]
    sizes = [(atlas.labels == atlas.names.index(name)).sum() for name in names]
    expected = np.average([uptake[name] for name in names], weights=sizes)
    assert found.composites["braak_1_2"] == pytest.approx(expected, rel=2e-3)


def test_an_image_of_one_value_stays_as_it_is():
    """What the compartments add to each other sums to one, wherever something is read inside the head."""
    matrix = transfer_matrix(np.full(3, SIGMA))
    inside = [k for k, name in enumerate(compartments().names) if not name.startswith("around")]
    np.testing.assert_allclose(matrix.sum(axis=1)[inside], 1.0, atol=1e-3)


def test_the_blur_is_stretched_with_the_head(uptake):
    """A head twice as wide as the template shows half of the blur along that axis."""
    narrow = ndimage.gaussian_filter(painted(uptake), [SIGMA / 2, SIGMA, SIGMA], mode="constant")
    found = unblur(narrow, 8.0, (2.0, 1.0, 1.0)).regions.set_index(["side", "region"]).suvr
    assert found["left", "fusiform"] == pytest.approx(uptake["left_fusiform"], rel=2e-3)


def test_without_a_reference_there_is_no_number():
    found = unblur(np.zeros(SHAPE, dtype=np.float32), 8.0, (1.0, 1.0, 1.0))
    assert found.regions.suvr.isna().all()
    assert np.isnan(found.composites["meta_roi"])


@pytest.fixture(scope="module")
def scans(make_head, uptake):
    """A scan read without and with correction, and what its compartments truly take up."""
    calm = {name: 1.0 + 0.4 * value for name, value in uptake.items()}
    calm |= {name: 0.5 for name in uptake if name.startswith("around")}
    calm |= {"csf": 0.5, "lateral_ventricle": 0.5, "white_matter": 1.2, "stem_white": 1.2}
    calm |= {REFERENCE: 1.0, "cerebellar_grey": 1.0, "cerebellar_white": 1.1}
    head = make_head(8, truth=painted(calm), neck=False)
    plain, corrected = (normalise(head.volume, ImagingSettings(partial_volume=on)) for on in (False, True))
    return plain, corrected, calm


def test_a_scan_is_nearer_to_its_true_uptake(scans):
    plain, corrected, true = scans
    assert corrected.unblurred is not None
    assert corrected.unblurred.resolution_mm == 8.0
    sided = (plain.regions.kind == "target") & (plain.regions.side != "both")
    rows = plain.regions[sided]
    of = np.array([true[f"{side}_{region}"] for side, region in zip(rows.side, rows.region, strict=True)])
    as_read = np.abs(rows.suvr / of - 1).mean()
    assert np.abs(corrected.unblurred.regions.suvr[sided] / of - 1).mean() < 0.6 * as_read


def test_the_first_number_is_what_it_was(scans):
    plain, corrected, _ = scans
    assert plain.unblurred is None
    assert corrected.suvr.array.tobytes() == plain.suvr.array.tobytes()
    pd.testing.assert_frame_equal(corrected.regions, plain.regions)
    assert corrected.composites == plain.composites


def test_both_numbers_survive_the_round_trip(scans, tmp_path):
    plain, corrected, _ = scans
    write_derivative(corrected, tmp_path, STEM)
    table = pd.read_csv(tmp_path / f"{STEM}_desc-pvc_pet.tsv", sep="\t")
    assert list(table.columns[:3]) == ["region", "side", "suvr"]
    np.testing.assert_allclose(table.suvr, plain.regions.suvr, atol=1e-6)
    back = read_derivative(tmp_path, STEM).unblurred
    assert back is not None
    np.testing.assert_allclose(back.regions.suvr, corrected.unblurred.regions.suvr, atol=1e-6)
    assert back.composites["meta_roi"] == pytest.approx(corrected.unblurred.composites["meta_roi"], abs=1e-6)
    # Written again without correction, the dataset holds no second number of another time.
    write_derivative(plain, tmp_path, STEM)
    assert read_derivative(tmp_path, STEM).unblurred is None
    assert not (tmp_path / f"{STEM}_desc-pvc_pet.tsv").exists()


def test_a_lost_table_is_an_error(scans, tmp_path):
    write_derivative(scans[1], tmp_path, STEM)
    (tmp_path / f"{STEM}_desc-pvc_pet.tsv").unlink()
    with pytest.raises(InputError, match=r"scan are missing: .*desc-pvc_pet\.tsv"):
        read_derivative(tmp_path, STEM)


def test_what_was_ingested_without_it_stays_valid():
    """The setting changes what is written, never what SUVR or a trained model depends on."""
    off, on = ImagingSettings(), ImagingSettings(partial_volume=True)
    assert "partial_volume" not in off.written()
    assert off.written() == off.processing() == on.processing()
    assert on.written() == on.processing() | {"partial_volume": True}
