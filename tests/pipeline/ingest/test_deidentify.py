"""Nothing that identifies a person is written anywhere; pseudonyms are the key's alone."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sysconfig
from datetime import date, timedelta
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from pipeline.errors import InputError, RefusedScan
from pipeline.ingest.bids import write_dataset_files
from pipeline.ingest.convert import convert_scan
from pipeline.ingest.deidentify import Pseudonymiser, key_beside, load_or_make_key, make_known_key
from pipeline.ingest.outcomes import ScanOutcome, write_outcomes
from pipeline.ingest.sources import find_scans
from pipeline.ingest.times import parse_date
from pipeline.reporting.ingest.ingest_page import build_ingest_report, write_ingest_page
from pipeline.scan import Cohort

HERE, ELSEWHERE = Pseudonymiser(b"a" * 32), Pseudonymiser(b"b" * 32)
TEXT = {"AE", "AS", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
NEEDED = {"Modality", "Units", "DecayCorrection", "CorrectedImage", "PhotometricInterpretation", "ImageType"}


@given(
    st.text(min_size=1),
    st.dates(date(1990, 1, 1), date(2030, 1, 1)),
    st.dates(date(1990, 1, 1), date(2030, 1, 1)),
)
def test_dates_keep_their_intervals_and_are_marked_as_shifted(label, one, other):
    shifted, also = HERE.shift_date(label, one), HERE.shift_date(label, other)
    assert also - shifted == other - one
    assert shifted.year < 1925


@pytest.mark.parametrize("folder", [".", "..", "bids", "bids/."])
def test_the_key_is_beside_a_folder_however_it_is_typed(tmp_path, monkeypatch, folder):
    (tmp_path / "here" / "bids").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    whole = Path(folder).resolve()
    assert key_beside(Path(folder)).resolve() == whole.parent / f"{whole.name}.key"


@given(st.text(min_size=1))
def test_pseudonyms_fit_bids_and_depend_on_the_key(label):
    name = HERE.subject(label)
    assert name.isalnum()
    assert name.isascii()
    assert name == HERE.subject(label)
    assert name != ELSEWHERE.subject(label)


def test_shifts_differ_between_subjects_and_keys():
    shifts = {HERE.shift_days(f"{n}") for n in range(50)}
    assert len(shifts) > 40
    assert HERE.shift_days("1") != ELSEWHERE.shift_days("1")
    assert HERE.uid("1.2.3") != ELSEWHERE.uid("1.2.3")
    assert len(HERE.uid("1.2.3")) <= 64


class TestKey:
    """The secret."""

    def test_is_made_once_and_for_its_owner_alone(self, tmp_path):
        path = tmp_path / "secret" / "key"
        key = load_or_make_key(path, tmp_path / "bids")
        assert len(key) == 32
        assert path.stat().st_mode & 0o777 == 0o600
        assert load_or_make_key(path, tmp_path / "bids") == key
        assert [p.name for p in path.parent.iterdir()] == ["key"]

    def test_must_lie_outside_the_dataset(self, tmp_path):
        with pytest.raises(InputError, match=r"The key file is inside the folder \S+bids"):
            load_or_make_key(tmp_path / "bids" / "sub" / "key", tmp_path / "bids")
        (tmp_path / "way").symlink_to(tmp_path / "bids", target_is_directory=True)
        with pytest.raises(InputError, match=r"way/key: The key file is inside"):
            load_or_make_key(tmp_path / "way" / "key", tmp_path / "bids")

    def test_that_others_can_read_is_refused(self, tmp_path):
        load_or_make_key(tmp_path / "key", tmp_path / "bids")
        (tmp_path / "key").chmod(0o644)
        with pytest.raises(InputError, match=r"The key file has mode 644\. Expected 600"):
            load_or_make_key(tmp_path / "key", tmp_path / "bids")

    @pytest.mark.parametrize(
        ("text", "match"), [("not hex", "hexadecimal"), ("00ff", r"has 2 bytes\. Expected 32")]
    )
    def test_that_is_none_is_refused(self, tmp_path, text, match):
        (tmp_path / "key").write_text(text)
        (tmp_path / "key").chmod(0o600)
        with pytest.raises(InputError, match=match):
            load_or_make_key(tmp_path / "key", tmp_path / "bids")


def plant(dataset: Dataset, planted: list[str]) -> None:
    """Put a string of its own into every text element that is there, and into all that usually identify."""
    for keyword in (
        "PatientBirthName", "OtherPatientIDs", "PatientAddress", "PatientTelephoneNumbers", "PatientComments",
        "InstitutionName", "InstitutionAddress", "StationName", "ReferringPhysicianName", "OperatorsName",
        "AccessionNumber", "StudyID", "StudyDescription", "ProtocolName", "RequestedProcedureDescription",
        "ImageComments", "DeviceSerialNumber", "AdditionalPatientHistory", "EthnicGroup", "Occupation",
        "ConvolutionKernel", "AttenuationCorrectionMethod", "PatientID", "SoftwareVersions",
    ):  # fmt: skip
        setattr(dataset, keyword, "x")
    dataset.add_new(0x00290010, "LO", "x")
    dataset.add_new(0x00291001, "LO", "x")
    _plant_into(dataset, planted)


def _plant_into(dataset: Dataset, planted: list[str]) -> None:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _plant_into(item, planted)
        elif element.VR in TEXT and element.keyword not in NEEDED:
            # One series is of one person.
            whose = element.keyword if element.keyword in ("PatientID", "PatientName") else ""
            word = f"Zq{whose or format(len(planted), '03d')}Vx"
            planted.append(word)
            element.value = f"{word}^{word}" if element.VR == "PN" else word


def _written(folder: Path) -> bytes:
    parts = [str(p.relative_to(folder)).encode() for p in folder.rglob("*")]
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            parts += [data, gzip.decompress(data) if path.suffix == ".gz" else b""]
    return b"\n".join(parts).lower()


@pytest.mark.parametrize("tracer", [None, "Flortaucipir"])
def test_no_written_byte_holds_what_was_planted(make_series, rewrite, tmp_path, tracer):
    series = make_series(folder=tmp_path / "Zq900Vx Smith" / "Zq901Vx_series")
    planted: list[str] = []
    rewrite(series.folder, lambda ds, _: plant(ds, planted))
    if tracer:  # else the scan is refused, and the report must not name what was read instead

        def name(ds, _):
            ds.RadiopharmaceuticalInformationSequence[0].Radiopharmaceutical = tracer

        rewrite(series.folder, name)
    uids = [str(pydicom.dcmread(p).SOPInstanceUID) for p in series.folder.iterdir()]
    found, out = find_scans(tmp_path, "dicom"), tmp_path / "out"
    scan = found.scans[0]
    if tracer:
        converted = [convert_scan(scan, out, HERE, "AV1451")]
        outcome = ScanOutcome.of_findings(converted[0].scan_id, [], converted[0].warnings)
    else:
        with pytest.raises(RefusedScan, match="not recognised") as refusal:
            convert_scan(scan, out, HERE, "AV1451")
        converted, outcome = [], ScanOutcome.of_refusal(scan.label(HERE), "conversion", refusal.value)
    write_dataset_files(out, converted)
    write_outcomes([outcome], out)
    write_ingest_page(
        build_ingest_report([outcome], found.ignored, found.layout, Cohort((), ("CN", "AD"))), out
    )
    assert len(set(planted)) > 100
    written = _written(out)
    words = [
        *planted,
        "Zq900Vx",
        "Smith",
        "Zq901Vx",
        "2019-05-10",
        "20190510",
        "102000",
        *uids,
        scan.series_uid,
    ]
    assert [w for w in words if w.lower().encode() in written] == []


def test_nothing_of_a_foreign_bids_dataset_passes_but_known_words(tmp_path):
    source = tmp_path / "src"
    pet = source / "sub-ZqSmithVx" / "ses-Zq1953Vx" / "pet"
    pet.mkdir(parents=True)
    stem = "sub-ZqSmithVx_ses-Zq1953Vx_trc-AV1451_pet"
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.diag([2, 2, 2, 1.0])), pet / f"{stem}.nii.gz")
    keys = ("Manufacturer", "SeriesDescription", "InstitutionName", "ReconMethodName", "Units", "TaucalFacts")
    told = {key: f"Zq{key}Vx" for key in keys} | {"TracerName": "AV1451"}
    told["TaucalFacts"] = {"site": "ZqTaucalFactsVx", "tracer": "AV1451"}
    (pet / f"{stem}.json").write_text(json.dumps(told))
    (source / "participants.tsv").write_text(
        "participant_id\tsex\tsite\tgroup\nsub-ZqSmithVx\tZqSexVx\tZqSiteVx\tZqGroupVx\n"
    )
    found, out = find_scans(source), tmp_path / "out"
    converted = convert_scan(found.scans[0], out, HERE, "AV1451")
    write_dataset_files(out, [converted])
    assert converted.path.is_file()
    assert b"zq" not in _written(out).replace(converted.subject.lower().encode(), b"")


def test_the_official_validator_finds_no_error(make_series, tmp_path):
    validator = Path(sysconfig.get_path("scripts")) / "bids-validator-deno"
    if not validator.is_file() and not shutil.which("bids-validator-deno"):
        pytest.skip("bids-validator-deno is not installed")
    make_series(folder=tmp_path / "src" / "a")
    make_series(
        folder=tmp_path / "src" / "b", frames=3, edit=lambda ds, *_: setattr(ds, "PatientID", "other")
    )

    def tells_little(dataset, *_):
        dataset.PatientID = "silent"
        del dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose
        for name in ("PatientWeight", "ReconstructionMethod", "Manufacturer"):
            if name in dataset:
                delattr(dataset, name)

    make_series(folder=tmp_path / "src" / "c", edit=tells_little, seed=1)
    out = tmp_path / "bids"
    found = find_scans(tmp_path / "src")
    assert len(found.scans) == 3
    converted = [convert_scan(scan, out, HERE, "AV1451") for scan in found.scans]
    write_dataset_files(out, converted)
    write_outcomes([], out / "derivatives" / "taucal")
    report = build_ingest_report([], found.ignored, found.layout, Cohort((), ("CN", "AD")))
    write_ingest_page(report, out / "derivatives" / "taucal")
    run = subprocess.run([validator, out, "--format", "json"], capture_output=True, text=True, check=False)
    if not run.stdout.startswith("{"):
        pytest.skip(f"bids-validator-deno does not run here: {run.stderr[:200]}")
    report = json.loads(run.stdout)
    assert report["summary"]["totalFiles"] > 6
    assert [i for i in report["issues"]["issues"] if i["severity"] == "error"] == []


def test_session_labels_stay_when_later_scans_arrive(make_series, tmp_path):
    def on(day):
        return lambda ds, *_: setattr(ds, "AcquisitionDate", day)

    make_series(folder=tmp_path / "b", edit=on("20200110"))
    before = [s.session(HERE) for s in find_scans(tmp_path).scans]
    make_series(folder=tmp_path / "a", edit=on("20180601"))
    make_series(folder=tmp_path / "c", edit=on("20210601"))
    sessions = [s.session(HERE) for s in find_scans(tmp_path).scans]
    assert before[0] in sessions
    assert len(set(sessions)) == 3
    dates = [date.fromisoformat(s) for s in sorted(sessions)]
    assert dates[1] - dates[0] == date(2020, 1, 10) - date(2018, 6, 1)
    assert dates[2] - dates[1] >= timedelta(days=500)


def test_a_synthetic_dataset_has_the_key_of_its_seed_and_a_key_that_stands_is_kept(tmp_path):
    one, other, same = (tmp_path / name for name in ("one.key", "other.key", "same.key"))
    make_known_key(one, 7)
    make_known_key(other, 8)
    make_known_key(same, 7)
    keys = [load_or_make_key(path, tmp_path / "bids") for path in (one, other, same)]
    assert keys[0] == keys[2] != keys[1]
    make_known_key(one, 8)
    assert load_or_make_key(one, tmp_path / "bids") == keys[0]


@given(st.text() | st.dates().map(str) | st.dates().map(lambda d: d.strftime("%Y%m%d")), st.text())
def test_every_date_that_is_read_can_be_shifted_and_every_text_be_a_name(text, label):
    names = Pseudonymiser(bytes(32))
    day = parse_date(text)
    shifted = None if day is None else names.shift_date(label, day)
    assert (shifted is None) == (day is None)
    assert len(names.subject(label)) == 12


@pytest.mark.parametrize("blank", ["00010101", "0001-01-01", "00000000", "17991231"])
def test_a_date_that_stands_for_none_is_none(blank):
    assert parse_date(blank) is None


def test_bytes_that_are_no_text_give_a_name_of_their_own():
    names = Pseudonymiser(bytes(32))
    assert len({names.subject(text) for text in ("M\udcfcller", "Müller", "Muller")}) == 3
