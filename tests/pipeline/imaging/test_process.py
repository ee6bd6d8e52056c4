"""One scan's whole way, and the ways it is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pipeline.atlas import AFFINE, SHAPE, load_atlas
from pipeline.config import ImagingSettings
from pipeline.errors import InputError, RefusedScan
from pipeline.imaging.process import normalise, read_derivative, write_derivative
from pipeline.imaging.suvr import regional_table, to_suvr
from pipeline.scan import Frame, Volume


@pytest.fixture(scope="module")
def normalised(head):
    return normalise(head.volume, ImagingSettings())


def test_reference_region_is_one(normalised):
    assert normalised.suvr.unit == "SUVR"
    assert normalised.suvr.array.shape == SHAPE
    np.testing.assert_allclose(normalised.suvr.affine, AFFINE)
    assert normalised.suvr.array[load_atlas().reference].mean() == pytest.approx(1.0, abs=1e-3)


def test_scale_of_the_scan_does_not_matter(head, normalised):
    tenfold = normalise(head.volume.with_array(10 * head.volume.array), ImagingSettings())
    np.testing.assert_allclose(tenfold.suvr.array, normalised.suvr.array, rtol=1e-3, atol=1e-4)


def test_two_runs_give_the_same_bytes(head, normalised):
    again = normalise(head.volume, ImagingSettings())
    assert again.suvr.array.tobytes() == normalised.suvr.array.tobytes()


def test_derivative_survives_the_round_trip(normalised, tmp_path):
    path = write_derivative(normalised, tmp_path, "sub-01_ses-01_trc-18FAV1451")
    assert path.name == "sub-01_ses-01_trc-18FAV1451_space-MNI152NLin2009aSym_desc-suvr_pet.nii.gz"
    back = read_derivative(tmp_path, "sub-01_ses-01_trc-18FAV1451")
    np.testing.assert_array_equal(back.suvr.array, normalised.suvr.array)
    np.testing.assert_array_equal(back.registration.matrix, normalised.registration.matrix)
    assert [f.rule for f in back.findings] == [f.rule for f in normalised.findings]
    np.testing.assert_allclose(back.regions["suvr"], normalised.regions["suvr"], atol=1e-6)


def test_half_a_derivative_is_told(normalised, tmp_path):
    write_derivative(normalised, tmp_path, "sub-01").unlink()
    with pytest.raises(InputError, match="Files of a normalised scan are missing"):
        read_derivative(tmp_path, "sub-01")


def with_body(volume, *, downward):
    """A scan of a metre, with trunk, liver and bladder below the head; stored from above or from below."""
    height = round(780 / volume.spacing_mm[2])
    shape = (*volume.array.shape[:2], height)
    affine = volume.affine.copy()
    affine[2, 3] -= height * volume.spacing_mm[2]
    x, y, z = np.tensordot(affine[:3], np.array([*np.indices(shape), np.ones(shape)]), axes=1)
    trunk = ((x / 120) ** 2 + (y / 100) ** 2 < 1) & (z < -190)
    liver = ((x - 50) ** 2 + y**2 + (z + 450) ** 2) < 70**2
    bladder = (x**2 + y**2 + (z + 750) ** 2) < 40**2
    body = 5000 * (0.4 * trunk + 6 * liver + 30 * bladder)
    array = np.concatenate([body.astype(np.float32), volume.array], axis=2)
    if downward:
        array = array[..., ::-1]
        affine[:3, 3] += affine[:3, 2] * (array.shape[2] - 1)
        affine[:3, 2] *= -1
    return replace(volume, array=np.ascontiguousarray(array), affine=affine)


@pytest.mark.parametrize("downward", [False, True])
def test_of_a_scan_of_the_whole_body_the_head_is_taken(head, normalised, downward):
    whole = normalise(with_body(head.volume, downward=downward), ImagingSettings())
    for name, value in normalised.composites.items():
        assert whole.composites[name] == pytest.approx(value, rel=0.01)
    assert "body" in {finding.rule for finding in whole.findings}
    assert "body" not in {finding.rule for finding in normalised.findings}


def test_a_flat_volume_is_no_brain():
    with pytest.raises(RefusedScan, match="voxels of the scan have the same value") as refusal:
        normalise(Volume(np.zeros((20, 20, 20)), np.diag([4, 4, 4, 1]), "Bq/mL"), ImagingSettings())
    assert refusal.value.rule == "not-a-brain"


def test_a_normalised_scan_is_recognised_and_kept(normalised):
    """Its own output is not registered, not smoothed and not rescaled again."""
    again = normalise(normalised.suvr, ImagingSettings())
    found = {f.rule: f.verdict for f in again.findings}
    assert found["already-in-template"] == "pass"
    assert found["already-suvr"] == "pass"
    np.testing.assert_array_equal(again.registration.matrix, np.eye(4))
    np.testing.assert_allclose(again.suvr.array, normalised.suvr.array, atol=2e-3)


def test_regional_suvr_follows_the_truth(make_head):
    """Against the noise-free truth at the common resolution: 3 % on average."""
    head = make_head(11, tau=0.6, neck=False)
    found = normalise(head.volume, ImagingSettings()).regions
    truth = regional_table(to_suvr(ndimage.gaussian_filter(head.truth, 8 / 2.355 / 2)))
    target = found.kind == "target"
    ratio = found.suvr[target] / truth.suvr[target]
    assert np.abs(ratio - 1).mean() < 0.03


def test_frames_that_move_are_realigned(make_head):
    """Four noisy frames with drift give the SUVR of the still head."""
    still = make_head(6, noise=0.1)
    frames = []
    for k in range(4):
        voxels = np.eye(4)
        voxels[:3, 3] = np.array([0.3, -0.2, 0.25]) * k
        frames.append(ndimage.affine_transform(still.volume.array, np.eye(3), voxels[:3, 3], order=1))
    times = tuple(Frame(300.0 * k, 300.0) for k in range(4))
    dynamic = Volume(np.stack(frames, -1), still.volume.affine, "Bq/mL", times, still.volume.facts)
    found, expected = (normalise(v, ImagingSettings()) for v in (dynamic, still.volume))
    windows = [f.message.split(",")[0] for v in (found, expected) for f in v.findings if f.rule == "window"]
    assert windows == ["Averaged 4 frames", "1 frame"]
    motion = next(f.measured for f in found.findings if f.rule == "frame-motion")
    assert motion == pytest.approx(3 * np.linalg.norm([0.3 * 2.5, 0.2 * 2.5, 0.25 * 3]), abs=0.5)
    target = expected.regions.kind == "target"
    np.testing.assert_allclose(found.regions.suvr[target], expected.regions.suvr[target], rtol=0.03)


@pytest.mark.parametrize(
    ("factor", "verdict", "told"),
    [
        (70_000 / (3.7e8 * 2 ** (-4800 / 6586.2)), "pass", "SUV of the reference region: 1.4"),
        (70 / (3.7e8 * 2 ** (-4800 / 6586.2)), "warn", "check unit, weight, dose and times"),
        (None, "pass", "could not be checked"),
    ],
    ids=["sound", "weight in tonnes", "unknown"],
)
def test_units_are_checked_by_suv_where_the_header_allows_it(head, factor, verdict, told):
    volume = replace(head.volume, facts={**head.volume.facts, "suv_factor": factor})
    (finding,) = [f for f in normalise(volume, ImagingSettings()).findings if f.rule == "suv"]
    assert finding.verdict == verdict
    assert told in finding.message
