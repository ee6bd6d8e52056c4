"""UC Berkeley's tables of tau SUVR: what is read of them, and which row is of which scan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.ingest.berkeley import read_berkeley
from pipeline.ingest.berkeley_match import match_berkeley, write_unmatched
from pipeline.ingest.side_files import SideFileError
from pipeline.scan import Scan

COLUMNS = (
    "both_amygdala", "both_banks_sts", "both_entorhinal", "both_thalamus", "both_white_matter",
    "composite_braak_1_2", "composite_meta_roi", "composite_meta_roi_adni", "left_amygdala",
    "left_entorhinal", "right_entorhinal",
)  # fmt: skip
NEW = (
    "RID,PTID,VISCODE,SCANDATE,TRACER,qc_flag,INFERIORCEREBELLUM_SUVR,META_TEMPORAL_SUVR,CTX_ENTORHINAL_SUVR,"
    "CTX_ENTORHINAL_VOLUME,CTX_LH_ENTORHINAL_SUVR,CTX_RH_ENTORHINAL_SUVR,CTX_BANKSSTS_SUVR,AMYGDALA_SUVR,"
    "LEFT_AMYGDALA_SUVR,THALAMUS_PROPER_SUVR,update_stamp"
)
OLD = (
    "RID,VISCODE,EXAMDATE,INFERIORCEREBELLUM_SUVR,META_TEMPORAL_SUVR,BRAAK1_SUVR,CTX_LH_ENTORHINAL_SUVR,"
    "CTX_LH_ENTORHINAL_VOLUME,CTX_RH_ENTORHINAL_SUVR,CTX_RH_ENTORHINAL_VOLUME"
)


def new_row(rid=4321, day="2019-05-10", tracer="FTP", flag="2", reference="1", meta="1.4", stamp="a"):
    regions = "1.3,900,1.2,1.4,1.1,1.5,1.6,1.25"
    return f"{rid},011_S_{rid},bl,{day},{tracer},{flag},{reference},{meta},{regions},{stamp}"


@pytest.fixture
def read(tmp_path):
    """The function that reads rows below a header."""

    def read(*rows, header=NEW, name="UCBERKELEY_TAU_6MM_17Sep2026.csv", least_flag=2):
        path = tmp_path / name
        path.write_text("\n".join([header, *rows]) + "\n")
        return read_berkeley(path, "AV1451", COLUMNS, least_flag)

    return read


def test_regions_are_found_under_the_names_of_the_table(read):
    (row,) = read(new_row()).rows
    assert (row.person, row.day.isoformat()) == (4321, "2019-05-10")
    assert row.suvr == {
        "both_amygdala": 1.5, "both_banks_sts": 1.1, "both_entorhinal": 1.3, "both_thalamus": 1.25,
        "composite_meta_roi_adni": 1.4, "left_amygdala": 1.6, "left_entorhinal": 1.2, "right_entorhinal": 1.4,
    }  # fmt: skip


def test_older_tables_are_divided_by_their_reference_and_sides_joined_by_volume(read):
    found = read(
        "4321,v1,5/20/2019,2,2.8,2.6,2.4,1000,3.2,3000", header=OLD, name="UCBERKELEYAV1451_8MM_02_17_23.csv"
    )
    (row,) = found.rows
    assert row.suvr == pytest.approx(
        {"composite_meta_roi_adni": 1.4, "composite_braak_1_2": 1.3, "left_entorhinal": 1.2,
         "right_entorhinal": 1.6, "both_entorhinal": 1.5}
    )  # fmt: skip
    assert [note.partition(":")[0] for note in found.notes] == [
        "The table has no column TRACER", "The table has no column qc_flag",
    ]  # fmt: skip


def test_rows_that_may_not_be_compared_are_counted_by_reason(read):
    rows = [
        new_row(1001), new_row(1002, tracer="MK6240"), new_row(1003, tracer="PI2620"),
        new_row(1004, flag="1"), new_row(1005, flag="0"), new_row(1006, flag=""),
        new_row(1007, reference="-4"), new_row(1008, day=""), new_row(1001, stamp="b"),
    ]  # fmt: skip
    found = read(*rows)
    assert len(found.rows) == 1
    assert found.reasons == {
        "TRACER is MK6240": 1, "TRACER is PI2620": 1, "qc_flag is 1 (partial pass)": 1,
        "qc_flag is 0 (no pass)": 1, "qc_flag is not stated": 1, "no SUVR of the inferior cerebellum": 1,
    }  # fmt: skip
    assert found.notes == ("1 row is left out without a date or an ADNI number.",)
    assert [row.person for row in read(*rows, least_flag=1).rows] == [1001, 1004]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (("", ""), r"corrected for partial volume.*Give the table without PVC"),
        (("INFERIORCEREBELLUM", "INFERIOR_CEREBGM"), "corrected for partial volume"),
        (("INFERIORCEREBELLUM", "WHOLECEREBELLUM"), "no column INFERIORCEREBELLUM_SUVR"),
        (("SCANDATE", "WHEN"), r"no column SCANDATE; it has .*Give UC Berkeley's table"),
        (("TRACER", "T"), r"no column TRACER.*UCBERKELEYAV1451\.csv"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_another_table_is_refused_with_what_it_lacks(read, given, match):
    name = "mine.csv" if all(given) else "UCBERKELEY_TAUPVC_6MM.csv"
    with pytest.raises(SideFileError, match=match):
        read(new_row(), header=NEW.replace(*given) if all(given) else NEW, name=name)


def test_a_table_of_another_tracer_or_of_partial_passes_alone_is_refused(read):
    with pytest.raises(SideFileError, match=r"None of 2 rows .* of AV1451 \(2 rows: TRACER is AV45\)"):
        read(new_row(1001, tracer="FBP"), new_row(1002, tracer="FBP"))
    with pytest.raises(SideFileError, match=r"qc_flag is 1 \(partial pass\)\)\. Add --qc-flag 1"):
        read(new_row(flag="1"))


def test_a_cell_that_is_no_number_is_named(read):
    with pytest.raises(SideFileError, match=r"line 2, column META_TEMPORAL_SUVR: 'high' is no number"):
        read(new_row(meta="high"))
    (row,) = read(new_row(meta="-4")).rows
    assert "composite_meta_roi_adni" not in row.suvr


@pytest.fixture
def match(read, tmp_path):
    """The function that matches rows with the scans of a map."""

    def match(rows, entries, **given):
        key = tmp_path / "bids.key"
        known = {
            scan: {"subject": subject, "date": day, "session": "", "series": "", "paths": ["/a"]}
            for scan, (subject, day) in entries.items()
        }
        key.with_name("bids.key.map.json").write_text(json.dumps(known))
        scans = [Scan(*name.removeprefix("sub-").split("_ses-"), Path("x")) for name in entries]
        table = read(*rows)
        return match_berkeley(table, scans, key, **given), table

    return match


def test_scans_are_matched_by_person_and_day_and_the_rest_is_named_with_its_reason(match, tmp_path):
    rows = [
        new_row(1001), new_row(1001, day="2021-05-10", meta="1.5"), new_row(1002, tracer="MK6240"),
        new_row(1003, flag="0"), new_row(1004, day="2020-01-01"), new_row(1005), new_row(1005, meta="1.9"),
        new_row(1006), new_row(1007), new_row(9999),
    ]  # fmt: skip
    found, table = match(
        rows,
        {
            "sub-A_ses-1": ("011_S_1001", "2019-05-10"),
            "sub-A_ses-2": ("011_S_1001", "2021-05-13"),
            "sub-B_ses-1": ("011_S_1002", "2019-05-10"),
            "sub-C_ses-1": ("011_S_1003", "2019-05-10"),
            "sub-D_ses-1": ("011_S_1004", "2019-05-10"),
            "sub-E_ses-1": ("011_S_1005", "2019-05-10"),
            "sub-F_ses-1": ("ADNI011S1006", "2019-05-10"),
            "sub-G_ses-1": ("1007", ""),
            "sub-H_ses-1": ("OAS30001", "2019-05-10"),
            "sub-I_ses-1": ("011_S_1010", "2019-05-10"),
        },
    )
    meta = {scan: row["composite_meta_roi_adni"] for scan, row in found.suvr.items()}
    assert meta == {"sub-A_ses-1": 1.4, "sub-A_ses-2": 1.5, "sub-F_ses-1": 1.4}
    assert found.unmatched == {
        "sub-B_ses-1": "its row is left out: TRACER is MK6240",
        "sub-C_ses-1": "its row is left out: qc_flag is 0 (no pass)",
        "sub-D_ses-1": "no row within 7 days, the nearest is 236 days away",
        "sub-E_ses-1": "rows as near to it disagree",
        "sub-G_ses-1": "its date is not known",
        "sub-H_ses-1": "its subject has no ADNI number in the private map",
        "sub-I_ses-1": "no row of this person",
    }
    assert found.rows_without_scan == 5
    text = " ".join(found.sentences(table))
    assert "1 row is left out: TRACER is MK6240." in text
    assert "1 scan is not compared: no row within 7 days." in text
    lines = write_unmatched(found, tmp_path / "left.tsv").read_text().splitlines()
    assert lines[:2] == ["scan_id\treason", "sub-B_ses-1\tits row is left out: TRACER is MK6240"]
    assert len(lines) == 8


def test_a_row_is_of_one_scan_the_nearest(match):
    entries = {
        "sub-A_ses-1": ("011_S_1001", "2019-05-12"),
        "sub-A_ses-2": ("011_S_1001", "2019-05-10"),
        "sub-A_ses-3": ("011_S_1001", "2019-05-11"),
    }
    found, _ = match([new_row(1001)], entries)
    assert list(found.suvr) == ["sub-A_ses-2"]
    assert set(found.unmatched.values()) == {"another scan is nearer to its row"}
    entries["sub-A_ses-4"] = ("011_S_1001", "2019-05-10")
    found, _ = match([new_row(1001)], entries)
    assert not found.suvr
    assert found.unmatched["sub-A_ses-4"] == "2 scans are as near to one row"
    assert match([new_row(1001)], {"sub-A_ses-1": ("011_S_1001", "2019-05-12")}, most_days=1)[0].suvr == {}
