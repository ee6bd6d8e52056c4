"""BIDS trees as people keep them: every image is one scan, of one subject, or counted by what it is."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError, RefusedScan
from pipeline.ingest.convert import read_found
from pipeline.ingest.sources import find_scans

FAST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def tree(tmp_path_factory):
    """The function that writes images of these names, each with a value of its own, and finds the scans."""

    def write(*names, **tables):
        source = tmp_path_factory.mktemp("bids")
        for n, name in enumerate(names):
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            plain = source / "plain.nii"
            nib.save(nib.Nifti1Image(np.full((3, 3, 3), n + 1, np.float32), np.eye(4)), plain)
            content = plain.read_bytes()
            path.write_bytes(gzip.compress(content) if name.lower().endswith(".gz") else content)
            plain.unlink()
        (source / "dataset_description.json").write_text("{}")
        for name, text in tables.items():
            (source / name.replace("_", ".", 1)).write_text(text)
        return source

    return write


def are_distinct(scans):
    return len({scan.identity for scan in scans}) == len(scans)


@pytest.mark.parametrize(
    "names",
    [
        ("sub-01/ses-1/pet/sub-01_pet.nii.gz", "sub-01/ses-2/pet/sub-01_pet.nii.gz"),
        tuple(f"sub-01/pet/sub-01_trc-{t}_run-1_pet.nii.gz" for t in ("18FAV1451", "18FAV45", "11CPIB")),
        ("sub-01/pet/sub-01_rec-a_pet.nii.gz", "sub-01/pet/sub-01_rec-a_pet.nii"),
        ("sub-01/pet/sub-01_pet.nii.gz", "Sub-02/pet/sub-02_pet.nii.gz", "sub-03/pet/SUB-03_PET.NII.GZ"),
    ],
)
def test_no_image_takes_the_place_of_another(tree, names):
    scans = find_scans(tree(*names)).scans
    assert len(scans) == len(names)
    assert are_distinct(scans)
    values = sorted(float(read_found(scan).array.max()) for scan in scans)
    assert values == [n + 1 for n in range(len(names))]


def test_a_second_tracer_does_not_change_the_identity_of_the_first(tree):
    first = "sub-01/pet/sub-01_trc-18FAV1451_run-1_pet.nii.gz"
    (alone,) = find_scans(tree(first)).scans
    both = find_scans(tree(first, "sub-01/pet/sub-01_trc-11CPIB_run-1_pet.nii.gz")).scans
    assert alone.identity in {scan.identity for scan in both}


@pytest.mark.parametrize("name", ["sub-01/pet/sub-02_pet.nii.gz", "sub-01/ses-1/pet/sub-01_ses-2_pet.nii.gz"])
def test_a_file_named_otherwise_than_its_folder_is_refused(tree, name):
    scans = find_scans(tree(name, "sub-02/pet/sub-02_pet.nii.gz")).scans
    assert are_distinct(scans)
    with pytest.raises(RefusedScan, match="states another subject or session") as refused:
        next(scan for scan in scans if "sub-01" in scan.files[0].parts).check()
    assert refused.value.rule == "whose-scan"


def test_what_lies_elsewhere_is_counted(tree):
    source = tree(
        "sub-01/pet/sub-01_pet.nii.gz", "S002_pet.nii.gz", "derivatives/x/sub-01/pet/sub-01_pet.nii.gz"
    )
    (source / "sub-01" / "pet" / "sub-01_pet.nii.gz.part").write_bytes(b"")
    assert find_scans(source).ignored == {
        "images outside of sub- folders": 1,
        "images of derivatives and source data": 1,
        "files that are not NIfTI": 1,
    }


def test_an_unpacked_copy_is_taken_once(tree):
    source = tree("sub-01/pet/sub-01_pet.nii.gz")
    image = source / "sub-01" / "pet" / "sub-01_pet.nii.gz"
    image.with_suffix("").write_bytes(gzip.decompress(image.read_bytes()))
    found = find_scans(source)
    assert [scan.files for scan in found.scans] == [(image,)]
    assert found.ignored == {"unpacked copies of an image that is taken": 1}


TWO = ("sub-01/pet/sub-01_pet.nii.gz", "sub-02/pet/sub-02_pet.nii.gz")


@pytest.mark.parametrize(
    "tables",
    [
        {"participants_tsv": "participant_id\tdiagnosis\n1\tCN\n2\tAD\n"},
        {"participants_tsv": "participant_id;diagnosis\nSUB-01;CN\nsub-02;Alzheimer's disease\n"},
        {"participants_csv": "participant_id,diagnosis\nsub-01,CN\nsub-02,AD\n"},
        {"participants_tsv": "\n\t\t\n\nparticipant_id\tdiagnosis\t\t\nsub-01\tCN\ta\tb\nsub-02\tAD\tc\n"},
        {"participants_tsv": "participant_id,note,diagnosis,note\nsub-01,a,CN,b\nsub-02,,AD,\n"},
        {"participants_tsv": 'participant_id,diagnosis,note\nsub-01,CN,\nsub-02,AD,"b\nc, d"\n2 rows\n'},
        {"participants_tsv": "participant_id\tdiagnosis\rsub-01\tCN\rsub-02\tAD\r"},
    ],
)
def test_tables_of_participants_as_programs_save_them(tree, tables):
    found = find_scans(tree(*TWO, **tables))
    assert [scan.diagnosis for scan in found.scans] == ["CN", "AD"]
    assert not found.ignored


def test_what_a_table_lacks_or_states_strangely_is_counted(tree):
    found = find_scans(tree(*TWO, participants_tsv="participant_id\tdiagnosis\nsub-01\tperhaps\n"))
    assert [scan.diagnosis for scan in found.scans] == [None, None]
    assert found.ignored == {
        "diagnoses of participants.tsv that are not understood": 1,
        "subjects without a row of their own in participants.tsv": 1,
    }


def test_a_row_that_lost_its_zeros_is_not_taken_for_two_subjects(tree):
    names = ("sub-1/pet/sub-1_pet.nii.gz", "sub-01/pet/sub-01_pet.nii.gz")
    scans = find_scans(tree(*names, participants_tsv="participant_id\tdiagnosis\n1\tAD\n")).scans
    assert {scan.subject_label: scan.diagnosis for scan in scans} == {"1": "AD", "01": None}


@pytest.mark.parametrize("suffix", ["xlsx", "ods"])
def test_a_spreadsheet_of_participants_is_an_error_that_names_it(tree, suffix):
    with pytest.raises(InputError, match="is a spreadsheet, which is not read"):
        find_scans(tree(*TWO, **{f"participants_{suffix}": "PK"}))


@pytest.mark.parametrize("content", ["PK\x03\x04", "\xd0\xcf\x11\xe0"])
def test_a_spreadsheet_under_the_name_of_a_table_is_called_one(tree, content):
    source = tree(*TWO)
    (source / "participants.tsv").write_bytes(content.encode("latin-1") + bytes(600))
    with pytest.raises(InputError, match=r"is a spreadsheet under the name .* save it as CSV"):
        find_scans(source)


@pytest.mark.parametrize("text", [b"\0\1\2", b"filename\tacq_time\npet/sub-01_pet.nii.gz\t3/4/17\n"])
def test_a_broken_table_of_one_session_refuses_its_scan_alone(tree, text):
    source = tree(*TWO)
    (source / "sub-01" / "sub-01_scans.tsv").write_bytes(text)
    one, other = find_scans(source).scans
    with pytest.raises(RefusedScan, match=r"The scans.tsv of the session cannot be read") as refused:
        read_found(one)
    assert refused.value.rule == "unreadable-sidecar"
    assert read_found(other).array.shape == (3, 3, 3)


@FAST
@given(st.data())
def test_every_image_below_subjects_is_one_scan_of_its_own(tree, data):
    subjects, sessions = st.sampled_from(["01", "1", "A"]), st.sampled_from(["", "1", "2"])
    entities = st.sampled_from(["", "_run-1", "_trc-18FAV1451_run-1", "_trc-18FAV45_run-1", "_task-x"])

    @st.composite
    def name(draw):
        sub, ses, more = draw(subjects), draw(sessions), draw(entities)
        folder = f"sub-{sub}/" + (f"ses-{ses}/" if ses else "") + "pet/"
        written = f"_ses-{ses}" if ses and draw(st.booleans()) else ""
        return f"{folder}sub-{sub}{written}{more}_pet{draw(st.sampled_from(['.nii', '.nii.gz']))}"

    names = data.draw(st.lists(name(), min_size=1, max_size=6, unique=True))
    found = find_scans(tree(*names))
    assert len(found.scans) == len(names)
    assert are_distinct(found.scans)
    assert len({scan.files for scan in found.scans}) == len(names)
