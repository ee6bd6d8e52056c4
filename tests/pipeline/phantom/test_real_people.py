"""The truth of a real person is what blurring gives in that person's own labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from scipy import ndimage

from pipeline.atlas import AFFINE, META_ROI_DEFINITIONS, REFERENCE
from pipeline.config import PhantomSettings
from pipeline.errors import InputError
from pipeline.files import sha256_of_file
from pipeline.phantom import make_scan, paint_labels, plan_cohort, write_cohort
from pipeline.phantom.anatomy import RESOLUTION_MM, draw_uptake, render
from pipeline.phantom.brain_labels import list_people, measured_labels, read_person
from pipeline.phantom.head_layers import spacing_of
from pipeline.phantom.population import Latents

ANATOMIES = Path(__file__).resolve().parents[4] / "shared" / "data" / "anatomies"
META = [f"{side}_{r}" for r in META_ROI_DEFINITIONS["Mayo"] for side in ("left", "right")]


@pytest.fixture(scope="module")
def painted(atlas_as_labels):
    return paint_labels(atlas_as_labels, AFFINE, Latents(0.6), seed=4)


def test_the_truth_is_what_blurring_gives_in_the_persons_own_labels(painted):
    sigma = RESOLUTION_MM / np.sqrt(8 * np.log(2)) / spacing_of(painted.affine)
    image = ndimage.gaussian_filter(painted.suvr.astype(np.float64), sigma, mode="constant")
    cerebellum = np.isin(painted.labels, (38, 39, 71, 72, 73))
    z = np.argwhere(cerebellum)[:, 2]
    lower = cerebellum & (np.arange(painted.labels.shape[2]) < np.median(z))
    reference = image[lower].mean()
    for name in META:
        measured = image[np.isin(painted.labels, measured_labels()[name])].mean() / reference
        assert measured == pytest.approx(painted.regional[name], rel=1e-4), name
    assert painted.regional[REFERENCE] == 1.0


def test_the_atlas_painted_as_a_person_reads_like_the_phantom(painted):
    same = render(draw_uptake(Latents(0.6), [4, 1], [4, 2])).regional
    ratios = np.array([painted.regional[n] / same[n] for n in META])
    # A voxel of a label is all grey matter, one of the atlas's cortex holds other tissue as well.
    assert ratios.mean() == pytest.approx(1.0, abs=0.09)
    assert ratios.std() < 0.05
    assert painted.own_shape


def test_the_brain_lies_where_the_templates_does(painted, atlas_as_labels):
    tissue = np.isin(painted.labels, [n for ns in measured_labels().values() for n in ns])
    found = (painted.affine[:3, :3] @ np.argwhere(tissue).mean(axis=0)) + painted.affine[:3, 3]
    there = np.isin(atlas_as_labels, [n for ns in measured_labels().values() for n in ns])
    expected = AFFINE[:3, :3] @ np.argwhere(there).mean(axis=0) + AFFINE[:3, 3]
    assert found == pytest.approx(expected, abs=4.0)
    # Room for skull and scalp on every side but the neck's.
    head = np.argwhere(painted.suvr > 0)
    assert head[:, :2].min() > 0
    assert (head[:, :2].max(axis=0) < np.array(painted.suvr.shape[:2]) - 1).all()


def test_stage_raises_targets_and_leaves_off_target_paint_alone(atlas_as_labels, painted):
    without = paint_labels(atlas_as_labels, AFFINE, Latents(0.0), seed=4)
    assert all(painted.regional[n] > without.regional[n] * 1.2 for n in META)
    for label in (57, 38, 51):
        where = painted.labels == label
        assert np.array_equal(painted.suvr[where], without.suvr[where])


def test_labels_in_memory_are_checked_as_files_are(atlas_as_labels):
    with pytest.raises(InputError, match=r"sub-07: The label 999 \(4 voxels\)"):
        paint_labels(np.pad(atlas_as_labels, [(0, 0), (0, 0), (0, 1)])[:2, :2, :1] * 0 + 999, AFFINE,
                     Latents(0.1), 1, where="sub-07")  # fmt: skip


@pytest.fixture(scope="module")
def cohort(people_folder, tmp_path_factory):
    settings = PhantomSettings(subjects=3, scans=4, spoiled=0.25, workers=1, anatomies=people_folder)
    return write_cohort(settings, tmp_path_factory.mktemp("cohort") / "adni", 5), settings


def test_a_cohort_of_people_is_a_cohort(cohort, people_folder):
    out, settings = cohort
    plan = plan_cohort(settings, 5)
    truth = pd.read_csv(out / "tables" / "PHANTOM_TRUTH.csv", keep_default_na=False)
    assert len(truth) == 4
    assert "head_to_native_mm" in (out / "README.txt").read_text()
    assert set(truth.ANATOMY) == {"one", "two"}
    assert (truth.groupby("PTID").ANATOMY.nunique() == 1).all()
    for scan in plan:
        stored = json.loads((out / "truth" / f"I{scan.image_id}.json").read_text())
        rendering, seen = make_scan(scan, 5, settings)
        assert stored["regional_suvr"] == pytest.approx(rendering.regional, abs=1e-6)
        assert "template_to_native_mm" not in stored
        assert np.allclose(stored["head_to_native_mm"], seen.template_to_native)
        assert str(people_folder) not in json.dumps(stored)
    for path in out.rglob("AV1451*/**/*.dcm"):
        if path.stat().st_size > 20_000:
            assert pydicom.dcmread(path, stop_before_pixels=True).PatientName == "SYNTHETIC^PHANTOM"


def test_same_people_same_bytes_wherever_they_lie(cohort, people_folder, tmp_path):
    out, settings = cohort
    (tmp_path / "moved").mkdir()
    for path in list_people(people_folder):
        (tmp_path / "moved" / path.name).write_bytes(path.read_bytes())
    moved = settings.model_copy(update={"anatomies": tmp_path / "moved"})
    again = write_cohort(moved, tmp_path / "again", 5)
    digests = [
        {p.relative_to(o): sha256_of_file(p) for p in o.rglob("*") if p.is_file()} for o in (out, again)
    ]
    assert digests[0] == digests[1]
    with pytest.raises(InputError, match="other settings"):
        write_cohort(settings.model_copy(update={"anatomies": None}), out, 5)


def test_nothing_is_written_where_a_label_volume_is_wrong(people_folder, tmp_path):
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "bad.nii").write_text("no image")
    settings = PhantomSettings(subjects=3, scans=3, workers=1, anatomies=tmp_path / "people")
    with pytest.raises(InputError, match=r"bad\.nii"):
        write_cohort(settings, tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["oasis1_miccai2012/1125_glm.nii.gz", "ixi_dlmuse"])
def test_real_people_read_like_the_published_table(where):
    if not ANATOMIES.is_dir():
        pytest.skip("shared/data/anatomies is not here")
    path = ANATOMIES / where
    person = read_person(path if path.is_file() else list_people(path)[0])
    painted = paint_labels(person.labels, person.affine, Latents(0.6), seed=3)
    same = render(draw_uptake(Latents(0.6), [3, 1], [3, 2])).regional
    ratios = np.array([painted.regional[n] / same[n] for n in META])
    # The atlas's gyri are cores, which blur dims less than the whole of a person's labels.
    assert ratios.mean() == pytest.approx(0.95, abs=0.06)
    assert ratios.std() < 0.12
