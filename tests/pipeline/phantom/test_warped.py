"""A warped head holds its own truth; its class changes nothing; its files are written as any other's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from scipy import ndimage

from pipeline.atlas import META_ROI_DEFINITIONS, REFERENCE, load_atlas
from pipeline.config import PhantomSettings
from pipeline.files import read_json, sha256_of_file
from pipeline.phantom import PRESETS, make_scan, plan_cohort, posterior, write_cohort
from pipeline.phantom.anatomy import RESOLUTION_MM, draw_uptake, render
from pipeline.phantom.cohort import CUT_RULE
from pipeline.phantom.population import Latents
from pipeline.phantom.variation import draw_variation, push_forward
from pipeline.phantom.warped import paint_warped

META = [f"{side}_{r}" for r in META_ROI_DEFINITIONS["Mayo"] for side in ("left", "right")]
PEOPLE = PhantomSettings(subjects=4, scans=6, spoiled=0.0, workers=1, anatomy="people")


def head(age=73.0, stage=0.6, person=1):
    uptake = draw_uptake(Latents(stage), [person, 1], [person, 2])
    return paint_warped(uptake, draw_variation([person, 3], age, stage))


@pytest.fixture(scope="module")
def warped():
    return head()


def test_the_truth_is_what_blurring_gives_in_the_warped_regions(warped):
    sigma = RESOLUTION_MM / np.sqrt(8 * np.log(2)) / 2
    image = ndimage.gaussian_filter(warped.suvr.astype(np.float64), sigma, mode="constant")
    names = load_atlas().names
    reference = image[warped.labels == names.index(REFERENCE)].mean()
    for name in META:
        measured = image[warped.labels == names.index(name)].mean() / reference
        assert measured == pytest.approx(warped.regional[name], rel=1e-4), name
    assert warped.regional[REFERENCE] == 1.0
    assert set(warped.regional) == set(names[1:])
    assert warped.suvr.min() >= 0


@pytest.mark.parametrize(("stage", "tolerance"), [(0.0, 0.03), (0.6, 0.05)])
def test_a_typical_person_reads_what_the_table_says(stage, tolerance):
    ratios = []
    for person in range(6):
        uptake = draw_uptake(Latents(stage), [person, 1], [person, 2])
        found = paint_warped(uptake, draw_variation([person, 3], 73.0, stage)).regional
        table = render(uptake).regional
        ratios.append(np.mean([found[n] / table[n] for n in META]))
    assert np.mean(ratios) == pytest.approx(1.0, abs=tolerance)


def test_old_brains_have_wider_ventricles_and_thinner_cortex():
    names = load_atlas().names
    ventricle = names.index("lateral_ventricle")
    volumes = [np.sum(head(age, 0.3).labels == ventricle) * 0.008 for age in (60, 75, 90)]
    assert volumes[0] < volumes[1] < volumes[2]
    cortex = [names.index(n) for n in names if n.endswith(("_frontal", "_temporal", "precuneus"))]
    left = [np.isin(head(age, 0.3).labels, cortex).sum() for age in (60, 90)]
    assert left[1] < left[0]


def test_people_differ_in_more_than_an_affine_map(warped):
    shifts = warped.warp.reshape(3, -1).T
    places = np.indices(warped.warp.shape[1:]).reshape(3, -1).T * 4.0
    inside = load_atlas().brain[::2, ::2, ::2].ravel()
    design = np.column_stack([places, np.ones(len(places))])[inside]
    beyond = shifts[inside] - design @ np.linalg.lstsq(design, shifts[inside], rcond=None)[0]
    assert 1.5 < np.sqrt((beyond**2).sum(axis=1).mean()) < 6.0


def test_the_way_to_the_template_leads_back(warped):
    variation = draw_variation([1, 3], 73.0, 0.6)
    there, back = push_forward(variation), warped.warp
    grid = np.indices(there.shape[1:], dtype=np.float64)
    both = there + np.stack([ndimage.map_coordinates(p, grid + there / 4, order=1) for p in back])
    inside = load_atlas().brain[::2, ::2, ::2]
    assert np.sqrt((both[:, inside] ** 2).sum(axis=0)).mean() < 0.1
    assert np.abs(both[:, inside]).max() < 1.5


def test_the_class_changes_nothing_given_the_latents():
    scan = plan_cohort(PEOPLE, 11)[0]
    first, seen = make_scan(scan, 11, PEOPLE)
    other = replace(scan, label=(scan.label + 1) % 3, posterior=tuple(reversed(scan.posterior)))
    again, seen_again = make_scan(other, 11, PEOPLE)
    assert np.array_equal(first.suvr, again.suvr)
    assert all(np.array_equal(a, b) for a, b in zip(seen.frames, seen_again.frames, strict=True))


def test_the_posterior_stays_that_of_stage_and_subtype():
    plan = plan_cohort(PhantomSettings(subjects=300, scans=300, anatomy="people"), 4)
    same = plan_cohort(PhantomSettings(subjects=300, scans=300), 4)
    assert [s.posterior for s in plan] == [s.posterior for s in same]
    expected = posterior(
        PRESETS["three_class"],
        np.array([s.latents.stage for s in plan]),
        np.array([s.latents.typical for s in plan]),
    )
    assert np.allclose([s.posterior for s in plan], expected)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    settings = PEOPLE.model_copy(update={"spoiled": 0.2})
    return write_cohort(settings, tmp_path_factory.mktemp("warped") / "adni", 6), settings


def test_a_cohort_is_written_as_any_other(cohort):
    out, settings = cohort
    assert read_json(out / "phantom.json")["settings"]["anatomy"] == "people"
    for scan in plan_cohort(settings, 6):
        truth = read_json(out / "truth" / f"I{scan.image_id}.json")
        assert 1.0 < truth["warp_mm"]["mean"] < truth["warp_mm"]["largest"] < 40
    for path in out.rglob("AV1451*/**/*_1_S*.dcm"):
        dataset = pydicom.dcmread(path)
        assert dataset.Modality == "PT"
        assert dataset.pixel_array.max() > 0


@pytest.mark.slow
def test_same_seed_same_bytes(cohort, tmp_path):
    out, settings = cohort
    again = write_cohort(settings.model_copy(update={"workers": 2}), tmp_path / "again", 6)
    digests = [
        {p.relative_to(o): sha256_of_file(p) for p in o.rglob("*") if p.is_file()} for o in (out, again)
    ]
    assert digests[0] == digests[1]


def test_a_cut_field_of_view_is_among_what_spoils_people_only():
    many = {"subjects": 40, "scans": 40, "spoiled": 0.4}
    assert CUT_RULE in {s.spoiled for s in plan_cohort(PhantomSettings(**many, anatomy="people"), 1)}
    assert CUT_RULE not in {s.spoiled for s in plan_cohort(PhantomSettings(**many), 1)}
