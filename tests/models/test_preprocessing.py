"""Images are normalised channel by channel, and a stored preprocessing comes back as the kind it was."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from models.preprocessing import ImagePreprocessing, Preprocessing, preprocessing_from_dict

COLOUR = ImagePreprocessing((3, 4, 5), mean=(0.2, 0.4, 0.6), sd=(0.1, 0.2, 0.3))


def test_images_of_their_own_mean_and_sd_become_standard(rng):
    images = rng.integers(0, 256, (50, 3, 4, 5), dtype=np.uint8)
    shares = images / 255
    own = ImagePreprocessing((3, 4, 5), shares.mean((0, 2, 3)), shares.std((0, 2, 3)))
    prepared = own(images)
    assert prepared.dtype == np.float32
    np.testing.assert_allclose(prepared.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(prepared.std((0, 2, 3)), 1, atol=1e-5)


def test_one_image_is_prepared_as_among_many(rng):
    images = rng.integers(0, 256, (3, *COLOUR.in_shape), dtype=np.uint8)
    np.testing.assert_array_equal(COLOUR(images)[1], COLOUR(images[1]))
    np.testing.assert_array_equal(COLOUR(images), COLOUR.normalise(torch.from_numpy(images)).numpy())


@pytest.mark.parametrize("original", [COLOUR, Preprocessing(8.0, 4.0, (24, 24, 24), 4.0)])
def test_either_kind_comes_back_from_what_was_stored(original):
    stored = json.loads(json.dumps(original.to_dict()))
    assert preprocessing_from_dict(stored) == original


def test_each_kind_knows_its_dimensions():
    assert (COLOUR.spatial_dims, Preprocessing(4.0, 4.0).spatial_dims) == (2, 3)


def test_the_stored_form_of_volumes_has_not_changed():
    # Bundles of earlier versions, and the names of caches, are made of these keys.
    assert list(Preprocessing(4.0, 4.0).to_dict()) == [
        "spacing_mm",
        "suvr_max",
        "grid_shape",
        "grid_spacing_mm",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"in_shape": (4, 5)}, r"in_shape is \(4, 5\)\. Expected channels, height and width"),
        ({"mean": (0.5,)}, r"mean is \(0.5,\)\. Expected a finite number for each of 3 channels"),
        ({"mean": (0.5, 0.5, float("nan"))}, r"mean is .*nan.*\. Expected a finite number"),
        ({"sd": (0.1, 0.0, 0.1)}, r"sd is \(0.1, 0.0, 0.1\)\. Expected positive"),
    ],
)
def test_what_cannot_be_a_normalisation_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        ImagePreprocessing(**{"in_shape": (3, 4, 5), "mean": (0.5,) * 3, "sd": (0.2,) * 3} | given)


def test_images_that_are_no_bytes_or_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"are float64\. Expected bytes from 0 to 255 \(uint8\)"):
        COLOUR(np.zeros(COLOUR.in_shape))
    with pytest.raises(ValueError, match=r"shape \(2, 5, 4, 3\)\. Expected .* \(N, C, H, W\) of \(3, 4, 5\)"):
        COLOUR(np.zeros((2, 5, 4, 3), dtype=np.uint8))
