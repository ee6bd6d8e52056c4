"""Files that are there and cannot be read are named for what they are, with what helps."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.ingest.folders import ANNEXED
from pipeline.ingest.sources import find_scans

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("S001.mgz", "mri_convert"),
        ("S001.mnc", "mnc2nii"),
        ("S001.hdr", "fslchfiletype"),
        ("S001.nrrd", "dcm2niix"),
        ("S001.v", "dcm2niix"),
        ("S001.rar", "unrar"),
        ("S001.7z", "7z x"),
        ("S001.hv", "stir_math"),
    ],
)
def test_a_folder_of_another_format_is_refused_with_the_command_that_helps(tmp_path, name, command):
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(InputError, match=r"No PET scan in this folder") as refused:
        find_scans(tmp_path)
    assert command in refused.value.hint


def test_a_table_in_place_of_a_folder_is_a_file_and_not_missing(tmp_path):
    (tmp_path / "DXSUM.csv").write_text("PTID,DX\n")
    with pytest.raises(InputError, match=r"DXSUM\.csv: This file is no archive .* Name the folder it is in"):
        find_scans(tmp_path / "DXSUM.csv")


@pytest.mark.parametrize("name", ["IM0001.dcm", "notes", "S001_pet.nii.txt"])
def test_pointers_are_counted_as_what_they_are(tmp_path, name):
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4)), tmp_path / "S002.nii.gz")
    (tmp_path / name).write_bytes(LFS)
    assert find_scans(tmp_path).ignored == {ANNEXED: 1}


def test_a_dataset_of_pointers_names_the_command_that_fetches_them(tmp_path):
    folder = tmp_path / "sub-01" / "pet"
    folder.mkdir(parents=True)
    (tmp_path / "dataset_description.json").write_text("{}")
    (folder / "sub-01_pet.nii.gz").symlink_to("../../.git/annex/objects/xx/MD5E-s1--abc.nii.gz")
    with pytest.raises(InputError, match="content is not there") as refused:
        find_scans(tmp_path)
    assert "datalad get" in refused.value.hint
