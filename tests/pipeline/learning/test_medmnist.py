"""MedMNIST sets, 2D and 3D: the official split is kept, what is not such a set is refused."""

from __future__ import annotations

import numpy as np
import pytest

from models.preprocessing import ImagePreprocessing, Preprocessing
from pipeline.errors import CohortError
from pipeline.learning.medmnist import load_medmnist
from pipeline.scan import PARTS

NAMES = ("normal", "hyperplasia")


def write(path, rng, shape, classes=2, **changed):
    """A set with 20, 6 and 8 images of each class."""
    arrays = {}
    for part, n in (("train", 20), ("val", 6), ("test", 8)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (n * classes, *shape), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(n * classes) % classes).astype(np.uint8)[:, None]
    np.savez(path, **(arrays | changed))
    return arrays | changed


def test_adrenal_mnist_keeps_its_official_split(shared_data):
    path = shared_data("adrenalmnist3d") / "adrenalmnist3d.npz"
    volumes, split = load_medmnist(path, NAMES, validation=0.12, seed=3)
    with np.load(path) as official:
        test = volumes.subset(split.test)
        np.testing.assert_array_equal(test.volumes * 255, official["test_images"])
        np.testing.assert_array_equal(test.labels, official["test_labels"][:, 0])
        calibration = volumes.subset(split.calibration)
        np.testing.assert_array_equal(calibration.labels, official["val_labels"][:, 0])
    assert {part: len(split.part(part)) for part in PARTS} == {
        "train": 1046,
        "validation": 142,
        "calibration": 98,
        "test": 298,
    }
    assert volumes.subset(split.validation).class_counts == (111, 31)
    assert volumes.volumes.min() == 0
    assert volumes.volumes.max() == 1
    assert isinstance(volumes.preprocessing, Preprocessing)
    assert load_medmnist(path, NAMES, validation=0.12, seed=3)[1].digest() == split.digest()


@pytest.mark.parametrize(("shape", "in_shape"), [((28, 28), (1, 28, 28)), ((28, 28, 3), (3, 28, 28))])
def test_two_dimensional_sets_are_images_with_channels_first(tmp_path, rng, shape, in_shape):
    arrays = write(tmp_path / "set.npz", rng, shape, classes=3)
    volumes, split = load_medmnist(tmp_path / "set.npz", validation=0.2, seed=1)
    assert volumes.class_names == ("0", "1", "2")
    assert volumes.volumes.dtype == np.uint8
    assert volumes.in_shape == in_shape
    test = volumes.subset(split.test)
    np.testing.assert_array_equal(np.moveaxis(test.volumes, 1, -1).reshape(24, *shape), arrays["test_images"])
    np.testing.assert_array_equal(test.labels, arrays["test_labels"][:, 0])
    assert {part: len(split.part(part)) for part in PARTS} == {
        "train": 48, "validation": 12, "calibration": 18, "test": 24,
    }  # fmt: skip


def test_mean_and_sd_are_those_of_the_training_part(tmp_path, rng):
    write(tmp_path / "set.npz", rng, (28, 28, 3))
    volumes, split = load_medmnist(tmp_path / "set.npz", validation=0.2)
    assert isinstance(volumes.preprocessing, ImagePreprocessing)
    training = volumes.subset(split.train).volumes / 255
    np.testing.assert_allclose(volumes.preprocessing.mean, training.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(volumes.preprocessing.sd, training.std(axis=(0, 2, 3)), rtol=1e-12)


def test_a_file_that_is_no_medmnist_archive_is_refused(tmp_path):
    path = tmp_path / "adrenal.npz"
    with pytest.raises(CohortError, match=r"There is no such file.*data/README.md"):
        load_medmnist(path)
    path.write_bytes(b"not an archive")
    with pytest.raises(CohortError, match=r"not a MedMNIST archive of train_images.*Download it again"):
        load_medmnist(path)
    np.savez(path, train_images=np.zeros((2, 28, 28, 28), np.uint8))
    with pytest.raises(CohortError, match=r"not a MedMNIST archive of train_images.*train_labels"):
        load_medmnist(path)


def test_a_label_without_a_name_is_refused(tmp_path, rng):
    write(tmp_path / "set.npz", rng, (28, 28), classes=3)
    with pytest.raises(
        CohortError, match=r"set.npz: There are labels 0 to 2, but 2 class names\. Name every class"
    ):
        load_medmnist(tmp_path / "set.npz", NAMES)


def test_several_labels_an_image_are_refused(tmp_path, rng):
    write(tmp_path / "chest.npz", rng, (28, 28), val_labels=np.zeros((12, 14), np.uint8))
    with pytest.raises(
        CohortError,
        match=r"The part val has labels of shape \(12, 14\) for 12 images\. Expected one per image",
    ):
        load_medmnist(tmp_path / "chest.npz")


@pytest.mark.parametrize(
    "images", [np.zeros((16, 32, 32), np.uint8), np.zeros((16, 28, 28)), np.zeros((16, 28), np.uint8)]
)
def test_images_of_another_shape_or_type_are_refused(tmp_path, rng, images):
    write(tmp_path / "set.npz", rng, (28, 28), test_images=images)
    with pytest.raises(
        CohortError,
        match=r"are uint8 \(40, 28, 28\), uint8 \(12, 28, 28\), \w+ \(16,.*Expected uint8 of one shape",
    ):
        load_medmnist(tmp_path / "set.npz")
