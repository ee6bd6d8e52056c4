"""SUVR in CenTauR's masks, and CenTauRz of a real group mean."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from pipeline.atlas import AFFINE, SHAPE, load_atlas
from pipeline.centaur.centaur_masks import REGIONS, centaur_suvr, centaur_z, read_masks
from pipeline.errors import InputError


def test_the_mean_of_real_normal_scans_has_the_published_z(shared_data):
    image = nib.load(shared_data("ftp_mean/fs_FTP_mean.nii.gz"))
    masks = read_masks(shared_data("centaur/CenTauR.nii.gz").parent)
    values = np.squeeze(np.asarray(image.dataobj, dtype=np.float32))
    z = centaur_z(centaur_suvr(values, image.affine, masks))
    names = ("universal", "mesial_temporal", "meta_temporal")
    assert [round(z[name], 1) for name in names] == [0.3, 0.2, 0.1]


@pytest.mark.parametrize(
    ("region", "at_zero", "at_two"),
    [("universal", 1.163, 1.310), ("meta_temporal", 1.187, 1.341), ("mesial_temporal", 1.162, 1.354)],
)
def test_the_equations_are_those_of_flortaucipir(region, at_zero, at_two):
    assert centaur_z({region: at_zero})[region] == pytest.approx(0, abs=0.01)
    assert centaur_z({region: at_two})[region] == pytest.approx(2, abs=0.01)


def test_suvr_is_relative_to_the_reference_mask_whatever_the_unit(mask_folder):
    masks = read_masks(mask_folder)
    atlas = load_atlas()
    image = np.where(atlas.reference, 5000.0, 7000.0).astype(np.float32)
    found = centaur_suvr(image, AFFINE, masks)
    assert set(found) == set(REGIONS)
    np.testing.assert_allclose(list(found.values()), 1.4, rtol=1e-6)
    flipped = AFFINE @ np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = AFFINE[0, 3] + 2 * (SHAPE[0] - 1)
    other = centaur_suvr(image[::-1], flipped, masks)
    np.testing.assert_allclose(list(other.values()), list(found.values()), rtol=1e-6)


def test_a_mask_beyond_the_image_gives_no_number(mask_folder):
    masks = read_masks(mask_folder)
    image = np.ones(SHAPE, dtype=np.float32)
    cut = centaur_suvr(image[:, :, 40:], AFFINE, masks)
    assert all(np.isnan(v) for v in cut.values())
    nothing = np.zeros(SHAPE, dtype=bool)
    assert all(np.isnan(v) for v in centaur_suvr(image, AFFINE, masks, nothing).values())
    image[:] = np.nan
    assert all(np.isnan(v) for v in centaur_suvr(image, AFFINE, masks).values())


def test_masks_that_are_not_there_or_no_masks_are_named(mask_folder, tmp_path):
    with pytest.raises(InputError, match=r"no such folder of CenTauR's masks.*gaain"):
        read_masks(tmp_path / "none")
    path = mask_folder / "TP_CenTauR.nii.gz"
    values = np.asarray(nib.load(path).dataobj).astype(np.float32)
    for broken, affine, match in (
        (values * 0.5 + np.roll(values, 1, 0) * 0.2, AFFINE, "zeros and one other value"),
        (values * 0, AFFINE, "zeros and one other value"),
        (values, AFFINE + 90 * np.eye(4, k=3), "outside MNI space"),
    ):
        nib.save(nib.Nifti1Image(broken, affine), path)
        with pytest.raises(InputError, match=match) as error:
            read_masks(mask_folder)
        assert error.value.where == str(path)
    path.write_bytes(b"x" * 400)
    with pytest.raises(InputError, match="cannot be read as NIfTI"):
        read_masks(mask_folder)
    path.unlink()
    with pytest.raises(InputError, match=r"one file TP_CenTauR\.nii or .*found none"):
        read_masks(mask_folder)
    nib.save(nib.Nifti1Image(values, AFFINE), mask_folder / "tp_centaur.NII.gz".lower())
    assert read_masks(mask_folder).points_mm["temporo_parietal"].size
