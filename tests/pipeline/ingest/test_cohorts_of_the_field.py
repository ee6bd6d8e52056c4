"""Cohorts of the field, as their publishers describe them: GAAIN, OASIS-3, HABS-HD, A4, DLBS.

The trees are written from the descriptions alone; no file of a cohort is here.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from pipeline.diagnoses import ClassWords
from pipeline.ingest.convert import read_found
from pipeline.ingest.sources import find_scans

LABELS = {"PET": 1.0, "T1": 2.0}


@pytest.fixture
def tree(tmp_path):
    """The function that writes images of these names and returns what is found in their folder."""

    def write(*names, **tables):
        for n, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(np.full((3, 3, 3), n + 1, np.float32), np.eye(4)), path)
        for name, text in tables.items():
            path = tmp_path / name.replace("__", "/").replace("_csv", ".csv").replace("_tsv", ".tsv")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return find_scans(tmp_path)

    return write


def people(found):
    return sorted((s.subject_label, s.session_label, s.diagnosis) for s in found.scans)


GAAIN = "CenTauR_FTP_Calibration_Dataset"
TWICE = [("AD01", "visit1", "AD"), ("AD01", "visit2", "AD"), ("CU01", "visit1", "CN")]


@pytest.mark.parametrize(
    "names",
    [
        (
            "AD01_time1_PET",
            "AD01_time1_T1",
            "AD01_time2_PET",
            "AD01_time2_T1",
            "CU01_time1_PET",
            "CU01_time1_T1",
        ),
        ("time1/AD01_FTP_PET", "time1/AD01_T1", "time2/AD01_FTP_PET", "time1/CU01_FTP_PET"),
        ("AD01/time1/pet", "AD01/time1/t1", "AD01/time2/pet", "CU01/time1/pet"),
        ("FTP/AD01_time1", "T1/AD01_time1", "FTP/AD01_time2", "FTP/CU01_time1", "T1/CU01_time1"),
    ],
)
def test_the_calibration_set_of_centaur_however_its_files_are_named(tree, names):
    table = "ID,SPM8_Universal_SUVR\nAD01,1.9\nCU01,1.1\n"
    found = tree(*(f"{GAAIN}/{name}.nii" for name in names), CenTauR_FTP_Calibration_spm8_csv=table)
    assert people(found) == TWICE
    for scan in found.scans:
        scan.check()


def test_groups_of_a_set_that_come_in_its_table(tree):
    names = [f"{GAAIN}/{n}_time1_PET.nii" for n in ("P001", "P002")]
    found = tree(
        *names, **{f"{GAAIN}__CenTauR_FTP_Calibration_spm8_csv": "ID,Group\nP001,AD dementia\nP002,CU\n"}
    )
    assert [diagnosis for *_, diagnosis in people(found)] == ["AD", "CN"]


OASIS = (
    "OASISID,OASIS_session_label,days_to_visit,age at visit,MMSE,dx1\n"
    "OAS30001,OAS30001_UDSb4_d0100,100,70,29,Cognitively normal\n"
    "OAS30001,OAS30001_UDSb4_d0900,900,72,25,AD Dementia\n"
    "OAS30002,OAS30002_UDSb4_d0010,10,60,30,uncertain dementia\n"
)
VISITS = (("OAS30001", "d0129"), ("OAS30001", "d0880"), ("OAS30002", "d0020"))


@pytest.mark.parametrize(
    "names",
    [
        [f"sub-{s}/ses-{d}/pet/sub-{s}_ses-{d}_acq-AV1451_pet.nii.gz" for s, d in VISITS],
        [f"{s}_AV1451_{d}/pet1/sub-{s}_ses-{d}_acq-AV1451_pet.nii.gz" for s, d in VISITS],
    ],
)
def test_oasis_3_with_its_days_from_entry(tree, names):
    found = tree(*names, OASIS3_UDSb4_cdr_csv=OASIS)
    seen = sorted(
        (s.subject_label, s.diagnosis, s.stated, s.days_to_diagnosis) for s in found.scans if s.diagnosis
    )
    assert seen == [("OAS30001", "AD", "AD Dementia", 20), ("OAS30001", "CN", "Cognitively normal", -29)]
    assert {s.stated for s in found.scans if s.diagnosis is None} == {"uncertain dementia"}
    assert {read_found(s).facts["tracer"] for s in found.scans} == {"AV1451"}


def test_another_tracer_of_oasis_is_known_by_its_name(tree):
    found = tree("sub-OAS30001/ses-d0129/pet/sub-OAS30001_ses-d0129_acq-AV45_pet.nii.gz")
    assert read_found(found.scans[0]).facts["tracer"] == "AV45"


def test_habs_hd_by_medical_record_and_visit(tree):
    table = "Med_ID,Visit_ID,CDX_Cog\n1001,1,0\n1002,1,1\n"
    found = tree("1001/V1/1001_tau_pet.nii.gz", "1002/V1/1002_tau_pet.nii.gz", HD_Clinical_csv=table)
    words = ClassWords(("CN", "MCI"), {"CN": ("CN", "0"), "MCI": ("MCI", "1")})
    assert [words.class_of(s.stated) for s in found.scans] == ["CN", "MCI"]


def test_a4_by_bid_with_a_table_of_amyloid_reads(tree):
    reads = "BID,overall_score\nB10000001,positive\n"
    found = tree(
        "B10000001/PET_Tau/B10000001_Tau_AV1451.nii.gz", metadata__A4_PETVADATA_csv=reads,
        metadata__groups_csv="BID,SUBSTUDY,group\nB10000001,A4,CU\n",
    )  # fmt: skip
    assert [(s.diagnosis, s.stated) for s in found.scans] == [("CN", "CU")]


def test_tracers_and_visits_of_a4_below_a_folder_of_the_person_are_one_subject(tree):
    one, other = "B10000001", "B10000002"
    names = (f"PET_Tau/{one}_Tau_AV1451_V1", f"PET_Tau/{one}_Tau_AV1451_V2", f"PET_Amyloid/{one}_Florbetapir")
    found = tree(*(f"{one}/{n}.nii.gz" for n in names), f"{other}/PET_Tau/{other}_Tau_AV1451.nii.gz")
    assert sorted(scan.subject_label for scan in found.scans) == [*["B10000001"] * 3, "B10000002_Tau_AV1451"]
    assert not any(scan.notes for scan in found.scans)


def test_names_alone_make_no_person_of_two_files(tree):
    found = tree("tau/B01_tau_V1.nii.gz", "tau/B01_tau_V2.nii.gz")
    assert len({scan.subject_label for scan in found.scans}) == 2
    assert all("if they are one person's" in scan.notes[0] for scan in found.scans)


def test_dlbs_has_waves_and_no_diagnosis(tree):
    table = "participant_id\tsex\tAgePETTau_W2\tAgePETTau_W3\nsub-101\tf\t60\t64\n"
    names = [f"sub-101/ses-wave{n}/pet/sub-101_ses-wave{n}_trc-18FAV1451_run-1_pet.nii.gz" for n in (2, 3)]
    found = tree(*names, participants_tsv=table)
    assert [(s.session_label, s.diagnosis, s.age) for s in found.scans] == [
        ("wave2", None, 60.0),
        ("wave3", None, 64.0),
    ]


def test_a_table_that_cannot_be_read_is_counted_and_hides_no_scan(tree):
    found = tree("S001_tau_pet.nii.gz", groups_csv="id,diagnosis\nS001,CN,,7\n")
    assert len(found.scans) == 1
    assert found.ignored["tables beside the scans that cannot be read"] == 1
