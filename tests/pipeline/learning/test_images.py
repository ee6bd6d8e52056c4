"""Public image sets as their authors publish them: what is read is what was written, faults are named."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from models.preprocessing import ImagePreprocessing
from pipeline.config import CohortSettings, SplitSettings
from pipeline.errors import CohortError
from pipeline.learning.images import read_images
from pipeline.scan import PARTS

SHARES = SplitSettings(validation=0.1, calibration=0.2, test=0.2)


def read(kind: str, path: Path, cache: Path | None = None, *, seed: int = 0, **cohort):
    settings = CohortSettings(kind=kind, path=path, **cohort)
    return read_images(settings, SHARES, seed=seed, cache=cache or path.parent / "cache")


def sizes(split) -> dict[str, int]:
    return {part: len(split.part(part)) for part in PARTS}


# CIFAR


def write_cifar(folder: Path, rng, kind: str = "cifar10", classes: int = 10, each: int = 10) -> dict:
    """Write a small set in the published binary format; return its arrays by file."""
    ten = kind == "cifar10"
    folder.mkdir(parents=True)
    names = (
        [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]
        if ten
        else ["train.bin", "test.bin"]
    )
    written = {}
    for name in names:
        labels = np.arange(classes * each, dtype=np.uint8) % classes
        pixels = rng.integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
        before = [labels[:, None]] if ten else [labels[:, None] // 5, labels[:, None]]
        (folder / name).write_bytes(np.hstack([*before, pixels.reshape(len(labels), -1)]).tobytes())
        written[name] = (labels, pixels)
    names_file = "batches.meta.txt" if ten else "fine_label_names.txt"
    (folder / names_file).write_text("\n".join(f"class {k}" for k in range(classes)) + "\n\n")
    return written


def pack(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname=folder.name)
    return path


@pytest.fixture
def cifar10(tmp_path, rng):
    """A folder of 10 images a class and batch, and what it holds."""
    folder = tmp_path / "cifar-10-batches-bin"
    return folder, write_cifar(folder, rng)


def test_cifar10_is_read_as_written_with_its_test_part(cifar10):
    folder, written = cifar10
    volumes, split = read("cifar10", folder)
    np.testing.assert_array_equal(volumes.volumes[:500], np.concatenate([x for _, x in written.values()][:5]))
    np.testing.assert_array_equal(volumes.labels[:500], np.concatenate([y for y, _ in written.values()][:5]))
    test = volumes.subset(split.test)
    np.testing.assert_array_equal(test.volumes, written["test_batch.bin"][1])
    np.testing.assert_array_equal(test.labels, written["test_batch.bin"][0])
    assert volumes.class_names == tuple(f"class {k}" for k in range(10))
    assert volumes.in_shape == (3, 32, 32)
    assert sizes(split) == {"train": 350, "validation": 50, "calibration": 100, "test": 100}
    assert volumes.subset(split.calibration).class_counts == (10,) * 10


def test_folder_parent_and_archive_give_the_same(cifar10, tmp_path):
    folder, _ = cifar10
    packed = pack(folder, tmp_path / "cifar-10-binary.tar.gz")
    (volumes, split), *others = [read("cifar10", path) for path in (folder, tmp_path, packed)]
    assert packed.stat().st_size > 0
    for other, other_split in others:
        assert other.digest() == volumes.digest()
        assert other_split.digest() == split.digest()
        np.testing.assert_array_equal(other.volumes, volumes.volumes)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cifar-10-batches-bin", "cifar-10-binary.tar.gz"]


def test_mean_and_sd_are_those_of_the_training_part(cifar10):
    volumes, split = read("cifar10", cifar10[0])
    assert isinstance(volumes.preprocessing, ImagePreprocessing)
    training = volumes.subset(split.train).volumes / 255
    np.testing.assert_allclose(volumes.preprocessing.mean, training.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(volumes.preprocessing.sd, training.std(axis=(0, 2, 3)), rtol=1e-12)
    seen = volumes.preprocessing(volumes.subset(split.train).volumes)
    np.testing.assert_allclose(seen.mean(axis=(0, 2, 3)), 0, atol=1e-4)


def test_the_seed_decides_who_is_held_out_and_changed_bytes_are_seen(cifar10):
    folder, _ = cifar10
    volumes, split = read("cifar10", folder)
    _, again = read("cifar10", folder)
    _, other = read("cifar10", folder, seed=1)
    assert split.digest() == again.digest() != other.digest()
    path = folder / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    assert read("cifar10", folder)[0].digest() != volumes.digest()


def test_cifar100_takes_the_fine_labels(tmp_path, rng):
    folder = tmp_path / "cifar-100-binary"
    written = write_cifar(folder, rng, "cifar100", classes=20)
    volumes, split = read("cifar100", folder)
    test = volumes.subset(split.test)
    np.testing.assert_array_equal(test.labels, written["test.bin"][0])
    np.testing.assert_array_equal(test.volumes, written["test.bin"][1])
    assert len(volumes.class_names) == 20


def test_a_missing_batch_is_named(cifar10):
    folder, _ = cifar10
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(CohortError, match=r"lacks data_batch_3.bin; found .*binary version.*data/README.md"):
        read("cifar10", folder)


def test_the_archive_for_python_is_refused_for_the_binary_one(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("batches.meta", "data_batch_1"):
        (folder / name).write_bytes(b"pickled")
    with pytest.raises(CohortError, match=r"found batches.meta, data_batch_1\. Get the binary version"):
        read("cifar10", pack(folder, tmp_path / "cifar-10-python.tar.gz"))


@pytest.mark.parametrize("cut", [1, 3072])
def test_a_truncated_batch_is_named(cifar10, cut):
    path = cifar10[0] / "data_batch_4.bin"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(
        CohortError, match=rf"data_batch_4.bin: The file has {307300 - cut} bytes, .* not a multiple .* 3073"
    ):
        read("cifar10", cifar10[0])


@pytest.mark.parametrize("name", ["cifar-10-binary.tar.gz", "cifar-10-binary.tar"])
def test_a_truncated_archive_is_refused(cifar10, tmp_path, name):
    path = tmp_path / name
    with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as archive:
        archive.add(cifar10[0], arcname=cifar10[0].name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CohortError, match=r"cannot be read to its end.*Download it again"):
        read("cifar10", path)


def test_what_is_no_archive_or_is_not_there_is_refused(tmp_path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    with pytest.raises(
        CohortError, match=r"cifar-10-binary.tar.gz: There is no such file or folder.*cohort.path"
    ):
        read("cifar10", path)
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(CohortError, match=r"cannot be read to its end.*Download it again"):
        read("cifar10", path)


def test_a_label_beyond_the_classes_is_named(cifar10):
    path = cifar10[0] / "test_batch.bin"
    content = bytearray(path.read_bytes())
    content[7 * 3073] = 10
    path.write_bytes(content)
    with pytest.raises(
        CohortError, match=r"test_batch.bin: Record 8 of 100 has the label 10, .* names 10 classes"
    ):
        read("cifar10", cifar10[0])


def test_a_link_in_an_archive_is_not_followed(cifar10, tmp_path):
    (tmp_path / "secret").write_bytes(b"x" * 3073)
    path = tmp_path / "linked.tar"
    with tarfile.open(path, "w") as archive:
        for batch in sorted(cifar10[0].iterdir()):
            if batch.name != "data_batch_1.bin":
                archive.add(batch, arcname=f"cifar-10-batches-bin/{batch.name}")
        link = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
        archive.addfile(link)
    with pytest.raises(CohortError, match=r"lacks data_batch_1.bin"):
        read("cifar10", path)


def test_other_names_must_be_as_many_as_the_classes(cifar10):
    names = tuple("abcdefghij")
    assert read("cifar10", cifar10[0], classes=names)[0].class_names == names
    for wrong in (("cat", "dog"), (*names[:9], "a")):
        with pytest.raises(
            CohortError,
            match=rf"batches.meta.txt: cohort.classes is {', '.join(wrong)}\. Expected 10 different names",
        ):
            read("cifar10", cifar10[0], classes=wrong)


def test_a_class_without_test_images_is_named(cifar10):
    path = cifar10[0] / "test_batch.bin"
    content = path.read_bytes()
    records = [content[i : i + 3073] for i in range(0, len(content), 3073)]
    path.write_bytes(b"".join(record for record in records if record[0] != 4))
    with pytest.raises(CohortError, match=r"fewer than 1 test images: class 4 has 0"):
        read("cifar10", cifar10[0])


def test_too_few_images_of_a_class_are_refused(tmp_path, rng):
    write_cifar(tmp_path / "cifar-10-batches-bin", rng, each=1)
    with pytest.raises(CohortError, match=r"fewer than 8 training images: class 0 has 5, class 1 has 5"):
        read("cifar10", tmp_path)


# Tiny-ImageNet

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


# A folder a class


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
