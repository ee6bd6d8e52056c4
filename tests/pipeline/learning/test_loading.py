"""Volumes are prepared once, by the code of prediction, and made again when a scan or setting changes."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from models.networks import build_network
from models.preprocessing import Preprocessing
from pipeline.atlas import AFFINE, SHAPE
from pipeline.config import AugmentationSettings, PreprocessingSettings
from pipeline.errors import CohortError
from pipeline.learning import loading
from pipeline.learning.batches import Batches
from pipeline.learning.inference import predict
from pipeline.learning.loading import load_volumes
from pipeline.learning.row_files import MappedRows
from pipeline.scan import Cohort, Scan

SETTINGS = PreprocessingSettings(spacing_mm=8, suvr_max=4)


@pytest.fixture
def cohort(tmp_path, rng) -> Cohort:
    """Three SUVR volumes on the template grid."""
    scans = []
    for n in range(3):
        path = tmp_path / f"{n}.nii.gz"
        array = rng.uniform(0, 5, SHAPE).astype(np.float32)
        nib.save(nib.Nifti1Image(array, AFFINE), path)
        scans.append(Scan(f"{n:02d}", "M00", path, diagnosis=("CN", "AD", "CN")[n]))
    return Cohort(tuple(scans), ("CN", "AD"))


@pytest.fixture
def prepared(monkeypatch) -> list[str]:
    """The ids of the scans that are preprocessed, as they come."""
    ids: list[str] = []
    monkeypatch.setattr(
        loading,
        "_prepare",
        lambda scan, how, do=loading._prepare: ids.append(scan.scan_id) or do(scan, how),
    )
    return ids


def test_volumes_are_what_preprocessing_makes_of_the_files(cohort, tmp_path):
    volumes = load_volumes(cohort, SETTINGS, tmp_path / "cache")
    assert volumes.volumes.shape == (3, 24, 28, 24)
    assert volumes.volumes.dtype == np.float32
    assert isinstance(volumes.volumes, np.memmap)
    for n, scan in enumerate(cohort.scans):
        expected = volumes.preprocessing(nib.load(scan.path).get_fdata())
        np.testing.assert_allclose(volumes.volumes[n], expected, atol=1e-6)
    assert volumes.labels.tolist() == [0, 1, 0]
    assert volumes.class_counts == (2, 1)


def test_what_is_cached_is_not_made_again(cohort, tmp_path):
    load_volumes(cohort, SETTINGS, tmp_path / "cache")
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert sorted(Path(name).suffix for name in made) == ["", ".json", ".npy"], "the first is the lock"
    load_volumes(cohort, SETTINGS, tmp_path / "cache")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == made


def test_a_changed_scan_or_setting_is_seen(cohort, tmp_path):
    first = load_volumes(cohort, SETTINGS, tmp_path / "cache")
    other = load_volumes(cohort, PreprocessingSettings(spacing_mm=8, suvr_max=3), tmp_path / "cache")
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.float32), AFFINE), cohort.scans[1].path)
    changed = load_volumes(cohort, SETTINGS, tmp_path / "cache")
    assert len({first.digest(), other.digest(), changed.digest()}) == 3
    np.testing.assert_allclose(changed.volumes[1], 0.25)


def test_of_a_grown_cohort_only_what_is_new_is_prepared(cohort, tmp_path, prepared):
    cache = tmp_path / "cache"
    start = replace(cohort, scans=cohort.scans[1:])
    load_volumes(start, SETTINGS, cache)
    grown = load_volumes(cohort, SETTINGS, cache)
    assert prepared == [*start.scan_ids, cohort.scan_ids[0]]
    anew = load_volumes(cohort, SETTINGS, tmp_path / "other")
    np.testing.assert_array_equal(grown.volumes, anew.volumes)
    assert grown.digest() == anew.digest()
    few = loading.prepare_scans(start, grown.preprocessing, cache)
    np.testing.assert_array_equal(few, anew.volumes[1:])
    assert len(prepared) == 2 * len(cohort)
    del prepared[:]
    load_volumes(cohort, PreprocessingSettings(spacing_mm=8, suvr_max=3), cache)
    assert prepared == list(cohort.scan_ids)


def test_a_subset_keeps_order_and_belonging(cohort, tmp_path):
    volumes = load_volumes(cohort, SETTINGS, tmp_path / "cache")
    chosen = volumes.subset(["sub-02_ses-M00", "sub-01_ses-M00"])
    assert chosen.subjects == ("02", "01")
    assert chosen.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(chosen.volumes[0], volumes.volumes[2])


def test_a_missing_file_names_the_scan(cohort, tmp_path):
    cohort.scans[1].path.unlink()
    with pytest.raises(CohortError, match=r"sub-01_ses-M00: The volume 1.nii.gz is missing"):
        load_volumes(cohort, SETTINGS, tmp_path / "cache")


def test_a_truncated_file_names_the_scan_and_keeps_those_before_it(cohort, tmp_path, prepared):
    path = cohort.scans[2].path
    whole = path.read_bytes()
    path.write_bytes(whole[:100_000])
    with pytest.raises(CohortError, match=r"sub-02_ses-M00: The SUVR volume cannot be used"):
        load_volumes(cohort, SETTINGS, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy"))
    del prepared[:]
    path.write_bytes(whole)  # other bytes: a cohort of its own
    load_volumes(cohort, SETTINGS, tmp_path / "cache")
    assert prepared == [cohort.scan_ids[2]]
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_scan_that_changes_while_it_is_read_is_refused(cohort, tmp_path, monkeypatch):
    def changing(scan, how, do=loading._prepare):
        volume = do(scan, how)
        scan.path.write_bytes(b"another")
        return volume

    monkeypatch.setattr(loading, "_prepare", changing)
    with pytest.raises(CohortError, match=r"sub-00_ses-M00: The SUVR volume was changed while it was read"):
        load_volumes(cohort, SETTINGS, tmp_path / "cache")


def test_progress_counts_what_is_there_and_says_nothing_where_all_is(cohort, tmp_path):
    cache, seen = tmp_path / "cache", []
    load_volumes(replace(cohort, scans=cohort.scans[1:2]), SETTINGS, cache)
    for _ in range(2):
        load_volumes(cohort, SETTINGS, cache, lambda *counts: seen.append(counts))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_another_grid_names_the_scan(cohort, tmp_path):
    nib.save(nib.Nifti1Image(np.ones((91, 109, 91), np.float32), AFFINE), cohort.scans[0].path)
    with pytest.raises(CohortError, match=r"sub-00.*shape \(91, 109, 91\)\. Expected that of the grid"):
        load_volumes(cohort, SETTINGS, tmp_path / "cache")


def test_preprocessing_averages_cells_and_clips():
    scan = np.zeros((4, 4, 4))
    scan[:2, :2, :2] = np.arange(8).reshape(2, 2, 2)
    scan[2:, 2:, 2:] = 9
    prepared = Preprocessing(spacing_mm=4, suvr_max=4, grid_shape=(4, 4, 4))(scan)
    assert prepared[0, 0, 0] == pytest.approx(3.5 / 4)
    assert prepared[1, 1, 1] == 1
    assert prepared[0, 1, 0] == 0


@pytest.mark.parametrize("spacing", [1, 3, 10])
def test_a_spacing_that_does_not_fit_the_grid_is_refused(spacing):
    with pytest.raises(
        ValueError, match=rf"spacing_mm is {spacing}(\. Expected a whole multiple|, which does not divide)"
    ):
        Preprocessing(spacing_mm=spacing, suvr_max=4)


def test_a_large_subset_stays_in_its_file_and_gives_the_same_batches(volumes, tmp_path, monkeypatch):
    np.save(tmp_path / "volumes.npy", volumes.volumes)
    mapped = replace(volumes, volumes=np.load(tmp_path / "volumes.npy", mmap_mode="r"))
    ids = volumes.scan_ids[::-2]
    copied = mapped.subset(ids)
    monkeypatch.setattr(loading, "LARGEST_COPY", 0)
    chosen = mapped.subset(ids)
    assert isinstance(copied.volumes, np.ndarray)
    assert isinstance(chosen.volumes, MappedRows)
    assert chosen.digest() == copied.digest()
    assert (chosen.volumes.shape, chosen.volumes.dtype) == (copied.volumes.shape, copied.volumes.dtype)
    settings = AugmentationSettings(probability=1)
    for one, other in zip(
        *(Batches(v, settings, 5, "natural", seed=3).epoch(1) for v in (copied, chosen)), strict=True
    ):
        assert torch.equal(one.volumes, other.volumes)
    network = build_network("small_cnn", len(volumes.class_names), volumes.in_shape, width=4)
    np.testing.assert_array_equal(predict(network, chosen).logits, predict(network, copied).logits)


def test_a_large_subset_travels_as_a_path_and_has_subsets_of_its_own(volumes, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "LARGEST_COPY", 0)
    np.save(tmp_path / "volumes.npy", volumes.volumes)
    mapped = replace(volumes, volumes=np.load(tmp_path / "volumes.npy", mmap_mode="r"))
    chosen = mapped.subset(volumes.scan_ids[5:25]).subset(volumes.scan_ids[6:20:3])
    assert isinstance(chosen.volumes, MappedRows)
    sent = pickle.dumps(chosen)
    assert len(sent) < volumes.volumes[0].nbytes
    np.testing.assert_array_equal(pickle.loads(sent).volumes[:], volumes.volumes[6:20:3])
