"""CIFAR as its authors publish it: what is read is what was written, faults are named."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from image_sets import read, sizes

from models.preprocessing import ImagePreprocessing
from pipeline.errors import CohortError


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
