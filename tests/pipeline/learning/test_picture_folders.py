"""Tiny-ImageNet and folders of pictures, one a class: what is read is what was written, faults are named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from image_sets import read, sizes
from PIL import Image, ImageFile

from pipeline.errors import CohortError

WNIDS = {"n02124075": "Egyptian cat", "n01443537": "goldfish, Carassius auratus", "n04067472": "reel"}


def save(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def tiny(tmp_path, rng) -> Path:
    """Three classes of ten training and two validation pictures; one of them grey, as in the real set."""
    root = tmp_path / "tiny-imagenet-200"
    lines = []
    for k, wnid in enumerate(WNIDS):
        for n in range(10):
            shape = (64, 64) if (k, n) == (1, 3) else (64, 64, 3)
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            save(root / "train" / wnid / "images" / f"{wnid}_{n}.JPEG", pixels)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
        for n in range(2):
            name = f"val_{2 * k + n}.JPEG"
            save(root / "val" / "images" / name, np.full((64, 64, 3), 10 * k + n, dtype=np.uint8))
            lines.append(f"{name}\t{wnid}\t0\t32\t44\t62")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    (root / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (root / "words.txt").write_text("n00001740\tentity\n" + "".join(f"{w}\t{t}\n" for w, t in WNIDS.items()))
    return root


def test_tiny_imagenet_is_tested_on_its_validation_part(tiny, tmp_path):
    volumes, split = read("tiny_imagenet", tmp_path)
    assert volumes.class_names == ("goldfish", "Egyptian cat", "reel")  # in the order of their ids
    assert sizes(split) == {"train": 21, "validation": 3, "calibration": 6, "test": 6}
    test = volumes.subset(split.test)
    assert test.labels.tolist() == [1, 1, 0, 0, 2, 2]
    np.testing.assert_array_equal(test.volumes[:, 0, 0, 0], [0, 1, 10, 11, 20, 21])
    with Image.open(tiny / "train" / "n01443537" / "images" / "n01443537_0.JPEG") as picture:
        np.testing.assert_array_equal(volumes.volumes[0], np.asarray(picture).transpose(2, 0, 1))
    grey = volumes.volumes[3]
    np.testing.assert_array_equal(grey[0], grey[2])


def test_decoded_pictures_are_mapped_from_disk_the_next_time(tiny, tmp_path):
    cache = tmp_path / "cache"
    first, _ = read("tiny_imagenet", tiny, cache)
    (path,) = cache.glob("*.npy")
    made = path.stat().st_mtime_ns
    second, _ = read("tiny_imagenet", tiny, cache)
    assert [p.stat().st_mtime_ns for p in cache.glob("*.npy")] == [made]
    assert first.digest() == second.digest()
    save(tiny / "val" / "images" / "val_0.JPEG", np.full((64, 64, 3), 99, dtype=np.uint8))
    assert read("tiny_imagenet", tiny, cache)[0].digest() != first.digest()


def test_an_annotation_of_another_class_is_named(tiny):
    path = tiny / "val" / "val_annotations.txt"
    path.write_text(path.read_text().replace("val_2.JPEG\tn01443537", "val_2.JPEG\tn99999999"))
    with pytest.raises(
        CohortError, match=r"val/val_annotations.txt: Line 3 is .*val_2.JPEG.*a class of wnids.txt"
    ):
        read("tiny_imagenet", tiny)


def test_missing_parts_of_tiny_imagenet_are_named(tiny, tmp_path):
    (tiny / "val" / "images" / "val_4.JPEG").unlink()
    with pytest.raises(CohortError, match=r"val/images/val_4.JPEG: The picture cannot be read: No such file"):
        read("tiny_imagenet", tiny)
    (tiny / "wnids.txt").write_text("n02124075\nn05555555\n")
    with pytest.raises(CohortError, match=r"train/n05555555/images: The class has no pictures"):
        read("tiny_imagenet", tiny)
    (tiny / "wnids.txt").unlink()
    with pytest.raises(CohortError, match=r"wnids.txt cannot be read\. .*leave the folders as they are"):
        read("tiny_imagenet", tiny)


@pytest.mark.parametrize("lenient", [False, True])
def test_a_truncated_picture_is_named_and_no_cache_is_taken_for_whole(tiny, tmp_path, monkeypatch, lenient):
    # A library that draws pages asks Pillow to be lenient, for the whole process.
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    path = tiny / "train" / "n04067472" / "images" / "n04067472_5.JPEG"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        CohortError, match=r"train/n04067472/images/n04067472_5.JPEG: The picture is truncated"
    ):
        read("tiny_imagenet", tiny, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy"))


def write_folders(root: Path, rng, parts=("train", "test"), shape=(12, 16, 3), each: int = 10) -> None:
    for part in parts:
        for name in ("cat", "dog"):
            for n in range(each):
                save(root / part / name / f"{n}.png", rng.integers(0, 256, shape, dtype=np.uint8))


def test_folders_of_train_and_test_keep_their_parts(tmp_path, rng):
    write_folders(tmp_path / "pets", rng)
    (tmp_path / "pets" / "train" / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "pets" / "train" / "cat" / "._0.png").write_text("what a Mac leaves behind")
    volumes, split = read("image_folder", tmp_path / "pets")
    assert volumes.class_names == ("cat", "dog")
    assert volumes.in_shape == (3, 12, 16)
    assert sizes(split) == {"train": 14, "validation": 2, "calibration": 4, "test": 20}
    test = volumes.subset(split.test)
    with Image.open(tmp_path / "pets" / "test" / "dog" / "3.png") as picture:
        np.testing.assert_array_equal(test.volumes[13], np.asarray(picture).transpose(2, 0, 1))
    assert test.labels.tolist() == [0] * 10 + [1] * 10


def test_folders_of_classes_alone_are_split(tmp_path, rng):
    write_folders(tmp_path / "pets", rng, parts=(".",), shape=(12, 16))
    volumes, split = read("image_folder", tmp_path / "pets", classes=("dog", "cat"))
    assert volumes.class_names == ("dog", "cat")
    assert volumes.in_shape == (1, 12, 16)
    assert sizes(split) == {"train": 10, "validation": 2, "calibration": 4, "test": 4}
    with Image.open(tmp_path / "pets" / "dog" / "0.png") as picture:
        np.testing.assert_array_equal(volumes.volumes[0, 0], np.asarray(picture))


def test_nothing_of_a_file_name_gets_into_an_id(tmp_path, rng):
    write_folders(tmp_path / "pets", rng, parts=(".",))
    (tmp_path / "pets" / "cat" / "0.png").rename(tmp_path / "pets" / "cat" / "Jane Doe 1950.png")
    volumes, _ = read("image_folder", tmp_path / "pets")
    assert all(i.startswith("train-") and i[6:].isdigit() for i in volumes.scan_ids)


def test_another_size_is_named_or_resized_where_asked(tmp_path, rng):
    write_folders(tmp_path / "pets", rng)
    save(tmp_path / "pets" / "test" / "dog" / "4.png", np.full((40, 30, 3), 200, dtype=np.uint8))
    with pytest.raises(
        CohortError, match=r"test/dog/4.png: The image is 30 x 40, but the first is 16 x 12\. .*image_size"
    ):
        read("image_folder", tmp_path / "pets")
    volumes, split = read("image_folder", tmp_path / "pets", image_size=8)
    assert volumes.in_shape == (3, 8, 8)
    assert (volumes.subset(split.test).volumes[14] == 200).all()


def test_parts_with_other_classes_are_refused(tmp_path, rng):
    root = tmp_path / "pets"
    write_folders(root, rng)
    save(root / "test" / "bird" / "0.png", np.zeros((12, 16, 3), dtype=np.uint8))
    with pytest.raises(
        CohortError, match=r"test: The folders are bird, cat, dog\. Expected at least two classes, cat, dog"
    ):
        read("image_folder", root)
    with pytest.raises(
        CohortError, match=r"train: The folders are cat, dog\. Expected at least two classes, cat, cow"
    ):
        read("image_folder", root, classes=("cat", "cow"))


def test_a_part_alone_or_a_class_without_pictures_is_refused(tmp_path, rng):
    root = tmp_path / "pets"
    write_folders(root, rng, parts=("train",))
    with pytest.raises(
        CohortError, match=r"pets: There is a folder train without test\. Sort the images into train/CLASS"
    ):
        read("image_folder", root)
    (root / "test" / "cat").mkdir(parents=True)
    (root / "test" / "dog").mkdir()
    with pytest.raises(CohortError, match=r"test/cat: The class has no pictures \(.png, .jpg, .jpeg\)"):
        read("image_folder", root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GIF89a", "cat/3.png: The picture is not a PNG or JPEG file"),
        (None, r"cat/3.png: The picture has the mode I;16\. Expected 8 bits per channel"),
    ],
)
def test_what_is_no_picture_of_bytes_is_named(tmp_path, rng, content, message):
    write_folders(tmp_path / "pets", rng, parts=(".",))
    if content is None:
        deep = io.BytesIO()
        Image.fromarray(np.full((12, 16), 40000, dtype=np.uint16)).save(deep, format="PNG")
        content = deep.getvalue()
    (tmp_path / "pets" / "cat" / "3.png").write_bytes(content)
    with pytest.raises(CohortError, match=message):
        read("image_folder", tmp_path / "pets")


def test_images_that_are_all_the_same_are_refused(tmp_path):
    for name in ("cat", "dog"):
        for n in range(10):
            save(tmp_path / "pets" / name / f"{n}.png", np.zeros((8, 8), dtype=np.uint8))
    with pytest.raises(CohortError, match="All pixels of a channel have the same value"):
        read("image_folder", tmp_path / "pets")
