"""Whose scan a bare NIfTI file is, by the names of the file and its folders."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from pipeline.errors import RefusedScan
from pipeline.ingest.convert import read_found
from pipeline.ingest.scan_reading import read_scan
from pipeline.ingest.sources import find_scans


@pytest.fixture
def image(tmp_path):
    """The function that writes one image, with a sidecar or without; returns the source."""

    def write(name, sidecar):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4)), path)
        if sidecar is not None:
            path.with_name(path.name.removesuffix(".nii.gz") + ".json").write_text(json.dumps(sidecar))
        return tmp_path / "in"

    return write


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
    named = found(tmp_path / "named", "S001/S001_tau_0001.nii", "S001/s001_tau_0002.nii", "S001/S002_3.nii")
    assert {scan.subject_label: bool(scan.notes) for scan in named.values()} == {
        "S001_tau_0001": True, "s001_tau_0002": True, "S002_3": False
    }  # fmt: skip
    stated = found(tmp_path / "stated", "sub-Smith/pet_1.nii", "sub-Smith/pet_2.nii").values()
    assert {(scan.subject_label, scan.notes) for scan in stated} == {("Smith", ())}
    assert not any(scan.notes for scan in found(tmp_path / "flat", "pet_1.nii", "pet_2.nii").values())


def test_codes_in_the_folder_of_a_subject_are_visits(tmp_path):
    names = [f"{who}/{stem}.nii" for who in ("S001", "S002") for stem in ("pet_m12", "M24", "pet_1", "2")]
    assert subjects(tmp_path, *names) == ["S001"] * 4 + ["S002"] * 4


def test_numbered_folders_of_images_are_not_one_person(tmp_path):
    assert subjects(tmp_path, "leipzig/pet_001/pet.nii", "leipzig/pet_002/pet.nii") == ["001", "002"]


@pytest.mark.parametrize(
    "place",
    [
        "{0}/{0}_PET1/scans/5-Tau_AC/resources/NIFTI/files/Tau_AC_20190501.nii.gz",  # XNAT
        "project/{0}/ses1/PET_Tau/PET_Tau_acq/1.3.12.2.1107.5.1.4.10034.3001_PET_Tau.nii.gz",  # Flywheel
        "assembly/{0}/V01/pet/native/pet_tau.nii.gz",  # LORIS
        "{0}/files/pet.nii.gz",
    ],
)
def test_folders_that_an_archive_makes_below_each_person_name_nobody(tmp_path, place):
    people = ["X_001", "X_002", "X_003"]
    assert subjects(tmp_path, *(place.format(who) for who in people)) == people


def test_sessions_named_after_their_person_are_of_one_person(tmp_path):
    names = [f"X_001/X_001_{session}/pet.nii.gz" for session in ("PET1", "PET2", "MR_PET3")]
    assert subjects(tmp_path, *names) == ["X_001"] * 2 + ["X_001_MR_PET3"]


@pytest.mark.parametrize("place", ["{}/a/b/c/pet.nii.gz", "{}/a/b/result.nii.gz", "{}/a/x7_pet.nii.gz"])
def test_one_name_below_different_folders_of_any_height_is_refused(tmp_path, place):
    scans = found(tmp_path, *(place.format(who) for who in ("Smith", "Jones", "Brown"))).values()
    assert len(scans) == 3
    for scan in scans:
        with pytest.raises(RefusedScan, match="comes from several folders") as refused:
            scan.check()
        assert refused.value.rule == "whose-scan"


def test_a_report_of_one_such_file_has_the_subject_of_the_dataset(tmp_path):
    subjects(tmp_path, "Smith/2019-05-01/pet.nii.gz")
    (alone,) = find_scans(tmp_path / "Smith" / "2019-05-01", "nifti").scans
    assert alone.subject_label == "Smith"


def test_what_is_named_as_mr_ct_or_segmentation_is_no_pet(tmp_path):
    names = [
        "S1_CTAC",
        "S1_MRAC",
        "S1_umap",
        "T1",
        "S1_T2",
        "aparc+aseg",
        "S1_brainmask",
        "S1_ROI",
        "localizer",
    ]
    assert list(found(tmp_path, "S1_PET.nii.gz", *(f"{name}.nii.gz" for name in names))) == ["S1_PET.nii.gz"]


def test_a_third_visit_is_no_weighting_of_mr(tmp_path):
    assert len(found(tmp_path / "a", *(f"S001_T{n}.nii" for n in range(3)))) == 3
    assert len(found(tmp_path / "b", "S001_T1_av1451.nii", "S001_T2_suvr.nii")) == 2


def test_what_spm_made_of_an_image_beside_it_is_no_other_subject(tmp_path):
    names = ["S001.nii", "wS001.nii", "swS001.nii", "rS001.nii.gz", "mwc1S001.nii", "meanS001.nii"]
    assert list(found(tmp_path / "a", *names)) == ["S001.nii"]
    assert list(found(tmp_path / "b", "sub-02.nii", "wsub-02.nii")) == ["sub-02.nii"]
    assert len(found(tmp_path / "c", "wS001.nii", "swS002.nii", "S003.nii", "Schmidt.nii")) == 4


def test_names_that_may_be_one_persons_are_taken_as_two_with_a_warning(tmp_path):
    scans = found(tmp_path, "S1_2019-05-01.nii", "S1_2021-05-01.nii", "S1_av1451.nii", "S2_pet.nii")
    assert {name: bool(scan.notes) for name, scan in scans.items()} == {
        "S1_2019-05-01.nii": True, "S1_2021-05-01.nii": True, "S1_av1451.nii": True, "S2_pet.nii": False
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "sidecar", "seen"),
    [
        ("S001_FDG.nii.gz", {"SeriesDescription": "PET Brain"}, "FDG"),
        ("FDG/S001.nii.gz", None, "FDG"),
        ("S001.nii.gz", {"SeriesDescription": "PET Brain", "ProtocolName": "FDG Brain"}, "FDG"),
        ("FDG_and_AV1451/S001.nii.gz", None, None),
        ("FDG/S001_AV1451.nii.gz", None, "AV1451"),
        ("FDG/S001.nii.gz", {"TracerName": "AV-1451"}, "AV1451"),
    ],
)
def test_the_tracer_by_the_names_of_file_and_folder(image, name, sidecar, seen):
    (scan,) = find_scans(image(name, sidecar), "nifti").scans
    assert read_found(scan).facts["tracer"] == seen


@pytest.mark.parametrize(
    ("name", "sidecar", "refused"),
    [
        ("S001_AV1451_NAC.nii.gz", None, True),
        ("S001.nii.gz", {"SeriesDescription": "AV1451 no AC"}, True),
        ("S001_NAC.nii.gz", {"AttenuationCorrection": "CT"}, False),
        ("NACC001.nii.gz", None, False),
    ],
)
def test_an_image_named_as_uncorrected_is_refused_unless_it_is_stated(image, name, sidecar, refused):
    (scan,) = find_scans(image(name, sidecar), "nifti").scans
    if not refused:
        assert read_found(scan).array.size
        return
    with pytest.raises(RefusedScan, match="says that attenuation was not corrected") as error:
        read_found(scan)
    assert error.value.rule == "not-attenuation-corrected"


@pytest.mark.parametrize(
    "sidecar", [{"Modality": "CT"}, {"Modality": "MR"}, {"ImageType": ["DERIVED", "SECONDARY", "MIP"]}]
)
def test_an_image_that_its_sidecar_calls_no_pet_is_refused(image, sidecar):
    (scan,) = find_scans(image("S001.nii.gz", sidecar), "nifti").scans
    with pytest.raises(RefusedScan, match=r"The sidecar (states Modality|calls the image)") as error:
        read_found(scan)
    assert error.value.rule == "not-pet"


@pytest.mark.parametrize("name", ["S001.JSON", "S001.nii.gz.json", "S001.json"])
def test_a_sidecar_under_every_usual_name(image, name):
    source = image("S001.nii.gz", None)
    (source / name).write_text('{"TracerName": "FDG"}')
    (scan,) = find_scans(source, "nifti").scans
    assert read_found(scan).facts["tracer"] == "FDG"
    assert read_scan(source / "S001.nii.gz").facts["tracer"] == "FDG"


@pytest.mark.parametrize(
    ("name", "sidecar", "day"),
    [
        ("002_S_1234_tau_20190510102000_5.nii.gz", None, "2019-05-10"),
        ("002_S_1234_tau_20190510.nii.gz", None, "2019-05-10"),
        ("002_S_1234_tau.nii.gz", {"AcquisitionDateTime": "2019-05-10T10:20:00.000000"}, "2019-05-10"),
        ("002_S_1234_20200101.nii.gz", {"AcquisitionDate": "20190510"}, "2019-05-10"),
        ("2019-05-10/002_S_1234.nii.gz", {"SeriesDate": "20200101"}, "2019-05-10"),
        ("002_S_1234_tau.nii.gz", {"StudyDate": "19000101"}, "None"),
        ("002_S_1234_Br_20190510102000123_S1_I100.nii.gz", None, "None"),  # when it was uploaded
        ("002_S_1234_20191399.nii.gz", {"AcquisitionDateTime": 5}, "None"),
    ],
)
def test_the_day_of_what_dcm2niix_converted(image, name, sidecar, day):
    source = image(name, sidecar)
    (source / "DXSUM.csv").write_text("PTID,EXAMDATE,DIAGNOSIS\n002_S_1234,2019-04-01,2\n")
    (scan,) = find_scans(source, "nifti").scans
    assert (str(scan.scan_date), scan.diagnosis) == (day, None if day == "None" else "MCI")


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_sidecar_that_is_no_file_is_not_an_absent_one(image, kind):
    source = image("S001.nii.gz", None)
    if kind == "link":
        (source / "S001.json").symlink_to(source / "annex" / "S001.json")
    else:
        (source / "S001.json").mkdir()
    (scan,) = find_scans(source, "nifti").scans
    scan.digests()
    for read in (lambda: read_found(scan), lambda: read_scan(source / "S001.nii.gz")):
        with pytest.raises(RefusedScan, match=r"The sidecar (is a link that leads nowhere|cannot be read)"):
            read()


def test_case_and_blanks_make_no_second_subject(tmp_path):
    assert subjects(tmp_path, "s01/pet.nii", "S01/pet.nii", "Patient 7/a_pet.nii", "patient  7/2020/pet.nii")[
        :2
    ] == ["S01", "S01"]


@pytest.mark.parametrize("name", ["S1_AV1451_early.nii", "early_frames_S1.nii", "S1_pet_early.nii"])
def test_early_frames_by_name_are_another_product(tmp_path, name):
    assert list(found(tmp_path, name, "S1_AV1451.nii", "early_AD_001.nii")) == [
        "S1_AV1451.nii",
        "early_AD_001.nii",
    ]
