"""Sidecars and tables as people save them are read, or refused by name, line and reason; never absent."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from datetime import date

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError, RefusedScan
from pipeline.ingest.adni import read_tables
from pipeline.ingest.bids_tree import find_bids
from pipeline.ingest.date_columns import with_iso_dates
from pipeline.ingest.side_files import (
    SideFileError,
    number_of,
    read_json_object,
    read_table,
    read_text,
)
from pipeline.ingest.sidecar import read_sidecar, understand
from pipeline.ingest.sources import find_scans

TIMES = {"FrameTimesStart": [0, 300], "FrameDuration": [300, 300], "InjectionStart": -4800, "ScanStart": 0}
QUIET = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


class TestSidecarsThatAreRead:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
    def test_in_every_usual_encoding(self, tmp_path, encoding):
        text = json.dumps(TIMES | {"InstitutionName": "Universität"}, ensure_ascii=False)
        (tmp_path / "a.json").write_bytes(text.encode(encoding))
        assert read_sidecar(tmp_path / "a.json")["InstitutionName"] == "Universität"

    def test_with_a_comma_before_a_bracket_but_not_inside_a_text(self, tmp_path):
        (tmp_path / "a.json").write_text('{"A": [1, 2, ], "B": "x, ]", "C": "\\",}", }')
        assert read_json_object(tmp_path / "a.json") == {"A": [1, 2], "B": "x, ]", "C": '",}'}

    def test_an_absent_one_is_empty(self, tmp_path):
        assert read_sidecar(tmp_path / "a.json") == {}

    def test_numbers_with_a_decimal_comma(self):
        assert understand(TIMES | {"FrameDuration": ["300,0", "300"]}, frames=2).frames[0].duration_s == 300


class TestSidecarsThatAreRefused:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ('{"A": 1,\n "B": }', "Line 2 is not JSON"),
            ('{"A": 1} {"A": 2}', "Line 1 is not JSON"),
            ("", "Line 1 is not JSON"),
            ("[1]", "holds a list, expected a JSON object"),
            ('{"Units": "Bq/mL", "Units": "g/mL"}', "stated twice with different values"),
            ('{"A": ' + "[" * 100_000, "nested too deeply"),
        ],
        ids=["line", "two", "empty", "list", "twice", "deep"],
    )
    def test_with_the_line_and_reason(self, tmp_path, text, reason):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(RefusedScan, match=reason) as refusal:
            read_sidecar(tmp_path / "a.json")
        assert refusal.value.rule == "unreadable-sidecar"
        assert str(tmp_path) not in str(refusal.value)

    def test_whose_times_are_no_numbers(self):
        with pytest.raises(RefusedScan, match='FrameDuration holds "five minutes", expected numbers'):
            understand(TIMES | {"FrameDuration": ["five minutes", 300]}, frames=2)

    def test_bytes_that_are_no_text(self, tmp_path):
        (tmp_path / "a.json").write_bytes(bytes(range(256)))
        with pytest.raises(RefusedScan, match="no text"):
            read_sidecar(tmp_path / "a.json")

    @QUIET
    @given(st.data())
    def test_any_mutation_is_read_or_refused(self, tmp_path, data):
        content = bytearray(json.dumps(TIMES).encode())
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(content) - 1))
            content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        (tmp_path / "a.json").write_bytes(content)
        try:
            found = understand(read_sidecar(tmp_path / "a.json"), frames=2)
        except RefusedScan:
            return
        assert len(found.frames) in (0, 2)


HEADER = ("PTID", "RID", "VISCODE", "EXAMDATE", "DIAGNOSIS", "PTDOB")
ROWS = (
    ("011_S_4321", "4321", "bl", "2017-12-31", "1", "1945-05-16"),
    ("011_S_4322", "4322", "bl", "2018-04-03", "3", ""),
)


def saved(delimiter: str, day: str, encoding: str = "utf-8", end: str = "\r\n") -> bytes:
    """The table as a spreadsheet saves it: delimiter, form of the dates, encoding."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
    writer.writerow(HEADER)
    for row in ROWS:
        cells = list(row)
        for k in (3, 5):
            cells[k] = date.fromisoformat(row[k]).strftime(day) if row[k] else ""
        writer.writerow(cells)
    return out.getvalue().encode(encoding)


class TestTablesThatAreRead:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("day", ["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%y", "%Y%m%d", "%d-%b-%Y"])
    def test_whatever_a_spreadsheet_made_of_them(self, tmp_path, encoding, delimiter, day):
        (tmp_path / "DXSUM.csv").write_bytes(saved(delimiter, day, encoding))
        person = read_tables(tmp_path).person("011_S_4321")
        assert [(v.day, v.diagnosis) for v in person.visits] == [(date(2017, 12, 31), "CN")]
        assert person.born == date(1945, 5, 16)

    def test_with_the_line_that_names_the_delimiter_for_excel(self, tmp_path):
        (tmp_path / "DXSUM.csv").write_bytes(b"sep=;\r\n" + saved(";", "%Y-%m-%d"))
        assert read_tables(tmp_path).person("011_S_4321").visits

    def test_with_decimal_commas(self, tmp_path):
        text = "PTID;EXAMDATE_bl;AGE;EXAMDATE;DX\n011_S_4321;2017-12-31;71,5;2017-12-31;CN\n"
        (tmp_path / "ADNIMERGE.csv").write_text(text)
        assert read_tables(tmp_path).person("011_S_4321").age_on(date(2017, 12, 31)) == 71.5

    def test_a_cell_that_is_no_date_is_counted(self, tmp_path):
        text = saved(",", "%Y-%m-%d").decode().replace("2018-04-03", "soon")
        (tmp_path / "DXSUM.csv").write_text(text)
        unread: Counter[str] = Counter()
        read_tables(tmp_path, unread)
        assert unread == {"dates in DXSUM that cannot be read": 1}

    def test_a_diagnosis_that_is_not_understood_is_counted(self, tmp_path):
        (tmp_path / "DXSUM.csv").write_text("RID,EXAMDATE,DIAGNOSIS\n1,2017-12-31,77\n2,2017-12-31,-4\n")
        unread: Counter[str] = Counter()
        read_tables(tmp_path, unread)
        assert unread == {"rows of DXSUM whose diagnosis is not understood": 1}


class TestTablesThatAreErrors:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (
                "PTID,EXAMDATE,DIAGNOSIS\n011_S_4321,3/4/17,1\n",
                "EXAMDATE does not show whether the day or the month",
            ),
            (
                "PTID,EXAMDATE,DIAGNOSIS\na,13/4/17,1\nb,4/13/17,1\n",
                "the day first in some dates and the month",
            ),
            ("PTID,EXAMDATE,DIAGNOSIS\n011_S_4321,43100,1\n", "No cell of column EXAMDATE is a date"),
            ("PTID,EXAMDATE,DIAGNOSIS\na,2017-12-31,1,2\n", "Line 2 has 4 cells, the header 3"),
            ('PTID,EXAMDATE,DIAGNOSIS\na,"2017-12-31,1\n', "unexpected end of data"),
            ("PTID,EXAMDATE,DIAGNOSIS\na,2017-12-31,1\nb,2017-1", "breaks off in line 3"),
            ("EXAMDATE,DIAGNOSIS\n2017-12-31,1\n", "no column PTID or RID; it has EXAMDATE, DIAGNOSIS"),
            ("PTID,EXAMDATE\na,2017-12-31\n", "no column DIAGNOSIS or DXCHANGE"),
            ("PTID,RID;EXAMDATE;DIAGNOSIS,x\n", "as many of one delimiter as of another"),
            ("PTID,PTID,DIAGNOSIS\na,b,1\n", "two values of column PTID"),
            ("", "empty"),
        ],
    )
    def test_that_name_file_and_reason(self, tmp_path, text, reason):
        (tmp_path / "DXSUM_1.csv").write_text(text)
        with pytest.raises(InputError, match=reason) as error:
            read_tables(tmp_path)
        assert error.value.where == str(tmp_path / "DXSUM_1.csv")

    def test_a_spreadsheet_alone_is_named(self, tmp_path):
        (tmp_path / "DXSUM.xlsx").write_bytes(b"PK")
        with pytest.raises(InputError, match=r"DXSUM\.xlsx: The table is a spreadsheet"):
            read_tables(tmp_path)
        (tmp_path / "DXSUM.csv").write_bytes(saved(",", "%Y-%m-%d"))
        assert read_tables(tmp_path).people

    def test_participants_of_a_dataset(self, tmp_path):
        (tmp_path / "participants.tsv").write_text("subject\tage\n01\t70\n")
        with pytest.raises(InputError, match="no column participant_id; it has subject, age"):
            find_bids(tmp_path, Counter())

    @QUIET
    @given(st.data())
    def test_any_mutation_is_read_or_named(self, tmp_path, data):
        content = bytearray(saved(data.draw(st.sampled_from(",;\t")), "%d.%m.%Y"))
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(content) - 1))
            content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        (tmp_path / "DXSUM.csv").write_bytes(content)
        named = str(tmp_path / "DXSUM.csv")
        try:
            read_tables(tmp_path)
        except InputError as error:
            named = error.where
        assert named == str(tmp_path / "DXSUM.csv")

    @QUIET
    @given(
        delimiter=st.sampled_from(",;\t|"),
        cells=st.lists(
            st.tuples(*[st.text(st.characters(codec="cp1252", exclude_categories=["Cc"]), max_size=8)] * 3),
            max_size=5,
        ),
    )
    def test_what_was_written_is_what_is_read(self, tmp_path, delimiter, cells):
        out = io.StringIO()
        csv.writer(out, delimiter=delimiter).writerows([("one", "two", "three"), *cells])
        (tmp_path / "t.csv").write_bytes(out.getvalue().encode())
        expected = [[c.strip() for c in row] for row in cells]
        assert [list(r.values()) for r in read_table(tmp_path / "t.csv")] == [r for r in expected if any(r)]


def test_every_date_of_a_column_has_the_order_of_the_column(tmp_path):
    rows = [{"D": text} for text in ("3/4/2017", "13/4/2017", "", "n/a")]
    found, lost = with_iso_dates(rows, "D", tmp_path)
    assert [row["D"] for row in found] == ["2017-04-03", "2017-04-13", "", "n/a"]
    assert lost == 0


def test_numbers_with_a_comma_that_groups_thousands_are_none():
    assert number_of("1,234,567") is None
    assert number_of("inf") is None


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(SideFileError, match="cannot be read"):
        read_text(tmp_path)


def test_a_day_with_two_diagnoses_in_one_table_has_none_and_is_counted(tmp_path):
    header = "PTID,EXAMDATE,DIAGNOSIS\n"
    same = "011_S_0002,2017-04-03,2\n011_S_0002,2017-04-03,2\n"
    rows = "011_S_0001,2017-04-03,1\n011_S_0001,2017-04-03,3\n011_S_0001,2018-04-03,3\n"
    (tmp_path / "DXSUM.csv").write_text(header + rows + same)
    unread: Counter[str] = Counter()
    tables = read_tables(tmp_path, unread)
    found = [[visit.diagnosis for visit in tables.person(f"011_S_000{n}").visits] for n in (1, 2)]
    assert found == [["AD"], ["MCI"]]
    assert unread == {"days with two diagnoses in one table": 1}


def test_a_row_whose_columns_disagree_states_nothing_and_is_counted(tmp_path):
    rows = "011_S_0001,2017-04-03,1,5\n011_S_0001,2018-04-03,3,5\n011_S_0002,2017-04-03,2,9\n"
    other = "011_S_0002,2017-04-03,2,2\n"
    (tmp_path / "ADNIMERGE.csv").write_text("PTID,EXAMDATE,DX\n011_S_0001,2017-04-03,CN\n")
    (tmp_path / "DXSUM.csv").write_text("PTID,EXAMDATE,DIAGNOSIS,DXCHANGE\n" + rows + other)
    unread: Counter[str] = Counter()
    tables = read_tables(tmp_path, unread)
    found = [[visit.diagnosis for visit in tables.person(f"011_S_000{n}").visits] for n in (1, 2)]
    assert found == [["AD"], []]
    assert unread["rows with an ambiguous diagnosis (their columns disagree)"] == 2
    assert not [what for what in unread if "not understood" in what]


def test_rows_of_participants_that_contradict_each_other_state_nothing(tmp_path):
    (tmp_path / "sub-01" / "pet").mkdir(parents=True)
    (tmp_path / "sub-01" / "pet" / "sub-01_pet.nii.gz").write_bytes(b"")
    rows = "participant_id\tsex\tdiagnosis\nsub-01\tF\tCN\nsub-01\tF\tAD\n"
    (tmp_path / "participants.tsv").write_text(rows)
    found = find_scans(tmp_path, "bids")
    assert [(scan.sex, scan.diagnosis) for scan in found.scans] == [("F", None)]
    assert found.ignored == {"cells of participants.tsv that another row contradicts": 1}


def test_frames_that_overlap_are_in_doubt():
    stated = {"FrameTimesStart": [0, 100], "FrameDuration": [300, 300]}
    assert "that overlap" in understand(stated, frames=2).facts["frames_in_doubt"]
    assert understand({**stated, "FrameTimesStart": [0, 299.5]}, frames=2).frames


@pytest.mark.parametrize(
    "value", [False, "false", ["none"], "No attenuation correction", "NAC", "not applied"]
)
def test_every_way_to_write_that_attenuation_was_not_corrected(value):
    with pytest.raises(RefusedScan, match="not corrected for attenuation"):
        understand({"AttenuationCorrection": value})


@pytest.mark.parametrize("value", [True, "CT", "measured", "[10.1] CTAC", ["CT"], "transmission"])
def test_other_words_are_no_refusal(value):
    assert understand({"AttenuationCorrection": value}).unit == understand({}).unit
