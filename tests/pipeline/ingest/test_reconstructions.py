"""One acquisition is one scan: of several reconstructions one is taken, and the choice is stated."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from pydicom.uid import generate_uid

from pipeline.ingest.sources import find_scans

OTHERS = "other reconstructions of a scan that is taken"


@pytest.fixture
def series(make_series, tmp_path):
    """The function that writes a reconstruction of an acquisition; those of one study share its UIDs."""
    study = generate_uid()

    def write(name, minute=20, method="OSEM3D", own_study=False, corrections="DECY\\\\ATTN", **how):
        uid = generate_uid() if own_study else study

        def edit(ds, k, t):
            ds.StudyInstanceUID, ds.FrameOfReferenceUID = uid, uid + ".1"
            ds.SeriesDescription, ds.ReconstructionMethod = name, method
            ds.CorrectedImage = corrections.split("\\\\")
            ds.AcquisitionTime = f"10{minute + 5 * t:02d}00"

        return make_series(tmp_path / "in" / name, edit=edit, seed=len(name), **how)

    return write


def found(tmp_path, **how):
    return find_scans(tmp_path / "in", **how)


def test_of_two_methods_one_is_taken_and_stated(series, tmp_path):
    series("PET AV1451 OSEM")
    series("PET AV1451 FBP", method="FBP")
    result = found(tmp_path)
    (scan,) = result.scans
    assert scan.description == "PET AV1451 OSEM"
    assert result.ignored[OTHERS] == 1
    assert "2 reconstructions of this acquisition are in the source; taken: PET AV1451 OSEM" in scan.notes[-1]


def test_the_choice_can_be_set(series, tmp_path):
    series("PET AV1451 OSEM")
    series("PET AV1451 FBP", method="FBP")
    (scan,) = found(tmp_path, prefer=["psf", "fbp"]).scans
    assert scan.description == "PET AV1451 FBP"
    assert scan.notes[-1].endswith("(by ingest.prefer)")


def test_frames_and_correction_come_before_names(series, tmp_path):
    series("A static")
    series("B dynamic", frames=4)
    series("C uncorrected", corrections="DECY", frames=5)
    (scan,) = found(tmp_path).scans
    assert scan.description == "B dynamic"


def test_two_acquisitions_of_a_day_are_two_scans(series, tmp_path):
    series("first", minute=10)
    series("second", minute=40)
    assert len(found(tmp_path).scans) == 2


def test_the_same_minutes_of_another_study_are_left_to_a_person(series, tmp_path):
    series("one")
    series("other", own_study=True)
    assert len(found(tmp_path).scans) == 2


def test_a_preferred_level_of_adni_wins(series, tmp_path):
    series("AV1451 Co-registered, Averaged")
    series("AV1451 Coreg, Avg, Std Img and Vox Siz, Uniform 6mm Res", own_study=True)
    assert "Averaged" in found(tmp_path).scans[0].description
    (scan,) = found(tmp_path, prefer=["uniform 6mm"]).scans
    assert "6mm" in scan.description


@pytest.fixture
def image():
    """The function that writes a small image."""

    def write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(len(path.name)).normal(size=(3, 3, 3)).astype(np.float32)
        nib.save(nib.Nifti1Image(values, np.eye(4)), path)

    return write


@pytest.mark.parametrize(
    "names", [("rec-acstat_", "rec-acdyn_"), ("", "rec-acdyn_"), ("rec-nacdyn_", "rec-acdyn_")]
)
def test_reconstructions_of_bids(image, tmp_path, names):
    for name in names:
        image(tmp_path / "sub-01" / "pet" / f"sub-01_trc-18FAV1451_{name}pet.nii.gz")
    result = find_scans(tmp_path)
    (scan,) = result.scans
    assert "rec-acdyn" in scan.files[0].name
    assert result.ignored == {OTHERS: 1}
    (other,) = find_scans(tmp_path, prefer=[names[0].strip("_") or "AV1451_pet"]).scans
    assert names[0] in other.files[0].name


def test_runs_and_tracers_of_bids_are_scans_of_their_own(image, tmp_path):
    for name in ("trc-18FAV1451_run-1", "trc-18FAV1451_run-2", "trc-18FFDG_run-1"):
        image(tmp_path / "sub-01" / "pet" / f"sub-01_{name}_pet.nii.gz")
    assert len(find_scans(tmp_path).scans) == 3


def test_names_of_nifti_that_differ_in_the_method_alone(image, tmp_path):
    for name in ("S01_AV1451_OSEM", "S01_AV1451_FBP", "S02_AV1451_OSEM"):
        image(tmp_path / f"{name}.nii.gz")
    result = find_scans(tmp_path)
    assert sorted(scan.files[0].name for scan in result.scans) == [
        "S01_AV1451_OSEM.nii.gz",
        "S02_AV1451_OSEM.nii.gz",
    ]
    assert result.ignored == {OTHERS: 1}
