"""ADNI's codes, tables and tree: every phase, dated names, five-digit subjects, processing levels."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.ingest.adni import read_tables, roster_id
from pipeline.ingest.adni_codes import diagnosis_of, months_of
from pipeline.ingest.adni_tree import level_of
from pipeline.ingest.convert import convert_scan, read_found
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.sources import find_scans

HERE = Pseudonymiser(b"k" * 32)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        *[({"DXCURREN": str(k)}, name) for k, name in ((1, "CN"), (2, "MCI"), (3, "AD"))],
        *[({"DXCHANGE": str(k)}, "CN") for k in (1, 7, 9)],
        *[({"DXCHANGE": str(k)}, "MCI") for k in (2, 4, 8)],
        *[({"DXCHANGE": str(k)}, "AD") for k in (3, 5, 6)],
        *[({"DIAGNOSIS": str(k)}, name) for k, name in ((1, "CN"), (2, "MCI"), (3, "AD"))],
        ({"DIAGNOSIS": "3.0", "DXCHANGE": "5"}, "AD"),
        ({"DIAGNOSIS": "3.0", "DXCHANGE": "1"}, None),
        ({"DXCHANGE": "4", "DXCURREN": "3"}, None),
        ({"DIAGNOSIS": "1", "DX": "Dementia"}, None),
        ({"DIAGNOSIS": "inf", "DXCHANGE": "nan"}, None),
        ({"DIAGNOSIS": "-4", "DXCHANGE": "-1", "DXCURREN": ""}, None),
        ({"DX": "Dementia"}, "AD"),
        ({"DIAGNOSIS": "CN"}, "CN"),
        ({}, None),
    ],
)
def test_diagnosis_codes_of_every_phase(row, expected):
    assert diagnosis_of(row) == expected


@given(st.dictionaries(st.sampled_from(["DIAGNOSIS", "DXCHANGE", "DXCURREN", "DX"]), st.text(max_size=5)))
def test_any_row_gives_a_known_diagnosis_or_none(row):
    assert diagnosis_of(row) in ("CN", "MCI", "AD", None)


@given(st.integers(0, 240))
def test_month_codes(months):
    assert months_of(f"m{months:02d}") == months
    assert months_of(f" M{months:03d} ") == months


@given(st.text(max_size=8))
def test_any_viscode_is_read(code):
    found = months_of(code)
    assert found is None or 0 <= found <= 999


@given(st.integers(0, 999), st.integers(0, 99999))
def test_roster_numbers_have_four_or_five_digits(site, number):
    assert roster_id(f"{site:03d}_S_{number:04d}") == number


@pytest.mark.parametrize("name", ["DXSUM_PDXCONV_ADNIALL.csv", "DXSUM_PDXCONV.csv", "DXSUM_18Nov2026.csv"])
def test_tables_are_found_under_every_name(tmp_path, name):
    folder = tmp_path / "deep" / "tables"
    folder.mkdir(parents=True)
    rows = [
        "Phase,PTID,RID,VISCODE,VISCODE2,EXAMDATE,DIAGNOSIS,DXCHANGE,DXCURREN",
        "ADNI3,011_S_10065,10065,bl,bl,2019-01-10,1,,",
        "ADNI3,011_S_10065,10065,y1,m12,,2,,",  # no date: told by its visit code
        "ADNI1,,4321,bl,bl,3/22/2006,,,3",
    ]
    (folder / name).write_text("\n".join(rows))
    tables = read_tables(tmp_path)
    visits = tables.person("011_S_10065").visits
    assert [(v.day, v.diagnosis) for v in visits] == [(date(2019, 1, 10), "CN"), (date(2020, 1, 10), "MCI")]
    assert tables.person("002_S_4321").visits[0].diagnosis == "AD"
    assert tables.person("011_S_10065").nearest(date(2019, 12, 1)).diagnosis == "MCI"


def test_age_is_that_of_the_scan_not_of_the_baseline(tmp_path):
    (tmp_path / "ADNIMERGE.csv").write_text(
        "RID,PTID,VISCODE,EXAMDATE,EXAMDATE_bl,DX,AGE,PTGENDER\n4,022_S_0004,m48,2009-05-01,2005-05-01,MCI,70.0,Male\n"
    )
    (tmp_path / "PTDEMOG_1.csv").write_text("PTID,PTGENDER,PTDOB\n011_S_0009,2,06/1920\n")
    tables = read_tables(tmp_path)
    person = tables.person("022_S_0004")
    assert (person.sex, person.age_on(date(2015, 5, 1))) == ("M", pytest.approx(80.0, abs=0.1))
    assert tables.person("011_S_0009").age_on(date(2019, 1, 1)) == 89.0  # capped


SERIES = {
    "AV1451_Co-registered_Dynamic": "co-registered dynamic",
    "AV1451_Co-registered,_Averaged": "averaged",
    "AV1451_Coreg,_Avg,_Standardized_Image_and_Voxel_Size": "standardized",
    "AV1451_Coreg,_Avg,_Std_Img_and_Vox_Siz,_Uniform_Resolution": "uniform 8 mm",
    "AV1451_Coreg,_Avg,_Std_Img_and_Vox_Siz,_Uniform_6mm_Res": "uniform 6 mm",
    "TAU-AV1451": "original",
}


def test_processing_levels():
    assert {name: level_of(name) for name in SERIES} == SERIES


def _leaf(root: Path, ptid: str, series: str, day: str, image: str) -> Path:
    return root / ptid / series / f"{day}_10_20_00.0" / image


def test_one_level_of_a_visit_is_taken_and_the_early_frames_are_not(make_series, tmp_path):
    for n, series in enumerate(SERIES):
        make_series(folder=_leaf(tmp_path, "002_S_1234", series, "2019-05-10", f"I10{n}"))
    make_series(folder=_leaf(tmp_path, "002_S_1234", "AV1451_early_Coreg,_Avg", "2019-05-10", "I200"))
    mri = _leaf(tmp_path, "002_S_1234", "MPRAGE", "2019-05-10", "I300")
    make_series(folder=mri, edit=lambda ds, *_: setattr(ds, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.4"))
    found = find_scans(tmp_path)
    assert found.layout == "adni"
    assert [s.image_id for s in found.scans] == ["101"]
    assert found.ignored["other processing levels of a scan that is taken"] == 5
    assert found.ignored["early-frame series"] == 1
    assert found.scans[0].scan_date == date(2019, 5, 10)


def test_six_and_eight_millimetres_are_never_mixed_silently(make_series, tmp_path):
    six, eight = list(SERIES)[4], list(SERIES)[3]
    for ptid, series in (("002_S_1234", six), ("011_S_10065", eight)):

        def edit(ds, *_, name=series):
            ds.SeriesDescription = name.replace("_", " ")

        make_series(folder=_leaf(tmp_path, ptid, series, "2019-05-10", "I1"), edit=edit)
    scans = find_scans(tmp_path).scans
    converted = [convert_scan(s, tmp_path / "out", HERE, "AV1451") for s in scans]
    assert [c.facts["resolution_mm"] for c in converted] == [6.0, 8.0]
    assert all("mixes resolutions of 6 and 8 mm" in " ".join(c.warnings) for c in converted)


def test_the_nearest_visit_labels_the_scan_and_only_within_the_limit(make_series, tmp_path):
    make_series(folder=_leaf(tmp_path, "002_S_1234", "TAU_AV1451", "2019-05-10", "I1"))
    make_series(folder=_leaf(tmp_path, "002_S_1234", "TAU_AV1451", "2021-05-10", "S2"))
    (tmp_path / "DXSUM_1.csv").write_text(
        "PTID,RID,VISCODE2,EXAMDATE,DIAGNOSIS\n002_S_1234,1234,bl,2019-03-01,1\n002_S_1234,1234,m06,2019-06-01,2\n"
    )
    near, far = find_scans(tmp_path).scans
    assert (near.diagnosis, near.days_to_diagnosis) == ("MCI", 22)
    assert convert_scan(near, tmp_path / "out", HERE, "AV1451", 30).diagnosis == "MCI"
    converted = convert_scan(far, tmp_path / "out", HERE, "AV1451", 180)
    assert converted.diagnosis is None
    assert "709 days away, more than 180" in converted.label_notes[0]
    assert not converted.warnings, "the image is as good as with a diagnosis"


def test_a_nifti_in_the_tree_is_taken(tmp_path):
    leaf = _leaf(tmp_path, "002_S_1234", list(SERIES)[3], "2019-05-10", "I77")
    leaf.mkdir(parents=True)
    image = nib.Nifti1Image(np.ones((5, 5, 5), np.int16), np.diag([2, 2, 2, 1.0]))
    nib.save(image, leaf / "ADNI_002_S_1234_PT_AV1451_Coreg,_Avg_Br_2019_1_S9_I77.nii")
    scan = find_scans(tmp_path).scans[0]
    assert (scan.format, scan.image_id) == ("nifti", "77")
    converted = convert_scan(scan, tmp_path / "out", HERE, "AV1451")
    assert (converted.tracer, converted.facts["resolution_mm"]) == ("AV1451", 8.0)


def test_two_scans_of_one_day_have_sessions_of_their_own(make_series, tmp_path):
    for n in (1, 2):
        make_series(folder=_leaf(tmp_path, "002_S_1234", "AV1451", "2019-05-10", f"I{n}"), seed=n)
    first, second = find_scans(tmp_path).scans
    assert second.session(HERE).startswith(first.session(HERE) + "x")


def test_a_folder_without_scans_is_told_with_its_mend(tmp_path):
    with pytest.raises(InputError, match=r"No PET scan .* an empty folder.* --layout"):
        find_scans(tmp_path)
    (tmp_path / "a.txt").write_text("no scan")
    with pytest.raises(InputError, match=r"found files that are not NIfTI \(1\)"):
        find_scans(tmp_path)
    with pytest.raises(InputError, match="Unknown layout 'minc'"):
        find_scans(tmp_path, "minc")


VISITS = "PTID,RID,VISCODE2,EXAMDATE,DIAGNOSIS\n"


def _tables(folder, **tables):
    folder.mkdir(exist_ok=True)
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text)
    unread: Counter[str] = Counter()
    return read_tables(folder, unread), unread


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("DXSUM_18Nov2025", "DXSUM_02Jan2026"), ("DXSUM_PDXCONV_31Dec2019", "DXSUM_PDXCONV_01Jan2020"),
        ("DXSUM_2025-11-18", "DXSUM_02Jan2026"), ("DXSUM", "DXSUM_02Jan2026"),
    ],
)  # fmt: skip
def test_of_two_exports_of_a_table_the_newer_one_holds(tmp_path, older, newer):
    row = "011_S_4321,4321,m12,2019-05-01,"
    tables, _ = _tables(tmp_path, **{older: f"{VISITS}{row}1\n", newer: f"{VISITS}{row}3\n"})
    assert [visit.diagnosis for visit in tables.person("011_S_4321").visits] == ["AD"]


def test_a_row_of_two_subjects_is_nobodys_and_counted(tmp_path):
    text = f"{VISITS}011_S_4321,1234,m12,2019-05-01,3\n,,m12,2019-05-01,1\nTotal 2,,,,\n"
    text += "011_s_5555 ,,bl,2019-05-01,1\n"
    tables, unread = _tables(tmp_path, DXSUM=text)
    assert not tables.person("011_S_4321").visits
    assert [visit.diagnosis for visit in tables.person("011_S_5555").visits] == ["CN"]
    assert unread["rows of DXSUM whose PTID and RID disagree"] == 1
    assert unread["rows of DXSUM that name no subject"] == 2


def test_rows_that_contradict_each_other_state_no_sex_or_birth(tmp_path):
    rows = "011_S_4321,1,01/1940\n011_S_4321,2,01/1970\n011_S_5555,1,01/1940\n011_S_5555,1,01/1940\n"
    tables, unread = _tables(tmp_path, PTDEMOG=f"PTID,PTGENDER,PTDOB\n{rows}")
    assert (tables.person("011_S_4321").sex, tables.person("011_S_4321").born) == (None, None)
    assert (tables.person("011_S_5555").sex, tables.person("011_S_5555").born) == ("M", date(1940, 1, 15))
    assert unread == {
        "subjects with two sexes in one table": 1,
        "subjects with two dates of birth in one table": 1,
    }


def test_a_title_above_the_header_is_named_with_what_to_do(tmp_path):
    with pytest.raises(InputError, match="Remove the lines above the header"):
        _tables(tmp_path, DXSUM=f"Export of diagnoses\n{VISITS}011_S_4321,4321,m12,2019-05-01,3\n")


def test_subjects_at_any_depth_are_found_and_the_rest_is_counted(make_series, tmp_path):
    for n, place in enumerate(("011_S_4321", "ADNI3/012_S_5555", "a/b/013_S_6666", "clinic/p1")):
        make_series(folder=tmp_path / place / "AV1451" / f"I{n}", seed=n)
    (tmp_path / "readme.txt").write_text("none")
    found = find_scans(tmp_path)
    assert {scan.subject_label for scan in found.scans} == {"011_S_4321", "012_S_5555", "013_S_6666"}
    assert found.ignored == {"files outside of the subjects' folders (nnn_S_nnnn)": 5}


@pytest.mark.parametrize("first", ["CT", "PT"])
def test_ct_and_pet_in_one_folder_of_a_subject_lose_no_pet(make_series, tmp_path, first):
    series = make_series(folder=tmp_path / "011_S_4321" / "PETCT" / "I1")

    def as_ct(ds, _slice, _frame):
        ds.Modality, ds.SOPClassUID = "CT", "1.2.840.10008.5.1.4.1.1.2"

    ct = make_series(folder=tmp_path / "ct", edit=as_ct, seed=1)
    for n, path in enumerate(ct.folder.iterdir()):
        path.rename(series.folder / (f"0{n}.dcm" if first == "CT" else f"9{n}.dcm"))
    ct.folder.rmdir()
    (scan,) = find_scans(tmp_path).scans
    np.testing.assert_allclose(read_found(scan).array, series.values, rtol=1e-6)


@pytest.mark.parametrize("folder", ["$RECYCLE.BIN", ".ipynb_checkpoints", "#recycle", "~snapshot/daily"])
def test_a_table_that_was_thrown_away_is_not_read(tmp_path, folder):
    row = "011_S_4321,4321,m12,2019-05-01,"
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "DXSUM_02Jan2026.csv").write_text(f"{VISITS}{row}3\n")
    tables, _ = _tables(tmp_path, DXSUM_18Nov2025=f"{VISITS}{row}1\n")
    assert [visit.diagnosis for visit in tables.person("011_S_4321").visits] == ["CN"]
