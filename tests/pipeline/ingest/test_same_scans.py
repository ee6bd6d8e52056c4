"""One person in two sources is one subject, two people are never one: by ID, issuer, name and birth date."""

from __future__ import annotations

from itertools import permutations

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.people import WITH_AND_WITHOUT_ISSUER
from pipeline.ingest.same_scans import as_known, compare_people
from pipeline.ingest.source_map import known_subjects, map_beside, remember_sources
from pipeline.ingest.sources import find_scans

HERE = Pseudonymiser(b"k" * 32)
FAST = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def night(make_series, tmp_path_factory):
    """The function that finds one person's series as an ingest of a new source does, one after the other.

    Returns the pseudonym, or ``whose-scan``, and the notes.
    """
    key = tmp_path_factory.mktemp("key") / "key"
    count = iter(range(1000))

    def find(dataset: str = "x", **values):
        n = next(count)
        series = make_series(folder=tmp_path_factory.mktemp("source") / "a", shape=(3, 3, 3), seed=n)
        for path in series.folder.iterdir():
            ds = pydicom.dcmread(path)
            for keyword, value in values.items():
                setattr(ds, keyword, value)
            ds.save_as(path)
        own = key.with_name(f"key-{dataset}")
        known, bids = known_subjects(own), own.parent / "bids"
        scans = as_known(find_scans(series.folder).scans, known, {}, bids, HERE)
        (scan,), _ = compare_people(scans, known, {}, "source", bids, HERE)
        remember_sources(own, [scan], HERE)
        return "whose-scan" if scan.doubt else HERE.subject(scan.subject_label), scan.notes

    find.key = key
    return find


PLAIN = {"PatientName": "", "PatientBirthDate": "", "PatientSex": "", "PatientAge": ""}


def test_one_number_of_two_issuers_in_two_sources_is_two_people(night):
    of_a, _ = night(PatientID="77", IssuerOfPatientID="HOSP A", **PLAIN)
    of_b, _ = night(PatientID="77", IssuerOfPatientID="HOSP B", **PLAIN)
    assert "whose-scan" not in (of_a, of_b)
    assert of_a != of_b
    # The next nights find each again, however the issuer is written.
    assert night(PatientID="77", IssuerOfPatientID="hosp b", **PLAIN)[0] == of_b
    assert night(PatientID="77^^^HOSP B", **PLAIN)[0] == of_b
    assert night(PatientID="0077", IssuerOfPatientID="HOSP A", **PLAIN)[0] == of_a
    assert night(PatientID="77", **PLAIN)[0] == "whose-scan"


@pytest.mark.parametrize(("first", "second"), [("AB-12", "AB 12"), ("ab_12", "AB-12"), ("1-12", "01.12")])
def test_what_parts_the_words_of_an_id_makes_no_second_person(night, first, second):
    one = night(PatientID=first, **PLAIN)[0]
    assert night(PatientID=second, **PLAIN) == (one, ())
    assert night(PatientID=first.replace("12", "1-2"), **PLAIN)[0] != one
    assert night(PatientID=first.replace("-", "").replace("_", ""), **PLAIN)[0] != one


@pytest.mark.parametrize("contradiction", [{"PatientSex": "M"}, {"PatientName": "Roe^Karl"}])
def test_spellings_that_a_header_contradicts_are_two_people_with_a_warning(night, contradiction):
    jane = {"PatientName": "Doe^Jane", "PatientBirthDate": "", "PatientSex": "F"}
    one, _ = night(PatientID="AB-12", **jane)
    other, notes = night(PatientID="AB 12", **{**jane, **contradiction})
    assert "whose-scan" not in (one, other)
    assert one != other
    assert any("differs from this one in its spelling alone; taken as two people" in note for note in notes)
    assert night(PatientID="AB 12", **{**jane, **contradiction})[0] == other


@pytest.mark.parametrize("order", [("", "HOSP A"), ("HOSP A", "")])
def test_an_id_with_and_without_issuer_in_two_sources_is_one_person_with_a_warning(night, order):
    first, second = (night(PatientID="77", IssuerOfPatientID=issuer, **PLAIN) for issuer in order)
    assert first[0] == second[0] != "whose-scan"
    assert WITH_AND_WITHOUT_ISSUER not in first[1]
    assert WITH_AND_WITHOUT_ISSUER in second[1]


@pytest.mark.parametrize(
    ("same", "people"),
    [
        ({"PatientName": "Doe^Jane"}, 1),
        ({"PatientBirthDate": "19400203"}, 1),
        ({"PatientName": "Doe^Jane", "PatientBirthDate": "19400203"}, 1),
        ({}, 2),
    ],
)
def test_two_issuers_of_one_number_are_one_person_where_name_or_birth_agree(night, same, people):
    facts = [
        {**PLAIN, **same, "PatientID": "77", "IssuerOfPatientID": issuer} for issuer in ("HOSP A", "HOSP B")
    ]
    assert len({night(**one)[0] for one in facts}) == people


@pytest.mark.parametrize(
    "other",
    [
        {"PatientName": "Roe^Anna"},
        {"PatientBirthDate": "19510203"},
        {"PatientSex": "M"},
    ],
)
def test_another_person_under_a_known_id_is_refused_every_night(night, other):
    first = {"PatientID": "77", "PatientName": "Doe^Jane", "PatientBirthDate": "19400203", "PatientSex": "F"}
    second = {**first, **({"PatientBirthDate": ""} if "PatientName" in other else {}), **other}
    known = night(**first)[0]
    assert [night(**second)[0] for _ in range(2)] == ["whose-scan"] * 2
    assert night(**first)[0] == known
    assert night(**{**first, "PatientName": "DOE^JANE^M", "PatientBirthDate": ""})[0] == known


def test_the_map_states_no_name_birth_date_or_issuer(night):
    night(PatientID="77", PatientName="Doe^Jane", PatientBirthDate="19400203", IssuerOfPatientID="HOSP A")
    text = map_beside(night.key.with_name("key-x")).read_text().casefold()
    assert not [word for word in ("doe", "jane", "1940", "hosp") if word in text]


@FAST
@given(
    st.lists(
        st.tuples(st.sampled_from(["", "HOSP A", "HOSP B"]), st.sampled_from(["", "Doe^Jane", "Roe^Anna"])),
        min_size=2,
        max_size=3,
    ),
    st.integers(0, 10**9),
)
def test_no_order_of_sources_merges_two_people(night, stated, dataset):
    for n, order in enumerate(permutations(stated)):
        found = [
            (
                night(f"{dataset}-{n}", **{**PLAIN, "PatientName": name}, PatientID="5", IssuerOfPatientID=i)[
                    0
                ],
                i,
                name,
            )
            for i, name in order
        ]
        for subject, issuer, name in found:
            for other, another, also in found:
                strangers = bool(name and also and name != also)
                issuers = bool(issuer and another and issuer != another and not (name and name == also))
                assert subject != other or subject == "whose-scan" or not (strangers or issuers), found
