"""Planned scans of every kind and one small cohort on disk, made once."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from pipeline.atlas import AFFINE, REFERENCE, load_atlas
from pipeline.config import PhantomSettings
from pipeline.phantom import SPOILED_RULES, plan_cohort, write_cohort
from pipeline.phantom.brain_labels import measured_labels

SMALL = PhantomSettings(subjects=6, scans=8, spoiled=0.375, workers=1)
SEED = 7


@pytest.fixture(scope="session")
def small_settings():
    """Six subjects, eight scans, three of them spoiled."""
    return SMALL


@pytest.fixture(scope="session")
def small_cohort(tmp_path_factory):
    """A cohort on disk: folder, its plan and its seed."""
    out = tmp_path_factory.mktemp("phantom") / "cohort"
    write_cohort(SMALL, out, SEED)
    return out, plan_cohort(SMALL, SEED), SEED


@pytest.fixture(scope="session")
def big_plan():
    """A plan of many scans: plans cost nothing."""
    return plan_cohort(PhantomSettings(subjects=900, scans=1200, spoiled=0.05), seed=3)


@pytest.fixture(scope="session")
def one_of_each(big_plan):
    """One planned scan for each vendor, static and dynamic, and for each spoiling rule."""
    chosen = {}
    for scan in big_plan:
        kind = scan.spoiled or (scan.subject.vendor, "dynamic" if len(scan.frames_s) > 1 else "static")
        chosen.setdefault(kind, scan)
    assert len(chosen) == 6 + len(SPOILED_RULES)
    return chosen


@pytest.fixture(scope="session")
def atlas_as_labels():
    """The atlas in the numbering of BrainCOLOR: a person whose anatomy is known without any file."""
    atlas = load_atlas()
    x = np.broadcast_to((2 * np.arange(96) - 95)[:, None, None], atlas.labels.shape)
    labels = np.zeros(atlas.labels.shape, dtype=np.int16)
    labels[atlas.brain] = np.where(x > 0, 44, 45)[atlas.brain]
    for name, numbers in measured_labels().items():
        if name in atlas.names:
            labels[atlas.mask(name)] = numbers[0]
    cerebellum = atlas.mask(REFERENCE) | atlas.mask("cerebellar_grey")
    labels[cerebellum] = np.where(x > 0, 38, 39)[cerebellum]
    ventricle = atlas.mask("lateral_ventricle")
    labels[ventricle] = np.where(x > 0, 51, 52)[ventricle]
    return labels


@pytest.fixture(scope="session")
def people_folder(atlas_as_labels, tmp_path_factory):
    """Two people as NIfTI label volumes: the atlas, and it grown by a twentieth and stored backwards."""
    folder = tmp_path_factory.mktemp("people")
    nib.save(nib.Nifti1Image(atlas_as_labels, AFFINE), folder / "one.nii.gz")
    larger = AFFINE @ np.diag([1.05, 1.05, 1.05, 1])
    larger[:, 3] += larger[:, 0] * 95
    larger[:, 0] *= -1
    nib.save(nib.Nifti1Image(atlas_as_labels[::-1], larger), folder / "two.nii")
    return folder
