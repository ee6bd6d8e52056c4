"""Whose scan a bare NIfTI file is, by the names of the file and its folders."""

from __future__ import annotations

import pytest

from pipeline.errors import RefusedScan
from pipeline.ingest.sources import find_scans


def found(source, *names):
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    return {scan.image_id: scan for scan in find_scans(source, "nifti").scans}


def subjects(source, *names):
    scans = found(source, *names)
    for scan in scans.values():
        scan.check()
    return [scans[name].subject_label for name in names]


@pytest.mark.parametrize(
    "stem",
    [
        "pet", "PET", "suvr", "tauPET", "scan", "AV1451", "flortaucipir_static", "Coreg_Avg_Std_Brain",
        "image", "2019-05-01", "20190501", "pet_20190501", "AV1451_20190501103000_5", "mean.volume",
        "baseline", "tau_2019", "dynamic_3d", "18F-AV-1451", "AV-1451_80-100min",
        "tau_80_100", "pet_ses-1", "swPET", "visit_2", "suvr_cerebellum_gray",
        "AV1451_Coreg,_Avg,_Std_Img_and_Vol", "6mm_Uniform_Resolution",
    ],
)  # fmt: skip
def test_a_file_that_names_nobody_is_of_the_folders_subject(tmp_path, stem):
    names = [f"{folder}/{stem}.nii.gz" for folder in ("Smith", "Jones", "001", "patient 1", "HC-12")]
    assert subjects(tmp_path, *names) == ["Smith", "Jones", "001", "patient1", "HC_12"]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("2019-05-01", "2021-06-01"), ("20190501", "20210601"), ("M00", "m12"), ("baseline", "followup1"),
        ("v01", "v02"), ("ses-1", "ses-2"), ("visit 1", "visit 2"), ("2019", "2021"), ("bl", "12mo"),
        ("1", "2"), ("2019-05-01/pet", "2021-06-01/pet"), ("M00/AV1451_2", "M12/AV1451_2"),
        ("scan1", "scan2"), ("Month 12", "12 month"), ("d0129", "d2430"), ("pet_1", "pet_2"), ("T0", "T1"),
    ],
)  # fmt: skip
def test_folders_of_visits_are_sessions_of_the_subject_above(tmp_path, one, two):
    names = [f"study/{who}/{when}/pet.nii.gz" for who in ("S001", "S002") for when in (one, two)]
    assert subjects(tmp_path, *names) == ["S001", "S001", "S002", "S002"]
    assert len({scan.identity for scan in found(tmp_path).values()}) == 4


def test_visits_in_the_folders_name_are_sessions_of_one_subject(tmp_path):
    names = ["S001_2019-05-01/pet.nii", "S001_2021-06-01/pet.nii", "S002_M00/pet.nii", "S002_M12/pet.nii"]
    assert subjects(tmp_path, *names) == ["S001", "S001", "S002", "S002"]


@pytest.mark.parametrize(
    "stem",
    ["Meier", "S001", "tau_S001", "Smith_2019-05-01", "001", "2019", "M01", "pet_001", "pet_1", "scan_A"],
)
def test_names_of_files_that_name_a_subject_are_taken_as_before(tmp_path, stem):
    assert subjects(tmp_path, f"{stem}.nii.gz", "2019_batch/Jones.nii") == [stem, "Jones"]
    assert subjects(tmp_path, "sub-07/pet.nii", "011_S_4321/M00/pet.nii", "x/sub-08_pet.nii") == [
        "07",
        "011_S_4321",
        "08",
    ]


def test_one_name_in_folders_of_visits_is_one_subject(tmp_path):
    names = ["M00/S001.nii.gz", "M12/S001.nii.gz", "S002/2019/S002_pet.nii", "S002/2021/S002_pet.nii"]
    assert subjects(tmp_path, *names) == ["S001", "S001", "S002_pet", "S002_pet"]


@pytest.mark.parametrize(
    "names",
    [
        ("Smith/pet_1.nii.gz", "Jones/pet_1.nii.gz"), ("Berlin/001.nii.gz", "Munich/001.nii.gz"),
        ("Berlin/Meier.nii.gz", "Munich/Meier.nii.gz"), ("Smith/roi_x/pet.nii", "Jones/roi_x/pet.nii"),
        ("Berlin/1/pet.nii", "Munich/1/pet.nii"),
    ],
)  # fmt: skip
def test_one_name_in_folders_of_people_is_refused(tmp_path, names):
    scans = found(tmp_path, *names)
    for scan in scans.values():
        with pytest.raises(RefusedScan, match="comes from several folders") as refused:
            scan.check()
        assert refused.value.rule == "whose-scan"


@pytest.mark.parametrize("folder", ["", "scans/", "2019-05-01/", "M00/", "site 1/", "nifti/visit_2/"])
def test_names_that_name_nobody_anywhere_are_refused(tmp_path, folder):
    scans = found(tmp_path, f"{folder}pet.nii.gz", f"{folder}suvr.nii.gz")
    for scan in scans.values():
        with pytest.raises(RefusedScan, match="nor that of a folder names the subject") as refused:
            scan.check()
        assert refused.value.rule == "whose-scan"
        assert "BIDS" in (refused.value.hint or "")


def test_more_visits_than_a_person_has_are_refused(tmp_path):
    names = [f"leipzig/M{n:02}/pet.nii.gz" for n in range(20)]
    scans = found(tmp_path, *names).values()
    assert ["several folders" in scan.doubt[0] for scan in scans if scan.doubt] == [True] * 20
    named = [
        f"{folder}/M{n:02}/{stem}.nii" for n in range(20) for folder, stem in (("sub-1", "a"), ("b", "sub-2"))
    ]
    assert set(subjects(tmp_path / "named", *named)) == {"1", "2"}


@pytest.mark.parametrize(
    "names", [("M01_pet", "M02_pet"), ("D001_tau", "D002_tau"), ("pet_1", "pet_2"), ("M01", "V02")]
)
def test_codes_in_a_folder_that_is_no_subject_are_people(tmp_path, names):
    assert subjects(tmp_path, *(f"leipzig_2019/{name}.nii" for name in names)) == [*names]


def test_what_a_number_in_a_file_is_taken_as_is_stated_with_the_way_to_state_it(tmp_path):
    scans = found(tmp_path, "Smith/pet_1.nii", "Smith/pet_2.nii").values()
    assert {scan.subject_label for scan in scans} == {"pet_1", "pet_2"}
    assert all("call it sub-NAME" in scan.notes[0] for scan in scans)
    stated = found(tmp_path / "stated", "sub-Smith/pet_1.nii", "sub-Smith/pet_2.nii").values()
    assert {(scan.subject_label, scan.notes) for scan in stated} == {("Smith", ())}
    assert not any(scan.notes for scan in found(tmp_path / "flat", "pet_1.nii", "pet_2.nii").values())


def test_codes_in_the_folder_of_a_subject_are_visits(tmp_path):
    names = [f"{who}/{stem}.nii" for who in ("S001", "S002") for stem in ("pet_m12", "M24", "pet_1", "2")]
    assert subjects(tmp_path, *names) == ["S001"] * 4 + ["S002"] * 4


def test_numbered_folders_of_images_are_not_one_person(tmp_path):
    assert subjects(tmp_path, "leipzig/pet_001/pet.nii", "leipzig/pet_002/pet.nii") == ["001", "002"]


def test_a_report_of_one_such_file_has_the_subject_of_the_dataset(tmp_path):
    subjects(tmp_path, "Smith/2019-05-01/pet.nii.gz")
    (alone,) = find_scans(tmp_path / "Smith" / "2019-05-01", "nifti").scans
    assert alone.subject_label == "Smith"
