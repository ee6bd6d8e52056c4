"""One scan's whole way, and the ways it is refused."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.atlas import AFFINE, SHAPE, load_atlas
from pipeline.config import ImagingSettings
from pipeline.errors import InputError, RefusedScan
from pipeline.imaging.process import normalise, read_derivative, write_derivative
from pipeline.scan import Volume


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
    with pytest.raises(InputError, match="must hold three files"):
        read_derivative(tmp_path, "sub-01")


def test_a_flat_volume_is_no_brain():
    with pytest.raises(RefusedScan, match="one value everywhere") as refusal:
        normalise(Volume(np.zeros((20, 20, 20)), np.diag([4, 4, 4, 1]), "Bq/mL"), ImagingSettings())
    assert refusal.value.rule == "not-a-brain"
