"""Outside checks: means of real PET scans, from which no constant of the project is derived."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.atlas import AFFINE, load_atlas, load_regions
from pipeline.config import ImagingSettings
from pipeline.errors import RefusedScan
from pipeline.imaging.process import Normalised, normalise
from pipeline.scan import FloatArray, Volume

OTHER_TRACERS = {
    "florbetapir, healthy": "ftp_mean/fs_FBP_mean.nii.gz",
    "florbetapir, negative": "amyloid_means/Template_FBP_neg.nii.gz",
    "florbetapir, positive": "amyloid_means/Template_FBP_pos.nii.gz",
    "FDG": "fdg_template/CN_PET_TEMPLATE.nii",
}


def volume_of(path) -> Volume:
    image = nib.as_closest_canonical(nib.load(path))
    array = np.nan_to_num(np.squeeze(np.asarray(image.dataobj, dtype=np.float32)))
    return Volume(array, image.affine, "SUVR", facts={"resolution_mm": 8.0})


@dataclass(frozen=True)
class Tau:
    """The mean of flortaucipir scans of cognitively normal people, and CenTauR's reference mask."""

    found: Normalised
    native: Volume
    centaur: NDArray[np.bool_]
    centaur_affine: NDArray[np.float64]

    def at(self, points_mm: NDArray[np.float64]) -> FloatArray:
        """Values at MNI millimetres, shape (n, 3)."""
        inverse = np.linalg.inv(self.native.affine)
        return ndimage.map_coordinates(
            self.native.array, inverse[:3, :3] @ points_mm.T + inverse[:3, 3:], order=1
        )


@pytest.fixture
def tau(shared_data) -> Tau:
    return read_tau(
        shared_data("ftp_mean/fs_FTP_mean.nii.gz"), shared_data("centaur/voi_CerebGry_tau_2mm.nii.gz")
    )


@functools.lru_cache(maxsize=1)
def read_tau(image, centaur) -> Tau:
    volume, mask = volume_of(image), nib.as_closest_canonical(nib.load(centaur))
    found = normalise(volume, ImagingSettings())
    return Tau(found, volume, np.squeeze(np.asarray(mask.dataobj)) > 0.5, mask.affine)


def test_the_mean_of_real_tau_scans_reads_like_the_stored_negatives(tau):
    """Goals: r .93, mean difference .02, meta-ROI 1.18; measured: r .877, -.025, 1.179."""
    suvr = tau.found.region_values()
    pairs = [(r.negative_mean, suvr.get(f"both_{r.name}", suvr.get(r.name))) for r in load_regions()]
    stored, measured = np.array([pair for pair in pairs if pair[1] is not None]).T
    assert tau.found.composites["meta_roi"] == pytest.approx(1.18, abs=0.02)
    assert np.mean(measured - stored) == pytest.approx(0, abs=0.03)
    assert np.corrcoef(stored, measured)[0, 1] > 0.85


def test_real_tau_looks_like_tau_to_quality_control(tau):
    ratios = {f.rule: f.verdict for f in tau.found.findings if f.rule.endswith("-ratio")}
    assert ratios == dict.fromkeys(("cerebellum-ratio", "cerebellar-white-ratio", "pons-ratio"), "pass")
    assert "refuse" not in {f.verdict for f in tau.found.findings}


def test_the_reference_reads_lower_than_centaurs_because_it_reaches_the_rim(tau):
    """In place, without registration: .956 of CenTauR's, whose mask keeps 5 mm from the brain's edge.

    In the depth that both share they agree: the difference is spill-out at the rim, which no registration
    changes, and not another tissue.
    """
    atlas = load_atlas()
    voxels = np.argwhere(tau.centaur)
    theirs_mm = voxels @ tau.centaur_affine[:3, :3].T + tau.centaur_affine[:3, 3]
    ours_mm = np.argwhere(atlas.reference) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    theirs, ours = tau.at(theirs_mm), tau.at(ours_mm)
    assert ours.mean() / theirs.mean() == pytest.approx(0.956, abs=0.005)
    depth = ndimage.distance_transform_edt(atlas.brain) * 2.0
    their_depth = ndimage.map_coordinates(depth, ((theirs_mm - AFFINE[:3, 3]) / 2).T, order=1)
    own_depth = depth[atlas.reference]
    assert np.mean(their_depth < 5) < 0.05
    assert np.mean(own_depth < 5) > 0.3
    assert ours[own_depth < 5].mean() < 0.86 * theirs.mean()
    deep = ours[own_depth >= 8].mean() / theirs[their_depth >= 8].mean()
    assert deep == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("path", OTHER_TRACERS.values(), ids=OTHER_TRACERS)
def test_other_tracers_are_refused_as_no_tau(shared_data, path):
    with pytest.raises(RefusedScan) as refusal:
        normalise(volume_of(shared_data(path)), ImagingSettings())
    assert refusal.value.rule in ("pons-ratio", "cerebellar-white-ratio")
    assert re.search("tracer|viewer", str(refusal.value))


@pytest.mark.parametrize("path", OTHER_TRACERS.values(), ids=OTHER_TRACERS)
def test_other_tracers_are_placed_right(shared_data, path, monkeypatch):
    """Each lies in MNI space already, if not in the very same: the FDG mean is 9 mm off, the others 4."""
    monkeypatch.setattr("pipeline.imaging.process.refuse_if_needed", lambda findings: None)
    found = normalise(volume_of(shared_data(path)), ImagingSettings())
    points = np.argwhere(load_atlas().brain)[::5] @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    moved = points @ found.registration.matrix[:3, :3].T + found.registration.matrix[:3, 3]
    assert np.linalg.norm(moved - points, axis=1).mean() < 10.0
    assert found.registration.rotation_deg < 8.0
    assert found.registration.explained > 0.87
    assert {f.rule: f.verdict for f in found.findings}["brain-overlap"] == "pass"
