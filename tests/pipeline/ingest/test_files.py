"""NIfTI, sidecars, BIDS trees, the report page."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError, RefusedScan
from pipeline.ingest import bids
from pipeline.ingest.convert import convert_scan
from pipeline.ingest.converted import ConvertedScan
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.dicom import read_series
from pipeline.ingest.nifti import read_nifti, write_nifti
from pipeline.ingest.outcomes import ScanOutcome, write_outcomes
from pipeline.ingest.sidecar import read_sidecar, understand
from pipeline.ingest.sources import find_scans
from pipeline.scan import Frame, Volume

HERE = Pseudonymiser(b"k" * 32)
AFFINE = np.array([[-2, 0, 0, 90], [0, 2.1, 0, -120], [0, 0, 2.2, -70], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("kind", ["<i2", ">i2", "<f4", ">f8", "u1"])
@pytest.mark.parametrize("frames", [None, 3])
def test_every_stored_type_is_read(tmp_path, rng, kind, frames):
    shape = (4, 5, 6) if frames is None else (4, 5, 6, frames)
    stored = rng.integers(0, 200, shape)
    image = nib.Nifti1Image(
        stored.astype(kind), AFFINE, nib.Nifti1Header(endianness=kind[0] if kind[0] in "<>" else "<")
    )
    image.header.set_slope_inter(0.25, 3.0)
    nib.save(image, tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii", {"Units": "kBq/mL"})
    # nibabel writes a slope of its own where it is told none for the stored values; ask it what they mean.
    np.testing.assert_allclose(volume.array, nib.load(tmp_path / "a.nii").get_fdata() * 1000, rtol=1e-6)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)
    assert volume.unit == "Bq/mL"


def _with_forms(path, sform, qform):
    image = nib.Nifti1Image(np.ones((10, 10, 10), np.float32), AFFINE)
    image.set_sform(sform, 1 if sform is not None else 0)
    image.set_qform(qform, 1 if qform is not None else 0)
    nib.save(image, path)
    return path


def test_sform_and_qform(tmp_path):
    moved = AFFINE.copy()
    moved[0, 3] += 4
    volume = read_nifti(_with_forms(tmp_path / "a.nii", moved, AFFINE))
    np.testing.assert_allclose(volume.affine, moved, atol=1e-5)
    assert "4.0 mm apart" in volume.facts["geometry_note"]
    np.testing.assert_allclose(
        read_nifti(_with_forms(tmp_path / "b.nii", None, AFFINE)).affine, AFFINE, atol=1e-5
    )
    mirrored = AFFINE @ np.diag([-1, 1, 1, 1.0])
    with pytest.raises(RefusedScan, match="opposite handedness: left and right"):
        read_nifti(_with_forms(tmp_path / "c.nii", mirrored, AFFINE))
    with pytest.raises(RefusedScan, match="neither a usable sform nor qform"):
        read_nifti(_with_forms(tmp_path / "d.nii", None, None))


def test_what_is_already_suvr_or_in_mni_is_recognised(tmp_path):
    name = "sub-1_space-MNI152NLin2009cAsym_desc-suvr_pet.nii"
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.float32), AFFINE), tmp_path / name)
    volume = read_nifti(tmp_path / name)
    assert (volume.unit, volume.facts["space"]) == ("SUVR", "MNI")
    image = nib.Nifti1Image(np.ones((4, 4, 4), np.float32), AFFINE)
    image.set_sform(AFFINE, code="mni")
    nib.save(image, tmp_path / "b.nii")
    assert read_nifti(tmp_path / "b.nii").facts["space"] == "MNI"


def test_a_broken_image_is_refused(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"\x1f\x8b not really")
    with pytest.raises(RefusedScan, match="whole NIfTI"):
        read_nifti(tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="There is no such image"):
        bids.read_pet(tmp_path / "none.nii.gz")


def test_the_published_bids_example_is_refused_for_its_tracer(shared_data):
    folder = shared_data("bids_pet001") / "pet001"
    found = find_scans(folder)
    assert found.ignored == {"images that are not PET": 1}
    with pytest.raises(RefusedScan, match="The tracer is CIMBI-36, expected AV1451"):
        convert_scan(found.scans[0], folder.parent / "nowhere", HERE, "AV1451")


class TestSidecars:
    """Words that others wrote."""

    def test_the_dlbs_traps(self, shared_data):
        paths = sorted((shared_data("dlbs_av1451") / "sidecars").glob("*.json"))
        assert len(paths) == 10
        for path in paths:
            read = understand(read_sidecar(path), path.name.replace(".json", ".nii.gz"))
            assert read.unit == "Bq/mL"
            assert read.frames == (Frame(0.0, 1200.0),)  # ms, and a second frame of no duration
            assert read.facts["tracer"] == "AV1451"
            assert read.facts["scan_after_injection_s"] == 4800.0
            assert 3e8 < read.facts["injected_activity_bq"] < 4.5e8  # not 8.92 mSV

    def test_contradicting_tracers_are_told(self):
        read = understand({"TracerName": "AV-1451", "Radiopharmaceutical": "Florbetaben"})
        assert read.facts["tracer"] == "AV1451"
        assert "FBB by another" in read.facts["tracer_note"]

    def test_inheritance_from_the_general_to_the_special(self, tmp_path):
        pet = tmp_path / "sub-01" / "ses-a" / "pet"
        pet.mkdir(parents=True)
        nib.save(
            nib.Nifti1Image(np.ones((4, 4, 4), np.float32), AFFINE),
            pet / "sub-01_ses-a_trc-AV1451_pet.nii.gz",
        )
        (tmp_path / "dataset_description.json").write_text("{}")
        (tmp_path / "trc-AV1451_pet.json").write_text(json.dumps({"TracerName": "T807", "Units": "Bq/mL"}))
        (tmp_path / "trc-FDG_pet.json").write_text(json.dumps({"TracerName": "FDG"}))
        (pet / "sub-01_ses-a_trc-AV1451_pet.json").write_text(json.dumps({"Units": "kBq/mL"}))
        (tmp_path / "participants.tsv").write_text(
            "participant_id\tage\tsex\tdiagnosis\nsub-01\t71\tF\tMCI\n"
        )
        found = find_scans(tmp_path)
        assert found.layout == "bids"
        converted = convert_scan(found.scans[0], tmp_path / "out", HERE, "AV1451")
        assert (converted.tracer, converted.diagnosis, converted.facts["age"]) == ("AV1451", "MCI", 71)
        assert bids.read_pet(converted.path).array.max() == 1000

    def test_not_corrected_for_attenuation(self):
        with pytest.raises(RefusedScan, match="corrected for attenuation"):
            understand({"AttenuationCorrection": "none"})

    def test_injection_after_the_scan(self):
        with pytest.raises(RefusedScan, match=r"InjectionStart is 10\.0 min after the start"):
            understand(
                {"InjectionStart": 600, "ScanStart": 0, "FrameTimesStart": [0], "FrameDuration": [300]}
            )

    @given(st.lists(st.floats(1, 3000), min_size=1, max_size=8), st.floats(0, 7000))
    def test_seconds_and_milliseconds_give_the_same_frames(self, durations, delay):
        starts = np.concatenate([[0], np.cumsum(durations)[:-1]]).tolist()
        told = {
            "FrameTimesStart": starts,
            "FrameDuration": durations,
            "InjectionStart": -delay,
            "ScanStart": 0,
        }
        in_ms = {k: [v * 1000 for v in x] if isinstance(x, list) else x * 1000 for k, x in told.items()}
        one, other = (
            understand(told, frames=len(durations)),
            understand(in_ms | {"FrameDurationUnits": "ms"}, frames=len(durations)),
        )
        assert [f.start_s for f in one.frames] == pytest.approx([f.start_s for f in other.frames])
        assert [f.duration_s for f in one.frames] == pytest.approx([f.duration_s for f in other.frames])
        assert one.facts["scan_after_injection_s"] == pytest.approx(other.facts["scan_after_injection_s"])


def test_a_written_scan_reads_back_with_its_facts(make_series, tmp_path):
    volume = read_series(make_series(frames=2).folder)
    path = bids.write_scan(volume, volume.facts, tmp_path / "sub-A_ses-B_trc-18FAV1451_pet.nii.gz")
    again = bids.read_pet(path)
    np.testing.assert_array_equal(again.array, volume.array)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-5)
    assert (again.unit, again.frames) == (volume.unit, volume.frames)
    assert {k: v for k, v in again.facts.items() if v is not None} == {
        k: v for k, v in volume.facts.items() if v is not None
    }
    first = path.read_bytes()
    assert write_nifti(volume, path).read_bytes() == first


def test_a_converted_scan_survives_json(make_series, tmp_path):
    make_series(folder=tmp_path / "s")
    converted = convert_scan(find_scans(tmp_path / "s").scans[0], tmp_path / "out", HERE, "flortaucipir")
    assert (
        ConvertedScan.from_dict(json.loads(json.dumps(converted.to_dict(tmp_path / "out"))), tmp_path / "out")
        == converted
    )
    assert converted.stem == f"{converted.scan_id}_trc-18FAV1451"
    assert all(path.is_file() for path in (converted.path, *converted.companions))


def test_a_failed_write_leaves_nothing(tmp_path):
    target = tmp_path / "sub-A" / "a_pet.nii.gz"
    target.parent.mkdir()
    target.mkdir()  # a folder stands where the image would go
    with pytest.raises(OSError, match="directory"):
        write_nifti(Volume(np.ones((3, 3, 3), np.float32), AFFINE, "SUV"), target)
    assert [p.name for p in tmp_path.rglob("*")] == ["sub-A", "a_pet.nii.gz"]


def test_a_wrong_tracer_names_both(make_series, tmp_path):
    make_series(folder=tmp_path / "s")
    scan = find_scans(tmp_path / "s").scans[0]
    with pytest.raises(RefusedScan, match=r"^sub-\S+: The tracer is AV1451, expected FDG") as refusal:
        convert_scan(scan, tmp_path / "out", HERE, "FDG")
    assert refusal.value.rule == "wrong-tracer"
    assert not (tmp_path / "out").exists()


@dataclass(frozen=True)
class Finding:
    """As quality checks give them."""

    rule: str
    verdict: str
    measured: float
    message: str


def test_a_scan_without_a_diagnosis_is_accepted_and_states_why():
    notes = ["no diagnosis is known"]
    outcome = ScanOutcome.of_findings("sub-A_ses-1", [Finding("noise", "pass", 0.1, "fine")], [], notes)
    assert (outcome.verdict, outcome.rule, outcome.message) == ("accepted", "", "no diagnosis is known")


def test_what_was_not_measured_is_no_number():
    unknown, noisy = Finding("window", "warn", math.nan, "unknown"), Finding("noise", "warn", 0.3, "noisy")
    assert ScanOutcome.of_findings("sub-A_ses-1", [unknown]).measured == ""
    assert ScanOutcome.of_findings("sub-A_ses-1", [unknown, noisy]).measured == "n/a, 0.3"


def test_the_table_has_a_row_for_each_scan(tmp_path):
    outcomes = [
        ScanOutcome.of_findings("sub-A_ses-1", [Finding("noise", "pass", 0.1, "fine")]),
        ScanOutcome.of_findings(
            "sub-B_ses-1", [Finding("noise", "warn", 0.31416, "noisy: 0.314")], ["no diagnosis is known"]
        ),
        ScanOutcome.of_refusal(
            "sub-C_ses-1", "conversion", RefusedScan("missing-slices", "<script>x</script>", measured="2")
        ),
    ]
    assert [o.verdict for o in outcomes] == ["accepted", "warned", "refused"]
    assert ScanOutcome(**asdict(outcomes[1])) == outcomes[1]
    lines = write_outcomes(outcomes, tmp_path).read_text().splitlines()
    assert lines[0].split("\t") == ["scan", "verdict", "stage", "rule", "measured", "message"]
    assert lines[2].split("\t")[3:5] == ["noise, conversion", "0.314"]
    assert len(lines) == 4
